"""The offline source: notes, bands and effects rendered from General MIDI SoundFonts, labelled exactly.

``clips(GmOptions())`` needs no download. Each clip renders when it is read, in whatever process, and its samples
follow from the font, the seed and its number alone.

* *notes* (`data.sources.gm_notes`): 3 s held, 1 s released, NSynth's fields. Group: the timbre, program x font or
  kit x key x font, together with its twins made from the same sample. Every family is in every split, and no timbre
  in two. Twins are found by comparing beginnings; two programs that transpose one sample differently are not seen.
* *effects* (`data.sources.gm_effects`): the programs 120 to 127 and synthesised noises; family and instrument are
  known to be none.

Left out: program 55 (a chord of many families), 88 to 103 (pads and synthesiser
effects whose family nobody can name).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from data.clip import Clip
from data.errors import DataError
from data.sources.gm_effects import effect_clips
from data.sources.gm_font import open_font
from data.sources.gm_notes import note_clips
from data.sources.gm_synth import default_font


@dataclass(frozen=True)
class GmOptions:
    """What to render."""

    fonts: tuple[Path, ...] = ()
    """SoundFonts (.sf2 or .sf3); empty takes the one that pretty_midi ships."""
    held_out_fonts: tuple[Path, ...] = ()
    """SoundFonts whose clips all go to the test split."""
    notes: int = 6000
    """Single notes of 4 s at most; 0 leaves them out."""
    effects: int = 600
    """Effects of 4 s; 0 leaves them out."""
    seed: int = 0
    """Of splits, choices and noises; 0 or more."""

    def __post_init__(self) -> None:
        for name in ("notes", "effects", "seed"):
            value = getattr(self, name)
            if value < 0:
                raise DataError(f"Expected {name} of 0 or more, found {value}; give a count that is not negative.")
        stems = [Path(font).stem for font in (*self.fonts, *self.held_out_fonts)]
        if len(set(stems)) < len(stems):
            raise DataError(f"Expected fonts with different names, found {', '.join(stems)}; rename or leave one out.")


def clips(options: GmOptions) -> Iterator[Clip]:
    """Yields notes, then effects.

    Raises:
        DataError: a font is missing or is no SoundFont.
    """
    fonts = [Path(font) for font in options.fonts] or [default_font()]
    held_out = [Path(font) for font in options.held_out_fonts]
    for font in (*fonts, *held_out):
        open_font(font)
    if options.notes:
        yield from note_clips(fonts, held_out, options.notes, options.seed)
    if options.effects:
        yield from effect_clips(fonts, held_out, options.effects, options.seed)

"""The offline source: notes, bands and effects rendered from General MIDI SoundFonts, labelled exactly.

``clips(GmOptions())`` needs no download. Each clip renders when it is read, in whatever process, and its samples
follow from the font, the seed and its number alone.

* *notes* (`data.sources.gm_notes`): 3 s held, 1 s released, NSynth's fields. Group: the timbre, program x font or
  kit x key x font, together with those of its family that share a recording with it. Every family is in every split;
  for that, a family with fewer than three such groups (the default font's vocal) is grouped by timbre alone.
* *bands* (`data.sources.gm_bands`): excerpts in five genres. ``instrument.present`` lists all that sounds, and its
  first is the predominant instrument, whose line is the loudest. Group: the song. Songs do not cross splits, but
  programs do: only ``held_out_fonts`` keep a band's timbres out of training.
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


@dataclass(frozen=True)
class GmOptions:
    """What to render."""

    fonts: tuple[Path, ...] = ()
    """SoundFonts (.sf2 or .sf3); empty takes the one that pretty_midi ships."""
    held_out_fonts: tuple[Path, ...] = ()
    """SoundFonts whose clips all go to the test split."""
    notes: int = 5000
    """Single notes of 4 s at most; 0 leaves them out."""
    unseen_share: float = 0.3
    """Of each family's timbres, kept from training: half for validation, half for the test; at least one each."""
    bands: int = 200
    """Excerpts of bands; 0 leaves them out."""
    band_seconds: float = 8.0
    """Length of a band's excerpt in seconds, 1 to 60."""
    effects: int = 500
    """Effects of 4 s; 0 leaves them out."""
    seed: int = 0
    """Of splits, choices and noises; 0 or more."""

    def __post_init__(self) -> None:
        for name in ("notes", "bands", "effects", "seed"):
            value = getattr(self, name)
            if value < 0:
                raise DataError(f"Expected {name} of 0 or more, found {value}; give a count that is not negative.")
        if not 0 <= self.unseen_share < 1:
            raise DataError(f"Expected unseen_share from 0 to below 1, found {self.unseen_share}; give such a share.")
        if not 1 <= self.band_seconds <= 60:
            raise DataError(f"Expected band_seconds from 1 to 60, found {self.band_seconds}; give a length between.")
        stems = [Path(font).stem for font in (*self.fonts, *self.held_out_fonts)]
        if len(set(stems)) < len(stems):
            raise DataError(f"Expected fonts with different names, found {', '.join(stems)}; rename or leave one out.")


def clips(options: GmOptions) -> Iterator[Clip]:
    """Yields notes, then bands, then effects.

    Raises:
        DataError: a font is missing or is no SoundFont.
    """
    # Here, for every preparation imports this file to know its flags, and few render.
    from data.sources.gm_bands import band_clips
    from data.sources.gm_effects import effect_clips
    from data.sources.gm_font import FontFile, open_font
    from data.sources.gm_notes import note_clips
    from data.sources.gm_synth import default_font

    fonts = [FontFile.of(font) for font in options.fonts or [default_font()]]
    held_out = [FontFile.of(font) for font in options.held_out_fonts]
    for font in (*fonts, *held_out):
        open_font(font)
    if options.notes:
        yield from note_clips(fonts, held_out, options.notes, options.seed, options.unseen_share)
    if options.bands:
        yield from band_clips(fonts, held_out, options.bands, options.seed, options.band_seconds)
    if options.effects:
        yield from effect_clips(fonts, held_out, options.effects, options.seed)

"""Which clips of an unseen font's pack sound like the training font's own: fonts borrow recordings from each other.

A note is left out of a test if it correlates with what a font of the training pack makes of the same program, pitch and
velocity. The correlation is that of the attack and what follows it, half a second from where the sound first reaches a
hundredth of its peak: the largest magnitude of the cross-correlation over all lags, over the product of both norms. So
gain, polarity and a later start change nothing, and a lag at which little overlaps counts for little. Over longer
stretches copies part that are tuned a few cents or looped differently; over shorter ones more strangers look alike.
High flutes, music boxes and other near-sinusoids correlate without being copies, and go too.

Shapes: B notes, S samples, W samples of the half second.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data.decode import RATE
from data.errors import DataError
from data.fourier import smooth_length, spectrum_of, waveform_of
from data.labels import LabelTable
from data.loader import heads_of_clips
from data.pack import Pack
from data.pcm import to_pcm
from data.sources.gm_font import FontFile
from data.sources.gm_notes import HELD_S, RELEASED_S, NoteAudio
from data.sources.gm_synth import Voice, default_font
from data.taxonomy import FAMILIES

MAX_CORRELATION = 0.8
ONSET = 0.01
SOUNDING = round(0.5 * RATE)
BATCH = 256
_NOTE = re.compile(
    r"gm/(?P<font>[^/]+)/note/(?:kit(?P<kit>\d+)-)?(?P<program>\d+)-[^/]+/(?P<pitch>\d+)-(?P<velocity>\d+)"
)


@dataclass(frozen=True)
class Note:
    """What a note of the offline source is, whatever font renders it."""

    font: str
    """Stem of the font's name."""
    voice: Voice
    pitch: int
    velocity: int

    @classmethod
    def of(cls, id: str) -> "Note | None":
        """What a clip's id says; None where it is no note of the offline source."""
        found = _NOTE.fullmatch(id)
        if found is None:
            return None
        voice = Voice(int(found["program"])) if found["kit"] is None else Voice(int(found["kit"]), is_drum=True)
        return cls(found["font"], voice, int(found["pitch"]), int(found["velocity"]))


@dataclass(frozen=True)
class Unshared:
    """The clips of a pack that sound like none of the training pack's, and what had to go."""

    rows: np.ndarray
    """int64, row numbers of the clips that stay."""
    num_notes: int
    """Notes there were."""
    dropped: dict[str, int]
    """Notes that went because they correlate, by family."""
    num_equal: int
    """Clips that went because the training pack has them to the last sample, as noises made from the same seed."""

    def describe(self) -> str:
        """What went, in words."""
        families = ", ".join(f"{name} {count}" for name, count in self.dropped.items())
        return (
            f"Dropped: {sum(self.dropped.values())} of {self.num_notes} notes, which correlate above "
            f"{MAX_CORRELATION:g} with the training font's rendering of the same program, pitch and velocity"
            + (f" ({families})" if families else "")
            + (f"; {self.num_equal} clips that the training pack has too" if self.num_equal else "")
        )


def note_rows(pack: Pack, rows: np.ndarray) -> np.ndarray:
    """Those of some row numbers whose clips are notes of the offline source."""
    ids = pack.column("id")
    return np.array([row for row in rows if Note.of(ids[row])], dtype=np.int64)


def unshared(pack: Pack, other: Pack, fonts: Sequence[Path] = ()) -> Unshared:
    """Which clips of another pack may test what was learned from this one.

    Args:
        pack: that is learned from.
        other: rendered from another font.
        fonts: the SoundFonts of `pack`; empty for the one that the offline pack is rendered from.

    Raises:
        DataError: `pack` has notes of a font that is not among `fonts`, or a font cannot be read.
    """
    files = [FontFile.of(font) for font in fonts or [default_font()]]
    ids = pack.column("id")
    rendered = {Note.of(ids[row]).font for row in note_rows(pack, np.arange(len(pack)))}
    missing = sorted(rendered - {file.stem for file in files})
    if missing:
        raise DataError(
            f"{pack.folder} has notes of the font {missing[0]}, its file was expected and "
            f"{', '.join(file.stem for file in files)} found; name it by --fonts"
        )
    files = [file for file in files if file.stem in rendered]
    is_equal = np.isin(other.column("checksum").astype(str), pack.column("checksum").astype(str))
    rows = note_rows(other, np.flatnonzero(~is_equal))
    alike = rows[correlation_with_fonts(other, rows, files) > MAX_CORRELATION]
    families = Counter(FAMILIES[family] for family in LabelTable(other).single_family[alike])
    kept = np.setdiff1d(np.flatnonzero(~is_equal), alike)
    return Unshared(kept, len(rows), dict(families.most_common()), int(is_equal.sum()))


def correlation_with_fonts(pack: Pack, rows: np.ndarray, fonts: Sequence[FontFile]) -> np.ndarray:
    """float32 ``(B,)``: of each note the largest correlation with a font's rendering of it; 0 where none has any."""
    ids, device = pack.column("id"), torch.device("cpu")
    parts = [np.zeros(0, np.float32)]
    for batch in heads_of_clips(pack, rows, round((HELD_S + RELEASED_S) * RATE), BATCH):
        notes = [Note.of(ids[row]) for row in batch.rows.tolist()]
        sounds = batch.to(device).waveform
        found = [correlation(sounds, torch.stack(list(_rendered(notes, font)))) for font in fonts]
        parts.append(torch.stack([torch.zeros(len(notes)), *found]).amax(dim=0).numpy())
    return np.concatenate(parts)


def _rendered(notes: Sequence[Note], font: FontFile) -> Iterator[Tensor]:
    """Each note as the font renders it and a pack holds it, float32 ``(S,)``; zeros where it is silent there."""
    for note in notes:
        samples = torch.zeros(round((HELD_S + RELEASED_S) * RATE))
        try:
            pcm = to_pcm(NoteAudio(font, note.voice, note.pitch, note.velocity), min_seconds=0)
            samples[: len(pcm.samples)] = torch.from_numpy(pcm.samples)
        except DataError:
            pass  # the font has no such program or key
        yield samples


def correlation(first: Tensor, second: Tensor) -> Tensor:
    """The largest magnitude of the normalised cross-correlation of two sounds over all lags.

        r = max_l |sum_t x(t) y(t + l)| / (|x| |y|)

    Args:
        first, second: float ``(B, S)``; of each only the half second counts that follows its onset, x and y.

    Returns:
        float ``(B,)`` in [0, 1]; 0 where one is silent.
    """
    x, y = from_onset(first), from_onset(second)  # (B, W)
    points = smooth_length(2 * SOUNDING)  # so that no lag wraps around
    product = spectrum_of(x, points) * spectrum_of(y, points).conj()
    highest = waveform_of(product, points).abs().amax(dim=1)
    return highest / (x.norm(dim=1) * y.norm(dim=1)).clamp(min=torch.finfo(x.dtype).tiny)


def from_onset(sounds: Tensor) -> Tensor:
    """``(B, W)``, each sound from where it first reaches `ONSET` of its peak, scaled to peak 1; zeros behind it."""
    magnitude = sounds.abs()
    peak = magnitude.amax(dim=1, keepdim=True)
    onset = (magnitude >= ONSET * peak).to(torch.uint8).argmax(dim=1)
    padded = torch.nn.functional.pad(sounds / peak.clamp(min=torch.finfo(sounds.dtype).tiny), (0, SOUNDING))
    return padded.gather(1, onset[:, None] + torch.arange(SOUNDING, device=sounds.device))

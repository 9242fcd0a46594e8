"""Excerpts of small bands: composed, played through a font, mixed to mono.

Every song is its own group and falls whole into one split. Its timbres do not: with one font an instrument has too
few programs to give each split its own, so a violin program heard as single notes in training may play in a test
song. Whole fonts can be held out instead (``held_out_fonts``).
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from data.clip import SPLITS, Clip, Labels, LabelSet
from data.sources.gm_font import FontFile, open_font
from data.sources.gm_programs import KITS, PROGRAMS
from data.sources.gm_songs import STYLES, Part, compose
from data.sources.gm_synth import RATE, Voice, render_note
from data.taxonomy import FAMILY_OF_INSTRUMENT, INSTRUMENT_OF_GM_DRUM

_LEVEL_DB = {"lead": 0.0, "comp": -7.0, "bass": -6.0, "pad": -13.0, "drums": -6.0}
"""Of each part's RMS against the predominant line's; each varies by up to 2 dB, so that the line stays loudest."""
_RELEASED_S = 0.3
_FADE_S = 0.03
_LEAD_RMS = 0.1
_PEAK = 0.9
_SPLITS_OF_TWENTY = (SPLITS[0],) * 14 + (SPLITS[1],) * 3 + (SPLITS[2],) * 3


@dataclass(frozen=True, slots=True)
class BandAudio:
    """A song, composed and rendered when read."""

    font: FontFile
    genre: str
    seed: int
    number: int
    seconds: float

    def parts(self) -> list[Part]:
        """Composes the song; the predominant part is the first."""
        return compose(self.genre, self._generator(0), self.seconds, _sounding(self.font))

    def stems(self) -> list[np.ndarray]:
        """Returns each part as it enters the mix, float32 ``(S,)`` at `RATE`."""
        generator = self._generator(1)
        parts = self.parts()
        stems = [_play(self.font, part, round(self.seconds * RATE)) for part in parts]
        for part, stem in zip(parts, stems, strict=True):
            level_db = _LEVEL_DB[part.role] + (generator.uniform(-2, 2) if part.role != "lead" else 0)
            stem *= _LEAD_RMS * 10 ** (level_db / 20) / (np.sqrt(np.mean(stem**2)) + 1e-9)
        # Drums peak 20 dB over their RMS: one gain for all keeps the balance and the peak.
        peak = float(np.abs(np.sum(stems, axis=0)).max())
        return [stem * min(1.0, _PEAK / peak) for stem in stems]

    def read(self) -> tuple[np.ndarray, int]:
        """Returns float32 ``(S, 1)`` and the rate in Hz."""
        mix = np.sum(self.stems(), axis=0, dtype=np.float32)
        fade = round(_FADE_S * RATE)
        mix[-fade:] *= np.linspace(1, 0, fade, dtype=np.float32)
        return mix[:, None], RATE

    def _generator(self, stream: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, zlib.crc32(self.genre.encode()), self.number, stream])


@lru_cache(maxsize=8)
def _sounding(font: FontFile) -> frozenset[Voice]:
    opened = open_font(font)
    programs = [n for n, p in PROGRAMS.items() if opened.zones(0, n, (p.low + p.high) // 2, 100)]
    kits = [kit for kit in KITS if opened.zones(128, kit, 38, 100)]
    return frozenset([Voice(n) for n in programs] + [Voice(kit, is_drum=True) for kit in kits])


@lru_cache(maxsize=256)
def _note(font: FontFile, voice: Voice, pitch: int, hundredths: int) -> np.ndarray:
    return render_note(font, voice, pitch, 100, hundredths / 100, _RELEASED_S if not voice.is_drum else 0.8)


def _play(font: FontFile, part: Part, num_samples: int) -> np.ndarray:
    stem = np.zeros(num_samples, np.float32)
    for note in part.notes:
        # A twentieth of a second is as finely as lengths need differ: patterns repeat, and so are rendered once.
        sound = _note(font, part.voice, note.pitch, max(5, 5 * round(20 * note.held_s)))
        start = round(note.start_s * RATE)
        length = max(0, min(len(sound), num_samples - start))
        stem[start : start + length] += sound[:length] * np.float32((note.velocity / 100) ** 1.25)
    return stem


def band_clips(
    fonts: list[FontFile], held_out: list[FontFile], count: int, seed: int, seconds: float
) -> Iterator[Clip]:
    """Yields `count` bands, the genres in turn and in each genre the fonts in turn."""
    every = [*fonts, *held_out]
    genres = list(STYLES)
    deals = [np.random.default_rng([seed, 4, place]).permutation(20) for place in range(len(genres))]
    for index in range(count):
        place, number = index % len(genres), index // len(genres)
        font = every[number % len(every)]
        audio = BandAudio(font, genres[place], seed, number, seconds)
        if not audio.parts():
            continue
        name = f"gm/{font.stem}/band/{audio.genre}/{number:05d}"
        split = "test" if font in held_out else _SPLITS_OF_TWENTY[deals[place][number // len(every) % 20]]
        yield Clip(id=name, source="gm", recording=name, group=name, audio=audio, split=split, labels=_labels(audio))


def _labels(audio: BandAudio) -> Labels:
    parts = audio.parts()
    names: list[str] = []
    for part in parts:
        if part.voice.is_drum:
            names += ["drum_kit"] if any(note.pitch in (38, 37) for note in part.notes) else []
            names += [INSTRUMENT_OF_GM_DRUM[key] for key in sorted({note.pitch for note in part.notes})]
        else:
            names.append(PROGRAMS[part.voice.program].instrument)
    present = tuple(dict.fromkeys(names))  # the predominant first
    families = tuple(dict.fromkeys(FAMILY_OF_INSTRUMENT[name] for name in present))
    return Labels(
        is_instrument=True,
        family=LabelSet(families, complete=True),
        instrument=LabelSet(present, complete=True),
        genre=LabelSet((audio.genre,), complete=True),
        drums=any(part.voice.is_drum for part in parts),
    )

"""Single notes: every program and drum of a font, over its range and velocities, with NSynth's fields."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.clip import SPLITS, Clip, Labels, LabelSet
from data.sources.gm_programs import KITS, PROGRAMS, SYNTHETIC_KITS
from data.sources.gm_synth import RATE, Voice, render_note
from data.taxonomy import FAMILIES, FAMILY_OF_INSTRUMENT, INSTRUMENT_OF_GM_DRUM

VELOCITIES = (25, 50, 75, 100, 127)
HELD_S = 3.0
RELEASED_S = 1.0
SPLIT_SHARES = (0.7, 0.15, 0.15)
_AUDIBLE = 0.02
_SAME = 0.98
"""Cosine between two peak-normalised beginnings above which two timbres are one sample under two names."""


@dataclass(frozen=True, slots=True)
class NoteAudio:
    """One note, rendered when read."""

    font: Path
    voice: Voice
    pitch: int
    velocity: int

    def read(self) -> tuple[np.ndarray, int]:
        """Returns float32 ``(S, 1)`` and the rate in Hz."""
        samples = render_note(self.font, self.voice, self.pitch, self.velocity, HELD_S, RELEASED_S)
        return samples[:, None], RATE


@dataclass(frozen=True, slots=True)
class Timbre:
    """What the split keeps whole: a program, or one key of a drum kit, in one font."""

    name: str
    instrument: str
    font: Path
    voice: Voice
    pitches: tuple[int, ...]
    production: str
    qualities: LabelSet

    @property
    def family(self) -> str:
        return FAMILY_OF_INSTRUMENT[self.instrument]


def timbres_of(font: Path) -> list[Timbre]:
    """Lists the timbres that sound in a font, each with the pitches that sound."""
    timbres = []
    for number, program in PROGRAMS.items():
        name = f"gm/{font.stem}/{number:03d}-{program.instrument}"
        present = ("distortion",) * program.is_distorted + ("percussive",) * program.is_struck
        absent = ("tempo-synced",) if program.is_distorted else ("distortion", "tempo-synced")
        pitches = tuple(range(program.low, program.high + 1))
        timbres.append(
            Timbre(
                name, program.instrument, font, program.voice, pitches, program.production, LabelSet(present, absent)
            )
        )
    for kit in KITS:
        production = "synthetic" if kit in SYNTHETIC_KITS else "acoustic"
        for key, instrument in INSTRUMENT_OF_GM_DRUM.items():
            name = f"gm/{font.stem}/kit{kit:03d}-{key:03d}-{instrument}"
            qualities = LabelSet(("percussive",), ("distortion", "tempo-synced"))
            timbres.append(Timbre(name, instrument, font, Voice(kit, is_drum=True), (key,), production, qualities))
    sounding = [(timbre, tuple(p for p in timbre.pitches if _sounds(timbre, p))) for timbre in timbres]
    return [
        Timbre(t.name, t.instrument, t.font, t.voice, pitches, t.production, t.qualities)
        for t, pitches in sounding
        if pitches
    ]


def _sounds(timbre: Timbre, pitch: int) -> bool:
    return bool(np.abs(render_note(timbre.font, timbre.voice, pitch, 127, 0.15, 0.0)).max() > _AUDIBLE)


def groups_of(timbres: list[Timbre]) -> dict[str, str]:
    """Maps each timbre's name to its group: its own name, or that of an earlier timbre made from the same sample.

    Fonts reuse samples (in the default one both pianos are equal, and most kits share their cymbals); on two sides
    of a split such twins would leak.
    """
    groups: dict[str, str] = {}
    for family in FAMILIES:
        members = [timbre for timbre in timbres if timbre.family == family]
        if not members:
            continue
        prints = np.stack([_fingerprint(timbre) for timbre in members])
        similarity = prints @ prints.T
        for index, timbre in enumerate(members):
            twins = np.flatnonzero(similarity[index, :index] > _SAME)
            groups[timbre.name] = groups[members[twins[0]].name] if len(twins) else timbre.name
    return groups


def _fingerprint(timbre: Timbre) -> np.ndarray:
    # Where two ranges share a key they are compared on it, whatever their middles: the key nearest to 60.
    pitch = min(timbre.pitches, key=lambda key: (abs(key - 60), key))
    samples = render_note(timbre.font, timbre.voice, pitch, 127, 0.3, 0.0)
    return samples / (np.linalg.norm(samples) + 1e-9)


def splits_of(timbres: list[Timbre], groups: dict[str, str], seed: int) -> dict[str, str]:
    """Deals the groups of each family to the splits, 70/15/15, each split at least one where there are three."""
    generator = np.random.default_rng([seed, 1])
    splits: dict[str, str] = {}
    for family in FAMILIES:
        names = sorted({groups[timbre.name] for timbre in timbres if timbre.family == family})
        names = [names[index] for index in generator.permutation(len(names))]
        held_out = max(1, round(SPLIT_SHARES[1] * len(names)))
        for index, name in enumerate(names):
            # Validation and test are dealt last, so that a family of one or two timbres is trained on.
            place = len(names) - 1 - index
            splits[name] = SPLITS[0] if place >= 2 * held_out or index == 0 else SPLITS[1 + place // held_out]
    return splits


def note_clips(fonts: list[Path], held_out: list[Path], count: int, seed: int) -> Iterator[Clip]:
    """Yields at most `count` notes, balanced over families, then timbres, then pitches and velocities.

    Args:
        fonts: their timbres are split 70/15/15 within each family.
        held_out: fonts whose timbres all go to the test split.
        count: how many; the full grid at most.
        seed: of the split and of the choice.
    """
    shared = [timbre for font in fonts for timbre in timbres_of(font)]
    kept = [timbre for font in held_out for timbre in timbres_of(font)]
    # Grouped together: fonts borrow samples from each other, and a twin of a held-out timbre may not be trained on.
    groups = groups_of(kept + shared)
    held_out_groups = {groups[timbre.name] for timbre in kept}
    splits = splits_of([t for t in shared if groups[t.name] not in held_out_groups], groups, seed)
    splits |= dict.fromkeys(held_out_groups, "test")
    for timbre, pitch, velocity in _balanced(shared + kept, count, seed):
        group = groups[timbre.name]
        yield Clip(
            id=f"gm/{timbre.font.stem}/note/{timbre.name.rsplit('/', 1)[1]}/{pitch:03d}-{velocity:03d}",
            source="gm",
            recording=timbre.name,
            group=group,
            audio=NoteAudio(timbre.font, timbre.voice, pitch, velocity),
            split=splits[group],
            labels=_labels(timbre, pitch, velocity),
        )


def _balanced(timbres: list[Timbre], count: int, seed: int) -> Iterator[tuple[Timbre, int, int]]:
    """Round robin over the families, in each over its timbres, until `count` or until nothing is left."""
    generator = np.random.default_rng([seed, 2])
    families = []
    for family in FAMILIES:
        queues = []
        for timbre in (t for t in timbres if t.family == family):
            grid = [(timbre, pitch, velocity) for pitch in timbre.pitches for velocity in VELOCITIES]
            queues.append([grid[index] for index in generator.permutation(len(grid))])
        queues = [queues[index] for index in generator.permutation(len(queues))]
        longest = max(map(len, queues), default=0)
        families.append([queue[turn] for turn in range(longest) for queue in queues if turn < len(queue)])
    longest = max(map(len, families))
    turns = (family[turn] for turn in range(longest) for family in families if turn < len(family))
    for _, chosen in zip(range(count), turns, strict=False):
        yield chosen


def _labels(timbre: Timbre, pitch: int, velocity: int) -> Labels:
    is_drum = timbre.family == "percussion"
    return Labels(
        is_instrument=True,
        family=LabelSet((timbre.family,), complete=True),
        instrument=LabelSet((timbre.instrument,), complete=True),
        timbre=timbre.name,
        drums=is_drum and timbre.instrument != "timpani",
        pitch=pitch if not is_drum or timbre.instrument == "timpani" else None,
        velocity=velocity,
        production=timbre.production,
        qualities=timbre.qualities,
    )

"""Single notes: every program and drum of a font, over its range and velocities, with NSynth's fields."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from data.clip import SPLITS, Clip, Labels, LabelSet
from data.sources.gm_font import FontFile, open_font
from data.sources.gm_programs import KITS, PROGRAMS, SYNTHETIC_KITS
from data.sources.gm_synth import QUIETEST_RMS, RATE, Voice, render_note, velocity_gain
from data.taxonomy import FAMILIES, FAMILY_OF_INSTRUMENT, INSTRUMENT_OF_GM_DRUM

VELOCITIES = (25, 50, 75, 100, 127)
HELD_S = 3.0
RELEASED_S = 1.0
_SCANNED_S = 0.15
_TAIL_S = 0.2
"""For how long a note goes on at the level that it has after 0.1 s, counted in energy. With 0.2 s the default font's
grid loses nearly all notes below -60 dBFS RMS (1 % of a default pack stay, at -65 dBFS or more, for being soft costs
treble too) and 2 % of the others, mostly soft notes of slow attack; the start of a note tells no more."""


@dataclass(frozen=True, slots=True)
class NoteAudio:
    """One note, rendered when read."""

    font: FontFile
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
    font: FontFile
    voice: Voice
    notes: tuple[tuple[int, int], ...]
    """Pitches and velocities that can be heard."""
    production: str
    qualities: LabelSet

    @property
    def family(self) -> str:
        return FAMILY_OF_INSTRUMENT[self.instrument]


def timbres_of(font: FontFile) -> list[Timbre]:
    """Lists the timbres that sound in a font, each with the notes that can be heard."""
    timbres = []
    for number, program in PROGRAMS.items():
        name = f"gm/{font.stem}/{number:03d}-{program.instrument}"
        present = ("distortion",) * program.is_distorted + ("percussive",) * program.is_struck
        absent = ("tempo-synced",) if program.is_distorted else ("distortion", "tempo-synced")
        notes = _audible_notes(font, program.voice, range(program.low, program.high + 1))
        qualities = LabelSet(present, absent)
        timbres.append(Timbre(name, program.instrument, font, program.voice, notes, program.production, qualities))
    for kit in KITS:
        production = "synthetic" if kit in SYNTHETIC_KITS else "acoustic"
        voice = Voice(kit, is_drum=True)
        for key, instrument in INSTRUMENT_OF_GM_DRUM.items():
            name = f"gm/{font.stem}/kit{kit:03d}-{key:03d}-{instrument}"
            qualities = LabelSet(("percussive",), ("distortion", "tempo-synced"))
            notes = _audible_notes(font, voice, (key,))
            timbres.append(Timbre(name, instrument, font, voice, notes, production, qualities))
    return [timbre for timbre in timbres if timbre.notes]


def _audible_notes(font: FontFile, voice: Voice, pitches: Iterable[int]) -> tuple[tuple[int, int], ...]:
    """Pitches and velocities at least as loud as `QUIETEST_RMS`, as far as the start of the loudest note tells."""
    notes = []
    for pitch in pitches:
        power = np.square(render_note(font, voice, pitch, 127, _SCANNED_S, 0.0), dtype=np.float64)
        tail = power[round(0.08 * RATE) : round(0.13 * RATE)].mean()
        rms = np.sqrt((power.sum() / RATE + tail * _TAIL_S) / (HELD_S + RELEASED_S))
        notes += [(pitch, velocity) for velocity in VELOCITIES if rms * velocity_gain(velocity) > QUIETEST_RMS]
    return tuple(notes)


def groups_of(timbres: list[Timbre]) -> dict[str, str]:
    """Maps each timbre's name to its group: the first timbre of its family with which it shares a recording.

    Fonts play one recording under many names (in the default one all four pianos, and most kits' cymbals); on two
    sides of a split such twins would leak. Recordings are compared by content, so over fonts too. Sharing is
    transitive: if A shares with B and B with C, all three are one group. A family left with fewer than three groups
    is grouped by timbre alone, for every split is to hold every family (in the default font this is vocal: voice and
    synth voice share two recordings).
    """
    groups: dict[str, str] = {}
    for family in FAMILIES:
        first_with: dict[int, str] = {}
        for timbre in (timbre for timbre in timbres if timbre.family == family):
            recordings = _recordings(timbre)
            groups[timbre.name] = timbre.name
            joined = {first_with[recording] for recording in recordings if recording in first_with}
            merged = {groups[name] for name in joined}
            if merged:
                # The earliest name stays, whatever the order of the recordings.
                kept = next(name for name in groups if name in merged)
                groups |= {name: kept for name, group in groups.items() if group in merged}
                groups[timbre.name] = kept
            first_with = dict.fromkeys(recordings, timbre.name) | first_with
        names = [timbre.name for timbre in timbres if timbre.family == family]
        if len({groups[name] for name in names}) < len(SPLITS):
            groups |= {name: name for name in names}
    return groups


def _recordings(timbre: Timbre) -> set[int]:
    font = open_font(timbre.font)
    bank = 128 if timbre.voice.is_drum else 0
    return {
        font.fingerprint(zone.sample)
        for pitch, velocity in timbre.notes
        for zone in font.zones(bank, timbre.voice.program, pitch, velocity)
    }


def splits_of(timbres: list[Timbre], groups: dict[str, str], seed: int, unseen_share: float) -> dict[str, str]:
    """Deals the groups of each family to the splits by timbres; every split gets one where it can.

    The largest group is trained on (most kits share recordings, and are one); validation and test then take groups
    in a seeded order until each has half of `unseen_share`.
    """
    generator = np.random.default_rng([seed, 1])
    splits: dict[str, str] = {}
    for family in FAMILIES:
        sizes = Counter(groups[timbre.name] for timbre in timbres if timbre.family == family)
        if not sizes:
            continue
        largest = max(sorted(sizes), key=sizes.__getitem__)
        names = sorted(sizes.keys() - {largest})
        names = [names[index] for index in generator.permutation(len(names))]
        splits |= dict.fromkeys(sizes, SPLITS[0])
        for split, left in ((SPLITS[1], 1), (SPLITS[2], 0)):
            # At least one, and no more once the share is reached, leaving one for the split to come.
            taken = 0
            while len(names) > left and (not taken or 2 * taken + sizes[names[-1]] <= unseen_share * sizes.total()):
                splits[names[-1]] = split
                taken += sizes[names.pop()]
    return splits


def note_clips(
    fonts: list[FontFile], held_out: list[FontFile], count: int, seed: int, unseen_share: float = 0.3
) -> Iterator[Clip]:
    """Yields at most `count` notes, balanced over families, then timbres, then pitches and velocities.

    Args:
        fonts: their timbres are split within each family.
        held_out: fonts whose timbres all go to the test split.
        count: how many; the full grid at most.
        seed: of the split and of the choice.
        unseen_share: of each family's timbres, those of validation and test together.
    """
    shared = [timbre for font in fonts for timbre in timbres_of(font)]
    kept = [timbre for font in held_out for timbre in timbres_of(font)]
    # Grouped together: fonts borrow samples from each other, and a twin of a held-out timbre may not be trained on.
    groups = groups_of(kept + shared)
    held_out_groups = {groups[timbre.name] for timbre in kept}
    splits = splits_of([t for t in shared if groups[t.name] not in held_out_groups], groups, seed, unseen_share)
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
            grid = [(timbre, pitch, velocity) for pitch, velocity in timbre.notes]
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

"""What a preparation will do, settled before any sound is read: clips in their order, and the units of work."""

import hashlib
import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass

from data import statistics, taxonomy
from data.clip import SPLITS, Clip, Reject
from data.decode import RATE
from data.errors import DataError
from data.pack import VERSION
from data.reader import reads_on
from data.splits import SHARES

DUPLICATES = ("drop", "keep")

MAX_UNITS = 256
"""Shards at most: every open shard costs a reading process a file descriptor."""
MIN_CLIPS = 16
"""Clips of a unit at least, the last one apart; more where they are decoded in one go."""
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


@dataclass(frozen=True, slots=True)
class Options:
    """What decides, beside the clips, what a pack will hold."""

    seed: int = 0
    """Of drawn splits, and of the clips that the statistics are taken from."""
    min_seconds: float = 0.25
    """Shorter clips are rejected."""
    split_shares: tuple[float, ...] = SHARES
    """Of the clips whose split the source leaves open; see `data.splits.check_shares`."""
    duplicates: str = "drop"
    """One of `DUPLICATES`: what becomes of clips with the sound of an earlier one."""

    def __post_init__(self):
        if self.duplicates not in DUPLICATES:
            raise DataError(f"--duplicates should be one of {', '.join(DUPLICATES)}, {self.duplicates!r} found")


@dataclass(frozen=True, slots=True)
class Unit:
    """Clips that one process turns into one shard."""

    number: int
    clips: tuple[Clip, ...]
    excerpts: tuple[float | None, ...]
    """Where in every clip the log-mel is measured, see `data.statistics.candidates`; None where it is not."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that decides what a pack will hold."""

    units: tuple[Unit, ...]
    rejects: tuple[Reject, ...]
    """What the sources themselves could not use."""
    num_clips: int
    options: Options
    fingerprint: str


def make_plan(found: Iterable[Clip | Reject], options: Options) -> Plan:
    """Settles units and the clips that are measured; splits that are open stay so until the clips have been read.

    Raises:
        DataError: an id occurs twice, or a split has an unknown name.
    """
    clips: list[Clip] = []
    rejects: list[Reject] = []
    for item in found:
        item = item if isinstance(item, Reject) else _checked(item)
        (rejects if isinstance(item, Reject) else clips).append(item)
    _check_ids(clips)
    excerpts = statistics.candidates(clips, options.seed, options.split_shares[0])
    units = tuple(
        Unit(
            number=number,
            clips=tuple(clips[start:stop]),
            excerpts=tuple(excerpts.get(clip.id) for clip in clips[start:stop]),
        )
        for number, (start, stop) in enumerate(itertools.pairwise(_borders(clips)))
    )
    return Plan(
        units=units,
        rejects=tuple(rejects),
        num_clips=len(clips),
        options=options,
        fingerprint=_fingerprint(clips, rejects, options),
    )


def _borders(clips: list[Clip]) -> list[int]:
    """Where units begin and the last one ends: never between clips that are decoded in one go."""
    size = max(MIN_CLIPS, -(-len(clips) // MAX_UNITS))
    borders = [0]
    for place in range(1, len(clips)):
        if place - borders[-1] >= size and not reads_on(clips[place - 1].audio, clips[place].audio):
            borders.append(place)
    return [*borders, len(clips)] if clips else borders


def _checked(clip: Clip) -> Clip | Reject:
    if clip.split not in (None, *SPLITS):
        raise DataError(f"the split of {clip.id} should be one of {', '.join(SPLITS)}, {clip.split!r} found")
    try:
        f"{clip.id}{clip.recording}{clip.group}".encode()
    except UnicodeEncodeError:
        name = clip.recording.encode(errors="backslashreplace").decode()
        return Reject(clip.source, name, "the name is not UTF-8: a manifest cannot hold it, rename the recording")
    return clip


def _check_ids(clips: list[Clip]) -> None:
    seen: set[str] = set()
    for clip in clips:
        if clip.id in seen:
            raise DataError(
                f"every clip needs an id of its own, {clip.id!r} occurs twice; name a source folder only once"
            )
        seen.add(clip.id)


def _fingerprint(clips: list[Clip], rejects: list[Reject], options: Options) -> str:
    digest = hashlib.blake2b(digest_size=16)

    def add(value: object) -> None:
        digest.update(repr(value).encode() + b"\n")

    add((VERSION, taxonomy.VERSION, RATE, options, len(clips)))
    for clip in clips:
        # A plain object's repr holds its address, which differs from run to run.
        digest.update(_ADDRESS.sub("", repr(clip)).encode() + b"\n")
    for reject in rejects:
        add(reject)
    return digest.hexdigest()

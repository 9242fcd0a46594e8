"""What a preparation will do, settled before any sound is read: clips in order, their splits, the units."""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from data import statistics, taxonomy
from data.clip import SPLITS, Clip, Reject
from data.decode import RATE
from data.errors import DataError
from data.pack import VERSION

MAX_UNITS = 256
"""Shards at most: every open shard costs a reading process a file descriptor."""
MIN_CLIPS = 16
"""Clips of a unit at least, the last one apart."""
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


@dataclass(frozen=True, slots=True)
class Unit:
    """Clips that one process turns into one shard."""

    number: int
    clips: tuple[Clip, ...]
    splits: tuple[str, ...]
    """The split of every clip."""
    excerpts: tuple[float | None, ...]
    """Where in every clip the log-mel is measured, see `data.statistics.excerpts`; None where it is not."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that decides what a pack will hold."""

    units: tuple[Unit, ...]
    rejects: tuple[Reject, ...]
    """What the sources themselves could not use."""
    num_clips: int
    seed: int
    min_seconds: float
    fingerprint: str


def make_plan(found: Iterable[Clip | Reject], seed: int, min_seconds: float) -> Plan:
    """Settles splits and units.

    A clip without a split gets the one of its group: the one that the source gave to other clips of the group, or
    by a hash of seed and group train, validation or test at 80, 10 and 10 %.

    Raises:
        DataError: an id occurs twice, a group crosses splits, or a split has an unknown name.
    """
    clips: list[Clip] = []
    rejects: list[Reject] = []
    for item in found:
        (rejects if isinstance(item, Reject) else clips).append(item)
    _check_ids(clips)
    split_of_group = _splits(clips, seed)
    splits = [split_of_group[clip.group] for clip in clips]
    training_ids = (clip.id for clip, split in zip(clips, splits, strict=True) if split == "train")
    excerpts = statistics.excerpts(training_ids, seed)
    size = max(MIN_CLIPS, -(-len(clips) // MAX_UNITS))
    units = tuple(
        Unit(
            number=start // size,
            clips=tuple(clips[start : start + size]),
            splits=tuple(splits[start : start + size]),
            excerpts=tuple(excerpts.get(clip.id) for clip in clips[start : start + size]),
        )
        for start in range(0, len(clips), size)
    )
    return Plan(
        units=units,
        rejects=tuple(rejects),
        num_clips=len(clips),
        seed=seed,
        min_seconds=min_seconds,
        fingerprint=_fingerprint(clips, splits, rejects, seed, min_seconds),
    )


def _check_ids(clips: list[Clip]) -> None:
    seen: set[str] = set()
    for clip in clips:
        if clip.id in seen:
            raise DataError(
                f"every clip needs an id of its own, {clip.id!r} occurs twice; name a source folder only once"
            )
        seen.add(clip.id)


def _splits(clips: list[Clip], seed: int) -> dict[str, str]:
    split_of_group: dict[str, str] = {}
    for clip in clips:
        if clip.split is None:
            continue
        if clip.split not in SPLITS:
            raise DataError(f"the split of {clip.id} should be one of {', '.join(SPLITS)}, {clip.split!r} found")
        known = split_of_group.setdefault(clip.group, clip.split)
        if known != clip.split:
            raise DataError(
                f"no group may cross splits, but {clip.group} is in {known} and, with {clip.id}, in {clip.split}; "
                "give all its clips one split"
            )
    for clip in clips:
        if clip.group not in split_of_group:
            split_of_group[clip.group] = _drawn_split(clip.group, seed)
    return split_of_group


def _drawn_split(group: str, seed: int) -> str:
    digest = hashlib.blake2b(f"{seed}/{group}".encode(), digest_size=8).digest()
    share = int.from_bytes(digest, "big") / 2**64
    return "train" if share < 0.8 else "validation" if share < 0.9 else "test"


def _fingerprint(clips: list[Clip], splits: list[str], rejects: list[Reject], seed: int, min_seconds: float) -> str:
    digest = hashlib.blake2b(digest_size=16)

    def add(value: object) -> None:
        digest.update(repr(value).encode() + b"\n")

    add((VERSION, taxonomy.VERSION, RATE, seed, min_seconds, len(clips)))
    for clip, split in zip(clips, splits, strict=True):
        # A plain object's repr holds its address, which differs from run to run.
        add((split, _ADDRESS.sub("", repr(clip))))
    for reject in rejects:
        add(reject)
    return digest.hexdigest()

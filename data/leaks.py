"""What training shares with evaluation: groups, recordings, timbres and sounds in more than one split.

Splits that are drawn cut no group, recording or sound. Those that sources give may: `find_leaks` says where. A sound in
two given splits is kept in the more guarded one alone, as others report on the published test split; the clips that
were dropped for it are a leak of the published splits all the same, and told as such.

N clips.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data.clip import SPLITS
from data.rejected import DUPLICATE, SAME_SOUND, Rejected

MAX_EXAMPLES = 3


@dataclass(frozen=True, slots=True)
class Leak:
    """The same in several splits."""

    what: str
    """group (an artist, a player or a song, whatever the source keeps together), recording, timbre or sound."""
    splits: tuple[str, ...]
    """Where it is, in the order of `SPLITS`."""
    count: int
    """How many groups, recordings, timbres or sounds."""
    clips: dict[str, int]
    """The clips concerned, by split."""
    examples: tuple[str, ...]
    dropped_from: str | None = None
    """The split from which the clips were dropped when the pack was prepared, so that they leak no more."""

    def __str__(self) -> str:
        clips = _listed([f"{number:,} {split}" for split, number in self.clips.items()])
        more = f" and {self.count - len(self.examples):,} more" if self.count > len(self.examples) else ""
        end = f"; dropped from {self.dropped_from}" if self.dropped_from else ""
        examples = ", ".join(self.examples)
        return f"{self.what}s in {_listed(self.splits)}: {self.count:,} ({examples}{more}), {clips} clips{end}"


def spare_clips(
    sound: np.ndarray, split: np.ndarray, is_given: np.ndarray, keep_duplicates: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Finds the clips that a pack can do without, for it has their sound.

    Of every sound one clip comes first: in the most guarded split (test before validation before train), with a split
    that was given before one that was drawn, earlier before later.

    Args:
        sound: int64 ``(N,)``, equal for the same samples.
        split: int64 ``(N,)``, places in `SPLITS`.
        is_given: bool ``(N,)``, whether the source gave the split.
        keep_duplicates: only clips in another split than their sound's first clip are spare.

    Returns:
        int64: the spare clips in their order, and for each the first clip of its sound.
    """
    order = np.lexsort((np.arange(len(sound)), ~is_given, -split, sound))
    is_first = np.ones(len(order), bool)
    is_first[1:] = sound[order][1:] != sound[order][:-1]
    first = np.empty(len(order), np.int64)
    first[order] = order[np.flatnonzero(is_first)[np.cumsum(is_first) - 1]]
    is_spare = first != np.arange(len(first))
    if keep_duplicates:
        is_spare &= split != split[first]
    spare = np.flatnonzero(is_spare)
    return spare, first[spare]


def _listed(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}"


def find_leaks(manifest: pa.Table, rejected: Iterable[Rejected] = ()) -> list[Leak]:
    """Finds what is in more than one split of a pack, and the sounds that only dropping clips kept out of a second one.

    Args:
        manifest: of the pack.
        rejected: its ``rejected.csv``.
    """
    split = pc.index_in(manifest["split"], pa.array(SPLITS)).to_numpy()
    ids = manifest["id"]
    leaks: list[Leak] = []
    for column in ("group", "timbre"):
        leaks += _crossing(column, manifest[column], split, lambda rows, names=manifest[column]: names[rows[0]].as_py())
    recordings = pc.binary_join_element_wise(manifest["source"], manifest["recording"], "/")
    leaks += _crossing("recording", recordings, split, lambda rows: recordings[rows[0]].as_py())
    leaks += _crossing("sound", manifest["checksum"], split, lambda rows: " = ".join(ids[row].as_py() for row in rows))
    return leaks + list(_dropped(manifest, rejected))


def _crossing(
    what: str, column: pa.ChunkedArray, split: np.ndarray, name: Callable[[list[int]], str]
) -> Iterator[Leak]:
    """One leak for every combination of splits that share values; ``name`` gets a value's first row in each."""
    codes = column.combine_chunks().dictionary_encode().indices
    rows = np.flatnonzero(codes.is_valid().to_numpy(zero_copy_only=False))
    codes = codes.drop_null().to_numpy().astype(np.int64)
    pairs, first, counts = np.unique(codes * len(SPLITS) + split[rows], return_index=True, return_counts=True)
    key, place = pairs // len(SPLITS), pairs % len(SPLITS)
    splits_of = np.zeros(key.max(initial=-1) + 1, np.int64)
    np.bitwise_or.at(splits_of, key, 1 << place)
    for bits in sorted(set(splits_of.tolist())):
        places = [number for number in range(len(SPLITS)) if bits >> number & 1]
        if len(places) < 2:
            continue
        at = np.flatnonzero(splits_of[key] == bits)  # the pairs of one value lie together
        clips = counts[at].reshape(-1, len(places)).sum(axis=0).tolist()
        firsts = rows[first[at]].reshape(-1, len(places))
        names = sorted((name(sorted(values.tolist())) for values in firsts), key=str)
        yield Leak(
            what=what,
            splits=tuple(SPLITS[number] for number in places),
            count=len(firsts),
            clips={SPLITS[number]: clip_count for number, clip_count in zip(places, clips, strict=True)},
            examples=tuple(names[:MAX_EXAMPLES]),
        )


def _dropped(manifest: pa.Table, rejected: Iterable[Rejected]) -> Iterator[Leak]:
    """Leaks of given splits that dropping their duplicates has stopped."""
    duplicates = [row for row in rejected if row.kind == DUPLICATE and row.split]
    kept = pa.array([row.reason.removeprefix(SAME_SOUND) for row in duplicates], pa.string())
    found = manifest["split"].take(pc.index_in(kept, manifest["id"].combine_chunks())).to_pylist()
    for dropped_from in SPLITS:
        for home in SPLITS:
            pairs = [
                (row, id_)
                for row, id_, split in zip(duplicates, kept.to_pylist(), found, strict=True)
                if row.split == dropped_from != home == split
            ]
            if not pairs:
                continue
            sounds = {id_: row.id for row, id_ in reversed(pairs)}  # of each its first dropped clip
            clips = {dropped_from: len(pairs), home: len(sounds)}
            yield Leak(
                what="sound",
                splits=tuple(sorted(clips, key=SPLITS.index)),
                count=len(sounds),
                clips=clips,
                examples=tuple(sorted(f"{dropped} = {id_}" for id_, dropped in sounds.items())[:MAX_EXAMPLES]),
                dropped_from=dropped_from,
            )

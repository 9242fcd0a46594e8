"""The split of every clip: the one that its source gives, or one that is drawn without cutting what belongs together.

A clip whose source gives no split goes where its group is, and groups that share a recording or a sound (the same
samples, by checksum) are of one *origin* and go together. An origin of which some groups were given a split takes that
one; all others are divided by `data.stratification`, so that every source, family, instrument and genre, drums and
non-instruments come to the shares asked for. Only what is known to sound counts, never what is unknown.

Splits that sources give are kept, even where they cut a group or a sound in two: others report on them. What they leak
is said by `data.leaks`. Open clips of such a group go to the earlier of its splits, where they put no further clip of
an evaluation at risk.

The result depends on the seed, the clips, their groups and labels, and not on their order.

N clips, G groups, P pairs of a clip and a label.
"""

import hashlib
import math
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data.clip import SPLITS
from data.errors import DataError
from data.stratification import stratify

SHARES = (0.8, 0.1, 0.1)
"""Of the clips whose split is drawn, in the order of `SPLITS`."""
LEVELS = ("source", "is_instrument", "family", "instrument", "genre", "drums")
"""What splits are stratified by."""


def check_shares(shares: Sequence[float]) -> tuple[float, ...]:
    """Returns the shares of the splits, in the order of `SPLITS`.

    Raises:
        DataError: they are no shares.
    """
    shares = tuple(float(share) for share in shares)
    if len(shares) != len(SPLITS) or not min(shares) >= 0 or not math.isclose(sum(shares), 1, abs_tol=1e-6):
        found = " ".join(f"{share:g}" for share in shares) or "nothing"
        raise DataError(f"--split_shares should be the shares of {', '.join(SPLITS)} that add up to 1, {found} found")
    return shares


def split_clips(manifest: pa.Table, seed: int, shares: Sequence[float], count_duplicates: bool) -> np.ndarray:
    """Settles the split of every clip.

    Args:
        manifest: with the column ``split`` null where the source gives none.
        seed: decides between groups that are alike.
        shares: see `check_shares`.
        count_duplicates: clips of the same sound each count towards the shares; otherwise only the first does.

    Returns:
        int64 ``(N,)``, places in `SPLITS`.
    """
    group, names = _codes(manifest["group"])
    sound = sounds_of(manifest)
    origin = _origins(group, len(names), _recordings(manifest), sound)[group]  # (N,)
    given = given_splits(manifest)
    of_group, of_origin = _earliest(given, group, len(names)), _earliest(given, origin, len(names))
    split = np.where(given >= 0, given, np.where(of_group[group] >= 0, of_group[group], of_origin[origin]))
    rows = np.flatnonzero(split < 0)
    drawn, number = np.unique(origin[rows], return_inverse=True)
    clip, label, _ = known_labels(manifest.take(rows))
    is_counted = np.full(len(rows), count_duplicates)
    is_counted[np.unique(sound[rows], return_index=True)[1]] = True
    is_used = is_counted[clip]
    rank = _ranks([names[code] for code in drawn.tolist()], seed)
    split[rows] = _draw(number[clip[is_used]], label[is_used], rank, shares)[number]
    return split


def given_splits(manifest: pa.Table) -> np.ndarray:
    """int64 ``(N,)``: places in `SPLITS` of the column ``split``, -1 where it is null."""
    return pc.fill_null(pc.index_in(manifest["split"], pa.array(SPLITS)), -1).to_numpy().astype(np.int64)


def sounds_of(manifest: pa.Table) -> np.ndarray:
    """int64 ``(N,)``: a number for the samples of every clip, the same for the same samples."""
    return _codes(manifest["checksum"])[0]


def known_labels(manifest: pa.Table) -> tuple[np.ndarray, np.ndarray, list[tuple[str, str]]]:
    """What is known to sound in the clips, at all of `LEVELS`.

    Returns:
        int64 ``(P,)`` clips, int64 ``(P,)`` labels, and the level and name of every label; the first of them,
        ``("clips", "all")``, is on every clip. ``is_instrument`` is a label both when true and when false.
    """
    clips, labels = [np.arange(manifest.num_rows)], [np.zeros(manifest.num_rows, np.int64)]
    names: list[tuple[str, str]] = [("clips", "all")]
    for level in LEVELS:
        rows, found = _known(manifest, level)
        codes, of_level = _codes(found)
        clips.append(rows)
        labels.append(codes + len(names))
        names += [(level, name) for name in of_level]
    return np.concatenate(clips), np.concatenate(labels), names


def _known(manifest: pa.Table, level: str) -> tuple[np.ndarray, pa.ChunkedArray]:
    if f"{level}_present" in manifest.column_names:
        lists = manifest[f"{level}_present"].combine_chunks()
        return pc.list_parent_indices(lists).to_numpy(), pa.chunked_array([pc.list_flatten(lists)])
    values = pc.cast(manifest[level], pa.string())
    is_known = pc.equal(values, "true") if level == "drums" else pc.is_valid(values)
    rows = np.flatnonzero(pc.fill_null(is_known, False).to_numpy())
    return rows, values.take(rows)


def _codes(column: pa.ChunkedArray) -> tuple[np.ndarray, list[str]]:
    """Numbers the values of a column by their place among the sorted values, which come second."""
    encoded = column.combine_chunks().dictionary_encode()
    order = pc.sort_indices(encoded.dictionary).to_numpy()
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    return place[encoded.indices.to_numpy()], encoded.dictionary.take(order).to_pylist()


def _recordings(manifest: pa.Table) -> np.ndarray:
    source, sources = _codes(manifest["source"])
    return _codes(manifest["recording"])[0] * len(sources) + source


def _origins(group: np.ndarray, num_groups: int, *keys: np.ndarray) -> np.ndarray:
    """int64 ``(G,)``: the first of all groups that a chain of equal keys leads to."""
    first = list(range(num_groups))

    def origin_of(number: int) -> int:
        while first[number] != number:
            first[number] = number = first[first[number]]
        return number

    for key in keys:
        pairs = np.unique(key * num_groups + group)
        is_shared = pairs[1:] // num_groups == pairs[:-1] // num_groups
        neighbours = np.stack([pairs[:-1][is_shared], pairs[1:][is_shared]], axis=1) % num_groups
        for one, other in neighbours.tolist():
            low, high = sorted((origin_of(one), origin_of(other)))
            first[high] = low
    return np.array([origin_of(number) for number in range(num_groups)], dtype=np.int64)


def _earliest(given: np.ndarray, key: np.ndarray, num_keys: int) -> np.ndarray:
    """int64 ``(num_keys,)``: the first in `SPLITS` of the given splits of a key's clips, -1 if there is none."""
    earliest = np.full(num_keys, len(SPLITS))
    np.minimum.at(earliest, key[given >= 0], given[given >= 0])
    return np.where(earliest < len(SPLITS), earliest, -1)


def _ranks(names: list[str], seed: int) -> np.ndarray:
    """int64 ``(G,)``: the place of every name in an order that the seed decides."""
    hashes = [hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=16).digest() for name in names]
    ranks = np.empty(len(names), np.int64)
    ranks[sorted(range(len(names)), key=hashes.__getitem__)] = np.arange(len(names))
    return ranks


def _draw(group: np.ndarray, label: np.ndarray, rank: np.ndarray, shares: Sequence[float]) -> np.ndarray:
    """int64 ``(G,)``, places in `SPLITS`; none where the share is 0."""
    wanted = np.flatnonzero(np.asarray(shares) > 0)
    return wanted[stratify(group, label, rank, np.asarray(shares)[wanted])]

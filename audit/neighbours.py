"""The nearest other clips of every clip.

Shapes: N clips of the pack, Q of them at a time, k neighbours.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from audit.errors import AuditError
from audit.exact import NONE, nearest_others
from audit.index import Index, fastest_device

FETCHED = 2**22
"""Neighbours that are fetched at a time from an index that is searched clip by clip."""
MORE = 4
"""Times as many neighbours are fetched where too many were of the own group."""


@dataclass(frozen=True)
class Neighbours:
    """Each clip's nearest others, nearest first; a clip is its row in the manifest."""

    similarity: np.ndarray
    """Cosine, float32 `(N, k)`; -inf where there is no further neighbour."""
    rows: np.ndarray
    """int64 `(N, k)`; -1 where there is no further neighbour."""


def neighbours_of_all(index: Index, k: int, group: np.ndarray | None = None) -> Neighbours:
    """The `k` nearest others of every clip, itself dropped by its row; what the index finds, if it is not exact.

    Args:
        index: of the embeddings of a pack.
        k: neighbours of each.
        group: int64 `(N,)`; if given, clips of a clip's own group are left out too, however many they are.

    Raises:
        AuditError: k is larger than the number of other clips.
        ValueError: k is not positive, or not every clip has a group.
    """
    return _search(index, k, group, [group is not None])[0]


def both_neighbours(index: Index, k: int, group: np.ndarray) -> tuple[Neighbours, Neighbours]:
    """``neighbours_of_all(index, k)`` and ``neighbours_of_all(index, k, group)``, for little more than one of them.

    Raises:
        AuditError, ValueError: as `neighbours_of_all`.
    """
    everywhere, elsewhere = _search(index, k, group, [False, True])
    return everywhere, elsewhere


def _search(index: Index, k: int, group: np.ndarray | None, skips_groups: Sequence[bool]) -> list[Neighbours]:
    count = index.info.count
    if k < 1:
        raise ValueError(f"k, how many neighbours, should be 1 or more, {k} found")
    if k >= count:
        raise AuditError(f"a clip of {count} has {count - 1} others, k of {k} found; ask for fewer")
    if group is not None and len(group) != count:
        raise ValueError(f"{count} clips need as many groups, {len(group)} found")
    run_of = np.arange(count) if group is None else np.unique(group, return_inverse=True)[1].astype(np.int64)
    with tqdm(
        total=count * (1 if index.info.kind == "exact" else len(skips_groups)), desc="neighbours", unit="clip"
    ) as bar:
        if index.info.kind == "exact":
            return _by_products(index, k, run_of, skips_groups, bar)
        return [_by_index(index, k, run_of if skips else np.arange(count), bar) for skips in skips_groups]


def _by_products(index: Index, k: int, run_of: np.ndarray, skips_groups: Sequence[bool], bar: tqdm) -> list[Neighbours]:
    """Of everything with everything."""
    order = np.argsort(run_of, kind="stable")
    unit = index.embeddings.unit(order)
    found = []
    for similarity, places in nearest_others(unit, run_of[order], k, skips_groups, fastest_device(), bar.update):
        answer = Neighbours(np.empty_like(similarity), np.empty_like(places))
        answer.similarity[order] = similarity
        answer.rows[order] = np.where(places < 0, -1, order[places])
        found.append(answer)
    return found


def _by_index(index: Index, k: int, run_of: np.ndarray, bar: tqdm) -> Neighbours:
    """Of what the index finds, more and more of it until k are left of other runs."""
    count = len(run_of)
    answer = Neighbours(np.full((count, k), NONE, np.float32), np.full((count, k), -1, np.int64))
    waiting, fetched = np.arange(count), k + 1
    while len(waiting):
        fetched, again = min(fetched, count), []
        for rows in np.array_split(waiting, -(-len(waiting) * fetched // FETCHED)):  # (Q,)
            similarity, found = index.search(index.embeddings.unit(rows), fetched)
            is_other = (found >= 0) & (run_of[found] != run_of[rows, None])
            places = np.argsort(~is_other, axis=1, kind="stable")[:, :k]  # the others first, in their order
            is_other = np.take_along_axis(is_other, places, 1)
            answer.similarity[rows] = np.where(is_other, np.take_along_axis(similarity, places, 1), NONE)
            answer.rows[rows] = np.where(is_other, np.take_along_axis(found, places, 1), -1)
            is_short = ~is_other[:, -1] & (found[:, -1] >= 0) & (fetched < count)
            again.append(rows[is_short])
            bar.update(len(rows) - int(is_short.sum()))
        waiting, fetched = np.concatenate(again), fetched * MORE
    return answer

"""The nearest other clips of every clip.

Shapes: N clips of the pack, k neighbours.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from audit.index import Index


@dataclass(frozen=True)
class Neighbours:
    """Each clip's nearest others, nearest first; a clip is its row in the manifest."""

    similarity: np.ndarray
    """Cosine, float32 `(N, k)`; -inf where there is no further neighbour."""
    rows: np.ndarray
    """int64 `(N, k)`; -1 where there is no further neighbour."""


def neighbours_of_all(index: Index, k: int, group: np.ndarray | None = None) -> Neighbours:
    """The `k` nearest others of every clip, itself dropped by its row.

    Args:
        index: of the embeddings of a pack.
        k: neighbours of each.
        group: int64 `(N,)`; if given, clips of a clip's own group are left out too, however many they are.

    Raises:
        AuditError: k is larger than the number of other clips.
    """
    return neighbours_by_groups(index, k, [group])[0]


def neighbours_by_groups(index: Index, k: int, groups: Sequence[np.ndarray | None]) -> list[Neighbours]:
    """`neighbours_of_all` for several groupings in one pass, which costs little more than one of them.

    Args:
        index: of the embeddings of a pack.
        k: neighbours of each.
        groups: each as in `neighbours_of_all`; None leaves out the clip itself alone.

    Raises:
        AuditError: k is larger than the number of other clips.
    """
    raise NotImplementedError

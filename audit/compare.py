"""Two runs beside each other: what the neighbours of the same clips are to each.

Shapes: N clips of the pack, k neighbours.
"""

from collections.abc import Sequence

import numpy as np

from audit.embeddings import Embeddings
from audit.errors import AuditError
from audit.findings import Change, Comparison, Score
from audit.neighbours import Neighbours
from audit.places import named_neighbours


def compare(
    now: Embeddings, neighbours: Neighbours, before: Embeddings, neighbours_before: Neighbours,
    scores_before: Sequence[Score], most: int = 20,
) -> Comparison:  # fmt: skip
    """Sets a run beside one that came before.

    Args:
        now, neighbours: of this run, every clip's.
        before, neighbours_before: of the other run, over the same pack.
        scores_before: of the other run, the measures that were taken of this one.
        most: clips whose neighbours changed most that are named.

    Raises:
        AuditError: the packs are not the same.
    """
    check_same_pack(now, before)
    overlap = overlaps(neighbours, neighbours_before)
    known = np.flatnonzero(~np.isnan(overlap))
    # Of equally many changed neighbours those first that were nearer: near ones say more than far ones.
    order = np.lexsort((-neighbours_before.similarity[known].max(axis=1, initial=-np.inf), overlap[known]))
    ids = now.pack.column("id")
    changes = tuple(
        Change(
            clip=ids[row], overlap=float(overlap[row]),
            before=named_neighbours(ids, neighbours_before, row), after=named_neighbours(ids, neighbours, row),
        )
        for row in known[order[:most]]
        if overlap[row] < 1
    )  # fmt: skip
    mean = float(overlap[known].mean()) if len(known) else 1.0
    return Comparison(before.run or str(before.folder), tuple(scores_before), mean, changes)


def check_same_pack(now: Embeddings, before: Embeddings) -> None:
    """Compares the packs of two runs.

    Raises:
        AuditError: they are not the same.
    """
    if now.info.sound_fingerprint != before.info.sound_fingerprint:
        raise AuditError(
            f"two runs are compared over the same pack, {now.folder} is of {now.info.pack} and {before.folder} of "
            f"{before.info.pack} as it was then; embed {now.info.pack} with both"
        )


def overlaps(one: Neighbours, other: Neighbours) -> np.ndarray:
    """Share of a clip's neighbours that two searches have in common, float64 ``(N,)``; NaN where one has none.

    Counted among as many as the shorter list has: ``|A & B| / k``.
    """
    k = min(one.rows.shape[1], other.rows.shape[1])
    ours, theirs = one.rows[:, :k], other.rows[:, :k]
    common = np.zeros(len(ours), np.int64)
    for column in ours.T:
        common += ((column[:, None] == theirs) & (column[:, None] >= 0)).any(axis=1)
    number = np.minimum((ours >= 0).sum(axis=1), (theirs >= 0).sum(axis=1))
    return np.divide(common, number, out=np.full(len(ours), np.nan), where=number > 0)

"""mAP@R: how far up in the ranking of all other clips those of the same label are.

Unlike purity it asks for as many neighbours as there are clips of the label, so no list of k nearest will do: every
clip asked is compared with all others. In a large pack clips are drawn to be asked.

Shapes: N clips of the pack, Q asked, B of them at a time.
"""

import numpy as np
import torch

from audit.bootstrap import intervals
from audit.columns import numbered
from audit.embeddings import Embeddings
from audit.findings import Score
from audit.purity import LEVELS, answerable
from data.labels import LabelTable
from data.relation import relation

ASKED = 1000
"""At least so many clips are asked, where there are as many."""
PAIRS = 100_000_000
"""And more as long as they are compared with no more than so many in all."""
_AT_ONCE = 128


def map_at_r(embeddings: Embeddings, seed: int = 0) -> list[Score]:
    """Mean average precision at R by family, instrument, genre and source.

    The value of a clip is ``1/R * sum_{i=1..R} precision(i) if the i-th neighbour is the same else 0`` (Musgrave et al.
    2020, arXiv 2003.08505, section 4.1), with R the number of clips of other groups that are the same as it; clips of
    its own group and those of which it is not known are no neighbours. The mean is over the clips that have any, drawn
    from all where there are too many, with a 95 % interval over groups.

    Args:
        seed: draws who is asked.
    """
    pack = embeddings.pack
    group, _ = numbered(pack, "group")
    source, _ = numbered(pack, "source")
    is_asked = answerable(pack, group)
    candidates = np.flatnonzero(np.any(list(is_asked.values()), axis=0))
    count = min(len(candidates), max(ASKED, PAIRS // len(pack)))
    queries = np.sort(np.random.default_rng(seed).choice(candidates, count, replace=False))
    values = np.full((2, len(queries), len(LEVELS)), np.nan)  # found, expected by chance
    unit = torch.from_numpy(embeddings.unit())
    labels = LabelTable(pack).take(np.arange(len(pack)))
    for start in range(0, len(queries), _AT_ONCE):
        rows = queries[start : start + _AT_ONCE]
        related = relation({name: column[rows] for name, column in labels.items()}, labels)
        similarity = (unit[rows] @ unit.T).numpy()  # (B, N)
        for place, row in enumerate(rows):
            order = np.argsort(-similarity[place])
            order = order[group[order] != group[row]]
            for column, level in enumerate(LEVELS):
                if is_asked[level][row]:
                    is_source = level == "source"
                    same = source[order] == source[row] if is_source else related[level][place].numpy()[order]
                    values[:, start + place, column] = average_precision_at_r(same)
    mean, low, high = intervals(values[0], group[queries], seed) if count else np.empty((3, 0))
    asked = (~np.isnan(values[0])).sum(axis=0)
    return [
        Score(
            level, "map_at_r", float(mean[column]), float(low[column]), float(high[column]),
            float(np.nanmean(values[1, :, column])), int(asked[column]),
        )
        for column, level in enumerate(LEVELS)
        if asked[column]
    ]  # fmt: skip


def average_precision_at_r(related: np.ndarray) -> tuple[float, float]:
    """Of one clip's neighbours, nearest first: 1 the same, 0 different, -1 unknown, which are passed over.

    Returns:
        The average precision at R, and what it is expected to be in an order drawn at random: with M neighbours, each
        place holds one of the R with probability R / M, and of the i - 1 before it then (i - 1) (R - 1) / (M - 1) are
        too, so ``1/M * sum_{i=1..R} (1 + (i - 1) (R - 1) / (M - 1)) / i``.

    Raises:
        ValueError: none is the same.
    """
    is_same = related[related >= 0] == 1
    count, total = int(is_same.sum()), len(is_same)  # R, M
    if not count:
        raise ValueError("average precision needs a neighbour that is the same")
    rank = np.arange(1, count + 1)
    first = is_same[:count]
    found = (first.cumsum() / rank * first).sum() / count
    expected = ((1 + (rank - 1) * ((count - 1) / max(total - 1, 1))) / rank).sum() / total
    return float(found), float(expected)

"""How sure a mean over clips is, by drawing their groups again.

Clips of one group, as the notes of one player, say the same thing several times: an interval from single clips would be
too narrow. So whole groups are drawn, with replacement, and the mean is taken of the clips that come with them (the
cluster bootstrap, Davison and Hinkley 1997, *Bootstrap Methods and their Application*, section 3.8).

Shapes: Q clips, M numbers of each, G groups.
"""

import numpy as np

DRAWS = 1000
SHARE = 0.95
"""Of the draws whose means lie in the interval."""
_AT_ONCE = 16  # draws, so that the weights of many groups take little memory


def intervals(values: np.ndarray, group: np.ndarray, seed: int = 0) -> np.ndarray:
    """The means of some numbers and between what they lie.

    Args:
        values: ``(Q, M)`` in [0, 1], NaN where a clip has none.
        group: int64 ``(Q,)``.

    Returns:
        float64 ``(3, M)``: mean, low and high. What one group alone has says nothing of others: its interval is from 0
        to 1. NaN where no clip has a number.
    """
    _, group = np.unique(group, return_inverse=True)
    count = group.max(initial=-1) + 1  # G
    is_known = ~np.isnan(values)
    sums = np.stack([np.bincount(group, column, count) for column in np.where(is_known, values, 0.0).T], axis=1)
    numbers = np.stack([np.bincount(group, column, count) for column in is_known.T], axis=1)  # (G, M)
    generator = np.random.default_rng(seed)
    means = np.empty((DRAWS, values.shape[1]))
    with np.errstate(invalid="ignore"):  # 0 / 0 where no clip was drawn that has the number
        for start in range(0, DRAWS, _AT_ONCE):
            number = min(_AT_ONCE, DRAWS - start)
            weights = np.stack([np.bincount(generator.integers(count, size=count), None, count) for _ in range(number)])
            weights = weights.astype(np.float64)
            means[start : start + number] = (weights @ sums) / (weights @ numbers)
        mean = sums.sum(axis=0) / numbers.sum(axis=0)
    result = np.full((3, values.shape[1]), np.nan)
    for column in np.flatnonzero(numbers.any(axis=0)):
        is_sure = np.count_nonzero(numbers[:, column]) > 1
        edges = (1 - SHARE) / 2, (1 + SHARE) / 2
        result[:, column] = mean[column], *(np.nanquantile(means[:, column], edges) if is_sure else (0.0, 1.0))
    return result

"""What linear models tell of clips that they did not learn from: all clips in turn, with few passes over them.

Both models here follow from sums over clips, so that the sums of a fold are taken away from those of all clips instead
of being summed anew: a fold more or less costs next to nothing, and 300,000 clips take seconds.

Shapes: N clips, E embedding size, C classes, F folds.
"""

import numpy as np
from scipy.sparse import csr_array

FOLDS = 10
SHRINKAGE = 0.02
"""Share of a covariance that is spread evenly over all directions; from half to twice as much does no worse."""
RIDGES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
"""Penalties of a ridge regression, as shares of the mean variance of a direction."""
_BLOCK = 8192  # rows that are multiplied at once; between blocks sums are doubles


def folds_of(group: np.ndarray, label: np.ndarray | None = None, seed: int = 0) -> np.ndarray:
    """Deals clips out to folds so that each fold holds its share of every class, and groups stay whole.

    A group stays whole but where it alone carries its class, as the one recording of a sitar: held out whole, nothing
    else could teach the class. Its clips are dealt out one by one. A class is carried by one group if two of its clips,
    drawn at random, are more likely than not of the same group; so a few wrong labels elsewhere change nothing.

    Args:
        group: int64 ``(N,)``.
        label: int64 ``(N,)``, counted from 0; without it every group stays whole.
        seed: decides between groups that are alike.

    Returns:
        int64 ``(N,)``, from 0 to `FOLDS` - 1.
    """
    _, group = np.unique(group, return_inverse=True)
    has_classes = label is not None
    label = label if has_classes else np.zeros_like(group)
    pairs, clips = np.unique(np.stack([group, label]), axis=1, return_counts=True)
    own, of = pairs
    of_class = np.bincount(of, clips)
    is_lone = has_classes & (2 * np.bincount(of, clips.astype(float) ** 2) > of_class.astype(float) ** 2)  # (C,)
    order = np.argsort(clips, kind="stable")
    most = np.empty(group.max() + 1, np.int64)
    most[own[order]] = of[order]  # the last written is the most frequent
    unit = np.where(is_lone[most][group], group.max() + 1 + np.arange(len(group)), group)
    _, first, unit, size = np.unique(unit, return_index=True, return_inverse=True, return_counts=True)
    of_unit = most[group[first]]
    load, load_of_class = [0] * FOLDS, np.zeros((len(of_class), FOLDS), np.int64).tolist()
    fold = np.empty(len(size), np.int64)
    draw = np.random.default_rng(seed).random(len(size))
    for place in np.lexsort((draw, -size, of_unit)).tolist():
        own_load = load_of_class[of_unit[place]]
        chosen = min(range(FOLDS), key=lambda number, own=own_load: (own[number], load[number]))
        fold[place] = chosen
        own_load[chosen] += int(size[place])
        load[chosen] += int(size[place])
    return fold[unit]


def class_probabilities(values: np.ndarray, label: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Probabilities of the classes of every clip, from a linear discriminant that the other folds teach.

    The classes are taken for normal distributions of one covariance (Fisher 1936; Hastie et al., The Elements of
    Statistical Learning, equation 4.10, regularised as in 4.14), which is fitted without iterating.

    Args:
        values: float32 ``(N, E)``.
        label: int64 ``(N,)``, counted from 0.
        fold: int64 ``(N,)``.

    Returns:
        float32 ``(N, C)``, rows sum to 1.
    """
    classes, width = int(label.max()) + 1, values.shape[1]
    folds = int(fold.max()) + 1
    counts = np.zeros((folds, classes))
    np.add.at(counts, (fold, label), 1)
    sums = _sums(values, fold * classes + label, folds * classes).reshape(folds, classes, width)
    grams = np.stack([_gram(values[fold == number]) for number in range(folds)])
    gram, total, count = grams.sum(0), sums.sum(0), counts.sum(0)
    result = np.empty((len(values), classes), np.float32)
    for number in range(folds):
        is_held_out = fold == number
        known = count - counts[number]
        mean = (total - sums[number]) / np.maximum(known, 1)[:, None]  # (C, E)
        within = (gram - grams[number] - (mean * known[:, None]).T @ mean) / max(known.sum(), 1)
        even = max(np.trace(within) / width, np.finfo(np.float32).eps)
        within = (1 - SHRINKAGE) * within + SHRINKAGE * even * np.eye(width)
        weight = np.linalg.solve(within, mean.T)  # (E, C)
        with np.errstate(divide="ignore"):  # a class that the other folds do not hold has the probability 0
            bias = np.log(known / known.sum()) - (mean.T * weight).sum(0) / 2
        score = values[is_held_out] @ weight.astype(np.float32) + bias.astype(np.float32)
        score = np.exp(score - score.max(axis=1, keepdims=True))
        result[is_held_out] = score / score.sum(axis=1, keepdims=True)
    return result


def ridge_predictions(values: np.ndarray, target: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Predictions of a number for every clip, from a ridge regression that the other folds teach.

    Its penalty is the one of `RIDGES` that predicts best, the same for all folds.

    Args:
        values: float32 ``(N, E)``.
        target: float ``(N,)``.
        fold: int64 ``(N,)``.

    Returns:
        float64 ``(N,)``.
    """
    folds, width = int(fold.max()) + 1, values.shape[1]
    held_out = [np.flatnonzero(fold == number) for number in range(folds)]
    grams = np.stack([_gram(values[rows]) for rows in held_out])
    sums = np.stack([values[rows].sum(axis=0, dtype=float) for rows in held_out])  # (F, E)
    products = np.stack([values[rows].T.astype(float) @ target[rows] for rows in held_out])
    totals = np.array([target[rows].sum() for rows in held_out])
    result = np.empty((len(RIDGES), len(values)))
    for number, rows in enumerate(held_out):
        count = len(values) - len(rows)
        mean, level = (sums.sum(0) - sums[number]) / count, (totals.sum() - totals[number]) / count
        covariance = (grams.sum(0) - grams[number]) / count - np.outer(mean, mean)
        with_target = (products.sum(0) - products[number]) / count - mean * level
        even = max(np.trace(covariance) / width, np.finfo(np.float32).eps)
        for place, ridge in enumerate(RIDGES):
            weight = np.linalg.solve(covariance + ridge * even * np.eye(width), with_target)
            result[place, rows] = (values[rows] - mean.astype(np.float32)) @ weight.astype(np.float32) + level
    return result[np.square(result - target).mean(axis=1).argmin()]


def _sums(values: np.ndarray, key: np.ndarray, keys: int) -> np.ndarray:
    """The sum of the rows of every key, float64 ``(keys, E)``."""
    total = np.zeros((keys, values.shape[1]))
    for start in range(0, len(values), _BLOCK):
        own = key[start : start + _BLOCK]
        places = own, np.arange(len(own))
        total += csr_array((np.ones(len(own), np.float32), places), (keys, len(own))) @ values[start : start + _BLOCK]
    return total


def _gram(values: np.ndarray) -> np.ndarray:
    """``values.T @ values``, float64 ``(E, E)``."""
    total = np.zeros((values.shape[1], values.shape[1]))
    for start in range(0, len(values), _BLOCK):
        block = np.ascontiguousarray(values[start : start + _BLOCK])
        total += block.T @ block
    return total

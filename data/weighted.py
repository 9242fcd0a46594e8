"""An order in which some clips come more often than others, so that rare labels are heard as often as frequent ones.

Shapes: B clips of a batch, N clips of the split, C labels of a level.
"""

import numpy as np

from data.codes import SETS
from data.errors import DataError
from data.labels import LabelTable
from data.sampler import Windows, shuffled

MOST_WEIGHT = 10.0
"""Of the rarest labels over the most frequent one: a few clips that come a hundred times are learned by heart."""
_ROWS_AT_ONCE = 65_536


class WeightedOrder:
    """Which clips each global batch holds, drawn with replacement by their weights.

    An epoch is a systematic sample (Madow 1949, "On the Theory of Systematic Sampling, II"): equally spaced points, all
    moved by one random number, on a line along which the clips lie as long as they weigh. A clip's expected count is
    exactly its share of the weight, and its count the next whole number below or above. The sample is then permuted.
    Like `data.sampler.GlobalOrder` this has no state: an epoch is a function of the seed and its number.

    Args:
        weights: ``(N,)``, at least 0, in any unit; a clip of weight 0 never comes.
        batch_size: B, of the global batch; may be greater than N.
        seed: of the order.
        windows: where not all clips are shuffled at once.

    Raises:
        DataError: there are no clips, or weights that nothing can be drawn by.
    """

    def __init__(self, weights: np.ndarray, batch_size: int, seed: int, windows: Windows | None = None):
        weights = np.asarray(weights, dtype=np.float64)
        if weights.ndim != 1 or not len(weights):
            raise DataError(f"a weight for each clip was expected, found an array of {weights.shape}; give some clips")
        if not np.isfinite(weights).all() or weights.min() < 0 or not weights.any():
            raise DataError(
                f"weights of clips should be finite, none below 0 and one above, found {weights.min():g} to "
                f"{weights.max():g}; check the labels they come from"
            )
        if batch_size < 1:
            raise DataError(f"a batch should hold a clip or more, {batch_size} asked for; choose another --batch_size")
        self.batch_size, self.seed, self.windows = batch_size, seed, windows
        self._ends = np.cumsum(weights / weights.sum())  # of the clips on the line
        self._last = int(np.flatnonzero(weights)[-1])
        self._drawn: tuple[int, np.ndarray] | None = None  # the epoch that was asked for last

    @property
    def steps_per_epoch(self) -> int:
        """Batches that hold as many clips as the split."""
        return max(1, len(self._ends) // self.batch_size)

    def epoch_of(self, step: int) -> int:
        """What crops are drawn by beside seed and clip: the step, for a clip may come again before an epoch ends."""
        return step

    def batch(self, step: int) -> np.ndarray:
        """Positions in the split, int64 ``(B,)``; a clip may occur several times."""
        epoch, number = divmod(step, self.steps_per_epoch)
        drawn = self._drawn
        if drawn is None or drawn[0] != epoch:
            drawn = self._drawn = epoch, self._sample(epoch)  # a thread that reads ahead may put another in its place
        return drawn[1][number * self.batch_size : (number + 1) * self.batch_size]

    def describe(self) -> str:
        """What an epoch is made of, in words."""
        times = np.diff(self._ends, prepend=0.0) * self.steps_per_epoch * self.batch_size
        return (
            f"{len(times)} clips drawn by weight, with replacement; in an epoch the heaviest come {times.max():.2g} "
            f"times, the lightest {times.min():.2g}"
        )

    def _sample(self, epoch: int) -> np.ndarray:
        generator = np.random.Generator(np.random.PCG64([self.seed, epoch]))
        count = self.steps_per_epoch * self.batch_size
        points = (generator.random() + np.arange(count)) / count
        # Rounding may leave the last clip that weighs something short of 1, and a point behind it.
        positions = np.minimum(np.searchsorted(self._ends, points, side="right"), self._last)
        drawn = shuffled(positions, generator, self.windows).astype(np.int64)
        drawn.setflags(write=False)  # it is shared by all batches of the epoch
        return drawn


def balancing_weights(table: LabelTable, rows: np.ndarray, level: str) -> np.ndarray:
    """Weights that make the labels of a level come more alike, float64 ``(N,)``.

    A label weighs the number of clips of the most frequent one over its own, at most `MOST_WEIGHT`; a clip as much as
    the heaviest label that is known to sound in it. Clips in which none is known to sound get the mean of the others.

    Args:
        rows: int64 ``(N,)``, row numbers of the split.
        level: one of ``family``, ``instrument`` and ``genre``.

    Raises:
        DataError: there is no such level, or no clip is known to have a label of it.
    """
    if level not in SETS:
        raise DataError(f"clips can be balanced by {', '.join(SETS)}, {level!r} was asked for; choose one of them")
    parts = [rows[first : first + _ROWS_AT_ONCE] for first in range(0, len(rows), _ROWS_AT_ONCE)]
    counts = sum((table.column(level, part) == 1).sum(axis=0) for part in parts)  # (C,)
    if not np.any(counts):
        raise DataError(
            f"clips should have a known {level} to be balanced by it, none of {len(rows)} has; balance by another level"
        )
    of_label = np.minimum(counts.max() / np.maximum(counts, 1), MOST_WEIGHT)
    weights = np.concatenate([((table.column(level, part) == 1) * of_label).max(axis=1) for part in parts])
    weights[weights == 0] = weights[weights > 0].mean()
    return weights

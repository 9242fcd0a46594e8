"""What a loss returns: a sum over pairs, triplets or anchors, and how many there were.

The number is kept apart from the sum because a mean of means is no mean: what one process finds in its part of a batch
must be weighted by how much it found, see `losses.gather.mean_over_processes`.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class LossSum(NamedTuple):
    """A loss before it is averaged."""

    total: Tensor
    """float32 scalar: the sum."""
    count: Tensor
    """float32 scalar without gradient: how many were summed."""

    def mean(self) -> Tensor:
        """The mean over the rows of this process; 0, with a gradient of 0, over none."""
        return self.total / self.count.clamp(min=1)


def sum_of(values: Tensor, is_counted: Tensor) -> LossSum:
    """Sums `values` where `is_counted`; what is not counted may be infinite or NaN and still has no gradient."""
    return LossSum(torch.where(is_counted, values, 0.0).sum(), is_counted.sum().to(values.dtype))

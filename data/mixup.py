"""Mixup of waveforms in linear power: two clips sound at once, and say how much of each.

Zhang et al. 2018, arXiv 1710.09412, with the weights on the power: waveforms are multiplied by their square roots, for
the powers of two recordings add up, and not their amplitudes.

Shapes: B rows of a batch, S samples.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from data.draws import uniform_of_keys
from data.errors import DataError
from data.levels import without_padding

_FIRST = 1 << 16  # where in a key's sequence its numbers stand, behind those that `data.augment` draws


@dataclass(frozen=True)
class Mixup:
    """Which clips are mixed with another, and how much of them is left."""

    probability: float = 0.0
    """Share of clips that are mixed, in [0, 1]."""
    share: tuple[float, float] = (0.5, 1.0)
    """How much of the power stays the clip's own, drawn evenly from this range within [0, 1]."""

    def __post_init__(self):
        if not 0 <= self.probability <= 1:
            raise DataError(
                f"probability should lie between 0 and 1, {self.probability} found; give a share of the clips"
            )
        low, high = self.share
        if not 0 <= low <= high <= 1:
            raise DataError(f"share should be a range within [0, 1], [{low:g}, {high:g}] found; give two numbers")

    @torch.no_grad()
    def __call__(
        self, waveform: Tensor, other: Tensor, keys: Tensor, num_samples: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Mixes a batch.

        Args:
            waveform: float32 ``(B, S)``; left as it is.
            other: float32 ``(B, S)``, another clip for each.
            keys: int64 ``(B,)``; nothing else decides what is drawn.
            num_samples: int64 ``(B,)``, how many of the S samples of `waveform` are sound; the other clip is cut there.

        Returns:
            The mixtures, float32 ``(B, S)``, and each clip's own share of the power ``(B,)``, 1 where it was not mixed:
            the weight of its labels, those of the other clip having the rest.
        """
        is_mixed, place = uniform_of_keys(keys, 2, _FIRST).unbind(1)
        low, high = self.share
        share = torch.where(is_mixed < self.probability, low + place * (high - low), 1.0)
        other = without_padding(other, num_samples) * (1 - share).sqrt()[:, None]
        return torch.addcmul(other, waveform, share.sqrt()[:, None]), share

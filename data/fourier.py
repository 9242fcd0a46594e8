"""The Fourier transform of a batch, whose rows come out the same to the last bit in whatever batch they lie.

Shapes: B rows, S samples, L points (even), K = L / 2 + 1 of the spectrum.
"""

from functools import cache

import torch
from torch import Tensor


@cache
def smooth_length(least: int) -> int:
    """The smallest even number, at least `least`, without prime factors over 5: a quick number of points."""
    best = max(2, 1 << (least - 1).bit_length())
    five = 1
    while five < best:
        odd = five
        while odd < best:
            best = min(best, odd * max(2, 1 << (-(-least // odd) - 1).bit_length()))
            odd *= 3
        five *= 5
    return best


def spectrum_of(waveform: Tensor, points: int) -> Tensor:
    """Complex ``(B, K)`` of ``(B, S)``, silence added up to `points` points."""
    return torch.fft.rfft(_two(waveform), points)[: len(waveform)]


def waveform_of(spectrum: Tensor, points: int) -> Tensor:
    """``(B, points)`` of ``(B, K)``, zeros added up to the K of as many points."""
    return torch.fft.irfft(_two(spectrum), points)[: len(spectrum)]


def _two(rows: Tensor) -> Tensor:
    """MKL takes another road, with other last bits, for a single row; it gets two."""
    return rows.expand(2, -1) if len(rows) == 1 and rows.device.type == "cpu" else rows

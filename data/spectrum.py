"""What is done to a whole clip's spectrum: reverberation, noise, filters, a band taken out.

The clip is a loop here: what rings on behind its end is heard at its start, as a room rings with what came before a
crop. Filters are real factors, so they shift no phase. They are computed on `POINTS` frequencies and drawn out in
straight lines to all of the spectrum's.

Shapes: B rows, K frequencies of the spectrum, P = `POINTS`. Nothing here writes into its input.
"""

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from data.decode import RATE
from data.draws import signs_of_keys
from data.fourier import spectrum_of
from data.levels import ratio_of_db

POINTS = 1025
"""Every 7.8 Hz."""
LEAST_HZ = 50.0
"""Slopes go no further down than this: brown noise would be all rumble."""
PIVOT_HZ = 1000.0
"""Where a tilt leaves the level alone."""
_NOISE, _ROOM = 1 << 20, 1 << 40  # where in a key's sequence their signs begin, far behind what settings are drawn from
_MASK_EDGE = 0.01  # of the mel scale
_CODEC_EDGE = 0.05  # of the frequency


@lru_cache(maxsize=8)
def frequencies(device: torch.device) -> Tensor:
    """``(P,)`` in Hz, from 0 to the Nyquist frequency."""
    return torch.linspace(0, RATE / 2, POINTS, device=device)


def drawn_out(factors: Tensor, count: int) -> Tensor:
    """``(B, P)`` to ``(B, count)``, in straight lines."""
    return F.interpolate(factors[:, None], size=count, mode="linear", align_corners=True)[:, 0]


def times(spectrum: Tensor, factors: Tensor) -> Tensor:
    """A spectrum, complex ``(B, K)``, times real factors ``(B, P)``."""
    return spectrum * drawn_out(factors, spectrum.shape[1])


def with_noise(spectrum: Tensor, keys: Tensor, power: Tensor, hz: Tensor, slope_db: Tensor) -> Tensor:
    """Adds noise whose level falls or rises with the frequency, by `slope_db` an octave.

    Every frequency gets a real and an imaginary part of fair signs, which makes Gaussian noise of thousands of them
    (central limit theorem) at a fraction of what drawing Gaussian numbers costs.

    Args:
        spectrum: complex ``(B, K)``.
        keys: int64 ``(B,)``.
        power: mean square of the noise, ``(B,)``.
        hz: ``(B, P)``.
        slope_db: ``(B,)``; 0 is white, -3 pink, -6 brown.
    """
    count = spectrum.shape[1]
    level = drawn_out(tilt(hz, slope_db), count)
    level[:, 0] = level[:, -1] = 0  # these two have no imaginary part
    # Parseval: the mean square of L = 2 (K - 1) samples is 2 / L^2 times the sum of all squares, 2 level^2 each.
    level.mul_(((power / level.square().sum(1)).sqrt() * (count - 1))[:, None])
    signs = signs_of_keys(keys, 2 * count, _NOISE).unflatten(1, (count, 2))
    return (torch.view_as_complex(signs) * level).add_(spectrum)


def reverberated(spectrum: Tensor, keys: Tensor, seconds: Tensor, wet: Tensor, longest: float) -> Tensor:
    """Lets clips sound in a room: the direct sound and an exponentially decaying noise, of unit power together.

    Args:
        spectrum: complex ``(B, K)``.
        keys: int64 ``(B,)``; a room of its own for each.
        seconds: reverberation time ``(B,)``, after which the room has become quieter by 60 dB.
        wet: share of the power ``(B,)`` that comes from the room, in [0, 1].
        longest: seconds after which every room is cut off.
    """
    time = torch.arange(round(longest * RATE), device=spectrum.device)
    decay = torch.exp(time * (-3 * math.log(10) / RATE / seconds)[:, None])
    room = signs_of_keys(keys, len(time), _ROOM).mul_(decay)
    room.mul_((wet / decay.square().sum(1)).sqrt()[:, None])
    response = spectrum_of(room, 2 * (spectrum.shape[1] - 1))
    torch.view_as_real(response)[..., 0].add_((1 - wet).sqrt()[:, None])
    # In real numbers: torch multiplies complex ones in two ways, and the batch would decide which, and the last bits.
    (real, imaginary), (x, y) = (torch.view_as_real(factor).unbind(-1) for factor in (response, spectrum))
    product = torch.empty_like(spectrum)
    into_real, into_imaginary = torch.view_as_real(product).unbind(-1)
    torch.mul(real, x, out=into_real).addcmul_(imaginary, y, value=-1)
    torch.mul(real, y, out=into_imaginary).addcmul_(imaginary, x)
    return product


def low_pass(hz: Tensor, cutoff: Tensor) -> Tensor:
    """Factors ``(B, P)`` of a filter, 3 dB down at `cutoff` ``(B,)``, that falls by 12 dB an octave (Butterworth)."""
    return (hz / cutoff[:, None]).square_().square_().add_(1).rsqrt_()


def high_pass(hz: Tensor, cutoff: Tensor) -> Tensor:
    """Factors ``(B, P)`` of a filter, 3 dB down at `cutoff` ``(B,)``, that falls by 12 dB an octave below it."""
    square = (hz / cutoff[:, None]).square_()
    return square.square().add_(1).rsqrt_().mul_(square)


def bell(hz: Tensor, centre: Tensor, db: Tensor, octaves: Tensor) -> Tensor:
    """Factors ``(B, P)`` of a peak or dip of `db` at `centre`, half as many decibels `octaves` / 2 to either side."""
    distance = _octaves(hz) - torch.log2(centre / PIVOT_HZ)[:, None]
    shape = torch.exp(distance.mul_((2 / octaves)[:, None]).square_().mul_(-math.log(2)))
    return ratio_of_db(shape.mul_(db[:, None]))


def tilt(hz: Tensor, db: Tensor) -> Tensor:
    """Factors ``(B, P)`` that rise by `db` ``(B,)`` an octave, 1 at `PIVOT_HZ`."""
    return ratio_of_db(_octaves(hz).mul_(db[:, None]))


def codec(hz: Tensor, last: Tensor) -> Tensor:
    """Factors ``(B, P)`` that keep what is below `last` ``(B,)`` and drop the rest within a few per cent of it."""
    return (last[:, None] * (1 + _CODEC_EDGE) - hz).mul_((0.5 / _CODEC_EDGE / last)[:, None]).clamp_(0, 1)


def band_stop(hz: Tensor, share: Tensor, place: Tensor) -> Tensor:
    """Factors ``(B, P)`` that take a band out.

    Args:
        share: width of the band ``(B,)``, as a share of the mel scale up to the Nyquist frequency.
        place: ``(B,)``, from 0 (at 0 Hz) to 1 (at the Nyquist frequency).
    """
    half = share / 2
    centre = half + place * (1 - share)
    mel = torch.log1p(hz / 700).mul_(1 / math.log1p(RATE / 2 / 700))
    return mel.sub_(centre[:, None]).abs_().sub_(half[:, None]).mul_(1 / _MASK_EDGE).clamp_(0, 1)


def _octaves(hz: Tensor) -> Tensor:
    """Above `PIVOT_HZ`; what is below `LEAST_HZ` counts as there."""
    return (hz.clamp(min=LEAST_HZ) / PIVOT_HZ).log2_()

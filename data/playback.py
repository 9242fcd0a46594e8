"""When: a clip played faster or slower, or begun elsewhere. Both read it as a loop, so that its length stays.

Where the loop's end meets its start a fade of 1 ms to either side takes the click away.

Shapes: B rows, S samples, L points of the Fourier transform, K = L / 2 + 1 frequencies. `num_samples` is int64
``(B,)``, how many of the S samples are sound, or None where all are.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from data.fourier import waveform_of
from data.levels import without_padding
from data.spectrum import POINTS, times

FADE = 16  # samples
TAPER = 0.04  # share of the band, below the Nyquist frequency, over which resampling lets go
_BLOCK = 256


def begun_at(waveform: Tensor, shift: Tensor, num_samples: Tensor | None = None) -> Tensor:
    """Moves each clip by `shift` samples, int64 ``(B,)``; what leaves at one end comes in at the other."""
    count, row = waveform.shape[1], torch.arange(len(waveform), device=waveform.device)
    lengths = torch.full_like(shift, count) if num_samples is None else num_samples
    first = torch.remainder(-shift, lengths.clamp(min=1))
    faded = _faded(_faded(waveform.clone(), torch.full_like(shift, -1)), lengths)
    if num_samples is None:
        return torch.cat([faded, faded], dim=1).unfold(1, count, 1)[row, first]
    # With silence on both sides a loop is the sum of two straight readings: one runs out at the end, the other comes
    # in at the start.
    readings = F.pad(faded, (count, count)).unfold(1, count, 1)
    return without_padding(readings[row, count + first] + readings[row, count + first - lengths], num_samples)


def played_at(spectrum: Tensor, factor: Tensor, count: int, num_samples: Tensor | None = None) -> Tensor:
    """Plays clips `factor` ``(B,)`` times as fast, in [0.5, 2], which raises their pitch as much, as on a tape.

    Sampled anew by cubic B-splines on a grid of twice the rate, whose own damping is taken out in the spectrum
    beforehand (Unser, Aldroubi and Eden 1993, "B-spline signal processing: part I"). The image that this leaves of a
    frequency f lies (f / (2 rate - f))^4 below it: 67 dB at 4 kHz, 51 dB at 6 kHz. What would come to lie over the
    Nyquist frequency is removed.

    Args:
        spectrum: complex ``(B, K)``.
        count: S, how many samples of its waveform to return.

    Returns:
        ``(B, S)``
    """
    length = count if num_samples is None else num_samples.int()[:, None]
    grid = _spline_coefficients(spectrum, factor)
    whole, part = _positions(count, 2 * factor)
    # Past the end the loop begins again; past the end of padding nothing matters but that there is something to read.
    whole = torch.where(whole >= 2 * length, whole - 2 * length, whole).clamp_(max=grid.shape[1] - 4).long()
    first, second, third, fourth = (grid[:, tap:].gather(1, whole) for tap in range(4))
    # The four cubic pieces that meet there, put together as a polynomial of `part`, six times as large.
    cube = (second - third).add_(fourth.sub_(first), alpha=1 / 3)
    outer = first + third
    slope = third.sub_(first)
    start = torch.add(outer, second, alpha=4)
    bend = outer.sub_(second, alpha=2)
    played = start.addcmul_(slope.addcmul_(bend.addcmul_(cube, part), part), part, value=3)
    seam = length / factor[:, None]  # behind the end, and of no matter, where a clip is played slower
    return without_padding(_faded(played, seam[:, 0].long()), num_samples)


def _spline_coefficients(spectrum: Tensor, factor: Tensor) -> Tensor:
    """``(B, 2 L + 4)``: number i, times six, weighs the spline around the sample (i - 1) / 2."""
    share = torch.linspace(0, 1, POINTS, device=spectrum.device)  # of the Nyquist frequency
    keep = ((1 / factor).clamp(max=1)[:, None] - share).mul_(1 / TAPER).clamp_(0, 1)
    # Twice, for twice as many samples share the power.
    fine = times(spectrum, keep * (2 / 6 / torch.sinc(share / 4).square().square()))
    points = 2 * (spectrum.shape[1] - 1)
    grid = waveform_of(F.pad(fine, (0, points // 2)), 2 * points)
    return torch.cat([grid[:, -1:], grid, grid[:, :3]], dim=1)


def _positions(count: int, step: Tensor) -> tuple[Tensor, Tensor]:
    """Multiples 0, 1, ... count - 1 of `step` ``(B,)``: whole part, int32 ``(B, count)``, and the rest.

    Exact multiples every so often, in integers of 2^-32, and floats from one to the next: floats alone would lose the
    place in a clip of some seconds.
    """
    blocks = torch.arange(0, count, _BLOCK, device=step.device) * (step * 2.0**32).long()[:, None]
    start, offset = blocks >> 32, (blocks & 0xFFFFFFFF).float() * 2.0**-32  # (B, count / 256)
    within = torch.arange(_BLOCK, device=step.device) * step[:, None]  # (B, 256)
    place = within[:, None, :] + offset[..., None]
    floor = place.floor()
    whole = floor.int() + start.int()[..., None]
    return whole.flatten(1)[:, :count], place.sub_(floor).flatten(1)[:, :count]


def _faded(waveform: Tensor, seam: Tensor) -> Tensor:
    """Fades down to the sample `seam`, int64 ``(B,)``, and up behind it, in place; it may lie outside of the clip."""
    near = torch.arange(-FADE, FADE + 1, device=waveform.device) + seam[:, None]
    near.clamp_(0, waveform.shape[1] - 1)  # names a sample twice, perhaps, but then gives it the same value twice
    ramp = (near - seam[:, None]).abs_().mul(1 / FADE).clamp_(max=1)
    return waveform.scatter_(1, near, waveform.gather(1, near) * ramp)

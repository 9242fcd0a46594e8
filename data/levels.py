"""How loud: power, a background at a set ratio, clipping, and a stretch of silence.

Shapes: B rows, S samples. `num_samples` is int64 ``(B,)``, how many of the S samples are sound, or None where all are.
Nothing here writes into its input.
"""

import math

import torch
from torch import Tensor

SILENCE = 1e-12
"""Mean square at or below which a clip counts as silent: an 800th of a 16-bit step's."""
MASK_RAMP = 80  # samples, 5 ms: an edge that is heard as a fade and not as a click
_BLOCK = 256


def power(waveform: Tensor, num_samples: Tensor | None = None) -> Tensor:
    """Mean square over the sounding part, ``(B,)``; 0 for an empty clip."""
    whole = waveform.shape[1] // _BLOCK * _BLOCK
    # Block by block: the sum of one long row would be cut by the number of threads, and its last bits with it.
    blocks = waveform[:, :whole].unflatten(1, (whole // _BLOCK, _BLOCK)).square().sum(2).sum(1)
    total = blocks + waveform[:, whole:].square().sum(1)
    return total / (waveform.shape[1] if num_samples is None else num_samples.clamp(min=1))


def ratio_of_db(db: Tensor) -> Tensor:
    """Decibels to a factor of the amplitude."""
    return torch.exp(db * (math.log(10) / 20))


def without_padding(waveform: Tensor, num_samples: Tensor | None) -> Tensor:
    """Zeros behind each clip's end."""
    if num_samples is None:
        return waveform
    is_padding = torch.arange(waveform.shape[1], device=waveform.device) >= num_samples[:, None]
    return waveform.masked_fill(is_padding, 0.0)


def with_background(waveform: Tensor, background: Tensor, snr_db: Tensor, num_samples: Tensor | None = None) -> Tensor:
    """Adds another sound at a signal-to-noise ratio ``(B,)`` in dB; nothing where either of the two is silent.

    Args:
        background: ``(B, S)``; both powers are those of the clip's sounding part.
    """
    background = without_padding(background, num_samples)
    theirs = power(background, num_samples)
    gain = (power(waveform, num_samples) / theirs.clamp(min=SILENCE)).sqrt() / ratio_of_db(snr_db)
    return torch.addcmul(waveform, background, (gain * (theirs > SILENCE))[:, None])


def clipped(waveform: Tensor, drive_db: Tensor, is_soft: Tensor) -> Tensor:
    """Keeps a clip's samples within a level that lies `drive_db` under its peak.

    Args:
        drive_db: ``(B,)``.
        is_soft: bool ``(B,)``: bent by a hyperbolic tangent instead of cut off; then the level is never reached.
    """
    level = (waveform.abs().amax(1) / ratio_of_db(drive_db))[:, None].clamp(min=SILENCE)
    soft = (waveform / level).tanh_().mul_(level)
    return torch.where(is_soft[:, None], soft, torch.minimum(torch.maximum(waveform, -level), level))


def silenced(waveform: Tensor, share: Tensor, place: Tensor, num_samples: Tensor | None = None) -> Tensor:
    """Silences one stretch of each clip.

    Args:
        share: ``(B,)``, of the clip's length.
        place: ``(B,)``, from 0 (at the start) to 1 (at the end).
    """
    length = waveform.shape[1] if num_samples is None else num_samples
    half = share * length / 2
    centre = half + place * (length - 2 * half)
    distance = (torch.arange(waveform.shape[1], device=waveform.device) + 0.5 - centre[:, None]).abs_()
    return distance.sub_(half[:, None]).mul_(1 / MASK_RAMP).clamp_(0, 1).mul_(waveform)

"""Power of Morlet wavelets over time, as a batched module on the device of the waveform.

Shapes: B batch, S samples, T frames, F wavelets.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from backbones.log_mel import FLOOR, HOP, RATE, frames_of

LOWEST_HZ = 55.0
OCTAVES = 7
PER_OCTAVE = 12
CYCLES = 6.0  # a Morlet wavelet's phase turns by so much, in radians, within a standard deviation of its envelope
REACH = 3.5  # standard deviations on either side
SLOWEST_STEP = 32  # samples; divides the hop
FIRST = 96  # sample in whose hop the first frame lies: the middle of log-mel's first frame
GAIN = 4e4  # a tone of amplitude a has power (100 a)^2, as at its peak under log-mel's window


class Wavelets(nn.Module):
    """Waveform to the natural logarithm of the power in each of 84 wavelets, from 55 Hz, twelve to the octave.

    Each frame holds the mean over its hop, however short the wavelet, so that nothing goes unheard between frames; its
    frames are those of `LogMel`, whose statistics fit roughly. Torrence and Compo 1998, equation 1, with w0 = 6.
    """

    num_features = OCTAVES * PER_OCTAVE

    def __init__(self):
        super().__init__()
        self._steps = []  # samples between two values of an octave: no more than the shortest of its deviations
        for octave in range(OCTAVES):
            hertz = LOWEST_HZ * 2 ** (octave + torch.arange(PER_OCTAVE) / PER_OCTAVE)
            deviation = (CYCLES * RATE / (2 * math.pi * hertz))[:, None]  # samples, (12, 1)
            half = math.ceil(REACH * deviation.max().item())
            time = torch.arange(-half, half + 1)
            envelope = (-0.5 * (time / deviation).square()).exp()
            envelope /= envelope.sum(dim=1, keepdim=True)
            phase = time * (CYCLES / deviation)
            kernel = torch.cat([envelope * phase.cos(), envelope * phase.sin()])[:, None]  # (24, 1, 2 half + 1)
            self.register_buffer(f"octave_{octave}", kernel, persistent=False)
            self._steps.append(min(SLOWEST_STEP, 2 ** int(math.log2(deviation.min().item()))))

    @torch.no_grad()
    def forward(self, waveform: Tensor) -> Tensor:
        """Float32 ``(B, T, F)`` of ``(B, S)``, at 16 kHz."""
        num_frames, octaves = frames_of(waveform.shape[1]), []
        with torch.autocast(waveform.device.type, enabled=False):
            for octave, step in enumerate(self._steps):
                kernel = getattr(self, f"octave_{octave}")
                waves = F.conv1d(waveform.float()[:, None], kernel, stride=step, padding=kernel.shape[2] // 2)
                power = waves.square().view(len(waveform), 2, PER_OCTAVE, -1).sum(dim=1)[..., FIRST // step :]
                octaves.append(F.avg_pool1d(power, HOP // step)[..., :num_frames])  # (B, 12, T)
            return (GAIN * torch.cat(octaves, dim=1)).clamp(min=FLOOR).log().mT

"""Kaldi's log-mel filter bank as a batched module on the device of the waveform.

It computes what `torchaudio.compliance.kaldi.fbank` computes with the settings of transformers'
`ASTFeatureExtractor`: 25 ms symmetric Hann window, 10 ms hop, mean removal and pre-emphasis 0.97 in each frame,
512-point power spectrum, mel bins from 20 Hz to the Nyquist frequency, natural logarithm, no padding at the edges.

Shapes: B batch, S samples, T frames, F mel bins, P points of the FFT.
"""

import torch
from torch import Tensor, nn
from torchaudio.compliance.kaldi import get_mel_banks

RATE = 16_000
WINDOW = 400
HOP = 160
FFT = 512
LOW_HZ = 20.0
PREEMPHASIS = 0.97
FLOOR = torch.finfo(torch.float32).eps  # Kaldi takes the logarithm of no less than this

# On a CPU the work goes through the cache a few hundred frames at a time: 512 rows of 512 floats are 1 MiB. Whole
# batches at once spend their time on page faults (benchmarks/log_mel.py).
CPU_FRAMES_AT_ONCE = 512
FAR_APART = 0.5  # of the standard deviation
MEL_BLOCKS = 4  # the mel matrix is banded; four dense blocks skip most of its zeros


def frames_of(num_samples: Tensor | int) -> Tensor | int:
    """Number of whole frames in `num_samples` samples; 0 where not even one fits."""
    if isinstance(num_samples, int):
        return max(0, 1 + (num_samples - WINDOW) // HOP)
    return (1 + torch.div(num_samples - WINDOW, HOP, rounding_mode="floor")).clamp(min=0)


def samples_of(num_frames: int) -> int:
    """The fewest samples that give `num_frames` frames."""
    return WINDOW + (num_frames - 1) * HOP


def compare_statistics(trained: tuple[float, float], found: tuple[float, float]) -> str | None:
    """A sentence if the log-mel of some clips lies far from what a backbone was trained with, else None.

    Args:
        trained: mean and standard deviation that the backbone normalises with.
        found: those of the clips it is to hear.

    Returns:
        The sentence if the means are more than `FAR_APART` of a standard deviation apart, or one deviation is more
        than ``1 + FAR_APART`` times the other.
    """
    (mean, std), (found_mean, found_std) = trained, found
    ratio = max(std, found_std) / max(min(std, found_std), 1e-9)
    if abs(mean - found_mean) <= FAR_APART * std and ratio <= 1 + FAR_APART:
        return None
    return (
        f"the backbone was trained on a log-mel of mean {mean:.2f} and standard deviation {std:.2f}, these clips have "
        f"{found_mean:.2f} and {found_std:.2f}: levels, noise or bandwidth differ; the backbone's are kept"
    )


class LogMel(nn.Module):
    """Waveform to normalised log-mel, ``(x - mean) / (2 * std)`` as AST defines it (Gong et al. 2021, section 2.2).

    Attributes:
        mean, std: statistics of the log-mel over a training split, in natural-log units; saved with the weights.
    """

    def __init__(self, mean: float, std: float, num_mel_bins: int = 128):
        super().__init__()
        if not std > 0:
            raise ValueError(f"the log-mel's standard deviation must be positive, not {std}")
        self.mean, self.std, self.num_mel_bins = float(mean), float(std), num_mel_bins
        bank, _ = get_mel_banks(num_mel_bins, FFT, float(RATE), LOW_HZ, 0.0, 100.0, -500.0, 1.0)
        self.register_buffer("window", torch.hann_window(WINDOW, periodic=False), persistent=False)
        self._bands = []  # of each block: first and last mel bin, first and last column of the interleaved spectrum
        for low in range(0, num_mel_bins, -(-num_mel_bins // MEL_BLOCKS)):
            block = bank[low : low + -(-num_mel_bins // MEL_BLOCKS)]
            used = block.any(0).nonzero().flatten()
            first, last = int(used[0]), int(used[-1]) + 1
            # A mel bin sums squares of real and imaginary parts alike, so each weight stands twice: multiplying the
            # interleaved squares by it costs less than adding them pair by pair first.
            weights = block[:, first:last].repeat_interleave(2, dim=1).T.contiguous()
            self.register_buffer(f"mel_{len(self._bands)}", weights, persistent=False)
            self._bands.append((low, low + len(block), 2 * first, 2 * last))

    @torch.no_grad()
    def forward(self, waveform: Tensor, num_samples: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Computes the normalised log-mel of a batch.

        Args:
            waveform: float in [-1, 1], ``(B, S)``, at 16 kHz, S at least one window (400).
            num_samples: int64 ``(B,)``, how many of the S samples are sound; None means all.

        Returns:
            Log-mel, float32 ``(B, T, F)``, and the number of frames that are sound, int64 ``(B,)``. Frames behind a
            clip's end hold what `ASTFeatureExtractor` pads with: a log-mel of 0 before normalisation.
        """
        log_mel = self.raw(waveform)
        num_frames = torch.full((len(waveform),), log_mel.shape[1], device=waveform.device)
        if num_samples is not None:
            num_frames = frames_of(num_samples.to(waveform.device))
            is_padding = torch.arange(log_mel.shape[1], device=waveform.device) >= num_frames[:, None]  # (B, T)
            log_mel.masked_fill_(is_padding[..., None], 0.0)
        return log_mel.sub_(self.mean).div_(2 * self.std), num_frames

    @torch.no_grad()
    def raw(self, waveform: Tensor) -> Tensor:
        """Log-mel ``(B, T, F)`` of ``(B, S)`` without normalisation, in natural-log units."""
        num_frames = frames_of(waveform.shape[1])
        if num_frames < 1:
            raise ValueError(f"a log-mel needs at least {WINDOW} samples, not {waveform.shape[1]}")
        waveform = waveform.float().contiguous()
        log_mel = waveform.new_empty(len(waveform), num_frames, self.num_mel_bins)
        at_once = CPU_FRAMES_AT_ONCE if waveform.device.type == "cpu" else len(waveform) * num_frames
        clips_at_once = max(1, at_once // num_frames)
        with torch.autocast(waveform.device.type, enabled=False):
            for clip in range(0, len(waveform), clips_at_once):
                clips = slice(clip, clip + clips_at_once)
                for start in range(0, num_frames, at_once):
                    stop = min(start + at_once, num_frames)
                    part = waveform[clips, start * HOP : samples_of(stop)]  # (b, s)
                    self._write(part, log_mel[clips, start:stop])
        return log_mel

    def _write(self, waveform: Tensor, log_mel: Tensor) -> None:
        """Fills ``log_mel (b, t, F)`` from the samples ``(b, s)`` of exactly t frames."""
        emphasised = waveform.clone()
        emphasised[:, 1:].sub_(waveform[:, :-1], alpha=PREEMPHASIS)
        # Kaldi removes a frame's mean m before it emphasises; afterwards that is a constant 0.03 m. What it does at
        # a frame's first sample does not matter: the window is 0 there.
        mean = waveform.unfold(1, WINDOW, HOP).mean(2, keepdim=True)  # (b, t, 1)
        frames = waveform.new_zeros(*log_mel.shape[:2], FFT)  # (b, t, P)
        torch.mul(emphasised.unfold(1, WINDOW, HOP), self.window, out=frames[..., :WINDOW])
        frames[..., :WINDOW].addcmul_(mean, self.window, value=PREEMPHASIS - 1)
        squares = torch.view_as_real(torch.fft.rfft(frames)).flatten(-2).square_().flatten(0, 1)  # (b*t, P+2)
        mel = log_mel.new_empty(len(squares), self.num_mel_bins)
        for index, (low, high, first, last) in enumerate(self._bands):
            torch.mm(squares[:, first:last], getattr(self, f"mel_{index}"), out=mel[:, low:high])
        log_mel.copy_(mel.clamp_(min=FLOOR).log_().view_as(log_mel))


def log_mel_statistics(log_mel: LogMel, waveform: Tensor, num_samples: Tensor | None) -> Tensor:
    """Mean and standard deviation of every mel bin over a clip's frames, ``(B, 2 F)``: what no learning gives."""
    values, num_frames = log_mel(waveform, num_samples)
    is_sound = (torch.arange(values.shape[1], device=values.device) < num_frames[:, None])[..., None]
    count = num_frames.clamp(min=1)[:, None]
    mean = (values * is_sound).sum(1) / count
    variance = ((values - mean[:, None]).square() * is_sound).sum(1) / count
    return torch.cat([mean, variance.sqrt()], dim=1)

"""The log-mel front end against what others compute it with, on one core.

    python -m benchmarks.log_mel
    python -m benchmarks.log_mel --quick

Clips of 4 s and 10.24 s: ours on a batch, transformers' `ASTFeatureExtractor` on the same list of clips,
`torchaudio.compliance.kaldi.fbank` a clip, torchaudio's `MelSpectrogram` and logarithm on the batch and a clip, librosa
a clip. Prints clips per CPU second (medians over interleaved rounds), ratios paired within rounds, and the error in log
units of ours, and of the float32 reference itself, against the reference in float64.
"""

import statistics
import warnings
from collections.abc import Callable

import librosa
import numpy as np
import torch
from torchaudio.compliance import kaldi
from torchaudio.transforms import MelSpectrogram
from transformers import ASTFeatureExtractor

from backbones.log_mel import FFT, HOP, LOW_HZ, PREEMPHASIS, RATE, WINDOW, LogMel, frames_of
from benchmarks.timing import goal, parse, parser, ratio, rounds_of, table

LENGTHS = (4.0, 10.24)
GOAL, MAX_ERROR, MEAN_ERROR = 2.5, 5e-3, 1e-5
OURS, AST = "ours", "ASTFeatureExtractor"


def clips(count: int, seconds: float) -> torch.Tensor:
    """``(B, S)``: decaying partials over noise, in 16-bit steps as recordings come."""
    generator = torch.Generator().manual_seed(0)
    time = torch.arange(round(seconds * RATE)) / RATE
    pitch = 110 * 2 ** (torch.rand(count, 1, generator=generator) * 3)
    partials = sum(torch.sin(2 * np.pi * pitch * k * time) / k for k in range(1, 13))
    noise = torch.randn(count, len(time), generator=generator)
    return ((0.2 * partials * torch.exp(-2 * time) + 0.005 * noise) * 32_768).round() / 32_768


def fbank(clip: torch.Tensor) -> torch.Tensor:
    """``(S,)`` to ``(T, F)`` by Kaldi's definition with AST's settings, in the clip's precision."""
    return kaldi.fbank(
        clip[None],
        sample_frequency=RATE,
        window_type="hanning",
        num_mel_bins=128,
        low_freq=LOW_HZ,
        preemphasis_coefficient=PREEMPHASIS,
    )


def candidates_for(batch: torch.Tensor) -> dict[str, Callable[[], object]]:
    """Each computes the log-mel of the whole batch."""
    front_end = LogMel(-4.27, 4.57)
    extractor = ASTFeatureExtractor(max_length=frames_of(batch.shape[1]))
    warnings.filterwarnings("ignore", "At least one mel filterbank has all zero values")  # so it has; Kaldi's has not
    mel = MelSpectrogram(RATE, FFT, WINDOW, HOP, f_min=LOW_HZ, n_mels=128, center=False)
    arrays = list(batch.numpy())

    def of_librosa(clip: np.ndarray) -> np.ndarray:
        power = librosa.feature.melspectrogram(
            y=clip, sr=RATE, n_fft=FFT, win_length=WINDOW, hop_length=HOP, fmin=LOW_HZ, n_mels=128, center=False
        )
        return librosa.power_to_db(power)

    return {
        OURS: lambda: front_end(batch),
        AST: lambda: extractor(arrays, sampling_rate=RATE, return_tensors="pt"),
        "kaldi.fbank, per clip": lambda: [fbank(clip) for clip in batch],
        "MelSpectrogram, batched": lambda: (mel(batch) + 1e-7).log(),
        "MelSpectrogram, per clip": lambda: [(mel(clip) + 1e-7).log() for clip in batch],
        "librosa, per clip": lambda: [of_librosa(clip) for clip in arrays],
    }


def main() -> None:
    """Times, compares and prints."""
    options_of = parser(__doc__)
    options_of.add_argument("--batch_size", type=int, default=16, help="clips of a batch (default: 16)")
    options = parse(options_of)
    goals = []
    for seconds in LENGTHS:
        batch = clips(options.batch_size, seconds)
        with torch.inference_mode():
            taken = rounds_of(candidates_for(batch), options.rounds, options.seconds)
            expected = torch.stack([fbank(clip.double()) for clip in batch])
            ours = (LogMel(0.0, 0.5).raw(batch) - expected).abs()
            theirs = (torch.stack([fbank(clip) for clip in batch]) - expected).abs()
        rows = [
            [name, f"{len(batch) / statistics.median(times):.0f}", f"{ratio(taken[AST], times):.2f}"]
            for name, times in taken.items()
        ]
        print(f"\n{seconds:g} s clips, batches of {len(batch)}, one thread\n")
        print(table(["candidate", "clips / core-s", f"x {AST}"], rows))
        print(f"\nerror against float64 Kaldi: ours max {ours.max():.1e}, mean {ours.mean():.1e}; ", end="")
        print(f"Kaldi's own float32 max {theirs.max():.1e}, mean {theirs.mean():.1e}")
        goals += [
            goal(f"{seconds:g} s, times {AST}", ratio(taken[AST], taken[OURS]), GOAL),
            goal(f"{seconds:g} s, maximum error", ours.max().item(), MAX_ERROR, at_most=True),
            goal(f"{seconds:g} s, mean error", ours.mean().item(), MEAN_ERROR, at_most=True),
        ]
    print("\n" + "\n".join(goals))


if __name__ == "__main__":
    main()

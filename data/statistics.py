"""Mean and standard deviation of AST's log-mel over a sample of the training split.

The log-mel is the one that transformers' `ASTFeatureExtractor` gets from `torchaudio.compliance.kaldi.fbank`: frames of
25 ms every 10 ms, DC removed, pre-emphasis 0.97, Hann window, power spectrum of 512 points, 128 triangles on the mel
scale from 20 Hz to 8 kHz, natural logarithm. It is written here in numpy, and tested against torchaudio, because it
runs in the processes that decode: they need no torch (seconds to import, unsafe to use after a fork), and
the sums are ready when the last clip is.

T frames, F mel bins.
"""

import hashlib
import math
from collections.abc import Iterable
from functools import cache

import numpy as np

from data.decode import FULL_SCALE, RATE

MAX_CLIPS = 2048
"""Training clips in the sample."""
MAX_SECONDS = 2
"""Of each of them, from its middle."""

FRAME, HOP, FFT, BINS = 400, 160, 512, 128
LOW_HZ, HIGH_HZ = 20.0, RATE / 2
EPSILON = np.float32(1.1920928955078125e-07)  # float32's, Kaldi's floor under the logarithm


def sampled(ids: Iterable[str], seed: int) -> set[str]:
    """Which training clips are measured: at most `MAX_CLIPS`, by a hash of seed and id, whatever their order."""
    return set(sorted(ids, key=lambda id_: hashlib.blake2b(f"{seed}/{id_}".encode()).digest())[:MAX_CLIPS])


def log_mel_sums(samples: np.ndarray) -> tuple[float, float, int]:
    """Sum, sum of squares and number of a clip's log-mel values, from its middle `MAX_SECONDS`.

    Args:
        samples: int16 ``(S,)`` at `data.decode.RATE`.

    Returns:
        ``(0.0, 0.0, 0)`` if the clip is shorter than a frame.
    """
    length = MAX_SECONDS * RATE
    start = max(0, (len(samples) - length) // 2)
    excerpt = samples[start : start + length]
    if len(excerpt) < FRAME:
        return 0.0, 0.0, 0
    values = log_mel(excerpt.astype(np.float32) / FULL_SCALE)  # (T, F)
    return float(values.sum(dtype=np.float64)), float(np.square(values, dtype=np.float64).sum()), values.size


def mean_and_std(sums: Iterable[tuple[float, float, int]]) -> tuple[float | None, float | None]:
    """Combines the sums of clips; the order does not change a bit. None, None if there are no values."""
    sums = list(sums)
    count = sum(number for _, _, number in sums)
    if count == 0:
        return None, None
    mean = math.fsum(total for total, _, _ in sums) / count
    variance = math.fsum(squares for _, squares, _ in sums) / count - mean * mean
    return mean, math.sqrt(max(variance, 0.0))


def log_mel(waveform: np.ndarray) -> np.ndarray:
    """AST's log-mel before normalisation.

    Args:
        waveform: float32 ``(S,)`` in [-1, 1] at `data.decode.RATE`, at least one frame long.

    Returns:
        float32 ``(T, F)``
    """
    frames = np.lib.stride_tricks.sliding_window_view(waveform, FRAME)[::HOP]  # (T, 400)
    frames = frames - frames.mean(axis=1, keepdims=True)
    before = np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
    spectrum = np.fft.rfft((frames - np.float32(0.97) * before) * _window(), n=FFT)  # (T, 257)
    power = np.square(spectrum.real) + np.square(spectrum.imag)
    return np.log(np.maximum(power @ _mel_bank(), EPSILON))


@cache
def _window() -> np.ndarray:
    return np.hanning(FRAME).astype(np.float32)


@cache
def _mel_bank() -> np.ndarray:
    """Triangles that are linear on the mel scale, float32 ``(257, F)``."""

    def mel(hz):
        return 1127.0 * np.log(1.0 + np.asarray(hz) / 700.0)

    edges = np.linspace(mel(LOW_HZ), mel(HIGH_HZ), BINS + 2)
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]  # (F,)
    at = mel(np.arange(FFT // 2 + 1) * RATE / FFT)[:, None]  # (257, 1)
    rising, falling = (at - left) / (centre - left), (right - at) / (right - centre)
    return np.maximum(0.0, np.minimum(rising, falling)).astype(np.float32)

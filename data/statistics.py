"""Mean and standard deviation of AST's log-mel over a sample of the training split.

The log-mel is the one that transformers' `ASTFeatureExtractor` gets from `torchaudio.compliance.kaldi.fbank`: frames of
25 ms every 10 ms, DC removed, pre-emphasis 0.97, Hann window, power spectrum of 512 points, 128 triangles on the mel
scale from 20 Hz to 8 kHz, natural logarithm. It is written here in numpy, and tested against torchaudio, because it
runs in the processes that decode: they need no torch (seconds to import, unsafe to use after a fork), and
the sums are ready when the last clip is. No matrix product: BLAS would start threads in every process, and their
number would decide the last bits.

S samples, T frames, F mel bins.
"""

import hashlib
import math
from collections.abc import Iterable
from functools import cache

import numpy as np

from data.clip import Clip
from data.decode import FULL_SCALE, RATE

MAX_CLIPS = 512
"""Training clips in the sample."""
SPARE = 1.25
"""So many times more are measured, for splits are drawn once every clip has been read, and rejects and the luck of the
draw should not shrink the sample."""
MIN_SHARE = 0.05
"""A smaller share of training clips gets a smaller sample."""
EXCERPT_SECONDS = 2
"""Of each of them, from a place drawn at random."""
STRIDE = 16
"""Every so many frames of an excerpt one is measured: its neighbours say the same."""

FRAME, HOP, FFT, BINS = 400, 160, 512, 128
LOW_HZ, HIGH_HZ = 20.0, RATE / 2
EPSILON = np.float32(1.1920928955078125e-07)  # float32's, Kaldi's floor under the logarithm


def excerpts(ids: Iterable[str], seed: int, number: int) -> dict[str, float]:
    """Which clips are measured, and where in the clip.

    Returns:
        For at most ``number`` of the ids where the excerpt lies, from 0 (at the start) to 1 (at the end); decided by a
        hash of seed and id, whatever the order of the clips. A smaller number of a part of the ids begins with those
        that were chosen of them before, in the same order.
    """
    hashes = {id_: hashlib.blake2b(f"{seed}/{id_}".encode(), digest_size=16).digest() for id_ in ids}
    chosen = sorted(hashes, key=hashes.__getitem__)[:number]
    return {id_: int.from_bytes(hashes[id_][8:], "big") / 2**64 for id_ in chosen}


def candidates(clips: Iterable[Clip], seed: int, train_share: float) -> dict[str, float]:
    """The `excerpts` of clips that may end in the training split, enough of them for `MAX_CLIPS` that do.

    Args:
        clips: of all splits.
        seed: see `excerpts`.
        train_share: of the clips whose split is open.
    """
    splits = {clip.id: clip.split for clip in clips if clip.split in (None, "train")}
    share = max(train_share, MIN_SHARE) if None in splits.values() else 1.0
    return excerpts(splits, seed, math.ceil(SPARE * MAX_CLIPS / share))


def log_mel_sums(samples: np.ndarray, place: float) -> tuple[float, float, int]:
    """Sum, sum of squares and number of the log-mel values of a clip's excerpt.

    Args:
        samples: int16 ``(S,)`` at `data.decode.RATE`.
        place: of the excerpt, from 0 to 1, as `excerpts` returns it.

    Returns:
        ``(0.0, 0.0, 0)`` if the clip is shorter than a frame.
    """
    length = min(EXCERPT_SECONDS * RATE, len(samples))
    if length < FRAME:
        return 0.0, 0.0, 0
    start = round(place * (len(samples) - length))
    excerpt = samples[start : start + length].astype(np.float32) / FULL_SCALE
    values = log_mel(excerpt, STRIDE)  # (T, F)
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


def log_mel(waveform: np.ndarray, stride: int = 1) -> np.ndarray:
    """AST's log-mel before normalisation.

    Args:
        waveform: float32 ``(S,)`` in [-1, 1] at `data.decode.RATE`, at least one frame long.
        stride: of every so many frames the first is computed.

    Returns:
        float32 ``(T, F)``
    """
    frames = np.lib.stride_tricks.sliding_window_view(waveform, FRAME)[:: HOP * stride]  # (T, 400)
    frames = frames - frames.mean(axis=1, keepdims=True)
    before = np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
    spectrum = np.fft.rfft((frames - np.float32(0.97) * before) * _window(), n=FFT)  # (T, 257)
    power = np.square(spectrum.real) + np.square(spectrum.imag)
    rising, falling, starts, is_empty = _triangles()
    # Between two edges of the mel scale every point belongs to one triangle's rise and its predecessor's fall.
    rise = np.add.reduceat(power * rising, starts, axis=1)  # (T, F + 1)
    fall = np.add.reduceat(power * falling, starts, axis=1)
    rise[:, is_empty] = fall[:, is_empty] = 0.0  # reduceat returns the next value where there is none to add
    return np.log(np.maximum(rise[:, :-1] + fall[:, 1:], EPSILON))


@cache
def _window() -> np.ndarray:
    return np.hanning(FRAME).astype(np.float32)


@cache
def _triangles() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The mel scale between its F + 2 equally spaced edges.

    Returns:
        For every point of the spectrum, ``(257,)``: its weight in the rise and in the fall; for every space
        between two edges, ``(F + 1,)``: its first point, and whether it has none.
    """

    def mel(hz: np.ndarray | float) -> np.ndarray:
        return 1127.0 * np.log(1.0 + np.asarray(hz) / 700.0)

    # Counted in spaces between edges: the triangle m rises from m to m + 1 and falls to m + 2.
    at = (mel(np.arange(FFT // 2 + 1) * RATE / FFT) - mel(LOW_HZ)) / (mel(HIGH_HZ) - mel(LOW_HZ)) * (BINS + 1)
    at[-1] = BINS + 1  # the last point is the last edge, where the last triangle has come down to 0
    space = np.floor(at)
    is_inside = (at > 0) & (at < BINS + 1)
    rising, falling = np.where(is_inside, at - space, 0), np.where(is_inside, 1 - (at - space), 0)
    first = np.searchsorted(space, np.arange(BINS + 2))
    is_empty = first[:-1] == first[1:]
    return rising.astype(np.float32), falling.astype(np.float32), np.minimum(first[:-1], FFT // 2), is_empty

"""Whether two clips are one sound, whatever their loudness, and though noise or a codec has changed one of them.

Their waveforms are laid over each other, shifted by up to half a second, where they fit best. The correlation there is
1 for equal sound, ``1 / sqrt(1 + 1/SNR)`` for a copy with noise, and near 0 for what has other partials. Two steady
tones of one pitch fit as well, though, whoever plays them; then they fit backwards too, where copies do not.

Sums of products are taken by einsum, not by BLAS, which would start threads within the threads that compare.

Shapes: S samples.
"""

import numpy as np
import scipy.fft

from data.decode import RATE

HEARD = 8 * RATE
"""Samples from the start of a clip that are compared."""
SHIFT = RATE // 2
"""Largest, in samples."""
OVERLAP = 0.5
"""Share of the power of each that must lie where they overlap."""


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    """How well two clips fit where they fit best, from 0 to 1; a waveform turned upside down sounds the same.

    Args:
        first, second: int16 ``(S,)`` of any lengths.
    """
    x, y = (samples[:HEARD].astype(np.float32) for samples in (first, second))
    shift, product = _best_shift(x, y)
    own = x[max(shift, 0) : len(y) + shift]
    other = y[max(-shift, 0) :][: len(own)]
    power = _power(own), _power(other)
    whole = _power(x), _power(y)
    if not min(whole) or power[0] < OVERLAP * whole[0] or power[1] < OVERLAP * whole[1]:
        return 0.0
    return min(1.0, product / float(np.sqrt(power[0] * power[1])))


def are_equal(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether two clips, int16 ``(S,)``, are the same samples but for their loudness and its rounding."""
    if len(first) != len(second):
        return False
    x, y = first.astype(np.float64), second.astype(np.float64)
    power = _power(x), _power(y)
    if not min(power):
        return power[0] == power[1]
    if power[0] < power[1]:  # the quieter one is predicted
        x, y, power = y, x, power[::-1]
    gain = float(np.einsum("s,s->", x, y)) / power[0]
    # Both were rounded, by half a step at most, and the gain is as exact as the rounding of all samples lets it be.
    slack = 3 * np.abs(x).max() / np.sqrt(12 * power[0])
    return bool(gain > 0 and np.abs(y - gain * x).max() <= 0.5 * (1 + gain) + slack)


def _best_shift(x: np.ndarray, y: np.ndarray) -> tuple[int, float]:
    """By how much later `y` comes in `x` where the sum of their products is largest, and that sum, without its sign."""
    # Behind the longer one there is room for the largest shift, so that what leaves at one end enters nowhere.
    size = scipy.fft.next_fast_len(max(len(x), len(y)) + SHIFT, real=True)
    products = np.abs(scipy.fft.irfft(scipy.fft.rfft(x, size) * scipy.fft.rfft(y, size).conj(), size))
    shifts = np.arange(-SHIFT, SHIFT + 1)
    shift = int(shifts[products[shifts].argmax()])  # those before the start lie at the end of the circle
    return shift, float(products[shift])


def _power(x: np.ndarray) -> float:
    return float(np.einsum("s,s->", x, x))

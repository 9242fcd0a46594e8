"""What a sound looks like: its log-mel as a small picture, for pages and figures.

Not the log-mel that backbones hear: the window is longer, so that partials show as lines, and the scale is decibels
below the loudest point, so that quiet and loud clips can be compared by eye.

Shapes: S samples, W columns and H rows of the picture, P points of the Fourier transform.
"""

import io
from functools import cache

import numpy as np
from PIL import Image

WINDOW_SECONDS = 0.064
"""Seen at once; the transform takes the next power of two."""
RANGE_DB = 72.0
"""Below the loudest point everything is black."""
LOW_HZ, HIGH_HZ = 30.0, 8_000.0
"""The lowest row and the highest; a pack holds nothing above."""
MOST_FRAMES = 4
"""Averaged in a column of a long sound, and no more: an hour's picture costs as much as a minute's."""
SILENCE = 1e-7
"""Of the spectrum's magnitude; a waveform that stays below it is black."""
SHADES = 16
"""Of the picture: four bits a point keep it small, and the eye tells hardly more apart."""


def spectrogram(waveform: np.ndarray, rate: int, width: int, height: int) -> np.ndarray:
    """Computes the picture of a sound, the whole of it across the width.

    Args:
        waveform: float ``(S,)`` in [-1, 1], at least one sample.
        rate: Hz.
        width: W, columns.
        height: H, rows.

    Returns:
        float32 ``(H, W)`` from 0 (`RANGE_DB` under the loudest point, or silence) to 1; the highest row is the first.

    Raises:
        ValueError: no samples, or a picture without points.
    """
    if waveform.ndim != 1 or not len(waveform):
        raise ValueError(f"samples (S,) with S at least 1 were expected, an array of shape {waveform.shape} was found")
    if width < 1 or height < 1:
        raise ValueError(f"a picture of at least 1 x 1 points was expected, {width} x {height} was asked for")
    points = 1 << int(np.ceil(np.log2(WINDOW_SECONDS * rate)))
    per_column = int(np.clip(np.ceil(2 * len(waveform) / (width * points)), 1, MOST_FRAMES))
    centres = (np.arange(width * per_column) + 0.5) * (len(waveform) / (width * per_column))
    padded = np.pad(np.asarray(waveform, np.float32), points // 2)
    every = np.lib.stride_tricks.sliding_window_view(padded, points)  # number i is centred on sample i
    frames = every[np.minimum(centres.astype(np.int64), len(waveform) - 1)] * _window(points)  # (W * frames, P)
    power = np.abs(np.fft.rfft(frames)) ** 2
    power = power.reshape(width, per_column, -1).mean(axis=1)  # (W, P / 2 + 1)
    mel = np.maximum(power @ _mel_bank(rate, points, height), SILENCE**2)  # (W, H)
    db = 10 * np.log10(mel / mel.max())
    if mel.max() <= SILENCE**2:
        db[:] = -RANGE_DB
    return np.clip(1 + db / RANGE_DB, 0, 1).astype(np.float32).T[::-1]


def spectrogram_png(waveform: np.ndarray, rate: int, width: int = 192, height: int = 64) -> bytes:
    """Draws the picture of a sound in `SHADES` colours.

    Args:
        waveform, rate, width, height: see `spectrogram`.

    Returns:
        A PNG file, for the default size below 6 kB.

    Raises:
        ValueError: as `spectrogram`.
    """
    shades = np.rint(spectrogram(waveform, rate, width, height) * (SHADES - 1)).astype(np.uint8)
    image = Image.fromarray(shades, mode="P")
    image.putpalette(_palette())
    file = io.BytesIO()
    image.save(file, format="PNG", bits=4, optimize=True)
    return file.getvalue()


@cache
def _window(points: int) -> np.ndarray:
    return np.hanning(points).astype(np.float32) * (2 / points)


@cache
def _mel_bank(rate: int, points: int, height: int) -> np.ndarray:
    """Triangles on the mel scale, float32 ``(P / 2 + 1, H)``, none narrower than the lines of the spectrum are apart.

    Mel = 2595 log10(1 + Hz / 700) (O'Shaughnessy 1987).
    """
    top = min(HIGH_HZ, rate / 2)
    low, high = (2595 * np.log10(1 + hz / 700) for hz in (min(LOW_HZ, top / 2), top))
    edges = 700 * (10 ** (np.linspace(low, high, height + 2) / 2595) - 1)
    line = rate / points
    centre = edges[1:-1]
    below, above = np.maximum(centre - edges[:-2], line), np.maximum(edges[2:] - centre, line)
    away = np.arange(points // 2 + 1)[:, None] * line - centre
    return np.maximum(0, 1 - np.where(away < 0, -away / below, away / above)).astype(np.float32)


@cache
def _palette() -> bytes:
    """Red, green and blue of every shade."""
    from matplotlib import colormaps  # here, for it takes a while

    return (colormaps["magma"](np.linspace(0, 1, SHADES))[:, :3] * 255).round().astype(np.uint8).tobytes()

"""From a clip to what a pack stores: checked, 16 kHz, int16.

S samples, C channels.
"""

import math
from dataclasses import dataclass

import numpy as np

from data.clip import Audio
from data.decode import FULL_SCALE, RATE
from data.errors import DataError
from data.reader import Reader

SILENT_DBFS = -80.0
CLIPPED = 0.9999
"""Absolute amplitude from which a decoded sample counts as clipped."""


@dataclass(frozen=True, slots=True)
class Pcm:
    """A clip as a pack stores it, and how loud it is."""

    samples: np.ndarray
    """int16 ``(S,)`` at `RATE`."""
    gain_db: float
    """What it was scaled by to fit below full scale; 0 unless it was louder."""
    peak_dbfs: float
    rms_dbfs: float
    num_clipped: int
    """Samples of the mono mix at or above full scale before resampling."""
    source_rate: int
    """Hz, of the recording."""


def to_pcm(audio: Audio, min_seconds: float, reader: Reader | None = None) -> Pcm:
    """Reads a clip, resamples it to `RATE` with soxr HQ and rounds it to int16.

    Args:
        audio: of the clip.
        min_seconds: shorter clips are refused.
        reader: for clips that are read one after the other; None reads this one alone.

    Raises:
        DataError: the clip cannot be used; the sentence is the reason for ``rejected.csv``.
    """
    if reader is None:
        with Reader() as reader:
            return to_pcm(audio, min_seconds, reader)
    mono, rate = reader.read(audio)  # (S,)
    if len(mono) == 0:
        raise DataError("empty: the excerpt holds no samples")
    seconds = len(mono) / rate
    if seconds < min_seconds:
        raise DataError(f"too short: {seconds:.6g} s, at least {min_seconds:g} s expected")
    low, high = float(mono.min()), float(mono.max())  # NaN goes through both
    if not (math.isfinite(low) and math.isfinite(high)):
        bad = int(np.count_nonzero(~np.isfinite(mono)))
        raise DataError(f"holds {bad} NaN or infinite values of {len(mono)}")
    if _is_silent(low, high):
        raise DataError(_why_silent(audio, low, high))
    num_clipped = int(np.count_nonzero(np.abs(mono) >= CLIPPED)) if max(-low, high) >= CLIPPED else 0
    if rate != RATE:
        mono = reader.resample(mono, rate)
        low, high = float(mono.min()), float(mono.max())
        if _is_silent(low, high):
            raise DataError(
                f"silent below {RATE // 2000} kHz: peak {dbfs(max(-low, high)):.0f} dBFS "
                f"after resampling from {rate} Hz"
            )
    # int16 reaches from -32768 to 32767: -1.0 fits, +1.0 does not.
    gain = min(1.0, 1 / max(-low, 1e-12), (FULL_SCALE - 1) / FULL_SCALE / max(high, 1e-12))
    # In place where the array is ours, not the reader's: fetching fresh memory costs more than the arithmetic.
    scaled = np.multiply(mono, np.float32(FULL_SCALE * gain), out=None if rate == RATE else mono)
    # einsum and not dot, for BLAS starts threads.
    rms = math.sqrt(float(np.einsum("s,s->", scaled, scaled)) / len(scaled)) / FULL_SCALE
    samples = np.rint(scaled, out=scaled).astype(np.int16)
    return Pcm(
        samples=samples,
        gain_db=20 * math.log10(gain),
        peak_dbfs=dbfs(max(-low, high) * gain),
        rms_dbfs=dbfs(rms),
        num_clipped=num_clipped,
        source_rate=rate,
    )


def _is_silent(low: float, high: float) -> bool:
    """Whether nothing sounds: an offset that does not change is no sound either."""
    return dbfs((high - low) / 2) < SILENT_DBFS


def _why_silent(audio: Audio, low: float, high: float) -> str:
    mean_dbfs = dbfs(max(-low, high))
    if mean_dbfs >= SILENT_DBFS:
        return f"silent: a constant offset of {(low + high) / 2:.3g} and nothing else"
    sound, _ = audio.read()  # (S, C)
    loudest = dbfs(float(np.abs(sound).max()))
    if loudest >= SILENT_DBFS:
        return (
            f"channels cancel: {sound.shape[1]} channels peak at {loudest:.0f} dBFS, their mean at {mean_dbfs:.0f} dBFS"
        )
    return f"silent: peak {mean_dbfs:.0f} dBFS, at least {SILENT_DBFS:.0f} dBFS expected"


def dbfs(amplitude: float) -> float:
    """Decibels relative to full scale, of an amplitude in [0, 1]; minus infinity at 0."""
    return 20 * math.log10(amplitude) if amplitude > 0 else -math.inf

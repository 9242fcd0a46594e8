"""From a recording to what a pack stores: read, checked, mono, 16 kHz, int16.

S samples, C channels.
"""

import math
import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile
import soxr

from data.clip import Audio
from data.errors import DataError

RATE = 16_000
"""Hz, of everything in a pack."""
FULL_SCALE = 32_768
"""The int16 value of 1.0; a 16-bit recording at 16 kHz comes through bit for bit."""
SILENT_DBFS = -80.0
CLIPPED = 0.9999
"""Absolute amplitude from which a decoded sample counts as clipped."""

FORMATS_OF_SUFFIX = {
    ".wav": ("WAV", "WAVEX", "RF64", "W64"),
    ".flac": ("FLAC",),
    ".ogg": ("OGG",),
    ".mp3": ("MPEG", "MP3"),
}
"""Which of libsndfile's formats a file may hold, by its name; also the list of what is read."""
_MAX_PAGE = 65_307
"""Bytes of an Ogg page at most."""


@dataclass(frozen=True, slots=True)
class AudioFile:
    """An excerpt of a recording on the disk; an `Audio` of `data.clip`."""

    path: Path = field(repr=False)
    """Left out of the repr, by which preparations are compared: a moved folder is still the same source."""
    num_bytes: int
    """The size of the file when it was scanned."""
    start_s: float = 0.0
    duration_s: float | None = None
    """None reads to the end."""

    @classmethod
    def of(cls, path: Path, start_s: float = 0.0, duration_s: float | None = None) -> "AudioFile":
        """Names an excerpt of the file at ``path``, which must exist."""
        return cls(path, os.stat(path).st_size, start_s, duration_s)

    def read(self) -> tuple[np.ndarray, int]:
        """Returns float32 ``(S, C)`` and the rate in Hz, decoding only the excerpt.

        Raises:
            DataError: empty, cannot be decoded, or holds another format than its name says.
        """
        with open_recording(self.path) as recording:
            rate = recording.samplerate
            start = round(self.start_s * rate)
            count = -1 if self.duration_s is None else round(self.duration_s * rate)
            try:
                if start:
                    recording.seek(start)
                return recording.read(count, dtype="float32", always_2d=True), rate
            except (soundfile.LibsndfileError, RuntimeError) as error:
                raise DataError(f"cannot be decoded: {_words(error)}") from error


def open_recording(path: Path) -> soundfile.SoundFile:
    """Opens a recording for reading.

    Raises:
        DataError: empty, cannot be decoded, or holds another format than its name says.
    """
    try:
        if os.stat(path).st_size == 0:
            raise DataError("empty: the file has 0 bytes")
        recording = soundfile.SoundFile(path)
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}") from error
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise DataError(f"cannot be decoded: {_words(error)}") from error
    suffix = Path(path).suffix.lower()
    if recording.format not in FORMATS_OF_SUFFIX.get(suffix, (recording.format,)):
        found = recording.format
        recording.close()
        raise DataError(f"the name lies about the format: {suffix} expected, {found} found")
    return recording


def seconds_of(path: Path) -> float:
    """The length of a recording by its header.

    Raises:
        DataError: as `open_recording`, though a damaged Ogg file may pass.
    """
    seconds = _seconds_of_vorbis(path) if path.suffix.lower() == ".ogg" else None
    if seconds is not None:
        return seconds
    with open_recording(path) as recording:
        return recording.frames / recording.samplerate


def _seconds_of_vorbis(path: Path) -> float | None:
    """The length of an Ogg Vorbis file of a single stream, None for any other.

    libsndfile prepares the decoder before it tells the length, a twentieth of what a 10 s recording costs.
    Here the rate is read from the first page and the number of samples from the last (RFC 3533, Vorbis I).
    """
    try:
        with open(path, "rb") as file:
            first = file.read(58)
            file.seek(max(0, os.fstat(file.fileno()).st_size - _MAX_PAGE))
            end = file.read()
    except OSError:
        return None
    last = end[end.rfind(b"OggS") :]
    is_single = (
        first[:4] == b"OggS" and first[28:35] == b"\x01vorbis" and len(last) >= 18 and first[14:18] == last[14:18]
    )
    rate, num_samples = int.from_bytes(first[40:44], "little"), int.from_bytes(last[6:14], "little", signed=True)
    return num_samples / rate if is_single and rate and num_samples > 0 else None


def _words(error: Exception) -> str:
    """What libsndfile says, without the path that the wrapper puts before it."""
    return str(getattr(error, "error_string", None) or error).strip().rstrip(".")


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


def to_pcm(audio: Audio, min_seconds: float) -> Pcm:
    """Reads a clip, mixes it to mono, resamples it to `RATE` with soxr HQ and rounds it to int16.

    Raises:
        DataError: the clip cannot be used; the sentence is the reason for ``rejected.csv``.
    """
    sound, rate = audio.read()  # (S, C)
    if len(sound) == 0:
        raise DataError("empty: the excerpt holds no samples")
    seconds = len(sound) / rate
    if seconds < min_seconds:
        plural = "" if len(sound) == 1 else "s"
        raise DataError(
            f"too short: {len(sound)} sample{plural} are {seconds:.3f} s, at least {min_seconds:g} s expected"
        )
    low, high = float(sound.min()), float(sound.max())  # NaN goes through both
    if not (math.isfinite(low) and math.isfinite(high)):
        bad = int(np.count_nonzero(~np.isfinite(sound)))
        raise DataError(f"holds {bad} NaN or infinite values of {sound.size}")
    loudest = max(-low, high)
    if dbfs(loudest) < SILENT_DBFS:
        raise DataError(f"silent: peak {dbfs(loudest):.0f} dBFS, at least {SILENT_DBFS:.0f} dBFS expected")
    mono = sound[:, 0] if sound.shape[1] == 1 else sound.mean(axis=1)  # (S,)
    if sound.shape[1] > 1:
        low, high = float(mono.min()), float(mono.max())
        if dbfs(max(-low, high)) < SILENT_DBFS:
            raise DataError(
                f"channels cancel: {sound.shape[1]} channels peak at {dbfs(loudest):.0f} dBFS, "
                f"their mean at {dbfs(max(-low, high)):.0f} dBFS"
            )
    num_clipped = int(np.count_nonzero(np.abs(mono) >= CLIPPED)) if max(-low, high) >= CLIPPED else 0
    if rate != RATE:
        mono = soxr.resample(mono, rate, RATE, quality="HQ")
        low, high = float(mono.min()), float(mono.max())
        if dbfs(max(-low, high)) < SILENT_DBFS:
            raise DataError(
                f"silent below {RATE // 2000} kHz: peak {dbfs(max(-low, high)):.0f} dBFS "
                f"after resampling from {rate} Hz"
            )
    # int16 reaches from -32768 to 32767: -1.0 fits, +1.0 does not.
    gain = min(1.0, 1 / max(-low, 1e-12), (FULL_SCALE - 1) / FULL_SCALE / max(high, 1e-12))
    # In place where the array is ours: fetching fresh memory from the system costs more than the arithmetic.
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


def dbfs(amplitude: float) -> float:
    """Decibels relative to full scale, of an amplitude in [0, 1]; minus infinity at 0."""
    return 20 * math.log10(amplitude) if amplitude > 0 else -math.inf

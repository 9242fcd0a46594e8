"""Recordings on the disk: what they are by their headers, and the sound of excerpts.

S samples, C channels.
"""

import os
import re
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import soundfile

from data.errors import DataError

RATE = 16_000
"""Hz, of everything in a pack."""
FULL_SCALE = 32_768
"""The int16 value of 1.0; a 16-bit recording at 16 kHz comes through bit for bit."""
MIN_RATE, MAX_RATE = 1_000, 1_000_000
"""Hz; what a header says beyond these is damage, or no sound that is heard."""
MAX_CHANNELS = 64
MAX_SECONDS = 600.0
"""Of an excerpt, which lies in memory at once: 106 MB at 44.1 kHz."""
WARM_UP_SECONDS = 1.0
"""Decoded and dropped before an excerpt of what is coded frame upon frame: an mp3 frame may take bits of ten frames
before it, and libsndfile begins at most four before."""

FORMATS_OF_SUFFIX = {
    ".wav": ("WAV", "WAVEX", "RF64", "W64"),
    ".flac": ("FLAC",),
    ".ogg": ("OGG",),
    ".mp3": ("MPEG", "MP3"),
}
"""Which of libsndfile's formats a file may hold, by its name; also the list of what is read."""
MP3 = FORMATS_OF_SUFFIX[".mp3"]
_CODED_ON = ("OGG", *MP3)
_MAX_PAGE = 65_307
"""Bytes of an Ogg page at most."""
_PAGE_HEADER_BYTES = 27
_PAGE_ENDS_STREAM = 4
_MIN_OGG_BYTES_A_SECOND = 50
"""Of silence; a last page that promises more seconds than this is damaged."""
_PROMISED_BYTES = re.compile(r"^\s*(?:RIFF|RIFX|riff|Riff size|data) : (\d+) \(should be (\d+)\)", re.MULTILINE)
_UNKNOWN_BYTES = 0x7FFF_0000
"""Chunk sizes from here on are what programs write that do not know the length yet."""
_MISSING_SHARE = 0.01
"""Of the bytes that a header promises; with less missing, a header counts as sloppy and not as the truth."""
_UNKNOWN_FRAMES = 1 << 62
_LONG_SECONDS = 60.0
BLOCK = 65_536
"""Values that are decoded at once where they are not kept; in float32 they stay in a core's cache."""


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
    decode_from_s: float | None = None
    """Where decoding begins; excerpts of a recording with the same value are decoded in one go. None: at `start_s`."""

    @classmethod
    def of(cls, path: Path, start_s: float = 0.0, duration_s: float | None = None) -> "AudioFile":
        """Names an excerpt of the file at ``path``, which must exist."""
        return cls(path, os.stat(path).st_size, start_s, duration_s)

    def read(self) -> tuple[np.ndarray, int]:
        """Returns float32 ``(S, C)`` and the rate in Hz, decoding only the excerpt.

        Raises:
            DataError: as `open_recording`, or the excerpt cannot be decoded.
        """
        with open_recording(self.path) as recording, decoding():
            start, stop = self.span(recording)
            go_to(recording, start)
            return recording.read(stop - start, dtype="float32", always_2d=True), recording.samplerate

    def span(self, recording: soundfile.SoundFile) -> tuple[int, int]:
        """Where the excerpt begins and ends, in samples of the recording.

        Raises:
            DataError: it is longer than `MAX_SECONDS`.
        """
        rate, frames = recording.samplerate, recording.frames
        start = min(round(self.start_s * rate), frames)
        stop = frames if self.duration_s is None else min(start + round(self.duration_s * rate), frames)
        if stop - start > MAX_SECONDS * rate:
            raise DataError(f"too long: {(stop - start) / rate:.0f} s, a clip of at most {MAX_SECONDS:.0f} s expected")
        return start, stop


class _Recording(soundfile.SoundFile):
    """A recording that can be read block by block."""

    @cached_property
    def frames(self) -> int:
        """How many samples there are. May be set, for a file that was written into a pipe does not say it."""
        return super().frames

    def seekable(self) -> bool:
        """No; for else soundfile seeks, after every read, to where it is already.

        That takes time, and in mp3 of few bits a second it spoils the samples that follow: the decoder forgets what it
        kept of earlier frames.
        """
        return False


def open_recording(path: Path) -> soundfile.SoundFile:
    """Opens a recording for reading in order, after one `go_to` at most.

    Raises:
        DataError: not a file, empty, cannot be decoded, cut short, of absurd rate or channels, or holds another format
            than its name says.
    """
    descriptor, num_bytes = _open(path)
    suffix = Path(path).suffix.lower()
    end = _end_of(descriptor, num_bytes) if suffix == ".ogg" else b""
    with decoding():
        recording = _Recording(descriptor)  # its name; it is closed with it, or if it cannot be decoded
    try:
        _check(recording, suffix, end)
        if recording.frames >= _UNKNOWN_FRAMES:
            with _Recording(_open(path)[0]) as counted, decoding():
                recording.frames = skip(counted, _UNKNOWN_FRAMES)
    except DataError:
        recording.close()
        raise
    return recording


def _open(path: Path) -> tuple[int, int]:
    """A descriptor for reading and the number of bytes."""
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):  # a pipe would be waited for
            kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe, socket or device"
            raise DataError(f"cannot be read: it is {kind}")
        if status.st_size == 0:
            raise DataError("empty: the file has 0 bytes")
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC), status.st_size
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}") from error


@contextmanager
def decoding() -> Iterator[None]:
    """Turns what libsndfile raises into a sentence."""
    try:
        yield
    except (soundfile.LibsndfileError, RuntimeError) as error:
        # Without the path that the wrapper puts before it.
        words = str(getattr(error, "error_string", None) or error).strip().rstrip(".")
        if words.startswith("File does not exist"):
            words = "No frame of an mp3 found"  # there is a file; this is what mpg123's failure is called
        raise DataError(f"cannot be decoded: {words}") from error


def _check(recording: soundfile.SoundFile, suffix: str, end: bytes) -> None:
    found = recording.format
    if found not in FORMATS_OF_SUFFIX.get(suffix, (found,)):
        raise DataError(f"the name lies about the format: {suffix} expected, {found} found")
    _check_shape(recording.samplerate, recording.channels)
    if suffix == ".wav":
        for promised, there in _PROMISED_BYTES.findall(recording.extra_info):
            promised, there = int(promised), int(there)
            is_known = promised < _UNKNOWN_BYTES or found not in ("WAV", "WAVEX")
            if is_known and promised - there > _MISSING_SHARE * promised:
                raise DataError(f"cut short: {promised:,} bytes promised by the header, {there:,} found")
    if end and not _ends_stream(end):
        raise DataError("cut short: the Ogg stream has no end")
    if recording.subtype == "VORBIS" and end:
        promised = int.from_bytes(end[6:14], "little", signed=True)
        if promised - recording.frames > _MISSING_SHARE * promised:
            raise DataError(f"cut short: {promised:,} samples promised by the last page, {recording.frames:,} found")


def _check_shape(rate: int, channels: int) -> None:
    if not MIN_RATE <= rate <= MAX_RATE:
        raise DataError(f"absurd rate: {rate:,} Hz, from {MIN_RATE:,} to {MAX_RATE:,} expected")
    if channels > MAX_CHANNELS:
        raise DataError(f"too many channels: {channels}, at most {MAX_CHANNELS} expected")


def _end_of(descriptor: int, num_bytes: int) -> bytes:
    """An Ogg file from the header of its last page on (RFC 3533); empty if there is none."""
    end = os.pread(descriptor, _MAX_PAGE, max(0, num_bytes - _MAX_PAGE))
    last = end.rfind(b"OggS")
    return end[last:] if 0 <= last <= len(end) - _PAGE_HEADER_BYTES else b""


def _ends_stream(end: bytes) -> bool:
    """Whether the page that it begins with is whole, and says that it is the last."""
    lengths = end[_PAGE_HEADER_BYTES:][: end[26]]
    is_whole = len(end) >= _PAGE_HEADER_BYTES + end[26] + sum(lengths)
    return is_whole and bool(end[5] & _PAGE_ENDS_STREAM)


def seconds_of(path: Path) -> float:
    """The length of a recording by its header; where that only guesses, or promises long sound, by looking.

    Raises:
        DataError: as `open_recording`, though a damaged Ogg file may pass.
    """
    suffix = Path(path).suffix.lower()
    seconds = _seconds_of_vorbis(path) if suffix == ".ogg" else None
    if seconds is not None:
        return seconds
    with _quiet() if suffix == ".mp3" else nullcontext(), open_recording(path) as recording:
        frames, rate = recording.frames, recording.samplerate
        is_guess = recording.format in MP3 and not counts_its_frames(recording)
        if is_guess or (recording.format in ("FLAC", *MP3) and frames > _LONG_SECONDS * rate):
            frames = _frames_there(recording, is_guess)
        return frames / rate


@contextmanager
def _quiet() -> Iterator[None]:
    """Sends what C libraries print nowhere: mpg123 complains of a damaged file into the middle of a progress bar."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _seconds_of_vorbis(path: Path) -> float | None:
    """The length of a whole Ogg Vorbis file of a single stream, None for any other.

    libsndfile prepares the decoder before it tells the length, a twentieth of what a 10 s recording costs.
    Here the rate is read from the first page and the number of samples from the last (RFC 3533, Vorbis I).
    """
    descriptor, num_bytes = _open(path)
    try:
        first, end = os.pread(descriptor, 58, 0), _end_of(descriptor, num_bytes)
    finally:
        os.close(descriptor)
    is_single = first[:4] == b"OggS" and first[28:35] == b"\x01vorbis" and end[14:18] == first[14:18]
    if not is_single or not _ends_stream(end):
        return None
    channels, rate = first[39], int.from_bytes(first[40:44], "little")
    _check_shape(rate, channels)
    seconds = int.from_bytes(end[6:14], "little", signed=True) / rate
    return seconds if 0 < seconds < num_bytes / _MIN_OGG_BYTES_A_SECOND else None


def _frames_there(recording: soundfile.SoundFile, is_guess: bool) -> int:
    """How many of the samples that libsndfile speaks of can be reached."""

    def is_there(frame: int) -> bool:
        try:
            recording.seek(frame)
            return len(recording.read(1, dtype="float32")) == 1
        except (soundfile.LibsndfileError, RuntimeError):
            return False

    low, high = 0, recording.frames  # if any are there, the first is
    if high == 0 or is_there(high - 1):
        return high
    if not is_guess:
        raise DataError(f"cut short: its header promises {high / recording.samplerate:.1f} s, the end is not there")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if is_there(middle) else (low, middle)
    return low + 1


def counts_its_frames(recording: soundfile.SoundFile) -> bool:
    """Whether an mp3 begins with a frame that says how many follow.

    Of others libsndfile guesses the length by the bit rate of the first frame, and reads no further than that.
    """
    descriptor, at = recording.name, 0
    tag = os.pread(descriptor, 10, at)
    if tag[:3] == b"ID3":
        at = 10 + sum((byte & 127) << shift for byte, shift in zip(tag[6:10], (21, 14, 7, 0), strict=True))
    head = os.pread(descriptor, 4096, at)
    return any(name in head for name in (b"Xing", b"Info", b"VBRI"))


def go_to(recording: soundfile.SoundFile, frame: int) -> None:
    """Seeks in a recording that nothing was read of."""
    warm_up = round(WARM_UP_SECONDS * recording.samplerate) if recording.format in _CODED_ON else 0
    begin = max(0, frame - warm_up)
    if begin and skip(recording, 1):  # of an Ogg stream that gives nothing, a seek crashes libsndfile
        recording.seek(begin)
    skip(recording, frame - begin)


def skip(recording: soundfile.SoundFile, frames: int) -> int:
    """Reads on and drops it; returns how many samples there were."""
    skipped = 0
    while skipped < frames:
        found = len(recording.read(min(frames - skipped, BLOCK), dtype="float32"))
        if not found:
            break
        skipped += found
    return skipped

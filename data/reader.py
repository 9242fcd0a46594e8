"""Reads clips one after the other, as mono.

S samples, C channels.
"""

import numpy as np
import soundfile
import soxr

from data.clip import Audio
from data.decode import BLOCK, MP3, RATE, AudioFile, counts_its_frames, decoding, go_to, open_recording, skip
from data.errors import DataError

_PADDING_SECONDS = 0.1
"""By how much a whole mp3 may be shorter than the number of its frames says."""


def reads_on(audio: Audio, following: Audio) -> bool:
    """Whether both are decoded from the same place of the same recording."""
    return (
        isinstance(audio, AudioFile)
        and isinstance(following, AudioFile)
        and audio.decode_from_s is not None
        and (audio.path, audio.decode_from_s) == (following.path, following.decode_from_s)
    )


class Reader:
    """Reads clips; those of a recording that have `AudioFile.decode_from_s` in common are decoded in one go.

    Only what two of them share is kept. One that comes without the others is decoded from there as well, so that the
    sound of a clip depends on the file and the clip alone. That takes a rule because of damaged files: there a seek
    finds another thing than reading on does, and what it finds depends on what was read before.
    """

    def __init__(self):
        self._recording: soundfile.SoundFile | None = None
        self._audio: AudioFile | None = None
        """The clip before, `_mono` what was found of it and `_start` where that lies, in samples of the recording."""
        self._resamplers: dict[int, soxr.ResampleStream] = {}
        self._mono = self._memory = np.empty(0, np.float32)
        self._start = 0
        self._block = np.empty(BLOCK, np.float32)
        self._position = 0
        """Where the decoder is."""
        self._is_over = False
        self._failure: DataError | None = None
        self._failed_stop = 0
        """The end of the clip that could not be decoded; those that reach as far cannot be, either."""

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def read(self, audio: Audio) -> tuple[np.ndarray, int]:
        """Returns the mean of the channels, float32 ``(S,)``, and the rate in Hz.

        The samples are not to be changed, and stay until the next clip is read.

        Raises:
            DataError: the recording cannot be opened (see `open_recording`), or the clip is cut short, too long or
                cannot be decoded.
        """
        if not isinstance(audio, AudioFile):
            sound, rate = audio.read()
            return mix(sound), rate
        if self._audio is None or not reads_on(self._audio, audio) or audio.start_s < self._audio.start_s:
            self._begin(audio)
        rate = self._recording.samplerate
        start, stop = audio.span(self._recording)
        if self._failure is not None and stop < self._failed_stop:
            self._begin(audio)
        mono = self._room(stop - start)
        shared = self._mono[start - self._start :][: len(mono)]
        mono[: len(shared)] = shared
        filled = len(shared) + self._decode(start + len(shared), mono[len(shared) :])
        self._audio, self._mono, self._start = audio, mono[:filled], start
        if filled < len(mono) and not self._may_end(audio, len(mono) - filled):
            raise DataError(f"cut short: {len(mono) / rate:.2f} s expected by the header, {filled / rate:.2f} s found")
        return self._mono, rate

    def resample(self, mono: np.ndarray, rate: int) -> np.ndarray:
        """Resamples to `RATE` with soxr HQ, as `soxr.resample` does; the filter of a rate is kept for the next clip."""
        if rate not in self._resamplers:
            self._resamplers[rate] = soxr.ResampleStream(rate, RATE, 1, dtype="float32", quality="HQ")
        resampled = self._resamplers[rate].resample_chunk(mono, last=True)
        self._resamplers[rate].clear()
        return resampled

    def _begin(self, audio: AudioFile) -> None:
        self._close()
        self._recording = open_recording(audio.path)
        self._audio = audio
        begin = audio.start_s if audio.decode_from_s is None else min(audio.start_s, audio.decode_from_s)
        self._position = min(round(begin * self._recording.samplerate), self._recording.frames)
        self._mono, self._start = self._memory[:0], self._position
        self._failure, self._failed_stop, self._is_over = None, 0, False
        try:
            with decoding():
                go_to(self._recording, self._position)
        except DataError as error:
            self._failure = error

    def _room(self, num_samples: int) -> np.ndarray:
        """Memory for a clip, the same again and again: to fetch fresh one costs more than to decode into it."""
        if num_samples > len(self._memory):
            self._memory = np.empty(num_samples, np.float32)
        return self._memory[:num_samples]

    def _decode(self, start: int, out: np.ndarray) -> int:
        """Decodes what lies at ``start`` or behind into ``out``; returns how much there was."""
        if self._failure is not None:
            raise self._failure
        if not len(out) or self._is_over:
            return 0
        try:
            with decoding():
                self._position += skip(self._recording, start - self._position)
                filled = self._decode_mono(out) if self._position == start else 0
        except DataError as error:
            self._failure, self._failed_stop = error, start + len(out)
            raise
        self._position += filled
        self._is_over = filled < len(out)  # asking libsndfile for more has crashed it
        return filled

    def _decode_mono(self, out: np.ndarray) -> int:
        """Fills ``out`` with what comes next; returns how much there was."""
        channels = self._recording.channels
        if channels == 1:
            return len(self._recording.read(out=out))
        block = self._block[: BLOCK // channels * channels].reshape(-1, channels)
        filled = 0
        while filled < len(out):
            found = self._recording.read(out=block[: len(out) - filled])  # (S, C)
            if not len(found):
                break
            mix(found, out[filled : filled + len(found)])
            filled += len(found)
        return filled

    def _may_end(self, audio: AudioFile, missing: int) -> bool:
        """Whether a recording is whole although libsndfile said that there is more."""
        return (
            self._recording.format in MP3
            and audio.duration_s is None
            and (missing <= _PADDING_SECONDS * self._recording.samplerate or not counts_its_frames(self._recording))
        )

    def _close(self) -> None:
        self._audio = None
        if self._recording is not None:
            self._recording.close()
            self._recording = None


def mix(sound: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """The mean of the channels: float32 ``(S, C)`` to ``(S,)``, of one channel a view if ``out`` is not given."""
    channels = sound.shape[1]
    if channels == 1:
        return sound[:, 0]
    mono = np.add(sound[:, 0], sound[:, 1], out=out)
    for channel in range(2, channels):  # several times as fast as numpy's mean over a short axis
        mono += sound[:, channel]
    mono /= np.float32(channels)
    return mono

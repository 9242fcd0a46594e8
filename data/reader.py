"""Reads clips one after the other, as mono.

S samples, C channels.
"""

import numpy as np
import soundfile

from data.clip import Audio
from data.decode import BLOCK, MP3, AudioFile, counts_its_frames, decoding, go_to, open_recording, skip
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
        self._mono = np.zeros(0, np.float32)
        self._start = 0
        self._position = 0
        """Where the decoder is."""
        self._failure: DataError | None = None
        self._is_over = False

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def read(self, audio: Audio) -> tuple[np.ndarray, int]:
        """Returns the mean of the channels, float32 ``(S,)``, not to be changed, and the rate in Hz.

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
        mono = np.empty(stop - start, np.float32)
        shared = self._mono[start - self._start :][: len(mono)]
        mono[: len(shared)] = shared
        filled = len(shared) + self._decode(start + len(shared), mono[len(shared) :])
        self._audio, self._mono, self._start = audio, mono[:filled], start
        if filled < len(mono) and not self._may_end(audio, len(mono) - filled):
            raise DataError(f"cut short: {len(mono) / rate:.2f} s expected by the header, {filled / rate:.2f} s found")
        return self._mono, rate

    def _begin(self, audio: AudioFile) -> None:
        self._close()
        self._recording = open_recording(audio.path)
        self._audio = audio
        begin = audio.start_s if audio.decode_from_s is None else min(audio.start_s, audio.decode_from_s)
        self._position = min(round(begin * self._recording.samplerate), self._recording.frames)
        self._mono, self._start = np.zeros(0, np.float32), self._position
        self._failure, self._is_over = None, False
        try:
            with decoding():
                go_to(self._recording, self._position)
        except DataError as error:
            self._failure = error

    def _decode(self, start: int, out: np.ndarray) -> int:
        """Decodes what lies at ``start`` or behind into ``out``; returns how much there was."""
        if not len(out) or self._is_over:
            return 0
        if self._failure is not None:
            raise self._failure
        try:
            with decoding():
                self._position += skip(self._recording, start - self._position)
                filled = _decode_mono(self._recording, out) if self._position == start else 0
        except DataError as error:
            self._failure = error  # where the decoder is now, and what it finds there, is anybody's guess
            raise
        self._position += filled
        self._is_over = filled < len(out)  # asking libsndfile for more has crashed it
        return filled

    def _may_end(self, audio: AudioFile, missing: int) -> bool:
        """Whether a recording is whole although libsndfile said that there is more."""
        return (
            self._recording.format in MP3
            and audio.duration_s is None
            and (missing <= _PADDING_SECONDS * self._recording.samplerate or not counts_its_frames(audio.path))
        )

    def _close(self) -> None:
        self._audio = None
        if self._recording is not None:
            self._recording.close()
            self._recording = None


def _decode_mono(recording: soundfile.SoundFile, out: np.ndarray) -> int:
    """Fills ``out``, float32 ``(S,)``, with what comes next; returns how much there was."""
    if recording.channels == 1:
        return len(recording.read(out=out))
    block = np.empty((max(1, BLOCK // recording.channels), recording.channels), np.float32)
    filled = 0
    while filled < len(out):
        found = recording.read(out=block[: len(out) - filled])  # (S, C)
        if not len(found):
            break
        out[filled : filled + len(found)] = mix(found)
        filled += len(found)
    return filled


def mix(sound: np.ndarray) -> np.ndarray:
    """The mean of the channels: float32 ``(S, C)`` to ``(S,)``, of one channel a view."""
    mono = sound[:, 0]
    for channel in range(1, sound.shape[1]):  # several times as fast as numpy's mean over a short axis
        mono = mono + sound[:, channel]
    return mono if sound.shape[1] == 1 else mono / np.float32(sound.shape[1])

"""Recordings of any length as chunks of mono sound at 16 kHz, of which only a few seconds lie in memory.

Shapes: S samples, T frames, F mel bins, X columns of a picture.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import soxr
import torch

from backbones.log_mel import HOP, WINDOW, LogMel, frames_of
from data.cutting import excerpts
from data.decode import RATE, AudioFile
from data.errors import DataError
from data.pcm import SILENT_DBFS
from data.reader import Reader

BLOCK_SECONDS = 10.0
"""Of a recording that are decoded and resampled at once."""
MOST_COLUMNS = 1600
"""Of a picture, whatever the length of the recording: about the pixels that it is drawn with."""


def blocks_of(path: Path, seconds: float) -> Iterator[np.ndarray]:
    """Decodes a recording block by block: the mean of its channels at 16 kHz, float32 ``(S,)`` each.

    One resampler goes through all blocks, so that together they are what the whole recording resampled at once would
    be, to float32's rounding (soxr HQ; 1e-6 of full scale in the tests).

    Args:
        seconds: its length, see `data.decode.seconds_of`.

    Raises:
        DataError: it cannot be opened or decoded, is cut short, or holds NaN or infinite values.
    """
    num_bytes, resampler = os.stat(path).st_size, None
    places = excerpts(seconds, BLOCK_SECONDS)
    with Reader() as reader:
        for number, (start_s, duration_s) in enumerate(places, 1):
            mono, rate = reader.read(AudioFile(path, num_bytes, start_s, duration_s, decode_from_s=0.0))
            num_bad = len(mono) - np.count_nonzero(np.isfinite(mono))
            if num_bad:
                raise DataError(
                    f"holds NaN or infinite values, {num_bad} of them from {start_s:g} s on; export it again"
                )
            if rate == RATE:
                yield mono.copy()  # the reader's own memory holds the next block soon
                continue
            if resampler is None:
                resampler = soxr.ResampleStream(rate, RATE, 1, dtype="float32", quality="HQ")
            yield resampler.resample_chunk(mono, last=number == len(places))


def chunks_of(blocks: Iterable[np.ndarray], size: int, hop: int) -> Iterator[tuple[int, np.ndarray]]:
    """Cuts a stream into chunks of equal length that cover all of it.

    Args:
        blocks: float32 ``(S,)`` of any lengths.
        size: samples of a chunk.
        hop: samples from the beginning of a chunk to that of the next, at most `size`.

    Yields:
        The first sample of each chunk and its samples, float32 ``(size,)``. What is left over at the end is heard in a
        last chunk that ends with the stream, and so begins less than `hop` behind the one before. Only a stream that is
        shorter than a chunk gives a shorter one, itself.
    """
    buffer = np.empty(0, np.float32)
    begin = following = covered = 0  # where the buffer begins, where the next chunk does, where the last one ends
    for block in blocks:
        buffer = np.concatenate([buffer, block])
        while following + size <= begin + len(buffer):
            yield following, buffer[following - begin :][:size]
            covered, following = following + size, following + hop
        drop = max(0, min(following - begin, len(buffer) - size))
        buffer, begin = buffer[drop:], begin + drop
    end = begin + len(buffer)
    if covered < end or not end:
        yield max(0, end - size), buffer[-size:]


def is_silent(samples: np.ndarray) -> bool:
    """Whether nothing sounds in a chunk, as `data.pcm` says of a clip: a constant offset is no sound."""
    return not len(samples) or float(samples.max() - samples.min()) / 2 < 10 ** (SILENT_DBFS / 20)


def fitted(samples: np.ndarray) -> np.ndarray:
    """A chunk that goes beyond full scale scaled to fit, as a clip is that comes into a pack; others as they are."""
    peak = float(np.abs(samples).max())
    return samples / np.float32(peak) if peak > 1 else samples


class Spectrogram:
    """The log-mel of a stream at the resolution of a picture: means over the frames that fall into a column.

    Args:
        seconds: about how long the stream is.
    """

    def __init__(self, seconds: float):
        self._log_mel = LogMel(mean=0.0, std=0.5)  # which leaves it as it is
        num_frames = max(1, frames_of(round(seconds * RATE)))
        self._frames_a_column = -(-num_frames // MOST_COLUMNS)
        num_columns = -(-num_frames // self._frames_a_column)
        self._sums = np.zeros((num_columns, self._log_mel.num_mel_bins), np.float64)  # (X, F)
        self._counts = np.zeros(num_columns, np.int64)
        self._rest = np.empty(0, np.float32)
        self._num_frames = 0

    def listen(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Hands on the blocks of a stream, and takes in what they look like."""
        for block in blocks:
            self._add(block)
            yield block

    def _add(self, block: np.ndarray) -> None:
        sound = np.concatenate([self._rest, block])
        found = frames_of(len(sound))
        self._rest = sound[found * HOP :]
        if not found:
            return
        frames = self._log_mel.raw(torch.from_numpy(sound)[None])[0].numpy()  # (T, F)
        column = (self._num_frames + np.arange(found)) // self._frames_a_column
        column = np.minimum(column, len(self._counts) - 1)  # a header may have guessed too short a length
        first = np.flatnonzero(np.diff(column, prepend=-1))
        self._sums[column[first]] += np.add.reduceat(frames, first, axis=0)
        self._counts += np.bincount(column, minlength=len(self._counts))
        self._num_frames += found

    def image(self) -> np.ndarray:
        """What came so far, float32 ``(F, X)``, in natural-log units."""
        seen = self._counts > 0
        return (self._sums[seen] / self._counts[seen, None]).astype(np.float32).T

    @property
    def seconds(self) -> float:
        """From the first sample of the first frame to the last of the last."""
        return ((self._num_frames - 1) * HOP + WINDOW) / RATE if self._num_frames else 0.0

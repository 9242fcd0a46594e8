"""Whole clips as windows of one length.

Shapes: N clips, W windows of them, B windows at a time, S samples of a window.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from data.loader import as_floats
from data.pack import Pack


class Windows(NamedTuple):
    """Some windows, in the order of their clips."""

    waveform: Tensor
    """int16 ``(B, S)``, zeros behind a clip's end; float in [-1, 1] once `to` has moved it."""
    num_samples: Tensor | None
    """int64 ``(B,)``: how many of the S samples are sound; None where all are."""
    clip: Tensor
    """int64 ``(B,)``: which of the N clips each is of."""
    number: Tensor
    """int64 ``(B,)``: which of its clip's windows each is."""

    def to(self, device: torch.device) -> "Windows":
        """Moves what is heard, samples as int16, and makes floats of them there; clips and numbers stay."""
        waveform, num_samples = self.waveform, self.num_samples
        if device.type == "cuda":  # or the copy would wait for all that the device has still to do
            waveform = waveform.pin_memory()
        moved = as_floats(waveform.to(device, non_blocking=True))
        return self._replace(waveform=moved, num_samples=None if num_samples is None else num_samples.to(device))


def window_starts(num_samples: int, window: int) -> np.ndarray:
    """First samples of the fewest windows that cover a clip, spread evenly; one, at 0, for a short clip."""
    room = max(0, num_samples - window)
    return np.linspace(0, room, -(-room // window) + 1).round().astype(np.int64)


def windows_of(pack: Pack, rows: np.ndarray, num_samples: int, batch_size: int) -> Iterator[Windows]:
    """The windows of the clips `rows`, read one batch ahead of who asks for them.

    Args:
        num_samples: S.
        batch_size: B; the last batch may be smaller.
    """
    lengths = pack.num_samples[rows]
    starts = [window_starts(int(length), num_samples) for length in lengths]
    clip = np.repeat(np.arange(len(rows)), [len(own) for own in starts])  # (W,)
    number = np.concatenate([np.arange(len(own)) for own in starts])
    first = np.concatenate(starts)

    def read(begin: int) -> Windows:
        part = slice(begin, begin + batch_size)
        waveform = torch.empty(len(clip[part]), num_samples, dtype=torch.int16)
        pack.read_crops(rows[clip[part]], first[part], num_samples, waveform.numpy())
        sounding = np.minimum(lengths[clip[part]] - first[part], num_samples)
        num_sounding = None if (sounding == num_samples).all() else torch.from_numpy(sounding)
        return Windows(waveform, num_sounding, torch.from_numpy(clip[part]), torch.from_numpy(number[part]))

    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(read, 0)
        for begin in range(batch_size, len(clip) + batch_size, batch_size):
            windows = coming.result()
            if begin < len(clip):
                coming = reader.submit(read, begin)
            yield windows

"""From a pack to batches of int16 crops, labels and keys.

A batch crosses to the device as int16; floats are made there. Where a crop begins depends on (seed, epoch, clip)
alone, like everything else that happens to a clip: see `data.sampler`.

Shapes: B rows of a batch, S samples of a crop, C random streams a clip.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from data.labels import LabelTable
from data.pack import Pack
from data.sampler import GlobalOrder, Share, keys_of

FULL_SCALE = 32_768.0
CPU_SAMPLES_AT_ONCE = 131_072  # half a MiB of floats (benchmarks/reading.py)


@dataclass
class Batch:
    """Crops of some clips."""

    waveform: Tensor
    """int16 ``(B, S)``, zeros behind a clip's end; float in [-1, 1] once `to` has moved it."""
    num_samples: Tensor | None
    """int64 ``(B,)``: how many of the S samples are sound; None where all are."""
    keys: Tensor
    """int64 ``(B, C)``: what masks and views of each clip are drawn from."""
    rows: Tensor
    """int64 ``(B,)``: row numbers in the pack."""
    labels: dict[str, Tensor]
    """See `LabelTable.take`."""

    def to(self, device: torch.device) -> "Batch":
        """Moves everything, samples as int16, and makes floats of them there."""

        def move(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor.to(device, non_blocking=True)

        return Batch(
            as_floats(move(self.waveform)),
            move(self.num_samples),
            move(self.keys),
            move(self.rows),
            {name: move(label) for name, label in self.labels.items()},
        )

    def pin_memory(self) -> "Batch":
        """Called by a loader whose batches cross to a GPU."""
        for name in ("waveform", "keys", "rows"):
            setattr(self, name, getattr(self, name).pin_memory())
        self.labels = {name: label.pin_memory() for name, label in self.labels.items()}
        return self


def as_floats(samples: Tensor) -> Tensor:
    """Int16 ``(B, S)`` to float32 in [-1, 1] on the same device."""
    floats = torch.empty(samples.shape, device=samples.device)
    # On a CPU a few crops at a time, so that the second pass over them finds them in the cache.
    at_once = max(1, CPU_SAMPLES_AT_ONCE // samples.shape[1]) if samples.device.type == "cpu" else len(samples)
    for part, of_int in zip(floats.split(at_once), samples.split(at_once), strict=True):
        part.copy_(of_int).mul_(1 / FULL_SCALE)  # a power of two: as exact as dividing
    return floats


class CropReader:
    """Reads crops of one length, with their labels."""

    def __init__(self, pack: Pack, num_samples: int):
        self.pack, self.num_samples = pack, num_samples
        self.labels = LabelTable(pack)

    def read(self, rows: np.ndarray, starts: np.ndarray, keys: np.ndarray) -> Batch:
        """Crops of the clips `rows` from the samples `starts`."""
        waveform = torch.empty(len(rows), self.num_samples, dtype=torch.int16)
        self.pack.read_crops(rows, starts, self.num_samples, waveform.numpy())
        sounding = np.clip(self.pack.num_samples[rows] - starts, 0, self.num_samples)
        return Batch(
            waveform,
            None if (sounding == self.num_samples).all() else torch.from_numpy(sounding),
            torch.from_numpy(keys),
            torch.from_numpy(rows),
            self.labels.take(rows),
        )


class TrainBatches(Dataset):
    """This process's micro-batches of a training run; item ``step * accumulation + micro`` is one of them.

    Args:
        rows: row numbers of the split, the positions that `order` permutes.
        num_samples: samples of a crop.
        streams: random streams a clip, the C of `Batch.keys`.
    """

    def __init__(
        self, pack: Pack, rows: np.ndarray, order: GlobalOrder, share: Share, num_samples: int, streams: int = 1
    ):
        self.reader = CropReader(pack, num_samples)
        self.rows, self.order, self.share, self.streams = rows, order, share, streams

    def __getitem__(self, item: int) -> Batch:
        step, micro = divmod(item, self.share.accumulation)
        rows = self.rows[self.share.of(self.order.batch(step), micro)]
        keys = keys_of(self.order.seed, self.order.epoch_of(step), rows, 1 + self.streams)
        return self.reader.read(rows, crop_starts(keys[:, 0], self._room(rows)), keys[:, 1:])

    def _room(self, rows: np.ndarray) -> np.ndarray:
        return self.reader.pack.num_samples[rows] - self.reader.num_samples

    def loader(self, first_step: int, last_step: int, num_workers: int, pin_memory: bool = False) -> DataLoader:
        """Iterates over the micro-batches of steps ``first_step`` to ``last_step - 1``.

        With workers, batches are read ahead of the step in other processes; the batches are the same.
        """
        items = range(first_step * self.share.accumulation, last_step * self.share.accumulation)
        return DataLoader(
            self,
            sampler=items,
            batch_size=None,
            num_workers=num_workers,
            pin_memory=pin_memory,
            # It draws a seed that nothing here uses; from the global generator that would set a resumed run apart.
            generator=torch.Generator(),
        )


def crop_starts(keys: np.ndarray, room: np.ndarray) -> np.ndarray:
    """First sample of each crop, int64 ``(B,)``: uniform over the places where a whole crop fits, else 0.

    Args:
        keys: int64 ``(B,)``.
        room: ``(B,)``, samples of the clip less those of the crop.
    """
    uniform = (keys.view(np.uint64) >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return (uniform * (np.maximum(room, 0) + 1)).astype(np.int64)


def heads_of_clips(
    pack: Pack, rows: np.ndarray, num_samples: int, batch_size: int, streams: int = 1
) -> Iterator[Batch]:
    """The beginning of each clip, in order, for evaluation; keys are those of seed 0, epoch 0."""
    reader = CropReader(pack, num_samples)
    for first in range(0, len(rows), batch_size):
        part = rows[first : first + batch_size]
        yield reader.read(part, np.zeros(len(part), dtype=np.int64), keys_of(0, 0, part, streams))

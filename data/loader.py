"""From a pack to batches of int16 crops, labels and keys.

A batch crosses to the device as int16; floats are made there. Where a crop begins depends on (seed, epoch, clip)
alone, like everything else that happens to a clip (`data.sampler`), and like what is read to be mixed into it or to be
heard behind it (`data.partners`).

Shapes: B rows of a batch, S samples of a crop, C random streams a clip, P partners a clip at most.
"""

import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from data.ahead import ReadAhead
from data.labels import LabelTable
from data.mixing import Mixing
from data.pack import Pack
from data.partners import Drawn, Partners, draw_backgrounds
from data.sampler import GlobalOrder, Share, keys_of, uniform_of
from data.workers import WatchedLoader

FULL_SCALE = 32_768.0
CPU_SAMPLES_AT_ONCE = 131_072  # half a MiB of floats (benchmarks/reading.py)


class _Tensors:
    """A dataclass of tensors, dictionaries of them, others like itself, and None."""

    def each(self, change: Callable[[Tensor], Tensor]) -> "_Tensors":
        """The same with every tensor changed."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return type(self)(**{name: _changed(value, change) for name, value in values.items()})


def _changed(value: object, change: Callable[[Tensor], Tensor]) -> object:
    if isinstance(value, dict):
        return {name: _changed(part, change) for name, part in value.items()}
    if isinstance(value, _Tensors):
        return value.each(change)
    return None if value is None else change(value)


@dataclass
class PartnerCrops(_Tensors):
    """Crops of the clips that are to be mixed into those of a batch, see `data.mixing`."""

    waveform: Tensor
    """int16 ``(B, P, S)``, zeros behind a clip's end and where there is no partner."""
    num_samples: Tensor
    """int64 ``(B, P)``: how many of the S samples are sound; 0 where there is no partner."""
    keys: Tensor
    """int64 ``(B,)``: what gains are drawn from."""
    rows: Tensor
    """int64 ``(B, P)``: row numbers in the pack; -1 where there is no partner."""
    labels: dict[str, Tensor]
    """See `LabelTable.take`; ``(B, P, ...)``, where there is no partner those of the clip itself."""


@dataclass
class Batch(_Tensors):
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
    partners: PartnerCrops | None = None
    """What is to be mixed into the clips, where that was asked for."""
    background: Tensor | None = None
    """int16 ``(B, S)``, where it was asked for: another sound for each clip; a short one is repeated."""

    def to(self, device: torch.device) -> "Batch":
        """Moves everything, samples as int16, and makes floats of them there."""

        def move(tensor: Tensor) -> Tensor:
            moved = tensor.to(device, non_blocking=True)
            return as_floats(moved) if moved.dtype == torch.int16 else moved

        return self.each(move)

    def pin_memory(self) -> "Batch":
        """Called by a loader whose batches cross to a GPU."""
        return self.each(Tensor.pin_memory)


def as_floats(samples: Tensor) -> Tensor:
    """Int16 of any shape to float32 in [-1, 1] on the same device."""
    floats = torch.empty(samples.shape, device=samples.device)
    # On a CPU a few crops at a time, so that the second pass over them finds them in the cache.
    at_once = max(1, samples.numel() if samples.device.type != "cpu" else CPU_SAMPLES_AT_ONCE)
    for part, of_int in zip(floats.view(-1).split(at_once), samples.view(-1).split(at_once), strict=True):
        part.copy_(of_int).mul_(1 / FULL_SCALE)  # a power of two: as exact as dividing
    return floats


class CropReader:
    """Reads crops of one length, with their labels."""

    def __init__(self, pack: Pack, num_samples: int, labels: LabelTable | None = None):
        self.pack, self.num_samples = pack, num_samples
        self.labels = labels or LabelTable(pack)

    def read(self, rows: np.ndarray, starts: np.ndarray, keys: np.ndarray) -> Batch:
        """Crops of the clips `rows` from the samples `starts`."""
        waveform = torch.empty(len(rows), self.num_samples, dtype=torch.int16)
        self.pack.read_crops(rows, starts, self.num_samples, waveform.numpy())
        sounding = self._sounding(rows, starts)
        return Batch(
            waveform,
            None if (sounding == self.num_samples).all() else torch.from_numpy(sounding),
            torch.from_numpy(keys),
            torch.from_numpy(rows),
            self.labels.take(rows),
        )

    def read_partners(self, rows: np.ndarray, drawn: Drawn) -> PartnerCrops:
        """Crops of the partners that were drawn for the clips `rows`."""
        waveform = torch.zeros(*drawn.rows.shape, self.num_samples, dtype=torch.int16)
        is_partner = drawn.rows >= 0  # (B, P)
        found = drawn.rows[is_partner]
        starts = crop_starts(drawn.start_keys[is_partner], self._room(found))
        crops = waveform.flatten(0, 1).numpy()
        self.pack.read_crops(found, starts, self.num_samples, [crops[place] for place in np.flatnonzero(is_partner)])
        num_samples = np.zeros(drawn.rows.shape, np.int64)
        num_samples[is_partner] = self._sounding(found, starts)
        labels = self.labels.take(np.where(is_partner, drawn.rows, rows[:, None]).ravel())
        return PartnerCrops(
            waveform,
            torch.from_numpy(num_samples),
            torch.from_numpy(drawn.keys),
            torch.from_numpy(drawn.rows),
            {name: label.unflatten(0, drawn.rows.shape) for name, label in labels.items()},
        )

    def read_repeated(self, rows: np.ndarray, start_keys: np.ndarray) -> Tensor:
        """Crops of some clips, int16 ``(B, S)``; one that is too short is repeated until the crop is full."""
        starts = crop_starts(start_keys, self._room(rows))
        waveform = torch.empty(len(rows), self.num_samples, dtype=torch.int16)
        self.pack.read_crops(rows, starts, self.num_samples, waveform.numpy())
        sounding = self._sounding(rows, starts)
        for place in np.flatnonzero(sounding < self.num_samples):
            crop = waveform.numpy()[place]
            crop[:] = np.resize(crop[: sounding[place]], self.num_samples)
        return waveform

    def starts(self, rows: np.ndarray, keys: np.ndarray) -> np.ndarray:
        """Where in its clip each crop begins, see `crop_starts`."""
        return crop_starts(keys, self._room(rows))

    def _room(self, rows: np.ndarray) -> np.ndarray:
        return self.pack.num_samples[rows] - self.num_samples

    def _sounding(self, rows: np.ndarray, starts: np.ndarray) -> np.ndarray:
        return np.clip(self.pack.num_samples[rows] - starts, 0, self.num_samples)


class TrainBatches(Dataset):
    """This process's micro-batches of a training run; item ``step * accumulation + micro`` is one of them.

    Args:
        rows: row numbers of the split, the positions that `order` permutes.
        num_samples: samples of a crop.
        streams: random streams a clip, the C of `Batch.keys`.
        mixing: how clips are mixed; their partners, of the same rows, are read with them. Apply it to the batch on its
            device.
        backgrounds: row numbers of what may be heard behind the clips, as `LabelTable.non_instruments` gives them; each
            clip gets one, unless there are none.
        views: crops of each clip, one behind the other, each with streams, partners and background of its own.
        labels: what is known of the clips; all that the pack says if left out.
    """

    def __init__(
        self,
        pack: Pack,
        rows: np.ndarray,
        order: GlobalOrder,
        share: Share,
        num_samples: int,
        streams: int = 1,
        mixing: Mixing | None = None,
        backgrounds: np.ndarray | None = None,
        views: int = 1,
        labels: LabelTable | None = None,
    ):
        self.reader = CropReader(pack, num_samples, labels)
        self.rows, self.order, self.share, self.streams, self.views = rows, order, share, streams, views
        is_mixed = mixing is not None and mixing.probability > 0
        self.partners = Partners(self.reader.labels, rows, mixing) if is_mixed else None
        self.backgrounds = backgrounds if backgrounds is not None and len(backgrounds) else None
        self.ahead: ReadAhead | None = None

    def __getitem__(self, item: int) -> Batch:
        step, micro = divmod(item, self.share.accumulation)
        if self.ahead is not None:
            self.ahead.reached(step)
        batch_of_all = np.repeat(self.order.batch(step), self.views)
        positions = self.share.of(batch_of_all, micro)
        # The second view of a clip, or its second time in a batch, is that of an epoch that no run reaches.
        epoch = self.order.epoch_of(step) + (self.share.of(_times_before(batch_of_all), micro) << 32)
        rows, seed = self.rows[positions], self.order.seed
        keys = keys_of(seed, epoch, rows, 1 + self.streams)
        batch = self.reader.read(rows, self.reader.starts(rows, keys[:, 0]), keys[:, 1:])
        if self.partners is not None:
            batch.partners = self.reader.read_partners(rows, self.partners.draw(seed, epoch, positions))
        if self.backgrounds is not None:
            drawn = draw_backgrounds(seed, epoch, rows, self.backgrounds)
            batch.background = self.reader.read_repeated(*drawn)
        return batch

    def loader(self, first_step: int, last_step: int, num_workers: int, pin_memory: bool = False) -> DataLoader:
        """Iterates over the micro-batches of steps ``first_step`` to ``last_step - 1``.

        With workers, batches are read ahead of the step in other processes; the batches are the same.
        """
        self.ahead = ReadAhead.of(self.reader.pack, self.rows, self.order, last_step)
        items = range(first_step * self.share.accumulation, last_step * self.share.accumulation)
        return WatchedLoader(
            self,
            sampler=items,
            batch_size=None,
            num_workers=num_workers,
            pin_memory=pin_memory,
            # It draws a seed that nothing here uses; from the global generator that would set a resumed run apart.
            generator=torch.Generator(),
            worker_init_fn=_outlive_signals,
        )


def _outlive_signals(worker: int) -> None:
    """Keeps a reader alive when its whole group of processes is told that time is up, as torchrun does.

    The run needs it until it has saved its state; when the run ends, so does the reader.
    """
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


def _times_before(values: np.ndarray) -> np.ndarray:
    """How often each value stands before its place, int64 ``(B,)``."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    is_first = np.concatenate([[True], ordered[1:] != ordered[:-1]])
    places = np.arange(len(values))
    before = np.empty(len(values), dtype=np.int64)
    before[order] = places - np.maximum.accumulate(np.where(is_first, places, 0))
    return before


def crop_starts(keys: np.ndarray, room: np.ndarray) -> np.ndarray:
    """First sample of each crop, int64 ``(B,)``: uniform over the places where a whole crop fits, else 0.

    Args:
        keys: int64 ``(B,)``.
        room: ``(B,)``, samples of the clip less those of the crop.
    """
    return (uniform_of(keys) * (np.maximum(room, 0) + 1)).astype(np.int64)


def heads_of_clips(
    pack: Pack, rows: np.ndarray, num_samples: int, batch_size: int, streams: int = 1
) -> Iterator[Batch]:
    """The beginning of each clip, in order, for evaluation; keys are those of seed 0, epoch 0."""
    reader = CropReader(pack, num_samples)
    for first in range(0, len(rows), batch_size):
        part = rows[first : first + batch_size]
        yield reader.read(part, np.zeros(len(part), dtype=np.int64), keys_of(0, 0, part, streams))

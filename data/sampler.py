"""The order of the data, which is a function of (seed, epoch), and the share of it that each process takes.

Nothing here has a state: a global batch is computed from its step, so a resume needs the step alone, and any number
of processes, workers or micro-batches sees the same global batches.

Shapes: B rows of a batch, N clips.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from data.errors import DataError


@dataclass(frozen=True, eq=False)
class Windows:
    """A shuffle that goes through a pack a few blocks at a time, so that a cache of those and the next is enough.

    Every epoch the blocks are dealt out anew into windows of `at_once`, and the clips of a window are permuted: clips
    that lie side by side in the pack meet in a batch more often than others.
    """

    block: np.ndarray
    """int ``(N,)``: the block of each position in the split, see `data.blocks`."""
    at_once: int
    """Blocks of a window."""


def shuffled(positions: np.ndarray, generator: np.random.Generator, windows: Windows | None = None) -> np.ndarray:
    """Positions in a split in a random order: any, or one that goes window by window."""
    order = generator.permutation(positions)
    if windows is None:
        return order
    block = windows.block[order]
    found = np.flatnonzero(np.bincount(block))
    window = np.zeros(found[-1] + 1, np.int64)
    window[found] = generator.permutation(len(found)) // windows.at_once
    return order[np.argsort(window[block], kind="stable")]


@dataclass(frozen=True)
class GlobalOrder:
    """Which clips each global batch holds.

    Every epoch is a new permutation; what is left of it after the last whole batch is dropped.
    """

    num_clips: int
    batch_size: int
    """Clips of a global batch: per device x processes x accumulation."""
    seed: int
    windows: Windows | None = None
    """Where not all clips are shuffled at once."""

    def __post_init__(self):
        if not 0 < self.batch_size <= self.num_clips:
            raise DataError(
                f"a batch of {self.batch_size} clips was asked for and the split holds {self.num_clips}; "
                "choose a smaller --batch_size or more clips"
            )

    @property
    def steps_per_epoch(self) -> int:
        """Whole global batches in an epoch."""
        return self.num_clips // self.batch_size

    def epoch_of(self, step: int) -> int:
        """The epoch that a step, counted from 0 over the whole run, belongs to."""
        return step // self.steps_per_epoch

    def batch(self, step: int) -> np.ndarray:
        """Positions in the split, int64 ``(batch_size,)``, of the clips of a step."""
        first = step % self.steps_per_epoch * self.batch_size
        order = _permutation(self.num_clips, self.seed, self.epoch_of(step), self.windows)
        return order[first : first + self.batch_size]


@lru_cache(maxsize=2)
def _permutation(num_clips: int, seed: int, epoch: int, windows: Windows | None) -> np.ndarray:
    order = shuffled(np.arange(num_clips), np.random.Generator(np.random.PCG64([seed, epoch])), windows)
    order.setflags(write=False)  # it is shared by all who ask for it
    return order


@dataclass(frozen=True)
class Share:
    """One process's part of every global batch, cut into micro-batches."""

    process: int
    num_processes: int
    accumulation: int = 1
    """Micro-batches that make one step."""

    def per_device(self, batch_size: int) -> int:
        """Clips of one micro-batch on one process.

        Raises:
            DataError: the global batch cannot be shared out evenly.
        """
        parts = self.num_processes * self.accumulation
        if batch_size % parts:
            raise DataError(
                f"--batch_size {batch_size} cannot be shared out over {self.num_processes} processes x "
                f"{self.accumulation} micro-batches; choose a multiple of {parts}"
            )
        return batch_size // parts

    def of(self, batch: np.ndarray, micro: int) -> np.ndarray:
        """This process's part of micro-batch number `micro` of a global batch."""
        size = self.per_device(len(batch))
        first = (micro * self.num_processes + self.process) * size
        return batch[first : first + size]


def keys_of(seed: int, epoch: int | np.ndarray, rows: np.ndarray, streams: int) -> np.ndarray:
    """Random keys of clips: what happens to a clip is a function of (seed, epoch, clip, stream) alone.

    Each stream's key is a SplitMix64 output (Steele, Lea and Flood 2014, figure 16) of what came before it.

    Args:
        epoch: of all clips, or of each, int64 ``(B,)``.
        rows: int64 ``(B,)``, row numbers in the pack.
        streams: how many independent keys a clip gets.

    Returns:
        int64 ``(B, streams)``.
    """
    key = _mixed(_mixed(np.array([seed], dtype=np.uint64)) + np.asarray(epoch, dtype=np.uint64))
    clip = _mixed(key + rows.astype(np.uint64))[:, None]
    return _mixed(clip + np.arange(streams, dtype=np.uint64)).view(np.int64)


def uniform_of(keys: np.ndarray) -> np.ndarray:
    """Float64 in [0, 1), the upper 53 bits of each int64 key."""
    return (keys.view(np.uint64) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mixed(value: np.ndarray) -> np.ndarray:
    """SplitMix64's step and output; products and sums of uint64 arrays wrap."""
    value = value + np.uint64(0x9E3779B97F4A7C15)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))

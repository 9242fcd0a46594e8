"""Blocks of a pack: runs of clips in a shard, of some 64 MiB, that are fetched and shuffled at a time.

A pack has at most a few hundred shards, however large it is; what a cache holds should not grow with it.

Shapes: N clips of the pack, K blocks.
"""

from dataclasses import dataclass

import numpy as np

BLOCK_BYTES = 64 << 20
"""Of a block, up to the length of a clip; it decides the order of `data.sampler.Windows`, so it stays as it is."""


@dataclass(frozen=True, eq=False)
class Blocks:
    """Which clips each block holds and where it lies; the samples of a clip are never in two."""

    of_clip: np.ndarray
    """int32 ``(N,)``: each clip's block."""
    shard: np.ndarray
    """int32 ``(K,)``"""
    start: np.ndarray
    """int64 ``(K,)``: its first sample in the shard."""
    stop: np.ndarray
    """int64 ``(K,)``: the sample behind its last."""

    @classmethod
    def of(cls, shard: np.ndarray, offset: np.ndarray, num_samples: np.ndarray, num_bytes: int) -> "Blocks":
        """Cuts the shards into blocks: a clip belongs to the one that it begins in.

        Args:
            shard, offset, num_samples: ``(N,)``, as in the manifest.
            num_bytes: of a block.
        """
        nth = offset // (num_bytes // 2)
        per_shard = int(nth.max()) + 1
        _, first, of_clip = np.unique(shard * np.int64(per_shard) + nth, return_index=True, return_inverse=True)
        start, stop = np.full(len(first), np.iinfo(np.int64).max), np.zeros(len(first), np.int64)
        np.minimum.at(start, of_clip, offset)
        np.maximum.at(stop, of_clip, offset + num_samples)
        return cls(of_clip.astype(np.int32), shard[first], start, stop)

    def __len__(self) -> int:
        return len(self.shard)

    @property
    def num_bytes(self) -> np.ndarray:
        """int64 ``(K,)``"""
        return 2 * (self.stop - self.start)

    def rows(self, block: int) -> np.ndarray:
        """int64 row numbers of the clips of a block."""
        return np.flatnonzero(self.of_clip == block)

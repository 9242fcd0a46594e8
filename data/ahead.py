"""Fetches what the next steps read, in the background, so that training does not wait for an object store."""

import os
import threading
import weakref

import numpy as np

from data.balanced import BalancedOrder
from data.errors import DataError
from data.pack import Pack
from data.remote import RemotePack
from data.sampler import GlobalOrder, Windows
from data.weighted import WeightedOrder

Order = GlobalOrder | WeightedOrder | BalancedOrder
_PAUSE = 0.2
"""Seconds until a block that another process is fetching is looked for again."""


def windows_of(pack: Pack, rows: np.ndarray, shuffle_blocks: int | None) -> Windows | None:
    """The windows that ``--shuffle_blocks`` asks for, of the clips `rows`.

    Raises:
        DataError: the cache cannot hold two windows, the one that is read and the next.
    """
    if shuffle_blocks is None:
        return None
    if isinstance(pack, RemotePack) and not pack.fits:
        largest = int(np.sort(pack.blocks.num_bytes)[-2 * shuffle_blocks :].sum())
        if largest > pack.cache.max_bytes:
            raise DataError(
                f"--shuffle_blocks {shuffle_blocks} should leave room for two windows, {largest / 2**30:.3g} GiB, and "
                f"--cache_gib {pack.cache.max_bytes / 2**30:.3g} does not; shuffle fewer, or give a larger cache"
            )
    return Windows(pack.blocks.of_clip[rows], shuffle_blocks)


class ReadAhead:
    """Keeps the blocks that come next in the cache of a `RemotePack`.

    Any process of a machine may have one: what one fetches the others find. It fetches what follows the step that was
    reached last, as far as the cache goes. Where it fails it is silent: whoever needs the block says why.

    Args:
        rows: row numbers of the split, which `order` gives positions in.
        last_step: the step behind the last one.
    """

    def __init__(self, pack: RemotePack, rows: np.ndarray, order: Order, last_step: int):
        self.pack, self.rows, self.order, self.last_step = pack, rows, order, last_step
        self._process: int | None = None

    def __reduce__(self):
        return ReadAhead, (self.pack, self.rows, self.order, self.last_step)  # threads stay where they are

    @classmethod
    def of(cls, pack: Pack, rows: np.ndarray, order: Order, last_step: int) -> "ReadAhead | None":
        """None where there is nothing to fetch, or where the order leaps about in more than the cache holds."""
        if not isinstance(pack, RemotePack):
            return None
        is_windowed = getattr(order, "windows", None) is not None
        return cls(pack, rows, order, last_step) if pack.fits or is_windowed else None

    def reached(self, step: int) -> None:
        """To be called with every step that is read; begins to fetch at the first, in this process."""
        if self._process != os.getpid():  # also in a child of a process that was reading
            self._process = os.getpid()
            self._step = self._walked = step
            self._needed: dict[int, int] = {}  # blocks and the last step that is known to read them
            if self.pack.fits:
                blocks = np.unique(self.pack.blocks.of_clip[self.rows]).tolist()
                self._needed, self._walked = dict.fromkeys(blocks, self.last_step), self.last_step
            self._failed: set[int] = set()
            self._wake = threading.Event()
            self._look_ahead()
            threading.Thread(target=_fetch, args=(weakref.ref(self), self._wake), daemon=True).start()
        self._step = step
        self._wake.set()

    def _look_ahead(self) -> None:
        """Finds which blocks the next steps read, and has them stay in the cache."""
        step = self._step
        self._needed = {block: last for block, last in self._needed.items() if last >= step}
        self._walked = max(self._walked, step)
        of_clip, num_bytes = self.pack.blocks.of_clip, self.pack.blocks.num_bytes
        room = self.pack.cache.max_bytes - int(num_bytes[list(self._needed)].sum())
        while self._walked < self.last_step:
            blocks = np.unique(of_clip[self.rows[self.order.batch(self._walked)]]).tolist()
            room -= int(num_bytes[[block for block in blocks if block not in self._needed]].sum())
            if room < 0:
                break
            self._needed |= dict.fromkeys(blocks, self._walked)
            self._walked += 1
        self.pack.plan(self._needed)

    def _advance(self) -> float | None:
        """Fetches the next block; returns how long to wait for the next step, None when there is nothing left to do."""
        self._look_ahead()
        missing = [block for block in self._needed if block not in self._failed and not self.pack.is_cached(block)]
        for block in missing:
            try:
                if self.pack.fetch(block, waits=False) is not None:
                    return 0.0
            except DataError:
                self._failed.add(block)
        if missing:
            return _PAUSE
        return None if self._walked >= self.last_step else 60.0


def _fetch(owner: "weakref.ref[ReadAhead]", wake: threading.Event) -> None:
    """Runs until all is there, or nobody reads any more."""
    while True:
        wake.clear()
        ahead = owner()
        pause = None if ahead is None else ahead._advance()
        del ahead
        if pause is None:
            return
        if pause:
            wake.wait(pause)

"""Processes that read ahead, and what becomes of a run when one of them fails: one sentence, as if it read alone."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from torch.utils.data import DataLoader, Dataset

from data.errors import DataError


class WatchedLoader(DataLoader):
    """A loader whose iteration ends with a `DataError` when a worker dies, or finds something wrong with the data.

    The former is raised wherever the run is just then, for it is told of by a signal.

    Args:
        dataset, num_workers, options: as for a `DataLoader`.
    """

    def __init__(self, dataset: Dataset, num_workers: int = 0, **options: Any):
        super().__init__(_Reporting(dataset) if num_workers else dataset, num_workers=num_workers, **options)

    def __iter__(self) -> Iterator[Any]:
        items = super().__iter__()
        return _watched(items) if self.num_workers else items


class _Reporting(Dataset):
    """A dataset for workers, in which an error is an item: raised, it would arrive as a traceback in words."""

    def __init__(self, dataset: Dataset):
        self._dataset = dataset

    def __getitem__(self, item: int) -> Any:
        try:
            return self._dataset[item]
        except DataError as error:
            return error


def _watched(items: Iterator[Any]) -> Iterator[Any]:
    heard = signal.getsignal(signal.SIGCHLD)  # the loader's own handler, now that it has workers

    def hear(number: int, frame: FrameType | None) -> None:
        with _one_sentence():
            heard(number, frame)

    signal.signal(signal.SIGCHLD, hear)
    try:
        while True:
            with _one_sentence():
                item = next(items, None)
            if item is None:
                return
            if isinstance(item, DataError):
                raise item
            yield item
    finally:
        signal.signal(signal.SIGCHLD, heard)
        # Ends the workers while that is possible: an error that is kept keeps this frame, and at the end of the process
        # nobody tells workers that outlive signals to go.
        del items


@contextmanager
def _one_sentence() -> Iterator[None]:
    """Says in our words that a worker died."""
    try:
        yield
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker"):
            raise
        raise DataError(
            "a process that reads ahead died, killed from outside or for want of memory; go on with --resume, with "
            "fewer --num_workers if it repeats"
        ) from error

"""A worker that fails ends the iteration with one sentence."""

import os
import signal

import pytest
from torch.utils.data import Dataset

from data.errors import DataError
from data.workers import WatchedLoader


class Failing(Dataset):
    """Numbers, of which the fourth fails in its own way."""

    def __init__(self, fails):
        self.fails = fails

    def __getitem__(self, item: int) -> int:
        if item == 3:
            self.fails()
        return item


def refuse():
    raise DataError("a pack was expected, none found; make one")


def items_of(fails) -> WatchedLoader:
    return WatchedLoader(Failing(fails), sampler=range(6), batch_size=None, num_workers=1)


def test_all_is_well():
    assert list(items_of(lambda: None)) == list(range(6))


def test_what_is_wrong_with_the_data_is_the_sentence_that_a_worker_found():
    found = iter(items_of(refuse))
    assert [next(found) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(DataError) as raised:
        next(found)
    assert str(raised.value) == "a pack was expected, none found; make one"


def test_a_worker_that_is_killed_is_a_sentence():
    with pytest.raises(DataError, match="a process that reads ahead died"):
        list(items_of(lambda: os.kill(os.getpid(), signal.SIGKILL)))
    with pytest.raises(KeyError):  # an error that is none of the data's stays what it is
        list(items_of(lambda: {}["missing"]))

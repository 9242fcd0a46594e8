"""The order of the data: permutations, shares of processes, keys of clips."""

import numpy as np
import pytest

from data.errors import DataError
from data.sampler import GlobalOrder, Share, Windows, keys_of

ALL_BITS = 2**64 - 1


def mixed(value: int) -> int:
    """SplitMix64's step and output (Steele, Lea and Flood 2014, figure 16) in integers of any size."""
    value = (value + 0x9E3779B97F4A7C15) & ALL_BITS
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & ALL_BITS
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & ALL_BITS
    return value ^ (value >> 31)


def epoch_of_clips(order: GlobalOrder, epoch: int) -> list[int]:
    first = epoch * order.steps_per_epoch
    return [int(clip) for step in range(first, first + order.steps_per_epoch) for clip in order.batch(step)]


def test_an_epoch_holds_every_clip_once():
    order = GlobalOrder(num_clips=40, batch_size=8, seed=3)
    assert order.steps_per_epoch == 5
    for epoch in range(3):
        assert sorted(epoch_of_clips(order, epoch)) == list(range(40))


def test_what_is_left_after_the_last_whole_batch_is_dropped():
    order = GlobalOrder(num_clips=43, batch_size=8, seed=3)
    clips = epoch_of_clips(order, 0)
    assert len(clips) == len(set(clips)) == 40
    assert [order.epoch_of(step) for step in (0, 4, 5, 9, 10)] == [0, 0, 1, 1, 2]
    left_out = [set(range(43)) - set(epoch_of_clips(order, epoch)) for epoch in range(8)]
    assert any(clips != left_out[0] for clips in left_out)  # not the same clips for ever


def test_epochs_and_seeds_differ_and_repeat():
    epochs = {
        (seed, epoch): tuple(epoch_of_clips(GlobalOrder(40, 8, seed), epoch)) for seed in (0, 1) for epoch in (0, 1)
    }
    assert len(set(epochs.values())) == 4
    for (seed, epoch), clips in epochs.items():
        assert tuple(epoch_of_clips(GlobalOrder(40, 8, seed), epoch)) == clips
    assert epochs[0, 0] != tuple(range(40))


def test_a_batch_does_not_depend_on_what_was_asked_before():
    order = GlobalOrder(num_clips=40, batch_size=8, seed=3)
    in_order = [order.batch(step) for step in range(17)]
    for step in (16, 2, 11, 0):
        assert np.array_equal(GlobalOrder(40, 8, 3).batch(step), in_order[step])


def test_a_batch_cannot_be_spoilt_by_its_reader():
    order = GlobalOrder(num_clips=40, batch_size=8, seed=3)
    with pytest.raises(ValueError, match="read-only"):
        order.batch(0)[:] = -1


@pytest.mark.parametrize("num_processes", [1, 2, 4])
@pytest.mark.parametrize("accumulation", [1, 2])
def test_shares_put_together_are_the_global_batch(num_processes, accumulation):
    batch = GlobalOrder(num_clips=100, batch_size=16, seed=0).batch(2)
    parts = []
    for micro in range(accumulation):
        for process in range(num_processes):
            share = Share(process, num_processes, accumulation)
            assert share.per_device(16) == 16 // num_processes // accumulation
            parts.append(share.of(batch, micro))
            assert len(parts[-1]) == share.per_device(16)
    assert np.array_equal(np.concatenate(parts), batch)


def test_keys_are_splitmix64():
    rows = np.array([0, 1, 5, 2**40], dtype=np.int64)
    found = keys_of(seed=7, epoch=3, rows=rows, streams=3)
    assert found.dtype == np.int64
    for row, keys in zip(rows.tolist(), found.view(np.uint64).tolist(), strict=True):
        clip = mixed((mixed((mixed(7) + 3) & ALL_BITS) + row) & ALL_BITS)
        assert keys == [mixed((clip + stream) & ALL_BITS) for stream in range(3)]


def test_keys_belong_to_seed_epoch_and_clip():
    rows = np.arange(1000)
    keys = [keys_of(seed, epoch, rows, 2) for seed in (0, 1) for epoch in (0, 1)]
    assert len(np.unique(np.concatenate(keys))) == 4 * 1000 * 2
    shuffled = np.random.default_rng(0).permutation(1000)
    assert np.array_equal(keys_of(0, 0, rows[shuffled], 2), keys[0][shuffled])
    assert np.array_equal(keys_of(0, 0, rows, 5)[:, :2], keys[0])  # more streams leave the first ones alone
    bits = np.unpackbits(keys[0].view(np.uint8)).mean()
    assert abs(bits - 0.5) < 5 * 0.5 / (64 * 2000) ** 0.5


@pytest.mark.parametrize(("num_clips", "batch_size"), [(10, 11), (0, 1), (10, 0)])
def test_a_batch_that_the_split_cannot_fill_is_named(num_clips, batch_size):
    with pytest.raises(DataError, match=rf"batch of {batch_size} clips .* holds {num_clips}; .*--batch_size"):
        GlobalOrder(num_clips, batch_size, seed=0)


def test_a_batch_that_cannot_be_shared_out_is_named():
    with pytest.raises(DataError, match=r"--batch_size 10 .* 2 processes x 2 micro-batches; choose a multiple of 4"):
        Share(0, 2, 2).per_device(10)


def windowed(at_once: int, seed: int = 3) -> tuple[GlobalOrder, np.ndarray]:
    """An order of 100 clips in blocks of 10, whose clips do not lie side by side."""
    block = np.random.default_rng(0).permutation(np.repeat(np.arange(10), 10))
    return GlobalOrder(100, 20, seed, Windows(block, at_once)), block


@pytest.mark.parametrize("at_once", [1, 2, 4, 10, 99])
def test_windows_hold_every_clip_once_and_few_blocks_at_a_time(at_once):
    order, block = windowed(at_once)
    for epoch in range(2):
        clips = np.array(epoch_of_clips(order, epoch))
        assert sorted(clips) == list(range(100))
        for first in range(0, 100, 10 * at_once):
            assert len(set(block[clips[first : first + 10 * at_once]])) == min(at_once, 10 - first // 10)


def test_windows_are_dealt_out_anew_and_permuted():
    order, block = windowed(2)
    clips = [np.array(epoch_of_clips(order, epoch)) for epoch in range(8)]
    assert len({frozenset(block[one[:20]]) for one in clips}) > 4
    firsts = {tuple(block[one[:20]]) for one in clips}
    assert all(len(set(np.flatnonzero(np.diff(np.array(one))))) > 5 for one in firsts)  # blocks alternate
    assert np.array_equal(windowed(2)[0].batch(7), order.batch(7))
    assert not np.array_equal(windowed(2, seed=4)[0].batch(7), order.batch(7))


def test_a_window_of_everything_is_as_random_as_no_window():
    counts = np.zeros(100)
    order, _ = windowed(10)
    for epoch in range(400):
        counts[order.batch(5 * epoch)] += 1
    assert abs(counts - 80).max() < 5 * np.sqrt(80 * 0.8)

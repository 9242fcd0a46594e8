"""Whole clips as windows: all of a clip is covered, in the order of clips, whatever the batches are."""

import numpy as np
import pytest
import torch

from data.windows import window_starts, windows_of


def test_windows_cover_a_clip_evenly():
    assert window_starts(100, 100).tolist() == [0]
    assert window_starts(30, 100).tolist() == [0]
    assert window_starts(250, 100).tolist() == [0, 75, 150]


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_windows_are_those_of_their_clips(toy_pack, batch_size):
    rows, size = np.array([49, 0, 49]), 6400  # of 15,840 and 8,000 samples
    batches = list(windows_of(toy_pack, rows, size, batch_size))
    assert {len(batch.clip) for batch in batches[:-1]} <= {batch_size}
    assert torch.cat([batch.clip for batch in batches]).tolist() == [0, 0, 0, 1, 1, 2, 2, 2]
    assert torch.cat([batch.number for batch in batches]).tolist() == [0, 1, 2, 0, 1, 0, 1, 2]
    waveform = torch.cat([batch.waveform for batch in batches]).numpy()
    for place, (row, start) in enumerate([(49, 0), (49, 4720), (49, 9440), (0, 0), (0, 1600)]):
        np.testing.assert_array_equal(waveform[place], toy_pack.samples(row)[start : start + size])
    assert all(batch.num_samples is None for batch in batches)


def test_a_short_clip_is_one_window_with_zeros_behind_it(toy_pack):
    (batch,) = windows_of(toy_pack, np.array([0, 49]), 10_000, 8)
    assert batch.num_samples.tolist() == [8000, 10_000, 10_000]
    assert not batch.waveform[0, 8000:].any()
    moved = batch.to(torch.device("cpu"))
    assert moved.waveform.dtype == torch.float32
    np.testing.assert_array_equal(moved.waveform.numpy() * 32_768, batch.waveform.numpy())


def test_who_stops_early_waits_for_nothing(toy_pack):
    windows = windows_of(toy_pack, np.arange(120), 6400, 2)
    next(windows)
    windows.close()

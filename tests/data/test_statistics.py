"""The log-mel of the statistics is AST's."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torchaudio.compliance import kaldi

from data import statistics


def reference(waveform: np.ndarray) -> np.ndarray:
    """As transformers' ASTFeatureExtractor calls it."""
    return kaldi.fbank(
        torch.from_numpy(waveform)[None], sample_frequency=16_000, window_type="hanning", num_mel_bins=128
    ).numpy()


@pytest.mark.parametrize("length", [400, 559, 560, 16_000, 31_999])
def test_noise_equals_torchaudio(length):
    waveform = (0.1 * np.random.default_rng(length).standard_normal(length)).astype(np.float32)
    waveform[length // 3 : length // 2] = 0  # silence, on the floor of the logarithm
    ours, theirs = statistics.log_mel(waveform), reference(waveform)
    assert ours.shape == theirs.shape
    assert ours.dtype == np.float32
    # float32 in another order of sums: largest where a bin is nearly empty.
    np.testing.assert_allclose(ours, theirs, atol=5e-3)
    assert np.abs(ours - theirs).mean() < 1e-4


def test_sums_give_the_mean_and_deviation_of_all_values():
    rng = np.random.default_rng(0)
    clips = [(rng.standard_normal(16_000) * 3000).astype(np.int16) for _ in range(7)]
    mels = [reference(clip.astype(np.float32) / 32768)[:: statistics.STRIDE] for clip in clips]
    values = np.concatenate(mels).astype(np.float64)
    sums = [statistics.log_mel_sums(clip, 0.0) for clip in clips]
    mean, std = statistics.mean_and_std(sums)
    assert mean == pytest.approx(values.mean(), abs=1e-4)
    assert std == pytest.approx(values.std(), abs=1e-4)
    assert statistics.mean_and_std(sums[::-1]) == (mean, std)


def test_the_excerpt_lies_where_it_is_asked_for():
    samples = np.zeros(64_000, np.int16)
    samples[32_000:] = np.random.default_rng(0).integers(-9999, 9999, 32_000)
    silence = statistics.log_mel_sums(samples, 0.0)
    sound = statistics.log_mel_sums(samples, 1.0)
    assert silence[0] / silence[2] == pytest.approx(np.log(statistics.EPSILON))
    assert sound[0] / sound[2] > silence[0] / silence[2] + 5
    assert silence[2] == sound[2] == 13 * 128


def test_clips_shorter_than_a_frame_and_nothing_at_all():
    assert statistics.log_mel_sums(np.ones(399, np.int16), 0.5) == (0.0, 0.0, 0)
    assert statistics.mean_and_std([(0.0, 0.0, 0)]) == (None, None)


def test_the_sample_is_of_limited_size_and_independent_of_order():
    ids = [f"clip/{number}" for number in range(3000)]
    chosen = statistics.excerpts(ids, 3, 512)
    assert len(chosen) == 512
    assert statistics.excerpts(reversed(ids), 3, 512) == chosen
    assert statistics.excerpts(ids, 4, 512) != chosen
    places = np.array(list(chosen.values()))
    assert 0 <= places.min() < 0.01
    assert 0.99 < places.max() < 1
    part = [id_ for id_ in chosen if int(id_[5:]) % 3]
    assert list(statistics.excerpts(part[::-1], 3, 100)) == part[:100]


@pytest.mark.parametrize(
    ("splits", "train_share", "number"),
    [
        (["train"], 0.1, 640),
        (["test"], 1.0, 0),
        ([None], 0.8, 800),
        ([None, "train"], 0.8, 800),
        ([None, "train", "test"], 0.5, 1280),
        ([None], 0.0, 3000),  # up to twenty times as many, here all there are
    ],
)
def test_enough_clips_are_measured_of_those_that_may_train(make_clips, splits, train_share, number):
    clips = [replace(clip, split=splits[place % len(splits)]) for place, clip in enumerate(make_clips(3000))]
    chosen = statistics.candidates(clips, 0, train_share)
    assert len(chosen) == number
    assert all(clip.split != "test" for clip in clips if clip.id in chosen)

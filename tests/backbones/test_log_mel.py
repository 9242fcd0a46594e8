"""Our log-mel is Kaldi's, and normalised it is AST's."""

import numpy as np
import pytest
import torch
from torchaudio.compliance import kaldi
from transformers import ASTFeatureExtractor

from backbones.log_mel import (
    HOP,
    LOW_HZ,
    PREEMPHASIS,
    RATE,
    WINDOW,
    LogMel,
    compare_statistics,
    frames_of,
    samples_of,
)

# In log units, against float64. The logarithm magnifies rounding where a band is nearly empty.
MAX_ERROR, MEAN_ERROR = 5e-3, 1e-5
MEAN, STD = -4.27, 4.57
LENGTHS = (WINDOW, WINDOW + 1, 2 * RATE, 4 * RATE, round(10.24 * RATE))
SOUNDS = ("noise", "note", "silence", "constant", "click")
EMPTY_BANDS = ("sine", "full_scale")  # most bands hold nothing but the rounding of the Fourier transform


def sound(kind: str, num_samples: int) -> torch.Tensor:
    """``(S,)`` float32, as it comes out of 16-bit samples."""
    time = torch.arange(num_samples, dtype=torch.float64) / RATE
    generator = torch.Generator().manual_seed(num_samples)
    values = {
        "sine": 0.5 * torch.sin(2 * np.pi * 440 * time),
        "note": sum(torch.sin(2 * np.pi * 220 * k * time) / k for k in range(1, 20)) * 0.3 * torch.exp(-3 * time),
        "noise": 0.1 * torch.randn(num_samples, generator=generator, dtype=torch.float64),
        "silence": torch.zeros(num_samples),
        "constant": torch.full((num_samples,), 0.25),
        "click": (torch.arange(num_samples) == num_samples // 3).double(),
        "full_scale": torch.sin(2 * np.pi * 3000 * time).sign() * 32_767 / 32_768,
    }[kind]
    return (values * 32_768).round().clamp(-32_768, 32_767).float() / 32_768


def kaldis(waveform: torch.Tensor, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """``(B, S)`` to ``(B, T, F)`` by the reference implementation, with the settings of `ASTFeatureExtractor`."""
    return torch.stack([kaldis_of_one(row.to(dtype)) for row in waveform])


def kaldis_of_one(waveform: torch.Tensor) -> torch.Tensor:
    return kaldi.fbank(
        waveform[None],
        sample_frequency=RATE,
        window_type="hanning",
        num_mel_bins=128,
        low_freq=LOW_HZ,
        preemphasis_coefficient=PREEMPHASIS,
    )


@pytest.fixture(scope="module")
def front_end() -> LogMel:
    return LogMel(MEAN, STD)


@pytest.mark.parametrize("num_samples", LENGTHS)
def test_equals_kaldi_in_float64(front_end, num_samples):
    kinds = SOUNDS if num_samples < 4 * RATE else ("noise", "note")  # Kaldi in float64 takes its time
    waveform = torch.stack([sound(kind, num_samples) for kind in kinds])
    found = front_end.raw(waveform)
    error = (found - kaldis(waveform)).abs()
    assert found.dtype == torch.float32
    assert error.max() <= MAX_ERROR
    assert error.mean() <= MEAN_ERROR


@pytest.mark.parametrize("kind", EMPTY_BANDS)
def test_is_as_exact_as_kaldi_where_bands_are_empty(front_end, kind):
    waveform = sound(kind, 2 * RATE)[None]
    expected = kaldis(waveform)
    ours, theirs = (front_end.raw(waveform) - expected).abs(), (kaldis(waveform, torch.float32) - expected).abs()
    assert ours.max() <= 1.1 * theirs.max()
    assert ours.mean() <= 1.1 * theirs.mean()


def test_silence_is_kaldis_floor(front_end):
    floor = torch.tensor(torch.finfo(torch.float32).eps).log()
    for kind in ("silence", "constant"):  # without its mean a constant frame is silent
        assert torch.equal(front_end.raw(sound(kind, 4000)[None]), floor.expand(1, frames_of(4000), 128))


@pytest.mark.parametrize("seconds", [1.0, 4.0, 10.24])
def test_normalised_equals_asts_feature_extractor_with_its_padding(front_end, seconds):
    num_frames = frames_of(round(10.24 * RATE))
    extractor = ASTFeatureExtractor(max_length=num_frames, mean=MEAN, std=STD)
    num_samples = round(seconds * RATE)
    waveform = torch.stack([sound(kind, num_samples) for kind in ("note", "noise")])
    expected = extractor(list(waveform.numpy()), sampling_rate=RATE, return_tensors="pt").input_values
    padded = torch.nn.functional.pad(waveform, (0, samples_of(num_frames) - num_samples))
    found, counted = front_end(padded, torch.tensor([num_samples] * 2))
    assert found.shape == expected.shape
    assert counted.tolist() == [frames_of(num_samples)] * 2
    error = (found - expected).abs() * 2 * STD  # in log units again; two float32 filter banks may err both ways
    assert error.max() <= 2 * MAX_ERROR
    assert error.mean() <= 2 * MEAN_ERROR
    is_padding = torch.arange(num_frames) >= counted[0]
    assert torch.equal(found[:, is_padding], expected[:, is_padding])


def test_a_clip_is_the_same_alone_and_in_a_batch(front_end):
    for num_samples in (WINDOW, 5000, 2 * RATE, 6 * RATE):  # below and above what goes through the cache at once
        waveform = torch.stack([sound(kind, num_samples) for kind in SOUNDS])
        alone = torch.cat([front_end.raw(row[None]) for row in waveform])
        # MKL chooses its kernels by the number of rows, so the last bits of a sum may differ.
        torch.testing.assert_close(front_end.raw(waveform), alone, atol=2e-3, rtol=0)
        assert (front_end.raw(waveform) - alone).abs().mean() <= MEAN_ERROR


def test_sound_behind_the_end_of_a_clip_does_not_matter(front_end):
    waveform = torch.stack([sound("noise", RATE), sound("noise", RATE)])
    waveform[1, 9000:] = 0
    found, counted = front_end(waveform, torch.tensor([9000, 9000]))
    assert torch.equal(found[0], found[1])
    assert counted.tolist() == [frames_of(9000)] * 2
    padding = found[:, counted[0] :]
    assert torch.equal(padding, ((torch.zeros(1) - MEAN) / (2 * STD)).expand_as(padding))


@pytest.mark.parametrize("num_samples", [0, 1, 399, 400, 401, 559, 560, 561, 16_000, 163_840])
def test_frame_counts(num_samples):
    expected = 0
    while expected * HOP + WINDOW <= num_samples:  # Kaldi's snip_edges: whole frames only
        expected += 1
    assert frames_of(num_samples) == expected
    assert frames_of(torch.tensor([num_samples])).tolist() == [expected]
    if expected:
        assert samples_of(expected) <= num_samples < samples_of(expected + 1)


def test_autocast_does_not_touch_it(front_end):
    waveform = sound("noise", RATE)[None]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside, _ = front_end(waveform)
    outside, _ = front_end(waveform)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, outside)


def test_input_is_left_alone_and_no_gradient_is_kept(front_end):
    waveform = sound("noise", RATE)[None].requires_grad_()
    before = waveform.detach().clone()
    found, _ = front_end(waveform)
    assert not found.requires_grad
    assert torch.equal(waveform.detach(), before)


def test_strided_input_and_other_numbers_of_mel_bins():
    waveform = sound("noise", 4 * RATE)
    strided = waveform.view(-1, 2)[:, 0][None]
    for mel_bins in (64, 80, 128):
        front_end = LogMel(MEAN, STD, mel_bins)
        assert front_end.raw(strided).shape == (1, frames_of(2 * RATE), mel_bins)
        assert torch.equal(front_end.raw(strided), front_end.raw(strided.contiguous()))


def test_saves_no_tensor_of_its_own(front_end):
    assert not front_end.state_dict()


def test_too_short_a_clip_and_a_bad_deviation_are_named(front_end):
    with pytest.raises(ValueError, match="at least 400 samples, not 399"):
        front_end(torch.zeros(1, 399))
    for std in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="must be positive"):
            LogMel(0.0, std)


def test_statistics_are_compared_in_words():
    assert compare_statistics((-5.0, 4.0), (-6.9, 5.9)) is None
    said = compare_statistics((-5.0, 4.0), (-7.1, 4.0))
    assert "mean -5.00 and standard deviation 4.00, these clips have -7.10 and 4.00" in said
    assert compare_statistics((-5.0, 4.0), (-5.0, 2.6)) is not None
    assert compare_statistics((-5.0, 4.0), (-5.0, 6.1)) is not None

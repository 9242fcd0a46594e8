"""What a clip becomes in a pack, and what is said of one that cannot be used."""

import numpy as np
import pytest
import soxr

from data.decode import AudioFile
from data.errors import DataError
from data.pcm import to_pcm
from data.reader import Reader


def pcm_of(path, min_seconds=0.25, **excerpt):
    return to_pcm(AudioFile.of(path, **excerpt), min_seconds)


def test_16_bit_mono_at_16_khz_comes_through_bit_for_bit(write_wav):
    samples = np.random.default_rng(0).integers(-32768, 32768, 16_000).astype(np.int16)
    samples[:2] = -32768, 32767
    pcm = pcm_of(write_wav("a.wav", samples, subtype="PCM_16"))
    np.testing.assert_array_equal(pcm.samples, samples)
    assert (pcm.gain_db, pcm.source_rate) == (0.0, 16_000)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
def test_every_sample_format_is_converted(write_wav, make_tone, subtype):
    expected = make_tone(1, 440)
    pcm = pcm_of(write_wav("a.wav", expected, subtype=subtype))
    np.testing.assert_allclose(pcm.samples / 32768, expected, atol=1 / 127 if subtype == "PCM_U8" else 2e-5)


@pytest.mark.parametrize(
    ("name", "rate"), [("a.wav", 96_000), ("a.flac", 44_100), ("a.ogg", 44_100), ("a.mp3", 48_000)]
)
def test_rates_are_converted_and_the_tone_stays(write_wav, make_tone, name, rate):
    pcm = pcm_of(write_wav(name, make_tone(1, 1000, rate), rate))
    assert abs(len(pcm.samples) - 16_000) <= 16_000 * 0.08  # an mp3 is padded to whole frames
    assert np.abs(np.fft.rfft(pcm.samples[2000:10_000])).argmax() * 2 == 1000
    assert pcm.peak_dbfs == pytest.approx(-6.02, abs=0.3)
    assert pcm.rms_dbfs == pytest.approx(-9.03, abs=0.3)
    assert pcm.source_rate == rate


def test_six_channels_become_their_mean(write_wav, make_tone):
    channels = np.stack([make_tone(1, 200 * (k + 1), amplitude=0.1) for k in range(6)], axis=1)
    pcm = pcm_of(write_wav("a.wav", channels, subtype="FLOAT"))
    np.testing.assert_allclose(pcm.samples / 32768, channels.mean(axis=1), atol=2e-5)


def test_float_above_full_scale_is_scaled_down_and_the_gain_is_kept(write_wav, make_tone):
    pcm = pcm_of(write_wav("a.wav", make_tone(1, 440, amplitude=4.0), subtype="FLOAT"))
    assert pcm.gain_db == pytest.approx(-12.04, abs=0.01)
    assert pcm.peak_dbfs == pytest.approx(0, abs=0.01)
    assert pcm.samples.max() >= 32766
    assert pcm.samples.min() <= -32766
    assert pcm.num_clipped > 1000


def test_a_lone_peak_at_full_scale_is_not_called_clipping(write_wav, make_tone):
    samples = make_tone(1, 440)
    samples[500] = 1.0
    assert pcm_of(write_wav("a.wav", samples, subtype="FLOAT")).num_clipped == 1


def with_values(*values):
    samples = np.full(16_000, 0.1, np.float32)
    samples[100 : 100 + len(values)] = values
    return samples


@pytest.mark.parametrize(
    ("samples", "words"),
    [
        (np.zeros(0, np.float32), "empty: the excerpt holds no samples"),
        (np.ones(1, np.float32), "too short: 6.25e-05 s, at least 0.25 s expected"),
        (np.ones(3200, np.float32), "too short: 0.2 s, at least"),
        (np.zeros(16_000, np.float32), "silent: peak -inf dBFS, at least -80 dBFS expected"),
        (np.full(16_000, 5e-5, np.float32), "silent: peak -86 dBFS"),
        (with_values(np.nan, np.nan, np.inf), "holds 3 NaN or infinite values of 16000"),
        (with_values(-np.inf), "holds 1 NaN or infinite values of 16000"),
        (np.array([[0.5, -0.5], [-0.25, 0.25]] * 8000, np.float32), "channels cancel: 2 channels peak at -6 dBFS"),
    ],
)
def test_sound_that_cannot_be_used(write_wav, samples, words):
    with pytest.raises(DataError, match=words):
        pcm_of(write_wav("a.wav", samples, subtype="FLOAT"))


def test_ultrasound_is_silent_for_us(write_wav, make_tone):
    with pytest.raises(DataError, match=r"silent below 8 kHz.*after resampling from 96000 Hz"):
        pcm_of(write_wav("a.wav", make_tone(1, 30_000, 96_000) * np.hanning(96_000), 96_000, subtype="FLOAT"))


@pytest.mark.parametrize("rate", [1000, 8000, 11_025, 44_100, 48_000, 96_000, 999_983])
def test_resampling_is_soxrs_whatever_was_resampled_before(rate):
    rng = np.random.default_rng(0)
    with Reader() as reader:
        for length in (1, 2, 100, 4001, 200_000, 100, 50_000):
            mono = rng.uniform(-1, 1, length).astype(np.float32)
            np.testing.assert_array_equal(reader.resample(mono, rate), soxr.resample(mono, rate, 16_000, quality="HQ"))

"""What a recording becomes, and what is said of one that cannot be used."""

import numpy as np
import pytest
import soundfile

from data.decode import AudioFile, seconds_of
from data.errors import DataError
from data.pcm import to_pcm


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


def test_an_excerpt_is_cut_where_it_is_asked_for(write_wav):
    samples = np.random.default_rng(0).integers(-999, 999, 48_000).astype(np.int16)
    path = write_wav("a.flac", samples)
    np.testing.assert_array_equal(pcm_of(path, start_s=1.0, duration_s=0.5).samples, samples[16_000:24_000])
    np.testing.assert_array_equal(pcm_of(path, start_s=2.5).samples, samples[40_000:])


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


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty: the file has 0 bytes"),
        (b"RIFF\x00\x00\x00\x00WAVEgarbage", "cannot be decoded: "),
        (bytes(range(256)) * 40, "cannot be decoded: Format not recognised"),
    ],
)
def test_files_that_are_no_sound(tmp_path, content, words):
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    with pytest.raises(DataError, match=words):
        pcm_of(path)


def with_values(*values):
    samples = np.full(16_000, 0.1, np.float32)
    samples[100 : 100 + len(values)] = values
    return samples


@pytest.mark.parametrize(
    ("samples", "words"),
    [
        (np.zeros(0, np.float32), "empty: the excerpt holds no samples"),
        (np.ones(1, np.float32), r"too short: 1 sample are 0\.000 s, at least 0\.25 s expected"),
        (np.ones(3200, np.float32), r"too short: 3200 samples are 0\.200 s"),
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


def test_a_name_that_lies(write_wav, make_tone):
    path = write_wav("a.ogg", make_tone(1, 440))
    with pytest.raises(DataError, match=r"the name lies about the format: \.wav expected, OGG found"):
        pcm_of(path.rename(path.with_suffix(".wav")))


def test_a_truncated_flac(write_wav):
    path = write_wav("a.flac", np.random.default_rng(0).uniform(-1, 1, 64_000))
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(DataError, match=r"cannot be decoded|too short|empty"):
        pcm_of(path)


def test_a_file_that_went_away(tmp_path, write_wav, make_tone):
    path = write_wav("a.wav", make_tone(1, 440))
    audio = AudioFile.of(path)
    path.unlink()
    with pytest.raises(DataError, match="cannot be read: No such file"):
        to_pcm(audio, 0.25)


def test_the_repr_names_the_excerpt_and_not_the_place(write_wav, make_tone):
    audio = AudioFile.of(write_wav("a.wav", make_tone(1, 440)), start_s=0.5)
    assert repr(audio) == "AudioFile(num_bytes=32044, start_s=0.5, duration_s=None, decode_from_s=None)"
    assert soundfile.info(audio.path).frames == 16_000


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3"])
def test_the_length_by_the_header_is_the_length(write_wav, name):
    path = write_wav(name, np.random.default_rng(0).uniform(-0.5, 0.5, (100_000, 2)), 44_100)
    assert seconds_of(path) == pytest.approx(soundfile.info(path).frames / 44_100)


def test_the_length_of_what_only_begins_as_ogg(write_wav, tmp_path):
    path = write_wav("a.ogg", np.random.default_rng(0).uniform(-0.5, 0.5, 100_000), 44_100)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match="cannot be decoded"):
        seconds_of(path)
    path.write_bytes(b"OggS")
    with pytest.raises(DataError, match="cannot be decoded"):
        seconds_of(path)

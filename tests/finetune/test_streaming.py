"""Recordings of any length as chunks: what comes out equals the recording taken at once."""

import numpy as np
import pytest
import soundfile
import soxr
import torch

from backbones.log_mel import LogMel
from data.decode import RATE, seconds_of
from data.errors import DataError
from finetune import streaming
from finetune.streaming import Spectrogram, blocks_of, chunks_of, fitted, is_silent


def noise(seconds: float, rate: int, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(3).uniform(-0.9, 0.9, (round(seconds * rate), channels)).astype(np.float32)


def streamed(path) -> np.ndarray:
    return np.concatenate(list(blocks_of(path, seconds_of(path))))


@pytest.mark.parametrize(("rate", "channels"), [(44_100, 2), (8_000, 1), (48_000, 6), (11_025, 1)])
def test_blocks_are_the_recording_resampled_at_once(write_wav, monkeypatch, rate, channels):
    monkeypatch.setattr(streaming, "BLOCK_SECONDS", 2.0)  # four borders
    sound = noise(9.3, rate, channels)
    found = streamed(write_wav("a.wav", sound, rate, subtype="FLOAT"))
    expected = soxr.resample(sound.mean(axis=1), rate, RATE, quality="HQ")
    # Float32 of values up to 1 has a spacing of 6e-8; sums of a filter's few hundred terms differ by a few of these.
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_sound_at_16_khz_comes_through_bit_for_bit(write_wav):
    sound = noise(25, RATE)[:, 0]
    path = write_wav("a.wav", sound, subtype="PCM_16")
    assert np.array_equal(streamed(path), soundfile.read(path, dtype="float32")[0])


@pytest.mark.parametrize(("suffix", "options"), [("flac", {}), ("ogg", {}), ("mp3", {"bitrate_mode": "VARIABLE"})])
def test_every_format_streams_to_its_end(write_wav, make_tone, suffix, options):
    path = write_wav(f"a.{suffix}", make_tone(23.7, 440, 22_050), 22_050, **options)
    found = streamed(path)
    assert len(found) / RATE == pytest.approx(23.7, abs=0.15)  # mp3 fills its last frame
    assert np.abs(found[: 23 * RATE]).max() == pytest.approx(0.5, abs=0.05)


def test_what_is_damaged_is_said(write_wav):
    sound = noise(12, RATE)[:, 0]
    sound[11 * RATE :] = np.nan
    with pytest.raises(DataError, match="NaN or infinite values, 16000 of them from 10 s on"):
        streamed(write_wav("nan.wav", sound, subtype="FLOAT"))
    whole = write_wav("whole.flac", noise(12, RATE))
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(DataError, match=r"cut short|cannot be decoded"):
        streamed(whole)


@pytest.mark.parametrize("total", [0, 1, 9, 10, 11, 13, 14, 40, 41, 97])
@pytest.mark.parametrize(("size", "hop"), [(10, 10), (10, 5), (10, 3), (10, 1)])
@pytest.mark.parametrize("block", [1, 7, 10, 64])
def test_chunks_cover_a_stream(total, size, hop, block):
    stream = np.arange(total, dtype=np.float32)
    blocks = [stream[at : at + block] for at in range(0, total, block)]
    firsts = [first for first in range(0, total, hop) if first + size <= total] or [0]
    if firsts[-1] + size < total:
        firsts.append(total - size)
    found = list(chunks_of(blocks, size, hop))
    assert [first for first, _ in found] == firsts
    for first, samples in found:
        assert np.array_equal(samples, stream[first : first + size])


def test_chunks_keep_little_of_a_long_stream():
    kept = []
    for _, samples in chunks_of((np.zeros(1000, np.float32) for _ in range(200)), 500, 250):
        kept.append(samples.base.nbytes)
    assert max(kept) <= 4 * (1000 + 2 * 500)


def test_silence_is_what_a_pack_calls_silent(make_tone):
    assert is_silent(np.zeros(100, np.float32))
    assert is_silent(np.full(100, 0.3, np.float32))
    assert is_silent(make_tone(1, 440, amplitude=0.9e-4))
    assert not is_silent(make_tone(1, 440, amplitude=1.1e-4))


def test_what_is_too_loud_is_scaled_to_fit():
    loud = np.array([0.5, -2.0], np.float32)
    assert fitted(loud).tolist() == [0.25, -1.0]
    assert loud.tolist() == [0.5, -2.0]
    assert fitted(loud / 2).tolist() == [0.25, -1.0]


def test_a_spectrogram_of_blocks_is_that_of_the_whole(monkeypatch):
    sound = noise(3.21, RATE)[:, 0]
    blocks = np.split(sound, [100, 399, 5000, 5001, 20_000])
    whole = LogMel(mean=0.0, std=0.5).raw(torch.from_numpy(sound)[None])[0].numpy().T  # (F, T)

    def picture() -> np.ndarray:
        spectrogram = Spectrogram(len(sound) / RATE)
        assert sum(map(len, spectrogram.listen(blocks))) == len(sound)
        return spectrogram.image()

    np.testing.assert_allclose(picture(), whole, atol=1e-4)
    monkeypatch.setattr(streaming, "MOST_COLUMNS", 10)
    columns = [whole[:, at : at + 32].mean(axis=1) for at in range(0, whole.shape[1], 32)]  # ceil(319 frames / 10)
    np.testing.assert_allclose(picture(), np.stack(columns, axis=1), atol=1e-4)


def test_a_spectrogram_bears_a_wrong_guess_of_the_length():
    for guess in (0.0, 0.3, 50.0):
        spectrogram = Spectrogram(guess)
        list(spectrogram.listen([noise(1.0, RATE)[:, 0]]))
        assert np.isfinite(spectrogram.image()).all()

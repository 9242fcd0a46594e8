"""Clips that are read one after the other: the same samples whatever was read before."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from data import cutting, decode, reader
from data.clip import Clip
from data.cutting import cut
from data.decode import AudioFile, seconds_of
from data.errors import DataError
from data.pool import call_alone
from data.reader import Reader, mix

ROOT = Path(__file__).parents[2]
RATE = 22_050
# Few bits a second: a frame then needs bits of many frames before it.
FORMATS = {
    "wav": {"subtype": "PCM_24"},
    "flac": {},
    "ogg": {"format": "OGG", "subtype": "VORBIS"},
    "opus.ogg": {"format": "OGG", "subtype": "OPUS"},
    "mp3": {"bitrate_mode": "CONSTANT", "compression_level": 0.95},
    "vbr.mp3": {"bitrate_mode": "VARIABLE", "compression_level": 0.5},
}

EXACT = ("wav", "flac", "ogg")


def music(seconds: float, rate: int = RATE, channels: int = 1) -> np.ndarray:
    """Gliding tones over noise that swells, so that no two moments are alike."""
    at = np.arange(round(seconds * rate)) / rate
    rng = np.random.default_rng(0)
    tones = [np.sin(2 * np.pi * (200 + 90 * k + 20 * np.sin(at)) * at) for k in range(channels)]
    noise = 0.1 * rng.standard_normal((len(at), channels)) * (1.1 + np.sin(at))[:, None]
    return (0.3 * np.stack(tones, axis=1) + noise).astype(np.float32)


@pytest.fixture
def short_stretches(monkeypatch):
    monkeypatch.setattr(cutting, "STRETCH_SECONDS", 5.0)


def write(folder: Path, name: str, channels: int = 2, seconds: float = 17.3) -> Path:
    path = folder / f"a.{name}"
    rate = 24_000 if "opus" in name else RATE
    soundfile.write(path, music(seconds, rate, channels), rate, **FORMATS[name])
    return path


def clips_of(path: Path, clip_seconds: float = 3.0, hop_seconds: float | None = 2.0) -> list[AudioFile]:
    whole = Clip("a", "a", "a", "a", AudioFile.of(path))
    return [clip.audio for clip in cut(whole, seconds_of(path), clip_seconds, hop_seconds)]


def found(reader: Reader, audio: AudioFile) -> np.ndarray | str:
    try:
        return reader.read(audio)[0].copy()
    except DataError as error:
        return str(error)


def one_after_the_other(audios: list[AudioFile]) -> list[np.ndarray | str]:
    with Reader() as reader:
        return [found(reader, audio) for audio in audios]


def each_alone(audios: list[AudioFile]) -> list[np.ndarray | str]:
    return [one_after_the_other([audio])[0] for audio in audios]


@pytest.mark.parametrize("name", FORMATS)
def test_clips_are_parts_of_the_recording_read_on_or_sought(short_stretches, tmp_path, name):
    path = write(tmp_path, name)
    with Reader() as reader:
        whole, rate = reader.read(AudioFile.of(path))
    audios = clips_of(path)
    assert len({audio.decode_from_s for audio in audios}) == 3
    read = one_after_the_other(audios)
    for audio, mono in zip(audios, read, strict=True):
        start = round(audio.start_s * rate)
        assert len(mono) == (3 * rate if audio.duration_s else len(whole) - start)
        # After a seek some decoders add the same numbers in another order.
        np.testing.assert_allclose(mono, whole[start : start + len(mono)], atol=0 if name in EXACT else 1e-6)
    for some in (audios[3:], audios[1::2], [audios[4], audios[4], audios[0], audios[7], audios[2]]):
        for audio, mono in zip(some, one_after_the_other(some), strict=True):
            np.testing.assert_array_equal(mono, read[audios.index(audio)])


def differing(path: Path) -> list[int]:
    """Clips that are not the same when they are read alone."""
    audios = clips_of(path)
    pairs = zip(one_after_the_other(audios), each_alone(audios), strict=True)
    return [place for place, (one, other) in enumerate(pairs) if not np.array_equal(one, other)]


@pytest.mark.parametrize("name", ["flac", "ogg", "mp3", "vbr.mp3"])
def test_so_are_the_clips_of_damaged_recordings(short_stretches, tmp_path, name):
    good = write(tmp_path, name, channels=1).read_bytes()
    rng = np.random.default_rng(0)
    for number in range(6):
        damaged = bytearray(good)
        for _ in range(1 + number):
            at, length = int(rng.integers(6000, len(good) - 500)), int(rng.integers(1, 900))
            damaged[at : at + rng.choice([length, 0])] = rng.bytes(rng.choice([length, 0]))
        path = tmp_path / f"b{number}.{name}"
        path.write_bytes(damaged)
        assert call_alone(differing, path) == []  # alone, for such a file may crash libsndfile


def test_a_stretch_is_opened_once_and_decoded_once(short_stretches, tmp_path, monkeypatch):
    path = write(tmp_path, "ogg")
    opened, decoded = [], []
    original = reader.open_recording

    def spied(path):
        recording = original(path)
        read = type(recording).read

        class Spy(type(recording)):
            def read(self, *args, **kwargs):
                result = read(self, *args, **kwargs)
                decoded.append(len(result))
                return result

        opened.append(path)
        recording.__class__ = Spy
        return recording

    monkeypatch.setattr(reader, "open_recording", spied)
    audios = clips_of(path, clip_seconds=3, hop_seconds=1)
    one_after_the_other(audios)
    assert len(audios) == 15
    assert len(opened) == 3
    # 2 s of every stretch but the last belong to its last clip as well, and every start takes a second to warm up.
    assert sum(decoded) / RATE == pytest.approx(17.3 + 2 * (2 + 1), abs=0.1)


def test_a_gap_between_clips_is_passed_over(tmp_path):
    path = write(tmp_path, "flac", channels=1)
    whole = soundfile.read(path, dtype="float32")[0]
    audios = [AudioFile(path, 0, start_s, 1.0, decode_from_s=0.5) for start_s in (0.5, 4.0, 4.5, 11.0, 16.0)]
    for audio, mono in zip(audios, one_after_the_other(audios), strict=True):
        start = round(audio.start_s * RATE)
        np.testing.assert_array_equal(mono, whole[start : start + RATE])


def test_a_recording_that_breaks_in_the_middle_gives_what_lies_before(short_stretches, tmp_path):
    path = write(tmp_path, "flac", channels=1)
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 200] = bytes(200)
    path.write_bytes(content)
    read = one_after_the_other(clips_of(path, 1.0, None))
    assert isinstance(read[0], np.ndarray)
    reasons = [reason for reason in read if isinstance(reason, str)]
    assert reasons
    assert all(reason.startswith("cannot be decoded: ") for reason in reasons)


def test_what_ends_before_its_header_says(tmp_path):
    path = write(tmp_path, "flac", channels=1, seconds=4)
    path.write_bytes(path.read_bytes()[:-20_000])
    reason = one_after_the_other([AudioFile.of(path)])[0]
    assert reason.startswith(("cut short: 4.00 s expected by the header, ", "cannot be decoded: "))


def test_an_mp3_that_says_nowhere_how_long_it_is(tmp_path):
    path = write(tmp_path, "vbr.mp3")
    content = path.read_bytes()
    frames = content[content.index(b"\xff\xf3", 4) :]  # without the first, which counts the others
    path.write_bytes(frames)
    assert soundfile.info(path).frames != pytest.approx(17.3 * RATE, rel=0.01)  # libsndfile guesses
    seconds = seconds_of(path)
    read = one_after_the_other(clips_of(path))
    assert all(isinstance(mono, np.ndarray) for mono in read)
    with Reader() as reader:
        assert len(reader.read(AudioFile.of(path))[0]) / RATE == pytest.approx(seconds, abs=0.1)


def test_too_long_for_one_clip(tmp_path, monkeypatch):
    monkeypatch.setattr(decode, "MAX_SECONDS", 17.0)
    path = write(tmp_path, "flac")
    assert one_after_the_other([AudioFile.of(path)]) == ["too long: 17 s, a clip of at most 17 s expected"]
    assert len(one_after_the_other([replace(AudioFile.of(path), start_s=1.0)])[0]) == round(16.3 * RATE)


@pytest.mark.parametrize("channels", [1, 2, 3, 8])
def test_the_mix_is_the_mean(channels):
    sound = np.random.default_rng(0).standard_normal((1000, channels)).astype(np.float32)
    np.testing.assert_allclose(mix(sound), sound.mean(axis=1), atol=1e-6)
    assert mix(sound).dtype == np.float32


def test_many_channels_are_mixed_block_by_block(tmp_path, monkeypatch):
    monkeypatch.setattr(reader, "BLOCK", 1000)
    samples = np.random.default_rng(0).uniform(-1, 1, (5000, 6)).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", samples, 8000, subtype="FLOAT")
    read = one_after_the_other([AudioFile.of(tmp_path / "a.wav")])[0]
    np.testing.assert_allclose(read, samples.mean(axis=1), atol=1e-6)


READ_ALL = """
import resource, sys
from pathlib import Path
from data.clip import Clip
from data.cutting import cut
from data.decode import AudioFile, seconds_of
from data.pcm import to_pcm
from data.reader import Reader

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

path = Path(sys.argv[1])
clips = list(cut(Clip("a", "a", "a", "a", AudioFile.of(path)), seconds_of(path), 10.0, 7.5))
with Reader() as reader:
    for clip in clips[:3]:
        to_pcm(clip.audio, 0.25, reader)
    before = peak()
    for clip in clips[3:]:
        to_pcm(clip.audio, 0.25, reader)
print(len(clips), (peak() - before) / 1024)
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["wav", "flac", "ogg", "mp3"])
def test_memory_does_not_grow_with_the_length(tmp_path, name):
    path, block = tmp_path / f"long.{name}", music(30, 8000)
    with soundfile.SoundFile(path, "w", 8000, 1, **FORMATS[name]) as file:
        for _ in range(50):  # 25 minutes, 48 MB decoded
            for start in range(0, len(block), 20_000):  # libsndfile crashes on long pieces of Vorbis
                file.write(block[start : start + 20_000])
    command = [sys.executable, "-c", READ_ALL, str(path)]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert int(said[0]) == 200
    assert float(said[1]) < 6  # MB, where the last clips took no more than the first

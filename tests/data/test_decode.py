"""What is said of a recording by its header, and the sound of an excerpt."""

import os
import socket
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from data.decode import AudioFile, open_recording, seconds_of
from data.errors import DataError


def sound_of(path: Path, **excerpt) -> np.ndarray:
    return AudioFile.of(path, **excerpt).read()[0]


def noise(seconds: float, rate: int = 16_000, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.5, 0.5, (round(seconds * rate), channels))


def test_an_excerpt_is_cut_where_it_is_asked_for(write_wav):
    samples = np.random.default_rng(0).integers(-999, 999, (48_000, 2)).astype(np.int16)
    path = write_wav("a.flac", samples)
    np.testing.assert_array_equal(sound_of(path, start_s=1.0, duration_s=0.5) * 32_768, samples[16_000:24_000])
    np.testing.assert_array_equal(sound_of(path, start_s=2.5) * 32_768, samples[40_000:])
    assert sound_of(path, start_s=3.0).shape == (0, 2)


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
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    for read in (open_recording, seconds_of):
        with pytest.raises(DataError, match=words):
            read(path)
    assert before in (0, len(os.listdir("/proc/self/fd"))), "a descriptor was left open"


def test_what_is_no_file_is_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("a.wav")
    os.mkdir("b.ogg")
    os.symlink("nowhere", "c.mp3")
    os.symlink("d.mp3", "d.mp3")
    os.symlink("/dev/zero", "e.wav")
    words = {"a.wav": "a pipe, socket or device", "b.ogg": "a folder", "c.mp3": "No such file", "d.mp3": "Too many"}
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("f.wav")
        for name, reason in {**words, "e.wav": words["a.wav"], "f.wav": words["a.wav"]}.items():
            for read in (open_recording, seconds_of):
                with pytest.raises(DataError, match=f"cannot be read: .*{reason}"):
                    read(tmp_path / name)


def test_a_name_that_lies(write_wav, make_tone):
    path = write_wav("a.ogg", make_tone(1, 440))
    with pytest.raises(DataError, match=r"the name lies about the format: \.wav expected, OGG found"):
        open_recording(path.rename(path.with_suffix(".wav")))


@pytest.mark.parametrize(("rate", "channels"), [(999, 1), (1, 1), (1_000_001, 1), (8000, 65)])
def test_headers_that_nobody_meant(write_wav, rate, channels):
    path = write_wav("a.wav", noise(0.5, rate * 4 if rate < 4 else rate, channels), rate)
    with pytest.raises(DataError, match=r"absurd rate: [\d,]+ Hz|too many channels: 65, at most 64 expected"):
        seconds_of(path)


def with_sizes(content: bytes, riff: int, data: int) -> bytes:
    return content[:4] + struct.pack("<I", riff) + content[8:40] + struct.pack("<I", data) + content[44:]


@pytest.mark.parametrize(
    ("riff", "data", "expected"),
    [
        (32_036, 32_000, 1.0),
        (32_044, 32_000, 1.0),  # counts itself
        (0xFFFF_FFFF, 0xFFFF_FFFF, 1.0),  # written into a pipe
        (0x7FFF_F024, 0x7FFF_F000, 1.0),
        (36, 32_000, 1.0),
        (32_036, 32_100, 1.0),
        (32_036, 33_000, "cut short: 33,000 bytes promised by the header, 32,000 found"),
        (64_036, 64_000, "cut short: 64,036 bytes promised by the header, 32,036 found"),
    ],
)
def test_what_a_wav_promises(write_wav, riff, data, expected):
    path = write_wav("a.wav", noise(1))
    path.write_bytes(with_sizes(path.read_bytes(), riff, data))
    if isinstance(expected, str):
        with pytest.raises(DataError, match=expected):
            seconds_of(path)
    else:
        assert seconds_of(path) == expected


@pytest.mark.parametrize("file_format", ["WAV", "WAVEX", "RF64", "W64"])
@pytest.mark.parametrize("share", [0.5, 0.98, 0.995])
def test_a_wav_that_was_cut(write_wav, file_format, share):
    path = write_wav("a.wav", noise(3), format=file_format)
    path.write_bytes(path.read_bytes()[: round(path.stat().st_size * share)])
    if share < 0.99:
        with pytest.raises(DataError, match=r"cut short: [\d,]+ bytes promised by the header, [\d,]+ found"):
            open_recording(path)
    else:
        assert seconds_of(path) == pytest.approx(3, abs=0.03)


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_an_ogg_that_was_cut(write_wav, subtype):
    path = write_wav("a.ogg", noise(6), format="OGG", subtype=subtype)
    assert seconds_of(path) == pytest.approx(6)
    path.write_bytes(path.read_bytes()[:-5000])
    for read in (open_recording, seconds_of):
        with pytest.raises(DataError, match="cut short: the Ogg stream has no end"):
            read(path)


def test_an_ogg_with_a_damaged_page(write_wav):
    path = write_wav("a.ogg", noise(6), format="OGG", subtype="VORBIS")
    content = bytearray(path.read_bytes())
    first = content.index(b"OggS", content.index(b"\x05vorbis"))
    content[first + 200] ^= 255  # libsndfile begins with the page after it, and says nothing
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"cut short: 96,000 samples promised by the last page, \d\d,\d\d\d found"):
        open_recording(path)


def with_total(content: bytes, total: int) -> bytes:
    """A FLAC whose header speaks of so many samples."""
    head = content[21] & 0xF0 | total >> 32
    return content[:21] + bytes([head]) + (total & 0xFFFF_FFFF).to_bytes(4, "big") + content[26:]


def test_what_a_flac_promises(write_wav):
    path = write_wav("a.flac", noise(3))
    good = path.read_bytes()
    path.write_bytes(with_total(good, 0))  # unknown: written into a pipe
    assert seconds_of(path) == 3
    assert sound_of(path).shape == (48_000, 1)
    path.write_bytes(with_total(good, 2**36 - 1))
    with pytest.raises(DataError, match=r"cut short: its header promises 4294967\.3 s, the end is not there"):
        seconds_of(path)
    with pytest.raises(DataError, match="too long: 4294967 s, a clip of at most 600 s expected"):
        sound_of(path)


def test_a_last_page_that_promises_days_is_not_believed(write_wav):
    path = write_wav("a.ogg", noise(3), format="OGG", subtype="VORBIS")
    content = bytearray(path.read_bytes())
    last = content.rfind(b"OggS")
    content[last + 6 : last + 14] = (2**40).to_bytes(8, "little")
    path.write_bytes(content)
    for read in (open_recording, seconds_of):
        with pytest.raises(DataError, match=r"cut short: 1,099,511,627,776 samples promised by the last page, \d\d,"):
            read(path)


def test_a_file_that_went_away(write_wav, make_tone):
    path = write_wav("a.wav", make_tone(1, 440))
    audio = AudioFile.of(path)
    path.unlink()
    with pytest.raises(DataError, match="cannot be read: No such file"):
        audio.read()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(write_wav, make_tone):
    path = write_wav("a.wav", make_tone(1, 440))
    path.chmod(0)
    with pytest.raises(DataError, match="cannot be read: Permission denied"):
        open_recording(path)


def test_the_repr_names_the_excerpt_and_not_the_place(write_wav, make_tone):
    audio = AudioFile.of(write_wav("a.wav", make_tone(1, 440)), start_s=0.5)
    assert repr(audio) == "AudioFile(num_bytes=32044, start_s=0.5, duration_s=None, decode_from_s=None)"
    assert soundfile.info(audio.path).frames == 16_000


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3"])
def test_the_length_by_the_header_is_the_length(write_wav, name):
    path = write_wav(name, noise(2.3, 44_100, 2), 44_100)
    assert seconds_of(path) == pytest.approx(soundfile.info(path).frames / 44_100)


def test_the_length_of_what_only_begins_as_ogg(write_wav):
    path = write_wav("a.ogg", noise(2, 44_100), 44_100)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match="cannot be decoded"):
        seconds_of(path)
    path.write_bytes(b"OggS")
    with pytest.raises(DataError, match="cannot be decoded"):
        seconds_of(path)


def test_an_mp3_without_a_count_is_measured(write_wav):
    path = write_wav("a.mp3", noise(3), bitrate_mode="CONSTANT", compression_level=0.9)
    content = path.read_bytes()
    # The first frame of another bit rate, as in silence at the beginning: libsndfile takes it for that of all.
    slow = path.with_name("slow.mp3")
    soundfile.write(slow, np.zeros(8000), 16_000, bitrate_mode="CONSTANT", compression_level=0.99)
    path.write_bytes(slow.read_bytes()[-1000:] + content)
    guess = soundfile.info(path).frames / 16_000
    seconds = seconds_of(path)
    assert seconds <= guess
    assert seconds == pytest.approx(len(sound_of(path)) / 16_000, abs=0.1)


def test_damaged_mp3_is_scanned_without_a_word(write_wav, capfd):
    path = write_wav("a.mp3", noise(3))
    content = bytearray(path.read_bytes())
    content[2000:2600] = np.random.default_rng(0).bytes(600)
    path.write_bytes(content)
    open_recording(path).close()
    capfd.readouterr()
    seconds_of(path)
    assert capfd.readouterr().err == ""

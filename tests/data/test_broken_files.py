"""Two hundred files broken in every way, and good ones among them: each broken one is named, each good one packed."""

import csv
import faulthandler
import filecmp
import io
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import soundfile

from data.pack import Pack
from data.rejected import read_rejected
from data.writer import write_pack

ROOT = Path(__file__).parents[2]
RATE = 16_000
_SEEDS = count()


def sound(seconds: float = 0.6, channels: int = 1, rate: int = RATE) -> np.ndarray:
    """Noise over a tone, another at each call, for a pack keeps one clip of each sound."""
    rng = np.random.default_rng(next(_SEEDS))
    noise = rng.uniform(-0.2, 0.2, (round(seconds * rate), channels))
    return noise + 0.3 * np.sin(2 * np.pi * 440 * np.arange(len(noise)) / rate)[:, None]


def encoded(samples: np.ndarray | None = None, rate: int = RATE, file_format: str = "WAV", **options) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, sound(rate=rate) if samples is None else samples, rate, format=file_format, **options)
    return file.getvalue()


def wav(*samples, **options) -> bytes:
    return encoded(*samples, **options)


def flac(*samples, **options) -> bytes:
    return encoded(*samples, file_format="FLAC", **options)


def ogg(*samples, subtype: str = "VORBIS", **options) -> bytes:
    return encoded(*samples, file_format="OGG", subtype=subtype, **options)


def mp3(*samples, **options) -> bytes:
    return encoded(*samples, file_format="MP3", **options)


def put(content: bytes, at: int, what: bytes) -> bytes:
    return content[:at] + what + content[at + len(what) :]


def good_files() -> Iterator[tuple[str, bytes]]:
    for subtype in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW", "IMA_ADPCM", "MS_ADPCM"):
        yield f"wav {subtype}.wav", wav(subtype=subtype)
    yield "wav GSM.wav", wav(rate=8000, subtype="GSM610")
    yield "wav G721.wav", wav(rate=8000, subtype="G721_32")
    yield "wav big-endian.wav", wav(endian="BIG")
    yield "wavex 96 kHz 5.1.wav", wav(sound(0.5, 6, 96_000), 96_000, file_format="WAVEX", subtype="PCM_24")
    yield "rf64.wav", wav(file_format="RF64")
    yield "w64.wav", wav(file_format="W64")
    for rate in (1000, 11_025, 48_000, 192_000, 1_000_000):
        yield f"wav {rate}.wav", wav(rate=rate)
    yield "64 channels.wav", wav(sound(0.3, 64))
    yield "too loud.wav", wav(20 * sound(), subtype="FLOAT")
    yield "clipped.wav", wav(np.clip(20 * sound(), -1, 1))
    yield "click.wav", wav(put_sample(np.zeros(8000), 4000, 0.5))
    yield "offset.wav", wav(0.2 + 0.5 * sound())
    content = wav()
    yield "a byte too few.wav", content[:-1]
    content = wav()
    yield "written into a pipe.wav", put(put(content, 4, b"\xff" * 4), 40, b"\xff" * 4)
    content = wav()
    yield "a chunk behind.wav", content + b"LIST" + struct.pack("<I", 12) + b"INFOIART\0\0\0\0"
    content = wav()
    yield "rubbish behind.wav", content + bytes(range(256))
    content = wav()
    yield "a chunk before.wav", content[:36] + b"junk" + struct.pack("<I", 5000) + bytes(5000) + content[36:]
    for subtype in ("PCM_S8", "PCM_16", "PCM_24"):
        yield f"flac {subtype}.flac", flac(subtype=subtype)
    yield "flac stereo.flac", flac(sound(0.5, 2))
    content = flac()
    yield "flac of unknown length.flac", put(content, 21, bytes([content[21] & 0xF0]) + bytes(4))
    yield "flac with a wrong md5.flac", put(flac(), 26, b"\x01" * 16)
    yield "vorbis.ogg", ogg()
    yield "vorbis 44.1 kHz.ogg", ogg(sound(0.5, 2, 44_100), 44_100)
    yield "opus.ogg", ogg(rate=48_000, subtype="OPUS")
    for mode, level in (("CONSTANT", 0.0), ("CONSTANT", 0.95), ("AVERAGE", 0.5), ("VARIABLE", 0.2)):
        yield f"{mode} {level}.mp3", mp3(rate=44_100, bitrate_mode=mode, compression_level=level)
    for rate in (8000, 22_050, 48_000):
        yield f"mp3 {rate}.mp3", mp3(rate=rate)
    yield "tagged.mp3", b"ID3\x03\x00\x00\x00\x00\x01\x00" + bytes(128) + mp3(rate=44_100)
    yield "tagged behind.mp3", mp3(rate=44_100) + b"TAG" + bytes(125)
    for name in (
        "Größe, ''quoted'' \"twice\"", "новая запись", "録音", "هذا", "🎻", " -rf *", "a\nb", "\r\n", "\x1b[31mred",
        "%s{}\\x", "=1+1", "x" * 245,
    ):  # fmt: skip
        yield f"{name}.wav", wav()
    yield "UPPER.WAV", wav()
    yield "two.dots.wav.wav", wav()


def put_sample(samples: np.ndarray, at: int, value: float) -> np.ndarray:
    samples = samples.copy()
    samples[at] = value
    return samples


def broken_files() -> Iterator[tuple[str, bytes]]:
    yield from empty_and_foreign_files()
    yield from cut_files()
    yield from wrong_headers()
    yield from damaged_files()
    yield from unusable_sound()


def empty_and_foreign_files() -> Iterator[tuple[str, bytes]]:
    contents = {
        "nothing": b"", "a byte": b"R", "zeros": bytes(5000), "ones": b"\xff" * 5000, "RIFF": b"RIFF", "OggS": b"OggS",
        "fLaC": b"fLaC", "ID3": b"ID3\x04\x00\x00\x00\x00\x00\x00", "text": b"This is not a sound.\n" * 50,
        "page": b"<!DOCTYPE html><html><title>404 Not Found</title></html>", "json": b'{"error": "quota exceeded"}',
        "archive": b"PK\x03\x04" + bytes(100), "picture": b"\x89PNG\r\n\x1a\n" + bytes(100),
        "film": b"\x00\x00\x00\x18ftypmp42" + bytes(100), "pointer": b"version https://git-lfs.github.com/spec/v1\n",
    }  # fmt: skip
    for name, content in contents.items():
        for suffix in (".wav", ".flac", ".ogg", ".mp3"):
            yield name + suffix, content
    samples = sound()
    yield "is a flac.wav", flac(samples)
    yield "is an ogg.wav", ogg(samples)
    yield "is a wav.flac", wav(samples)
    yield "is a wav.mp3", wav(samples)
    yield "is an mp3.ogg", mp3(samples)
    for file_format in ("AIFF", "AU", "CAF", "VOC", "NIST"):
        yield f"is {file_format}.wav", encoded(samples, file_format=file_format)


def cut_files() -> Iterator[tuple[str, bytes]]:
    good = {
        "16.wav": wav(), "24.wav": wav(subtype="PCM_24"), "float.wav": wav(subtype="FLOAT"),
        "adpcm.wav": wav(subtype="IMA_ADPCM"), "wavex.wav": wav(file_format="WAVEX"),
        "rf64.wav": wav(file_format="RF64"), "w64.wav": wav(file_format="W64"), "a.flac": flac(),
        "a.ogg": ogg(sound(3)), "opus.ogg": ogg(sound(3), subtype="OPUS"),
    }  # fmt: skip
    for name, content in good.items():
        cuts = [12, 21, 43, 44, 45, 60, 200, len(content) // 3, len(content) // 2, len(content) - len(content) // 20]
        if not name.endswith(".wav"):
            cuts.append(len(content) - 1)
        for at in cuts:
            yield f"cut at {at} {name}", content[:at]
    content = mp3(sound(3))
    for at in (4, 40, 200, len(content) // 2, len(content) - 2000):
        yield f"cut at {at}.mp3", content[:at]
    content = flac()
    yield "only headers.flac", content[: content.index(b"\xff\xf8", 42)]
    yield "without its beginning.wav", wav()[1000:]
    yield "without its beginning.flac", flac()[1000:]
    yield "without its beginning.ogg", ogg()[6000:]


def wrong_headers() -> Iterator[tuple[str, bytes]]:
    content = wav()
    fields = {  # of the chunk fmt: where, how many bytes
        "format": (20, "<H", (0, 0x1234)),
        "channels": (22, "<H", (0, 300, 65_535)),
        "rate": (24, "<I", (0, 1, 3, 999, 4_000_000, 10_000_000, 2**31, 2**32 - 1)),
        "bits": (34, "<H", (0, 65, 65_535)),
        "data": (40, "<I", (0, 1, 20_000, 10_000_000)),
        "fmt": (16, "<I", (0, 3, 10**6, 2**32 - 1)),
    }
    for field, (at, kind, values) in fields.items():
        for value in values:
            yield f"{field} {value}.wav", put(content, at, struct.pack(kind, value))
    yield "another RIFF.wav", put(content, 8, b"AVI ")
    yield "no fmt.wav", put(content, 12, b"FMT ")
    yield "no data.wav", put(content, 36, b"DATA")
    content = flac()
    yield "rate 0.flac", put(content, 18, b"\x00\x00" + bytes([content[20] & 0x0F]))
    yield "rate 655 kHz and more.flac", put(content, 18, b"\x00\x00" + bytes([0x20 | content[20] & 0x0F]))
    yield "days.flac", put(content, 21, bytes([content[21] | 0x0F]) + b"\xff" * 4)
    yield "twice as long.flac", put(content, 22, struct.pack(">I", 2 * 9600))
    yield "no streaminfo.flac", put(content, 4, b"\x04")
    yield "long streaminfo.flac", put(content, 5, b"\xff\xff\xff")
    content = ogg()
    yield "version 7.ogg", put(content, 4, b"\x07")
    yield "another codec.ogg", put(content, 28, b"\x80theora")
    yield "rate 0.ogg", put(content, 40, bytes(4))
    yield "channels 0.ogg", put(content, 39, b"\x00")
    yield "channels 255.ogg", put(content, 39, b"\xff")
    yield "another stream.ogg", put(content, 14, b"\x00\x00\x00\x00")
    yield "no codebooks.ogg", put(content, content.index(b"\x05vorbis"), b"\x05forbis")


def damaged_files() -> Iterator[tuple[str, bytes]]:
    rng = np.random.default_rng(1)
    content = flac(sound(2))
    for share in (0.1, 0.3, 0.5, 0.9):
        yield f"bytes at {share}.flac", put(content, round(share * len(content)), rng.bytes(50))
        at = round(share * len(content))
        yield f"a hole at {share}.flac", content[:at] + content[at + 3000 :]
    content = ogg(sound(6))
    pages = [at for at in range(len(content)) if content[at : at + 4] == b"OggS"]
    for number in (2, 3, len(pages) - 2):
        yield f"bytes in page {number}.ogg", put(content, pages[number] + 300, rng.bytes(20))
        yield f"no page {number}.ogg", content[: pages[number]] + content[pages[number + 1] :]
    yield "no last page.ogg", content[: pages[-1]]
    content = mp3(sound(2))
    yield "frames of noise.mp3", b"".join(b"\xff\xfb\x90\x64" + rng.bytes(10) for _ in range(40))
    yield "rubbish before it.mp3", bytes(300) + content
    yield "half of it noise.mp3", content[: len(content) // 2] + rng.bytes(len(content) // 2)
    for suffix in (".wav", ".flac", ".ogg", ".mp3"):
        yield f"noise{suffix}", rng.bytes(3000)


def unusable_sound() -> Iterator[tuple[str, bytes]]:
    for name, encode in {"a.wav": wav, "a.flac": flac, "a.ogg": ogg, "a.mp3": mp3}.items():
        yield f"silent {name}", encode(np.zeros(9000))
    for seconds in (0, 1, 100, 3999):
        yield f"{seconds} samples.wav", wav(sound()[:seconds])
    yield "0 samples.flac", flac(np.zeros(0))
    for value in (1.0, -1.0, 0.25, 1e-3):
        yield f"offset {value}.wav", wav(np.full(9000, value), subtype="FLOAT")
    yield "faint.wav", wav(5e-5 * sound(), subtype="FLOAT")
    for value in (np.nan, np.inf, -np.inf, 3e38):
        yield f"one {value}.wav", wav(put_sample(sound(0.6, 3), 5000, value), subtype="FLOAT")
        yield f"double {value}.wav", wav(put_sample(sound(), 0, value if value != 3e38 else 1e300), subtype="DOUBLE")
    yield "all NaN.wav", wav(np.full(9000, np.nan), subtype="FLOAT")
    samples = sound()
    yield "channels cancel.wav", wav(np.concatenate([samples, -samples], axis=1), subtype="FLOAT")
    at = np.arange(48_000) / 96_000
    yield "ultrasound.wav", wav(np.sin(2 * np.pi * 30_000 * at) * np.hanning(48_000), 96_000, subtype="FLOAT")
    yield "65 channels.wav", wav(sound(0.3, 65))


@pytest.fixture(scope="module")
def recordings(tmp_path_factory) -> tuple[Path, set[str], set[str]]:
    """A folder, the names of its good files and those of its broken ones."""
    folder = tmp_path_factory.mktemp("recordings")
    names: dict[str, set[str]] = {"good": set(), "broken": set()}
    for kind, files in (("good", good_files()), ("broken", broken_files())):
        (folder / kind).mkdir()
        for name, content in files:
            with open(folder / kind / name, "xb") as file:
                file.write(content)
            names[kind].add(f"{kind}/{name}")
    (folder / "elsewhere.bin").write_bytes(wav())
    (folder / "elsewhere.bin").rename(folder.with_name("elsewhere.bin"))
    (folder / "good" / "linked.wav").symlink_to(folder.with_name("elsewhere.bin"))
    with open(os.fsencode(folder / "good") + b"/caf\xe9 \xff.wav", "wb") as file:  # as an old system wrote it
        file.write(wav())
    (folder / "good" / "folder.wav").mkdir()
    (folder / "good" / "folder.wav" / "in it.wav").write_bytes(wav())
    names["good"] |= {"good/linked.wav", "good/caf\\udce9 \\udcff.wav", "good/folder.wav/in it.wav"}
    names["broken"] |= {"good/folder.wav", *_make_what_is_no_file(folder)}
    return folder, names["good"], names["broken"]


def _make_what_is_no_file(folder: Path) -> Iterator[str]:
    (folder / "a folder.mp3").mkdir()
    (folder / "a link to nowhere.wav").symlink_to(folder / "nowhere.wav")
    (folder / "a link to itself.wav").symlink_to("a link to itself.wav")
    (folder / "here.ogg").symlink_to("there.ogg")
    (folder / "there.ogg").symlink_to("here.ogg")
    (folder / "a link to a device.wav").symlink_to("/dev/zero")
    os.mkfifo(folder / "a pipe.wav")
    (folder / "a link to a pipe.flac").symlink_to("a pipe.wav")
    with socket.socket(socket.AF_UNIX) as listener:
        short = Path(os.path.relpath(folder / "a socket.wav"))
        listener.bind(str(short))
    if os.geteuid() != 0:  # whom nothing is forbidden
        (folder / "secret.wav").write_bytes(wav())
        (folder / "secret.wav").chmod(0)
    with open(os.fsencode(folder) + b"/\xff\xfe.ogg", "wb"):
        pass
    yield "\\udcff\\udcfe.ogg"
    yield from (entry.name for entry in os.scandir(folder) if entry.name.isascii() and "." in entry.name)


@pytest.fixture(scope="module")
def packs(recordings, tmp_path_factory) -> list[Pack]:
    """Made by one process and by two."""
    folder = tmp_path_factory.mktemp("packs")
    packs = []
    for processes in (1, 2):
        out, options = folder / str(processes) / "pack", ("--max_reject_share", "0.99", "--processes", str(processes))
        result = subprocess.run(
            [sys.executable, "-m", "data.prepare", f"folder={recordings[0]}", "--out", out, *options],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert result.returncode == 0, result.stderr
        assert [line for line in result.stderr.splitlines() if not line.startswith(("prepare: ", "\r"))] in ([], [""])
        packs.append(Pack.open(out))
    return packs


def test_there_are_two_hundred_and_more(recordings):
    assert len(recordings[1]) >= 60
    assert len(recordings[2]) >= 250


def test_all_good_files_are_packed_and_no_other(recordings, packs):
    for pack in packs:
        pack.verify()
        assert set(pack.column("recording")) == recordings[1]
        assert len(pack) == len(recordings[1])
        assert (pack.num_samples >= 4000).all()


def test_each_broken_file_is_named_once_with_a_reason(recordings, packs):
    with open(packs[0].folder / "rejected.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["recording"] for row in rows) == sorted(recordings[2])
    for row in rows:
        assert row["kind"] == "broken"
        assert len(row["reason"]) > 12
        assert row["reason"].isprintable()
    text = (packs[0].folder / "rejected.csv").read_text(encoding="utf-8")
    assert "Traceback" not in text


def test_one_process_and_two_write_the_same_bytes(packs):
    one, two = (pack.folder for pack in packs)
    names = sorted(path.name for path in one.iterdir())
    assert names == sorted(path.name for path in two.iterdir())
    assert filecmp.cmpfiles(one, two, names, shallow=False)[0] == names


@dataclass(frozen=True)
class Crash:
    """An `Audio` on which the decoder crashes."""

    def read(self):
        faulthandler.disable()  # which pytest has enabled
        os.kill(os.getpid(), signal.SIGSEGV)
        time.sleep(10)


@pytest.mark.parametrize("processes", [1, 2])
def test_what_crashes_the_decoder_is_named_as_well(make_clips, tmp_path, processes):
    clips = make_clips(40)
    for number in (5, 6, 33):
        clips[number] = replace(clips[number], audio=Crash())
    pack = write_pack(clips, tmp_path / "pack", processes=processes, duplicates="keep")
    assert pack.column("id").tolist() == [f"toy/{number:04d}" for number in range(40) if number not in (5, 6, 33)]
    assert [(row.recording, row.reason) for row in read_rejected(pack.folder)] == [
        (recording, "crashes what reads it: the process ended by SIGSEGV") for recording in ("0005", "0006", "0033")
    ]
    pack.verify()

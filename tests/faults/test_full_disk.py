"""A disk that fills up, wherever the command then is: one sentence, and with more room it ends as it would have."""

import math
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile

pytestmark = pytest.mark.slow
SHARES = (0.01, 0.1, 0.5, 0.9)
"""Of the room that a command needs."""
PAGE = 4096
PLENTY = 64 << 20


@dataclass(frozen=True)
class Disk:
    """A file system of its own, in memory."""

    path: Path

    def resize(self, num_bytes: int) -> None:
        """Makes it as large as this, more or less."""
        mount("-o", f"remount,size={num_bytes}", self.path)

    def clear(self) -> None:
        """Deletes what is on it."""
        for path in self.path.iterdir():
            shutil.rmtree(path)


def mount(*arguments: str | Path) -> subprocess.CompletedProcess:
    return subprocess.run(["mount", *arguments], capture_output=True, text=True, check=True)


@pytest.fixture
def disk(tmp_path) -> Iterator[Disk]:
    path = tmp_path / "disk"
    path.mkdir()
    try:
        mount("-t", "tmpfs", "-o", f"size={PLENTY}", "luthier", path)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a file system in memory cannot be mounted here: {getattr(error, 'stderr', error)}")
    yield Disk(path)
    subprocess.run(["umount", "--lazy", path], check=True)


def room_of(folder: Path) -> int:
    """What the files of a folder take on a disk."""
    return sum(PAGE * math.ceil(path.stat().st_size / PAGE) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("name", ["mae", "contrastive", "adapters"])
def test_runs(name, warm, run_of, resumed, unbroken, assert_one_sentence, assert_same_run, disk):
    expected = unbroken(name)
    out, needed = disk.path / "run", room_of(expected)
    for share in SHARES:
        disk.resize(PAGE + int(share * needed))
        assert_one_sentence(*warm.run(*run_of(name, out)), "free some room")
        assert not list((out / "state").glob(".*")), "half a state takes the room of a whole one"
        disk.resize(PLENTY)
        if share == SHARES[-1]:
            code, output = warm.run(*resumed(name, out))
            assert code == 0, output
            assert_same_run(out, expected)
        disk.clear()


def whole_after(warm, command: Callable[[Path], list[str]], disk: Disk, expected: Path, sentence) -> dict[str, bytes]:
    """What a command has written in the end that met a full disk again and again."""
    code, output = warm.run(*command(expected))
    assert code == 0, output
    needed = room_of(expected)
    for share in SHARES:
        disk.resize(PAGE + int(share * needed))
        sentence(*warm.run(*command(disk.path / expected.name)), "free some room")
    disk.resize(PLENTY)
    code, output = warm.run(*command(disk.path / expected.name))
    assert code == 0, output
    return {path.name: path.read_bytes() for path in (disk.path / expected.name).iterdir()}


def test_preparations(warm, make_tone, assert_one_sentence, disk, tmp_path):
    recordings = tmp_path / "recordings"
    recordings.mkdir()
    for number in range(60):
        soundfile.write(recordings / f"{number}.wav", make_tone(0.3 + 0.001 * number, 200 + number), 16_000)
    expected = tmp_path / "pack"
    found = whole_after(
        warm, lambda out: ["-m", "data.prepare", f"folder={recordings}", "--processes", "2", "--out", str(out)], disk,
        expected, assert_one_sentence,
    )  # fmt: skip
    assert found == {path.name: path.read_bytes() for path in expected.iterdir()}


def test_embeddings(warm, fault_pack, small_backbone, assert_one_sentence, disk, tmp_path):
    expected = tmp_path / "embeddings"
    found = whole_after(
        warm, lambda out: ["-m", "audit.embed", str(small_backbone), str(fault_pack.folder), "--clip_seconds=0.5",
                           f"--out={out}"], disk, expected, assert_one_sentence,
    )  # fmt: skip
    assert found.keys() == {"vectors.npy", "embeddings.json"}
    assert np.array_equal(np.load(expected / "vectors.npy"), np.load(disk.path / "embeddings" / "vectors.npy"))

"""A command that was killed, at any moment and as often as you like, ends where the one that was not ends."""

import random
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import soundfile

from data.pack import Pack
from data.writer import write_pack

KILLS = 20
KILLED = (-signal.SIGKILL, -signal.SIGPROF)


def moment(draw: random.Random, folder: Path, operations: int) -> dict:
    """One of the first operations on files of a folder, or up to a twentieth of a second later."""
    seconds = draw.choice((0.0, draw.uniform(0.0, 0.05)))
    return {"folder": str(folder), "operation": draw.randrange(operations), "seconds": seconds}


@pytest.mark.slow
def test_the_parent_has_no_threads_that_a_fork_would_lose(warm):
    others = {name for name in warm.threads if not name.startswith("python")}
    assert len(warm.threads) == 1 + len(others)
    assert others <= {"jemalloc_bg_thd"}, "pyarrow's allocator starts that one, and again in a fork"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mae", "contrastive", "adapters"])
def test_a_run_killed_twenty_times(name, warm, run_of, unbroken, assert_same_run, tmp_path):
    """While it starts, reads its state, computes, logs, and saves: what a resumption and a step do are the moments."""
    expected, draw, out = unbroken(name), random.Random(name), tmp_path / name
    command = run_of(name, out, resume="auto")
    for _ in range(KILLS):
        code, output = warm.run(*command, kill_at=moment(draw, out, 70))
        assert code in KILLED, output
    code, output = warm.run(*command)
    assert code == 0, output
    assert_same_run(out, expected)
    assert not list(out.rglob("*.tmp")), "a resumption clears what kills left behind"


@pytest.mark.slow
def test_a_preparation_killed_twenty_times(warm, make_tone, tmp_path):
    recordings, draw = tmp_path / "recordings", random.Random(0)
    recordings.mkdir()
    for number in range(60):
        soundfile.write(recordings / f"{number}.wav", make_tone(0.3 + 0.001 * number, 200 + number), 16_000)
    expected, out = tmp_path / "expected", tmp_path / "pack"
    command = ["-m", "data.prepare", f"folder={recordings}", "--processes", "2", "--out"]
    code, output = warm.run(*command, str(expected))
    assert code == 0, output
    kills = 0
    for _ in range(KILLS):
        code, output = warm.run(*command, str(out), kill_at={"folder": str(out), "operation": draw.randrange(24)})
        assert code in (0, -signal.SIGKILL), output
        kills += code != 0
        if code == 0:  # begun anew, to be killed some more
            shutil.rmtree(out)
    code, output = warm.run(*command, str(out))
    assert code == 0, output
    assert kills >= KILLS // 2
    Pack.open(out).verify()
    names = sorted(path.name for path in expected.iterdir())
    assert sorted(path.name for path in out.iterdir()) == names
    for name in names:
        found, written = ((folder / name).read_bytes() for folder in (out, expected))
        assert found.replace(b'"pack"', b'"expected"') == written, name


@pytest.mark.slow(minutes=2)
def test_an_embedding_killed_twenty_times(warm, make_clips, small_backbone, tmp_path):
    from audit.embed import BLOCK

    pack = write_pack(make_clips(BLOCK + 60), tmp_path / "pack", processes=1)
    expected, out, draw = tmp_path / "expected", tmp_path / "embeddings", random.Random(0)
    command = ["-m", "audit.embed", str(small_backbone), str(pack.folder), "--clip_seconds=0.5", "--out"]
    code, output = warm.run(*command, str(expected))
    assert code == 0, output
    kills = 0
    for _ in range(KILLS):
        code, output = warm.run(*command, str(out), kill_at=moment(draw, out, 30))
        assert code in (0, *KILLED), output
        kills += code != 0
        if code == 0:  # begun anew, to be killed some more
            shutil.rmtree(out)
    code, output = warm.run(*command, str(out))
    assert code == 0, output
    assert kills >= KILLS // 2
    assert np.array_equal(np.load(out / "vectors.npy"), np.load(expected / "vectors.npy"))
    assert sorted(path.name for path in out.iterdir()) == ["embeddings.json", "vectors.npy"]

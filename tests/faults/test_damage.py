"""What breaks in the middle of a run costs a sentence; from the state before it the run ends as if nothing had been."""

import json
import math
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from data.errors import DataError
from data.pack import Pack, shard_name

ALL = pytest.mark.parametrize("name", ["mae", "contrastive", "adapters"])


def steps_logged(out: Path) -> int:
    log = out / "metrics.jsonl"
    return len(log.read_text().splitlines()) if log.is_file() else 0


def wait_until(condition: Callable[[], bool], command) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert command.is_running(), command.output()
        assert time.monotonic() < deadline, command.output()
        time.sleep(0.005)


@pytest.mark.slow
def test_a_worker_that_dies(warm, run_of, resumed, unbroken, assert_one_sentence, assert_same_run, tmp_path):
    expected, out = unbroken("mae"), tmp_path / "run"
    command = warm.start(*run_of("mae", out, num_workers=1))
    wait_until(lambda: steps_logged(out) >= 3, command)
    (worker,) = (child for child in command.children() if child.status() != psutil.STATUS_ZOMBIE)
    worker.kill()
    assert_one_sentence(command.wait(), command.output(), "a process that reads ahead died")
    code, output = warm.run(*resumed("mae", out))
    assert code == 0, output
    assert_same_run(out, expected)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_a_shard_that_vanishes(
    workers, warm, fault_pack, run_of, resumed, unbroken, assert_one_sentence, assert_same_run, tmp_path
):
    """Whoever has mapped it goes on with it; whoever comes after says that it is missing."""
    expected, out = unbroken("mae"), tmp_path / "run"
    pack = Path(shutil.copytree(fault_pack.folder, tmp_path / "pack"))
    command = warm.start(*run_of("mae", out, data=pack, num_workers=workers))
    wait_until(lambda: steps_logged(out) >= 3, command)
    lost = pack / shard_name(1)
    lost.rename(tmp_path / "lost")
    wait_until(lambda: steps_logged(out) >= 6, command)
    command.kill()
    assert command.wait() == -9
    assert_one_sentence(*warm.run(*resumed("mae", out)), f"{lost} should hold")
    (tmp_path / "lost").rename(lost)
    code, output = warm.run(*resumed("mae", out))
    assert code == 0, output
    assert_same_run(out, expected)


@pytest.mark.parametrize("size", [None, 1000])
def test_a_shard_that_vanishes_before_anybody_reads_it(copied_pack, size):
    pack, file = Pack.open(copied_pack), copied_pack / shard_name(0)
    content = file.read_bytes()
    file.unlink()
    if size is not None:
        file.write_bytes(content[:size])
    with pytest.raises(DataError, match=f"shard_00000.i16 should hold {len(content)} bytes"):
        pack.samples(0)


@pytest.mark.slow
@ALL
def test_sound_that_becomes_nan(name, warm, run_of, resumed, unbroken, assert_one_sentence, assert_same_run, tmp_path):
    expected, out = unbroken(name), tmp_path / "run"
    ended = warm.run(*run_of(name, out, max_bad_steps=3), poison=[17, 1000])
    assert_one_sentence(*ended, "the gradient was not finite for 3 steps in a row")
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    first_bad = next(line["step"] for line in lines if math.isnan(line["loss"]))
    newest = max((out / "state").iterdir())
    assert newest.name == f"step_{first_bad - 1:08d}", "what was saved last is from before the bad steps"
    code, output = warm.run(*resumed(name, out))
    assert code == 0, output
    assert_same_run(out, expected)


@pytest.mark.slow
@ALL
def test_a_flipped_byte_in_the_newest_state(name, warm, resumed, unbroken, assert_same_run, tmp_path):
    expected = unbroken(name)
    out = Path(shutil.copytree(expected, tmp_path / "run"))
    newest = max((out / "state").iterdir())
    for file in ("model.safetensors", "state.json"):
        damaged = newest / file
        content = bytearray(damaged.read_bytes())
        content[len(content) // 2] ^= 1
        damaged.write_bytes(content)
        code, output = warm.run(*resumed(name, out))
        assert code == 0, output
        assert f"passed over: {damaged} is missing or damaged." in output
        assert_same_run(out, expected)

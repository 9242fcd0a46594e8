"""A run that was killed and resumed is the run that was not."""

import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

ROOT = Path(__file__).parents[2]


def kill_after(command: list[str], run: Path, lines: int, number: int, delay: float) -> subprocess.Popen:
    """Starts a run and sends it a signal `delay` seconds after its log has so many lines."""
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 120
    log = run / "metrics.jsonl"
    while not log.is_file() or len(log.read_text().splitlines()) < lines:
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline, "the run wrote no metrics"
        time.sleep(0.01)
    time.sleep(delay)
    subprocess.os.killpg(process.pid, number) if number == signal.SIGKILL else process.send_signal(number)
    process.wait(60)
    return process


@pytest.mark.slow(minutes=2)
def test_two_processes_killed_at_random_moments_resume_to_the_last_bit(
    short_flags, command, launch, losses_of, tmp_path, monkeypatch
):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    flags = short_flags | {"steps": "24", "ema": "0.9"}
    unbroken = tmp_path / "unbroken"
    ended = launch(flags | {"out": str(unbroken)}, 2)
    assert ended.returncode == 0, ended.stderr
    broken, draw = tmp_path / "broken", random.Random(2)
    arguments = command(flags | {"out": str(broken)}, 2)
    for kill in range(3):
        kill_after(arguments, broken, 3 + 6 * kill, signal.SIGKILL, draw.uniform(0, 0.3))
        arguments = command({"resume": str(broken)}, 2)
        if not any((broken / "state").glob("step_*")):  # killed before the first state: there is nothing to resume
            shutil.rmtree(broken)
            arguments = command(flags | {"out": str(broken)}, 2)
    ended = launch({"resume": str(broken)}, 2)
    assert ended.returncode == 0, ended.stderr
    assert len(losses_of(unbroken)) == 24
    assert losses_of(broken) == losses_of(unbroken)
    for name in ("backbone/model", "state/step_00000024/model", "state/step_00000024/average"):
        first, second = (load_file(run / f"{name}.safetensors") for run in (unbroken, broken))
        assert first.keys() == second.keys()
        assert all(first[key].equal(second[key]) for key in first), name


@pytest.mark.slow
def test_sigterm_saves_and_ends_cleanly(short_flags, command, launch, losses_of, tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    flags = short_flags | {"steps": "2000", "save_minutes": "60"}
    run = Path(flags["out"])
    process = kill_after(command(flags), run, 2, signal.SIGTERM, 0)
    output = process.stdout.read()
    assert process.returncode == 75, output
    assert "go on with --resume" in output
    (state,) = (run / "state").iterdir()
    done = int(state.name[5:])
    assert list(losses_of(run)) == list(range(1, done + 1))
    ended = launch({"resume": str(run), "steps": str(done + 2)})
    assert ended.returncode == 0, ended.stderr
    assert list(losses_of(run)) == list(range(1, done + 3))


@pytest.mark.slow
def test_a_damaged_newest_state_is_passed_over_and_named(short_flags, launch):
    assert launch(short_flags).returncode == 0
    run = Path(short_flags["out"])
    damaged = run / "state" / "step_00000006" / "optimizer.safetensors"
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    ended = launch({"resume": str(run)})
    assert ended.returncode == 0, ended.stderr
    assert f"passed over: {damaged} is missing or damaged." in ended.stdout
    assert "step_00000005" in ended.stdout
    assert not damaged.is_file() or damaged.read_bytes() != bytes(content)

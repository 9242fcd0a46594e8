"""Launchers that start a run again, and time that is up: the run goes on where it was, to the last bit."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from safetensors.torch import load_file

ROOT = Path(__file__).parents[1]
NUM_STEPS = 30


def start(log: Path, *command: str) -> subprocess.Popen:
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    with open(log, "a") as file:
        return subprocess.Popen([sys.executable, *command], cwd=ROOT, env=environment, stdout=file, stderr=file)


def last_saved(run: Path) -> int:
    return max((int(state.name[5:]) for state in (run / "state").glob("step_*")), default=0)


def wait_until(is_so: Callable[[], bool], process: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + 300
    while not is_so():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)


@pytest.mark.slow
def test_a_launcher_that_restarts_and_time_that_is_up_change_no_bit(toy_pack, tmp_path):
    settings = {
        "data": toy_pack.folder, "clip_seconds": "0.5", "batch_size": "8", "steps": NUM_STEPS, "log_every": "1",
        "probe_clips": "0", "eval_clips": "8", "eval_every": "0", "decoder_depth": "1", "cpu_threads": "1",
        "num_workers": "1",
    }  # fmt: skip
    recipe = ["pretrain/mae.py", *(f"--{name}={value}" for name, value in settings.items())]
    log, run, unbroken = tmp_path / "log", tmp_path / "run", tmp_path / "unbroken"
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=1", "--max-restarts=1"]
    command = [*launcher, *recipe, f"--out={run}", "--save_minutes=0"]

    # A process is killed; torchrun starts it again, and it finds its state. Then torchrun is told that time is up, and
    # tells the whole group of the process, what reads for it included.
    process = start(log, *command)
    wait_until(lambda: last_saved(run) >= 5, process, log)
    (worker,) = psutil.Process(process.pid).children()
    worker.kill()
    killed_at = last_saved(run)
    wait_until(lambda: last_saved(run) >= killed_at + 5, process, log)
    process.send_signal(signal.SIGTERM)
    assert process.wait(120) == 1, log.read_text()  # torchrun's, whatever its processes ended with
    stopped_at = last_saved(run)
    assert 5 < stopped_at < NUM_STEPS
    words = log.read_text()
    assert words.count("resumed  from") == 1, words
    assert f"stopped after {stopped_at} of {NUM_STEPS} steps; go on with --resume {run}" in words

    # The same command goes on; when there is nothing left to do, it ends.
    for again in (command, [*recipe, f"--out={run}", "--resume=auto"]):
        assert start(log, *again).wait(300) == 0, log.read_text()
    assert log.read_text().count(f"finished after {NUM_STEPS} of {NUM_STEPS} steps") == 2
    assert start(log, *recipe, f"--out={unbroken}").wait(300) == 0, log.read_text()
    for name in ("backbone/model", f"state/step_{NUM_STEPS:08d}/model", f"state/step_{NUM_STEPS:08d}/optimizer"):
        expected, found = (load_file(folder / f"{name}.safetensors") for folder in (unbroken, run))
        assert expected.keys() == found.keys()
        assert all(expected[key].equal(found[key]) for key in expected), name

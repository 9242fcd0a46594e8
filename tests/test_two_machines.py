"""Two machines, a pulled cable, a dead process: the run that went through it is the run that nothing happened to.

The machines are network namespaces, each with an address, an interface and a launcher of its own.
"""

import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "checkpoints" / "launch" / "two_machines.yaml"
NUM_STEPS = 36
CABLE = "cable"  # the interface of each machine
NUMBERS = itertools.count()


@dataclass
class Running:
    """A command, and the file in which it speaks; a pipe that nobody empties would stop it."""

    process: subprocess.Popen
    log: Path

    def end(self, seconds: float = 300) -> str:
        """What it has said, once it has ended by itself."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            pytest.fail(f"it hangs: {self.log.read_text()}")
        return self.log.read_text()

    def kill(self) -> None:
        if self.process.poll() is None:
            for one in (*psutil.Process(self.process.pid).children(recursive=True), self.process):
                one.kill()
            self.process.wait()


class Machine:
    """A network namespace and what runs in it."""

    def __init__(self, number: int, folder: Path):
        self.number, self.folder = number, folder
        self.name, self.address = f"luthier{os.getpid()}-{number}", f"10.77.0.{number + 1}"
        self.started: list[Running] = []

    def start(self, *command: str) -> Running:
        """Starts a Python command there."""
        environment = os.environ | {
            "GLOO_SOCKET_IFNAME": CABLE, "PET_LOCAL_ADDR": self.address, "ACCELERATE_USE_CPU": "true",
            "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
        }  # fmt: skip
        log = self.folder / f"{self.number}-{next(NUMBERS)}.log"
        with open(log, "w") as file:
            process = subprocess.Popen(
                ["ip", "netns", "exec", self.name, sys.executable, *command],
                cwd=ROOT, env=environment, stdout=file, stderr=subprocess.STDOUT,
            )  # fmt: skip
        self.started.append(Running(process, log))
        return self.started[-1]

    def set_cable(self, state: str) -> None:
        """Pulls it, "down", or plugs it in, "up"."""
        ip("-n", self.name, "link", "set", CABLE, state)


def ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


@pytest.fixture
def machines(tmp_path) -> Iterator[list[Machine]]:
    """Two machines with a cable between them."""
    if shutil.which("ip") is None:
        pytest.skip("there is no ip command to make two machines with")
    both = [Machine(number, tmp_path) for number in range(2)]
    try:
        try:
            for machine in both:
                ip("netns", "add", machine.name)
            ends = [["netns", machine.name, "name", CABLE] for machine in both]
            ip("link", "add", *ends[0], "type", "veth", "peer", *ends[1])
            for machine in both:
                ip("-n", machine.name, "address", "add", f"{machine.address}/24", "dev", CABLE)
                ip("-n", machine.name, "link", "set", "lo", "up")
                machine.set_cable("up")
        except OSError as error:
            pytest.skip(f"two machines cannot be made here: {error}")
        yield both
    finally:
        for machine in both:
            for one in machine.started:
                one.kill()
            with contextlib.suppress(OSError):
                ip("netns", "delete", machine.name)


def wait_until(is_so: Callable[[], bool], *running: Running) -> None:
    deadline = time.monotonic() + 300
    while not is_so():
        for one in running:
            assert one.process.poll() is None, one.log.read_text()
        assert time.monotonic() < deadline, [one.log.read_text() for one in running]
        time.sleep(0.02)


def losses_of(run: Path) -> dict[int, float]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line["loss"] for line in lines if "loss" in line}


def last_saved(run: Path) -> int:
    return max((int(state.name[5:]) for state in (run / "state").glob("step_*")), default=0)


@pytest.mark.slow(minutes=3)
def test_a_pulled_cable_and_a_dead_process_cost_no_batch(machines, toy_pack, tmp_path):
    settings = {
        "data": toy_pack.folder, "clip_seconds": "0.5", "batch_size": "8", "steps": NUM_STEPS, "log_every": "1",
        "probe_clips": "0", "eval_clips": "8", "eval_every": "0", "decoder_depth": "1",
    }  # fmt: skip
    recipe = ["pretrain/mae.py", *(f"--{name}={value}" for name, value in settings.items())]
    run, unbroken = tmp_path / "run", tmp_path / "unbroken"
    broken = [*recipe, f"--out={run}", "--save_minutes=0"]

    def launch(backend: str, max_restarts: int, *on_recipe: str) -> list[Running]:
        return [
            machine.start(
                "-m", "accelerate.commands.launch", f"--config_file={CONFIG}", "--mixed_precision=no",
                f"--machine_rank={machine.number}", f"--main_process_ip={machines[0].address}", "--num_processes=2",
                f"--rdzv_backend={backend}", f"--max_restarts={max_restarts}",
                # The namespaces share a name, by which c10d would tell which of them keeps its store.
                f"--rdzv_conf=is_host={str(machine.number == 0).lower()}",
                *broken, *on_recipe,
            )
            for machine in machines
        ]  # fmt: skip

    # Two machines; the cable is pulled. Both find out by themselves, in the time that the recipe was given.
    both = launch("static", 0, "--timeout_minutes=0.5")
    wait_until(lambda: last_saved(run) >= 5, *both)
    machines[1].set_cable("down")
    start = time.monotonic()
    said = [one.end() for one in both]
    assert time.monotonic() - start < 120
    for one, words in zip(both, said, strict=True):
        assert one.process.returncode == 1, words  # the launcher's, for a process that ended with 75
        assert "error: the other processes were expected to answer, one does not (" in words
        assert "exitcode  : 75" in words
    machines[1].set_cable("up")
    first = last_saved(run)

    # One machine goes on alone, until it is told that its time is up.
    alone = machines[0].start(*broken, "--resume=auto")
    wait_until(lambda: last_saved(run) >= first + 5, alone)
    alone.process.send_signal(signal.SIGUSR1)
    words = alone.end()
    assert alone.process.returncode == 75, words
    second = last_saved(run)
    assert f"stopped after {second} of {NUM_STEPS} steps; go on with --resume {run}" in words

    # Two again, by a launcher that starts processes again; a process of the other machine dies.
    both = launch("c10d", 1)
    wait_until(lambda: last_saved(run) >= second + 5, *both)
    (worker,) = psutil.Process(both[1].process.pid).children()
    worker.kill()
    said = [one.end() for one in both]
    assert [one.process.returncode for one in both] == [0, 0], said
    assert [words.count("resumed  from") for words in said] == [2, 2], said

    alone = machines[0].start(*recipe, f"--out={unbroken}")
    words = alone.end()
    assert alone.process.returncode == 0, words
    assert 5 <= first < second < NUM_STEPS
    expected, found = losses_of(unbroken), losses_of(run)
    assert list(found) == list(expected) == list(range(1, NUM_STEPS + 1))
    # Sums over two halves of a batch round otherwise than one over the whole. Other clips or masks would differ by far
    # more, as neighbouring steps do.
    assert max(abs(found[step] - expected[step]) for step in expected) < 1e-5
    assert min(abs(expected[step] - expected[step + 1]) for step in range(1, 5)) > 1e-2

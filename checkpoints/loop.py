"""What every training loop needs beside its arithmetic: clocks, signals, and one answer for all processes."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import psutil
import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs
from tqdm import tqdm

from checkpoints.throughput import Arithmetic, matrix_rate, memory_peak


class Clock:
    """Where the time of a run goes, what of its device it uses, and when it is time to save.

    It measures the device's rate of matrix products when it is made, which takes some tens of milliseconds.

    Attributes:
        seconds: of training so far in this process, waiting for data included, evaluations and saves not.
        step_flops: arithmetic of this process in a step, see `checkpoints.throughput`; None before the first.
    """

    def __init__(self, accelerator: Accelerator, save_minutes: float):
        self.seconds = 0.0
        self.step_flops: int | None = None
        self._accelerator, self._dtype = accelerator, mixed_dtype(accelerator)
        self._matrix_rate, self._arithmetic = matrix_rate(accelerator.device, self._dtype), Arithmetic()
        self._save_seconds, self._saved = 60 * save_minutes, time.monotonic()
        self._lap_start, self._lap_waited, self._lap_clips, self._lap_steps = time.monotonic(), 0.0, 0, 0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Counts the block as waiting for data."""
        start = time.monotonic()
        yield
        self._lap_waited += time.monotonic() - start

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leaves the block out of the lap."""
        start = time.monotonic()
        yield
        self._lap_start += time.monotonic() - start

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Counts the arithmetic of the block, forward and backward, while the first step lasts."""
        if self.step_flops is None:
            with self._arithmetic:
                yield
        else:
            yield

    def count(self, clips: int) -> None:
        """Ends a step and adds its clips to the lap; the first one says what a step's arithmetic is."""
        self._lap_clips += clips
        self._lap_steps += 1
        if self.step_flops is None:
            self.step_flops = self._arithmetic.operations
            if self._accelerator.is_main_process:
                kind = str(self._dtype).removeprefix("torch.")
                tqdm.write(
                    f"speed    {self.step_flops / 1e9:.3g} GFLOP a step and process; matrix products reach "
                    f"{self._matrix_rate / 1e9:.3g} GFLOP/s in {kind} on {self._accelerator.device}"
                )

    def lap(self) -> dict[str, float]:
        """How fast the run goes; starts a new lap.

        Returns:
            ``clips_per_s`` of all processes, ``wait_share`` of the time that this one waited for data, ``flops_per_s``
            of its arithmetic, ``flops_share`` of its device's rate of matrix products, ``memory_gib`` at its peak, and
            ``seconds`` in all.
        """
        now = time.monotonic()
        lap = max(now - self._lap_start, 1e-9)
        self.seconds += lap
        flops_per_s = self._lap_steps * (self.step_flops or 0) / lap
        values = {
            "clips_per_s": self._lap_clips / lap,
            "wait_share": self._lap_waited / lap,
            "flops_per_s": flops_per_s,
            "flops_share": flops_per_s / self._matrix_rate,
            "memory_gib": memory_peak(self._accelerator.device),
            "seconds": self.seconds,
        }
        self._lap_start, self._lap_waited, self._lap_clips, self._lap_steps = now, 0.0, 0, 0
        return values

    def is_time_to_save(self) -> bool:
        """Whether the last save is long enough ago."""
        return time.monotonic() - self._saved >= self._save_seconds

    def saved(self) -> None:
        """Notes that a state has just been saved."""
        self._saved = time.monotonic()


class StopSignal:
    """Turns a word that time is up into a flag: SIGTERM, SIGUSR1, which schedulers send ahead of it, and Ctrl-C.

    A second one ends the process at once. What arrives within `SAME_SECONDS` is the first one still: a launcher passes
    on what a terminal or a scheduler has sent to the whole group already.

    Attributes:
        received: the signal's name, or None.
    """

    SAME_SECONDS = 2.0

    def __init__(self):
        self.received: str | None = None
        self._since = 0.0
        numbers = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
        self._before = {number: signal.signal(number, self._note) for number in numbers}

    def _note(self, number: int, frame: object) -> None:
        now = time.monotonic()
        if self.received is None:
            self.received, self._since = signal.Signals(number).name, now
        elif now - self._since >= self.SAME_SECONDS:
            self.restore()
            signal.raise_signal(number)

    def restore(self) -> None:
        """Puts the handlers back that were there before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)


def waiting_at_most(minutes: float) -> InitProcessGroupKwargs:
    """For `Accelerator`: how long a process waits for the others before it gives them up as lost.

    Without it gloo waits for half an hour on a machine whose cable was pulled, and NCCL for ten minutes.
    """
    # Accelerate hands a timeout on only if it is not the one it takes for NCCL's own, whatever the backend.
    return InitProcessGroupKwargs(timeout=timedelta(minutes=minutes, microseconds=1))


def use_cores(accelerator: Accelerator, threads: int | None) -> None:
    """Sets the threads of each process on a CPU: the machine's cores, shared out, unless a number is given.

    `accelerate launch` and `torchrun` start every process with one thread where nobody says otherwise, which leaves
    the other cores of a laptop idle.
    """
    if accelerator.device.type != "cpu":
        return
    cores = min(psutil.cpu_count(logical=False) or 1, len(os.sched_getaffinity(0)))
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    torch.set_num_threads(threads or max(1, cores // processes))


def agreed(accelerator: Accelerator, *wishes: bool) -> list[bool]:
    """Whether any process has each of some wishes; all processes get the same answer."""
    if accelerator.num_processes == 1:
        return [bool(wish) for wish in wishes]
    flags = torch.tensor([float(bool(wish)) for wish in wishes], device=accelerator.device)
    return [flag > 0 for flag in accelerator.reduce(flags, "sum").tolist()]


def mixed_dtype(accelerator: Accelerator) -> torch.dtype:
    """The type in which Accelerate's configuration makes matrices multiply."""
    return {"bf16": torch.bfloat16, "fp16": torch.float16}.get(accelerator.mixed_precision, torch.float32)


def describe_device(accelerator: Accelerator) -> str:
    """Where a run computes, and how exactly, in words."""
    precision = "float32" if accelerator.mixed_precision == "no" else f"{accelerator.mixed_precision} mixed precision"
    return f"{accelerator.device}, {precision}, {torch.get_num_threads()} thread(s)"


def generator_states(accelerator: Accelerator) -> dict[str, torch.Tensor]:
    """The state of torch's generators on every process, as ``cpu.0`` and ``cuda.0`` for process 0."""
    kinds = {"cpu": torch.get_rng_state()}
    if accelerator.device.type == "cuda":
        kinds["cuda"] = torch.cuda.get_rng_state(accelerator.device)
    return {
        f"{kind}.{process}": state.cpu()
        for kind, own in kinds.items()
        for process, state in enumerate(accelerator.gather(own[None].to(accelerator.device)))
    }


def restore_generators(accelerator: Accelerator, states: dict[str, torch.Tensor]) -> None:
    """Puts this process's generators back; a process that was not there before keeps its own."""
    own = accelerator.process_index
    if f"cpu.{own}" in states:
        torch.set_rng_state(states[f"cpu.{own}"])
    if accelerator.device.type == "cuda" and f"cuda.{own}" in states:
        torch.cuda.set_rng_state(states[f"cuda.{own}"], accelerator.device)

"""Real recipes for benchmarks to drive: started as users start them, with somebody who notes when each step ends.

    python -m benchmarks.recipes times.json 20 pretrain.mae --data packs/gm --batch_size 16

runs twenty steps of a recipe and writes when they ended; `timed` starts that in processes of their own.
"""

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import ModuleType
from unittest import mock

import psutil
import torch
import torch.distributed as dist
from tqdm import tqdm

import losses.gather
from checkpoints.config import recipe_config

MAE, CONTRASTIVE, ADAPTERS = RECIPES = ("pretrain.mae", "pretrain.contrastive", "finetune.adapters")
SMALL = {
    MAE: {"eval_clips": 16, "probe_clips": 0},
    CONTRASTIVE: {"init": "untrained", "probe_clips": 64, "test_clips": 64},
    ADAPTERS: {"init": "untrained", "eval_clips": 16, "heads": "[family]"},
}
"""Flags with which a recipe evaluates little and starts from nothing."""


class Enough(Exception):
    """Ends a recipe after the steps that were to be seen."""


@dataclass(frozen=True)
class Setting:
    """How Accelerate is configured for a run."""

    device: str = "cpu"
    precision: str = "no"
    is_compiled: bool = False

    def __str__(self) -> str:
        kind = "float32" if self.precision == "no" else self.precision
        return f"{self.device} {kind}{', compiled' if self.is_compiled else ''}"

    def environment(self) -> dict[str, str]:
        """What tells Accelerate so."""
        return {
            "ACCELERATE_USE_CPU": str(self.device == "cpu").lower(),
            "ACCELERATE_MIXED_PRECISION": self.precision,
            "ACCELERATE_DYNAMO_BACKEND": "INDUCTOR" if self.is_compiled else "NO",
        }


@dataclass
class Times:
    """When things happened in one process of a run, in seconds since the epoch."""

    started: float
    """The process."""
    imported: float = 0.0
    """Python has read what the recipe needs."""
    steps: list[float] = field(default_factory=list)
    """The end of each step, before it is logged."""
    waited: list[float] = field(default_factory=list)
    """Seconds spent up to there on waiting for the other processes inside the loss."""
    exchanged: list[float] = field(default_factory=list)
    """Seconds spent up to there on exchanging rows with them inside the loss, after all had come."""

    def step_seconds(self, skipped: int = 1) -> float:
        """The mean of the steps after the first few."""
        return (self.steps[-1] - self.steps[skipped - 1]) / (len(self.steps) - skipped)


def settings_of(device: str) -> list[Setting]:
    """What is measured on a device: a CPU in float32, another in bfloat16, compiled and not."""
    if device == "cpu":
        return [Setting()]
    return [Setting(device, "bf16"), Setting(device, "bf16", True)]


def add_device(built: argparse.ArgumentParser) -> None:
    """Adds ``--device``."""
    help_ = "where recipes compute; on cuda in bfloat16, compiled and not (default: cpu)"
    built.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help=help_)


@contextmanager
def watched(recipe: ModuleType, on_step: Callable[[], None]) -> Iterator[None]:
    """While the block lasts, a function is called when a step of the recipe ends, before the step is logged."""

    class Bar(tqdm):
        def update(self, n: float = 1) -> bool | None:
            on_step()
            return super().update(n)

    with mock.patch.object(recipe, "tqdm", Bar):
        yield


def command_line(flags: Mapping[str, object]) -> list[str]:
    """Flags as a recipe reads them."""
    return [f"--{name}={value}" for name, value in flags.items()]


def launch(module: str, arguments: list[str], setting: Setting, processes: int = 1) -> None:
    """Runs a module in processes of its own until they end.

    Raises:
        RuntimeError: it failed; the message holds what it printed.
    """
    many = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    ended = subprocess.run(
        [sys.executable, *many, "-m", module, *arguments], env=os.environ | setting.environment(),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    if ended.returncode:
        raise RuntimeError(f"{module} {' '.join(arguments)} failed:\n{ended.stdout}")


def timed(recipe: str, flags: Mapping[str, object], steps: int, setting: Setting, processes: int = 1) -> Times:
    """When the steps of a recipe end, in the first of its processes; the recipe is then stopped where it is."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "times.json"
        launch("benchmarks.recipes", [str(file), str(steps), recipe, *command_line(flags)], setting, processes)
        return Times(**json.loads(file.read_text()))


class _TimedExchange:
    """torch.distributed with a clock on what the losses exchange."""

    def __init__(self, device: torch.device):
        self.waited, self.exchanged, self._device = 0.0, 0.0, device

    def __getattr__(self, name: str) -> object:
        found = getattr(dist, name)
        if name not in ("all_gather", "all_reduce"):
            return found

        def exchange(*arguments: object) -> None:
            start = self._now()
            dist.barrier()
            together = self._now()
            found(*arguments)
            self.waited += together - start
            self.exchanged += self._now() - together

        return exchange

    def _now(self) -> float:
        if self._device.type != "cpu":
            torch.accelerator.synchronize(self._device)
        return time.perf_counter()


def main() -> None:
    """Runs the recipe and notes its times."""
    file, steps, name, *flags = sys.argv[1:]
    times = Times(psutil.Process().create_time())
    recipe = importlib.import_module(name)
    times.imported = time.time()
    is_cpu = os.environ.get("ACCELERATE_USE_CPU") == "true"
    exchange = _TimedExchange(torch.device("cpu" if is_cpu else "cuda"))

    def note() -> None:
        times.steps.append(time.time())
        times.waited.append(exchange.waited)
        times.exchanged.append(exchange.exchanged)
        if len(times.steps) == int(steps):
            raise Enough

    with watched(recipe, note), mock.patch.object(losses.gather, "dist", exchange), suppress(Enough):
        recipe.main(recipe_config(recipe.Config, recipe.RECIPE, flags, recipe.__doc__))
    if os.environ.get("RANK", "0") == "0":
        Path(file).write_text(json.dumps(asdict(times)))
    if dist.is_initialized():
        dist.destroy_process_group()


if __name__ == "__main__":
    main()

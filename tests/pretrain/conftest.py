"""A pack whose families can be told apart by ear, and the shortest run that is one."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from data.clip import Clip, Labels, LabelSet
from data.pack import Pack
from data.writer import write_pack

ROOT = Path(__file__).parents[2]
PARTIALS = {"flute": (1.0,), "string": (1.0, 0.8, 0.7, 0.6, 0.5, 0.4), "reed": (1.0, 0.0, 0.8, 0.0, 0.6, 0.0, 0.4)}


@dataclass(frozen=True)
class Note:
    """A harmonic tone whose partials are its family's, as an `Audio`."""

    family: str
    hz: float
    seconds: float = 1.2

    def read(self) -> tuple[np.ndarray, int]:
        time = np.arange(round(16_000 * self.seconds)) / 16_000
        sound = sum(
            level * np.sin(2 * np.pi * self.hz * (index + 1) * time)
            for index, level in enumerate(PARTIALS[self.family])
        )
        return (0.2 * np.exp(-time) * sound).astype(np.float32)[:, None], 16_000


@pytest.fixture(scope="session")
def family_pack(tmp_path_factory) -> Pack:
    """72 notes of three families; twelve timbres to train on, six others to validate."""
    clips = []
    for number in range(108):
        family = list(PARTIALS)[number % 3]
        timbre = number // 6
        clips.append(
            Clip(
                id=f"notes/{number:03d}",
                source="notes",
                recording=f"{number:03d}",
                group=f"notes/{family}-{timbre}",
                audio=Note(family, 150 + 40 * (number % 7) + 3 * timbre),
                split="train" if timbre < 12 else "validation",
                labels=Labels(is_instrument=True, family=LabelSet((family,), complete=True), timbre=f"{timbre}"),
            )
        )
    return write_pack(clips, tmp_path_factory.mktemp("packs") / "families", processes=1)


@pytest.fixture
def short_flags(family_pack, tmp_path) -> dict[str, str]:
    """Flags of a run of a few seconds in ``tmp_path / "run"``."""
    return {
        "data": str(family_pack.folder), "clip_seconds": "1.0", "batch_size": "8", "steps": "6", "log_every": "1",
        "probe_clips": "0", "eval_clips": "8", "eval_every": "0", "save_minutes": "0", "cpu_threads": "1",
        "out": str(tmp_path / "run"),
    }  # fmt: skip


@pytest.fixture(scope="session")
def command() -> Callable[..., list[str]]:
    """``command(flags, processes=1, recipe="pretrain/mae.py")``: the command line of a run."""

    def build(flags: dict[str, str], processes: int = 1, recipe: str = "pretrain/mae.py") -> list[str]:
        launcher = (
            [] if processes == 1 else ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        )
        return [sys.executable, *launcher, recipe, *(f"--{name}={value}" for name, value in flags.items())]

    return build


@pytest.fixture(scope="session")
def launch(command) -> Callable[..., subprocess.CompletedProcess]:
    """``launch(flags, processes=1, recipe=…)`` runs a recipe in processes of its own and returns when it ends."""

    def run(flags: dict[str, str], processes: int = 1, recipe: str = "pretrain/mae.py") -> subprocess.CompletedProcess:
        return subprocess.run(
            command(flags, processes, recipe), cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=300
        )

    return run


def environment() -> dict[str, str]:
    """The environment of a recipe that is to run on the CPU."""
    return os.environ | {"ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="session")
def losses_of() -> Callable[[Path], dict[int, float]]:
    """``losses_of(run)``: the loss of every step in ``metrics.jsonl``."""

    def read(run: Path) -> dict[int, float]:
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        steps = [line["step"] for line in lines if "loss" in line]
        assert steps == sorted(set(steps)), "a step was logged twice or out of order"
        return {line["step"]: line["loss"] for line in lines if "loss" in line}

    return read

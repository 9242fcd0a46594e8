"""Commands that a test may kill at any moment, and what they shall have written in the end.

What later changes add is broken here too: a recipe gets an entry in `RECIPES`.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file
from transformers import ASTConfig, ASTModel

from backbones.ast_encoder import AstBackbone
from checkpoints.weights import save_backbone
from data.clip import LabelSet
from data.pack import Pack
from data.writer import write_pack

STEPS = 40
SHORT = {
    "clip_seconds": "0.5", "batch_size": "8", "log_every": "1", "eval_every": "0", "save_minutes": "0",
    "cpu_threads": "1", "steps": str(STEPS),
}  # fmt: skip
RECIPES = {
    "mae": ("pretrain/mae.py", {
        "decoder_width": "16", "decoder_depth": "1", "decoder_heads": "2", "probe_clips": "0", "eval_clips": "8",
        "ema": "0.9",
    }),
    "contrastive": ("pretrain/contrastive.py", {
        "objective": "supcon", "projector_hidden": "16", "projector_size": "8", "probe_clips": "16",
        "clips_per_class": "2",
    }),
    "adapters": ("finetune/adapters.py", {"heads": "[family]", "average": "ema", "keep_states": "2"}),
}  # fmt: skip
"""Every recipe that saves states: its file and the flags that make it small."""


@dataclass
class Command:
    """A command in a process of its own."""

    parent: "WarmParent"
    pid: int
    log: Path

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Sends a signal to the command and its children."""
        os.killpg(self.pid, number)

    def is_running(self) -> bool:
        """Whether it has not ended yet."""
        return psutil.Process(self.pid).status() != psutil.STATUS_ZOMBIE

    def wait(self) -> int:
        """Its exit code, -9 after SIGKILL, once it has ended."""
        return self.parent.ask({"wait": self.pid})["code"]

    def output(self) -> str:
        """What it printed."""
        return self.log.read_text()

    def children(self) -> list[psutil.Process]:
        """The processes that it started."""
        return psutil.Process(self.pid).children()


class WarmParent:
    """Starts commands without the seconds that their imports take, see warm_parent.py."""

    def __init__(self, folder: Path):
        self.folder, self._count = folder, 0
        environment = {"ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("warm_parent.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True, env=os.environ | environment,
        )  # fmt: skip
        self.threads = self._answer()["threads"]

    def start(self, *arguments: str, **faults: Any) -> Command:
        """Starts a command; see warm_parent.py for the faults."""
        self._count += 1
        log = self.folder / f"{self._count:04d}.log"
        pid = self.ask({"arguments": list(arguments), "log": str(log), **faults})["pid"]
        while psutil.pid_exists(pid) and os.getpgid(pid) != pid:
            time.sleep(0.001)  # until it leads its group
        return Command(self, pid, log)

    def run(self, *arguments: str, **faults: Any) -> tuple[int, str]:
        """Runs a command to its end; returns its exit code and what it printed."""
        command = self.start(*arguments, **faults)
        return command.wait(), command.output()

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Puts a request and waits for its answer."""
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return self._answer()

    def end(self) -> None:
        """Ends it."""
        self._process.kill()
        self._process.wait()

    def _answer(self) -> dict[str, Any]:
        return json.loads(self._process.stdout.readline())


@pytest.fixture(scope="session")
def warm(tmp_path_factory) -> Iterator[WarmParent]:
    """The parent of all commands."""
    parent = WarmParent(tmp_path_factory.mktemp("logs"))
    yield parent
    parent.end()


@pytest.fixture(scope="session")
def fault_pack(make_clips, tmp_path_factory) -> Pack:
    """60 clips of twelve timbres."""
    clips = [
        replace(clip, labels=replace(clip.labels, is_instrument=True, timbre=f"t{number // 5}",
                                     family=LabelSet((("string", "brass", "flute")[number // 5 % 3],), complete=True)),
                split="train" if number < 45 else "validation")
        for number, clip in enumerate(make_clips(60))
    ]  # fmt: skip
    return write_pack(clips, tmp_path_factory.mktemp("packs") / "faults", processes=1)


@pytest.fixture(scope="session")
def small_backbone(tmp_path_factory) -> Path:
    """Folder of an AST of a layer, for clips of half a second."""
    torch.manual_seed(0)
    config = ASTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, patch_size=16,
        frequency_stride=16, time_stride=16, max_length=48, num_mel_bins=128,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("backbones") / "small"
    save_backbone(AstBackbone(ASTModel(config), -6.0, 4.0), folder)
    return folder


@pytest.fixture
def run_of(fault_pack, small_backbone) -> Callable[..., list[str]]:
    """``run_of(name, out, **flags)``: the command line of a run of a recipe."""

    def build(name: str, out: Path, **flags: Any) -> list[str]:
        recipe, own = RECIPES[name]
        start = {"data": fault_pack.folder, "init": small_backbone, "out": out}
        return [recipe, *(f"--{flag}={value}" for flag, value in (SHORT | own | start | flags).items())]

    return build


@pytest.fixture(scope="session")
def resumed() -> Callable[[str, Path], list[str]]:
    """``resumed(name, out)``: the command line that goes on with a run."""
    return lambda name, out: [RECIPES[name][0], f"--resume={out}"]


@pytest.fixture(scope="session")
def unbroken(warm, fault_pack, small_backbone, tmp_path_factory) -> Callable[[str], Path]:
    """``unbroken(name)``: the run folder of a recipe that nothing happened to."""
    folder, made = tmp_path_factory.mktemp("unbroken"), {}

    def run(name: str) -> Path:
        if name not in made:
            recipe, own = RECIPES[name]
            start = {"data": fault_pack.folder, "init": small_backbone, "out": folder / name}
            flags = [f"--{flag}={value}" for flag, value in (SHORT | own | start).items()]
            code, output = warm.run(recipe, *flags)
            assert code == 0, output
            made[name] = folder / name
        return made[name]

    return run


@pytest.fixture(scope="session")
def assert_same_run() -> Callable[[Path, Path], None]:
    """``assert_same_run(found, expected)``: the same losses and weights, to the last bit."""

    def compare(found: Path, expected: Path) -> None:
        assert losses_of(found) == losses_of(expected)
        files = sorted(path.relative_to(expected) for path in expected.rglob("*.safetensors"))
        files = [file for file in files if file.parts[0] != "state" or file.parts[1] == f"step_{STEPS:08d}"]
        assert len(files) > 2
        for file in files:
            one, other = load_file(found / file), load_file(expected / file)
            assert one.keys() == other.keys(), file
            assert all(one[name].equal(other[name]) for name in one), file

    return compare


@pytest.fixture(scope="session")
def assert_one_sentence() -> Callable[[int, str, str], None]:
    """``assert_one_sentence(code, output, words)``: a command ended with one sentence that holds these words."""

    def compare(code: int, output: str, words: str) -> None:
        assert code == 2, output
        assert "Traceback" not in output, output
        errors = [line for line in re.split(r"[\r\n]", output) if "error: " in line]
        assert len(errors) == 1, output
        assert errors[0].startswith("error: "), output
        assert words in errors[0], output

    return compare


def losses_of(run: Path) -> list[tuple[int, float]]:
    """Step and loss of every line of ``metrics.jsonl``."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    losses = [(line["step"], line["loss"]) for line in lines if "loss" in line]
    assert [step for step, _ in losses] == list(range(1, STEPS + 1)), "a step is missing, or was logged twice"
    return losses

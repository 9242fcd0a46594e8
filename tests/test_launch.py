"""The files of checkpoints/launch/, and that every recipe learns the same under DDP and FSDP2 as in one process.

Run by a launcher, this file is the processes: it runs recipes one after the other, for starting them costs more than
their few steps.
"""

import importlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.state import AcceleratorState
from safetensors.torch import load_file
from torch import distributed
from transformers import ASTConfig, ASTModel

from backbones.ast_encoder import AstBackbone
from checkpoints.config import recipe_config
from checkpoints.run import RunFolder
from checkpoints.weights import load_backbone, save_backbone

ROOT = Path(__file__).parents[1]
LAUNCH = ROOT / "checkpoints" / "launch"
FILES = [ROOT / "accelerate_config.yaml", *sorted(LAUNCH.glob("*.yaml"))]
RECIPES = {
    "mae": ("pretrain/mae.py", {"probe_clips": 0, "eval_clips": 8, "ema": 0.9, "accumulation": 2}),
    "contrastive": (
        "pretrain/contrastive.py",
        {
            "objective": "supcon + 0.5*mae + 0.1*center", "class_level": "family", "class_distance": "centroids",
            "grad_cache": 1, "probe_clips": 24, "test_clips": 12,
        },
    ),
    "lora": (
        "finetune/adapters.py",
        {
            "uncertainty": "true", "metric": 0.1, "average": "ema", "eval_clips": 8, "heads_first": 0,
            "head_start": "random",
        },
    ),
}  # fmt: skip
"""Whatever a launch could change: micro-batches, cached gradients, averages, frozen weights, gathered clips."""
STEPS = 3


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_accelerate_reads_every_file(file):
    config = load_config_from_file(str(file))
    assert config.num_processes >= 2
    assert config.mixed_precision == ("no" if config.use_cpu else "bf16")
    lines = file.read_text().splitlines()
    comment = [line for line in lines if line.startswith("#")]
    assert any(f"--config_file {file.relative_to(ROOT)}" in line for line in comment), "how to launch it"
    assert max(map(len, lines)) <= 120
    if "fsdp2" in file.name:
        assert config.fsdp_config["fsdp_version"] == 2
        assert not config.fsdp_config["fsdp_cpu_ram_efficient_loading"]


def test_two_machines_count_the_processes_of_both():
    config = load_config_from_file(str(LAUNCH / "two_machines.yaml"))
    assert (config.num_machines, config.num_processes) == (2, 4)
    assert config.main_process_ip
    assert config.main_process_port


@pytest.fixture(scope="module")
def flags(toy_pack, tmp_path_factory) -> dict[str, object]:
    """Flags of a run of seconds, with a backbone as small as can be."""
    torch.manual_seed(0)
    config = ASTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, patch_size=16,
        frequency_stride=16, time_stride=16, max_length=96, num_mel_bins=128,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("launch")
    save_backbone(AstBackbone(ASTModel(config), -6.0, 4.0), folder / "ast")
    return {
        "data": toy_pack.folder, "init": folder / "ast", "clip_seconds": 1.0, "batch_size": 8,
        "steps": STEPS, "log_every": 1, "save_minutes": 0, "keep_states": 9, "cpu_threads": 1, "eval_every": 0,
    }  # fmt: skip


def orders(
    flags: dict, out: Path, engine: str, source: Path | None = None, step: int = 0, names: Iterable[str] = RECIPES
) -> list[dict]:
    """What the processes are to do: recipes from their beginning, or from a step of the same in `source`."""
    found = []
    for name in names:
        recipe, own = RECIPES[name]
        settings = flags | own | {"out": out / name} if source is None else {"resume": out / name}
        order = {"recipe": recipe, "arguments": [f"--{flag}={value}" for flag, value in settings.items()]}
        found.append(order | {"engine": engine, "run": str(out / name), "step": step})
        if source is not None:
            found[-1]["source"] = str(source / name)
    return found


def launch(asked: list[dict], folder: Path, config: str | None = None, num_processes: int = 1) -> None:
    """Runs this file by ``accelerate launch``, or as it is."""
    file = folder / "orders.json"
    file.write_text(json.dumps(asked))
    launcher = []
    if config:
        launcher = ["-m", "accelerate.commands.launch", "--config_file", str(LAUNCH / config)]
        launcher += ["--num_processes", str(num_processes), "--main_process_port", "0"]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        [sys.executable, *launcher, __file__, str(file)], cwd=ROOT, env=environment, capture_output=True, text=True,
        timeout=540,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-4000:]


def assert_same(one: Path, other: Path, names: Iterable[str] = RECIPES) -> None:
    """Losses and everything that is kept agree within what float32 sums in another order differ by."""
    for name in names:
        logs = [RunFolder(run / name).read_log() for run in (one, other)]
        losses = [{line["step"]: (line["loss"], line["grad_norm"]) for line in log if "loss" in line} for log in logs]
        assert list(losses[0]) == list(losses[1]) == list(range(1, STEPS + 1))
        for step, values in losses[0].items():
            assert losses[1][step] == pytest.approx(values, rel=1e-4), (name, step)
        files = sorted(file.relative_to(one) for file in (one / name).rglob("*.safetensors"))
        files = [file for file in files if file.name != "generators.safetensors"]  # one for each process
        assert {file.parent.name for file in files} >= {"backbone", f"step_{STEPS:08d}"}
        for file in files:
            if file.parent.name.startswith("step_") and file.parent.name != f"step_{STEPS:08d}":
                continue
            first, second = load_file(one / file), load_file(other / file)
            assert first.keys() == second.keys(), file
            for key, tensor in first.items():
                torch.testing.assert_close(second[key], tensor, rtol=1e-3, atol=1e-5, msg=f"{file} {key}")
        load_backbone(other / name / "backbone", "ast")


@pytest.fixture(scope="module")
def alone(flags, tmp_path_factory) -> Path:
    """The runs of one process."""
    out = tmp_path_factory.mktemp("alone")
    launch(orders(flags, out, "ddp"), out)
    return out


@pytest.mark.slow
def test_two_processes_learn_what_one_does_and_go_on_from_it_and_from_shards(flags, alone, tmp_path):
    shards, copies, again = tmp_path / "shards", tmp_path / "copies", tmp_path / "again"
    asked = orders(flags, shards, "fsdp2") + orders(flags, copies, "ddp", alone, 1, ["mae"])
    asked += orders(flags, copies, "ddp", shards, 1, ["contrastive", "lora"])
    launch(asked + orders(flags, again, "fsdp2", copies, 2, ["mae"]), tmp_path, "cpu_fsdp2.yaml", 2)
    assert_same(alone, shards)
    assert_same(alone, copies)
    assert_same(alone, again, ["mae"])


@pytest.mark.slow
def test_four_processes_learn_what_one_does(flags, alone, tmp_path):
    copies, shards = tmp_path / "copies", tmp_path / "shards"
    asked = orders(flags, copies, "ddp") + orders(flags, shards, "fsdp2", copies, 1)
    launch(asked, tmp_path, "cpu.yaml", 4)
    assert_same(alone, copies)
    assert_same(alone, shards)


def copy_until(source: Path, step: int, out: Path) -> None:
    """A run as if it had been killed after a step."""
    shutil.copytree(source, out)
    for state in (out / "state").iterdir():
        if int(state.name[5:]) > step:
            shutil.rmtree(state)


def main() -> None:
    """What each process does."""
    Accelerator.end_training = lambda self: [tracker.finish() for tracker in self.trackers]  # and stay together
    for order in json.loads(Path(sys.argv[1]).read_text()):
        is_sharded = order["engine"] == "fsdp2"
        os.environ["ACCELERATE_USE_FSDP"] = str(is_sharded).lower()
        os.environ |= {"FSDP_VERSION": "2", "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP"}
        AcceleratorState._reset_state(reset_partial_state=True)
        if "source" in order and os.environ.get("RANK", "0") == "0":
            copy_until(Path(order["source"]), order["step"], Path(order["run"]))
        if distributed.is_initialized():
            distributed.barrier()
        recipe = order["recipe"]
        module = importlib.import_module(recipe.removesuffix(".py").replace("/", "."))
        module.main(recipe_config(module.Config, recipe, order["arguments"], module.__doc__))
        assert Accelerator().is_fsdp2 == is_sharded, order


if __name__ == "__main__":
    main()

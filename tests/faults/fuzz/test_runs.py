"""Run folders, backbones and states from somebody else."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn

from audit.embedder import Embedder
from checkpoints import state
from checkpoints.config import parse_config, recipe_config
from checkpoints.heads import DESCRIPTION_NAME, WEIGHTS_NAME
from checkpoints.run import RunFolder
from checkpoints.state import Progress, load_state, newest_good_state, save_state
from checkpoints.weights import load_backbone
from finetune.heads import HeadSpec
from finetune.hearing import Settings, hear
from finetune.model import RECIPE, FineTuned
from pretrain import mae

SPECS = [HeadSpec("family", "binary", ("brass", "string")), HeadSpec("pitch", "classes", ("60", "61", "62"))]


@pytest.fixture
def fine_tuned(small_backbone, tmp_path) -> RunFolder:
    """A run whose heads were fine-tuned on a frozen backbone."""
    run = RunFolder(tmp_path / "fine_tuned")
    run.write_config(RECIPE, {"clip_seconds": 0.5, "pooling": "mean", "method": "head"})
    shutil.copytree(small_backbone, run.backbone)
    FineTuned(load_backbone(run.backbone), None, "head", "mean", SPECS, "linear", 8, 1, 8000).save(run)
    return run


def predict(run: RunFolder) -> None:
    """Hears a second with a fine-tuned run."""
    model = FineTuned.load(run.path)
    sound = 0.1 * torch.randn(16_000, generator=torch.Generator().manual_seed(0)).numpy()
    size, _ = Settings().sizes(model)
    hear(model, [(0, sound[:size])], Settings(), lambda seconds: None)


def test_descriptions_of_heads(attack, damaged_json, fine_tuned):
    file = fine_tuned.heads / DESCRIPTION_NAME
    attack(damaged_json(file.read_bytes()), file.write_bytes, lambda: predict(fine_tuned))


def test_weights_of_heads(attack, damaged_weights, fine_tuned):
    file = fine_tuned.heads / WEIGHTS_NAME
    attack(damaged_weights(file.read_bytes()), file.write_bytes, lambda: predict(fine_tuned))


@pytest.fixture(scope="session")
def damaged_weights(damaged) -> Callable[[bytes], Any]:
    """``damaged_weights(content)``: what may become of a safetensors file, above all of its header."""

    def load(content: bytes) -> dict[str, Any]:
        return json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])

    def build(content: bytes) -> Any:
        rest = content[8 + int.from_bytes(content[:8], "little") :]

        def dump(header: Any) -> bytes:
            text = json.dumps(header).encode()
            return len(text).to_bytes(8, "little") + text + rest

        return damaged(content, load, dump)

    return build


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "model.safetensors"])
def test_backbones(attack, damaged_json, damaged_weights, small_backbone, tmp_path, name):
    folder = Path(shutil.copytree(small_backbone, tmp_path / "backbone"))
    file = folder / name
    cases = (damaged_weights if file.suffix == ".safetensors" else damaged_json)(file.read_bytes())

    def embed() -> None:
        embedder = Embedder.load(str(folder), "cpu", None, (), 8000, None)
        embedder(torch.zeros(8000).numpy())

    attack(cases, file.write_bytes, embed, share=0.5)


def test_configs_of_runs(attack, damaged, small_backbone, tmp_path):
    run = RunFolder(tmp_path / "run")
    run.write_config(
        "pretrain/mae.py", {"clip_seconds": 0.5, "batch_size": 8, "probe_pooling": "mean", "data": "packs/x"}
    )
    shutil.copytree(small_backbone, run.backbone)
    file = run.path / "config.yaml"

    def read() -> None:
        recipe_config(mae.Config, mae.RECIPE, ["--resume", str(run.path)], "")
        RunFolder.newest(tmp_path, "pretrain/mae.py")
        Embedder.load(str(run.path), "cpu", None, (), None, None)

    attack(_damaged_yaml(damaged, file), file.write_bytes, read, share=0.5)


def test_settings(attack, damaged, tmp_path):
    file = tmp_path / "settings.yaml"
    file.write_text("preset: tiny\nmask_block: [5, 5]\naugment:\n  gain_db: 3\nmix:\n  probability: 0.5\nlr: 1.0e-3\n")
    attack(
        _damaged_yaml(damaged, file), file.write_bytes, lambda: parse_config(mae.Config, ["--config", str(file)], ""),
        share=0.5,
    )  # fmt: skip


def _damaged_yaml(damaged: Callable, file: Path) -> Any:
    return damaged(file.read_bytes(), yaml.safe_load, lambda values: yaml.safe_dump(values).encode())


def test_logs(attack, damaged, tmp_path):
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    for step in range(4):
        run.log({"step": step, "clips": 8 * step, "loss": 0.5})
    content = run.metrics.read_bytes()
    attack(damaged(content), run.metrics.write_bytes, lambda: run.cut_log(2))


@pytest.fixture
def saved(tmp_path) -> Path:
    """The state of a network of two layers."""
    model, optimizer = _network()
    _step(model, optimizer)
    generators = {"cpu.0": torch.get_rng_state()}
    return save_state(
        tmp_path / "state", Progress(7, {"seed": "0"}, {"skipped_steps": 0}), model, optimizer, generators
    )


def _network() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    return model, torch.optim.AdamW(model.parameters())


def _resume(folder: Path) -> None:
    """Loads a state and takes a step, as a resumed run does."""
    path, _ = newest_good_state(folder)
    model, optimizer = _network()
    progress, generators = load_state(path, {"seed": "0"}, model, optimizer)
    assert progress.step + 1
    assert all(value >= 0 for value in progress.counters.values())
    torch.set_rng_state(generators["cpu.0"])
    _step(model, optimizer)


def _step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """With gradients of ones: autograd, once it had threads in the parent, refuses to work in a fork."""
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()


@pytest.mark.parametrize("is_forged", [False, True])
def test_what_describes_a_state(attack, damaged_json, saved, is_forged):
    file = saved / "state.json"

    def write(content: bytes) -> None:
        try:
            values = json.loads(content)
            values.pop("checksum")
            content = json.dumps(values | {"checksum": state._checksum_of_values(values)}).encode()
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            pass  # as it is
        file.write_bytes(content)

    attack(damaged_json(file.read_bytes()), write if is_forged else file.write_bytes, lambda: _resume(saved.parent))


@pytest.mark.parametrize("name", ["model", "optimizer", "generators"])
def test_forged_states(attack, damaged_weights, saved, name):
    file, about = saved / f"{name}.safetensors", saved / "state.json"

    def write(content: bytes) -> None:
        file.write_bytes(content)
        values = json.loads(about.read_text())
        values.pop("checksum")
        values["checksums"][file.name] = state.checksum_of(file)
        about.write_text(json.dumps(values | {"checksum": state._checksum_of_values(values)}))

    attack(damaged_weights(file.read_bytes()), write, lambda: _resume(saved.parent))

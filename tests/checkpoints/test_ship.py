"""What ships: half the room, the same sound, everything that would make it again, and a card."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from audit.embedder import Embedder
from checkpoints.config import as_yaml_values, parse_config
from checkpoints.errors import CheckpointError
from checkpoints.ship import ship, training_seconds
from checkpoints.weights import load_backbone, save_backbone
from pretrain import contrastive, mae

PACK = {
    "num_clips": 1200, "hours": 1.5, "seed": 3, "splits": {"train": {"clips": 1000, "hours": 1.2}},
    "sources": {"gm": {"clips": 1200, "hours": 1.5, "licence": "that of the SoundFont"}},
}  # fmt: skip


@pytest.fixture
def run(shipped, make_run):
    """A contrastive run after a masked autoencoder, on a pack elsewhere."""
    pack = shipped.parent / "elsewhere" / "notes"
    pack.mkdir(parents=True)
    (pack / "pack.json").write_text(json.dumps(PACK))
    first = make_run("first", mae.RECIPE, **as_yaml_values(mae.Config(data=pack, steps=30, seed=5)))
    first.log({"step": 20, "clips": 320, "loss": 0.5, "seconds": 3600.0})
    first.log({"step": 30, "clips": 480, "loss": 0.4, "seconds": 1800.0})
    config = contrastive.Config(data=pack, init="runs/first", objective="supcon", pooling="mean_layers", steps=8)
    second = make_run("second", contrastive.RECIPE, **as_yaml_values(config))
    second.log({"step": 8, "clips": 512, "loss": 0.3, "seconds": 90.0})
    second.log({"step": 8, "clips": 512, "knn": 0.625, "start_knn": 0.5, "instrument_auc": 0.75, "skipped_steps": 0})
    return second


def test_the_folder_holds_half_precision_that_loads_whole_and_sounds_the_same(run, shipped, small_ast):
    out = ship(run, shipped / "ast-tiny", "two cores")
    assert sorted(file.name for file in out.iterdir()) == [
        "1_mae.yaml", "README.md", "config.json", "config.yaml", "model.safetensors", "preprocessor_config.json",
    ]  # fmt: skip
    assert {tensor.dtype for tensor in load_file(out / "model.safetensors").values()} == {torch.float16}
    loaded = load_backbone(out).eval()
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}
    sound = 0.1 * torch.randn(1, small_ast.num_samples)
    with torch.no_grad():
        torch.testing.assert_close(loaded(sound).tokens, small_ast(sound).tokens, atol=5e-3, rtol=0)
    embedder = Embedder.load("ast-tiny")
    assert embedder.pooling == "mean_layers"


@pytest.mark.slow
def test_transformers_alone_loads_it_in_full_precision(run, shipped):
    out = ship(run, shipped / "ast-tiny", "two cores")
    script = f"""
        import sys
        from transformers import ASTModel, AutoFeatureExtractor
        model = ASTModel.from_pretrained({str(out)!r})
        assert next(model.parameters()).dtype.itemsize == 4
        assert AutoFeatureExtractor.from_pretrained({str(out)!r}).mean == -5.25
        assert "checkpoints" not in sys.modules
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, cwd=out)
    assert done.returncode == 0, done.stderr


def test_its_settings_make_it_again_and_name_no_path_of_this_machine(run, shipped):
    out = ship(run, shipped / "ast-tiny", "two cores")
    first = parse_config(mae.Config, ["--config", str(out / "1_mae.yaml")], "")
    second = parse_config(contrastive.Config, ["--config", str(out / "config.yaml")], "")
    assert (first.steps, first.seed, str(first.data)) == (30, 5, "packs/notes")
    assert (second.objective, second.pooling, second.init) == ("supcon", "mean_layers", str(first.out))
    assert str(second.out) == "runs/ast-tiny_2_contrastive"
    for file in out.glob("*.[ym]*"):
        assert str(shipped.parent) not in file.read_text()
    assert "recipe" not in yaml.safe_load((out / "config.yaml").read_text())


def test_the_card_tells_data_licence_hours_commands_seeds_device_and_scores(run, shipped):
    text = (ship(run, shipped / "ast-tiny", "two cores") / "README.md").read_text()
    for words in (
        "`packs/notes`: 1,200 clips, 1.5 h (train 1,000), seed 3", "licence: that of the SoundFont",
        "From random weights, on two cores", "| 1 mae | 30 | 480 | 1.50 | 5 |", "| 2 contrastive | 8 | 512 |",
        "accelerate launch pretrain/mae.py --config checkpoints/pretrained/ast-tiny/1_mae.yaml\n",
        "accelerate launch pretrain/contrastive.py --config checkpoints/pretrained/ast-tiny/config.yaml\n",
        "| family, kNN, balanced accuracy | 0.625 | 0.500 |  |", "## Limits",
    ):  # fmt: skip
        assert words in text
    assert text.count("packs/notes`:") == 1
    text = (ship(run, shipped / "ast-tiny", "two cores", "## Fonts\n\nNone.") / "README.md").read_text()
    assert text.endswith("## Fonts\n\nNone.\n")


def test_seconds_count_anew_after_a_resume():
    assert training_seconds([{"seconds": 5.0}, {"step": 1}, {"seconds": 9.0}, {"seconds": 2.0}]) == 11.0
    assert training_seconds([]) == 0.0


def test_what_does_not_fit_is_refused_and_nothing_is_written(run, shipped, monkeypatch):
    monkeypatch.setattr("checkpoints.ship.MOST_BYTES", 100_000)
    out = shipped / "ast-mini"
    with pytest.raises(CheckpointError, match=r"at most 0\.1 MB, .*ast-mini with its 1 neighbours would be"):
        ship(run, out, "two cores")
    assert not out.exists()


def test_weights_that_half_precision_cannot_hold_are_refused(run, shipped):
    backbone = load_backbone(run.backbone)
    with torch.no_grad():
        next(backbone.parameters()).view(-1)[0] = 1e6
    save_backbone(backbone, run.backbone)
    with pytest.raises(CheckpointError, match="in half precision the tokens of runs/second/backbone should be"):
        ship(run, shipped / "ast-tiny", "two cores")


def test_a_history_that_is_not_whole_is_refused(run, shipped, make_run):
    out = shipped / "ast-tiny"
    with pytest.raises(CheckpointError, match=r"was expected, runs/lora is of finetune/adapters\.py"):
        ship(make_run("lora", "finetune/adapters.py"), out, "two cores")
    config = run.config()
    run.write_config(contrastive.RECIPE, config | {"init": "newest"})
    with pytest.raises(CheckpointError, match="runs/second started from newest, and no run or backbone is found there"):
        ship(run, out, "two cores")
    run.write_config(contrastive.RECIPE, config | {"data": "packs/gone"})
    with pytest.raises(CheckpointError, match=r"packs/gone/pack\.json cannot be read"):
        ship(run, out, "two cores")
    run.write_config(contrastive.RECIPE, config)
    run.metrics.unlink()
    with pytest.raises(CheckpointError, match="its log is empty"):
        ship(run, out, "two cores")
    assert Path("runs/second/backbone").is_dir()

"""Fine-tuning from the command line to the run folder, and what a run promises."""

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import ASTConfig, ASTModel, AutoModel

from backbones.ast_encoder import AstBackbone
from checkpoints.config import parse_config, recipe_config
from checkpoints.errors import CheckpointError
from checkpoints.run import RunFolder
from checkpoints.weights import save_backbone
from data.errors import DataError
from data.windows import window_starts
from finetune import adapters
from finetune.adapters import RECIPE, Config, main
from finetune.evaluation import mean_score, predict_clips
from finetune.model import FineTuned

ROOT = Path(__file__).parents[2]
EACH_HEAD = {"instrument", "family", "pitch", "is_instrument"}


def config_of(flags: dict[str, str]) -> Config:
    return parse_config(Config, [f"--{name}={value}" for name, value in flags.items()], "")


def run_of(flags: dict[str, str], **more: str) -> RunFolder:
    return main(config_of(flags | more))


def losses_of(run: RunFolder) -> list[float]:
    return [line["loss"] for line in run.read_log() if "loss" in line]


def test_a_run_leaves_all_that_later_commands_need(short_run, small_ast, capsys):
    run = run_of(short_run)
    said = capsys.readouterr().out
    assert "lora trains 0.002 M" in said
    assert {path.name for path in run.path.iterdir()} == {
        "config.yaml", "metrics.jsonl", "logs", "backbone", "adapter", "heads", "state", "figures", "scores.json",
    }  # fmt: skip
    assert {path.name for path in run.heads.iterdir()} == {"heads.safetensors", "heads.json"}
    scores = json.loads((run.path / "scores.json").read_text())
    assert set(scores) == {"validation", "test", "seconds", "steps", "trainable", "parameters"}
    assert {key.removesuffix("_known") for key in scores["test"]} >= EACH_HEAD
    assert 0 < scores["trainable"] < scores["parameters"]
    assert "| instrument " in said
    assert "violin" in said
    before, after = (load_file(folder / "model.safetensors") for folder in (small_ast, run.backbone))
    assert {name: tuple(value.shape) for name, value in before.items()} == {
        name: tuple(value.shape) for name, value in after.items()
    }, "the base was changed"
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_peft_loads_the_adapter_without_our_code_and_a_reload_gives_equal_logits(short_run, band_pack):
    run = run_of(short_run)
    model = FineTuned.load(run.path)
    waveform = torch.from_numpy(band_pack.samples(0)[:16000] / 32768).float()[None]
    adapted = PeftModel.from_pretrained(AutoModel.from_pretrained(run.backbone), run.adapter).eval()
    ours = model.backbone.model.state_dict()
    theirs = adapted.get_base_model().state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    again = FineTuned.load(run.path)
    assert all(torch.equal(values, again(waveform)[name]) for name, values in model(waveform).items())
    assert model.thresholds.keys() == {"instrument", "family", "is_instrument"}
    assert model.scores["instrument_known"] > 0


def test_it_learns_what_can_be_heard(short_run, band_pack):
    run = run_of(
        short_run,
        steps="60",
        eval_every="0",
        save_minutes="100",
        heads="[instrument]",
        lr="0.01",
        head_lr="0.01",
        head_start="random",
    )
    losses = losses_of(run)
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    assert json.loads((run.path / "scores.json").read_text())["test"]["instrument_map"] > 0.6


@pytest.mark.parametrize(
    "flags",
    [
        {"method": "head"}, {"method": "full"}, {"method": "adalora", "steps": "12"}, {"method": "bottleneck"},
        {"uncertainty": "true", "class_weights": "true", "head_losses": "{family: focal, instrument: cross_entropy}"},
        {"consistency": "0.5", "metric": "0.1", "heads": "[instrument, family]", "pooling": "attentive"},
        {"patchout": "0.5", "head_form": "deep", "average": "ema", "accumulation": "2", "balance": "instrument"},
        {"predominant_only": "true", "assume_complete": "[instrument]", "average": "swa", "head_form": "attention"},
        {"pooling": "mean_layers", "method": "full", "mix.probability": "0.5"},
    ],
    ids=lambda flags: "-".join(flags),
)  # fmt: skip
def test_every_way_to_train_runs_and_can_be_loaded(short_run, flags):
    run = run_of(short_run, **({"steps": "3", "eval_every": "0"} | flags))
    values = [line for line in run.read_log() if "loss" in line]
    assert all(torch.isfinite(torch.tensor(line["loss"])) for line in values)
    assert values[-1]["skipped_steps"] == 0
    model = FineTuned.load(run.path)
    assert model.method == flags.get("method", "lora")
    assert run.adapter.exists() == (model.method not in ("head", "full"))
    if "consistency" in flags:
        assert all(line["loss_consistency"] >= 0 and line["loss_metric"] > 0 for line in values)


def test_a_published_ast_whose_patches_overlap_is_adapted(short_run, tmp_path):
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    save_backbone(AstBackbone(ASTModel(ASTConfig(**sizes)), -4.27, 4.57), tmp_path / "published")  # strides of 10
    flags = short_run | {"init": str(tmp_path / "published"), "steps": "2", "eval_every": "0"}
    for method, patchout in (("lora", "0.5"), ("conformer", "0")):
        run = run_of(flags, method=method, patchout=patchout, out=str(tmp_path / method))
        assert FineTuned.load(run.path).backbone.grid == (12, 9)
        assert all(math.isfinite(loss) for loss in losses_of(run))


def test_a_frozen_backbone_stays_as_it_is_and_a_full_one_does_not(short_run, small_ast, tmp_path):
    frozen = run_of(short_run, method="head", out=str(tmp_path / "frozen"), steps="2")
    full = run_of(short_run, method="full", out=str(tmp_path / "full"), heads_first="0")
    before, still, moved = (
        load_file(folder / "model.safetensors") for folder in (small_ast, frozen.backbone, full.backbone)
    )
    assert all(torch.equal(before[name], still[name]) for name in before)
    assert not all(torch.equal(before[name], moved[name]) for name in before)


def test_the_heads_learn_alone_first(short_run):
    run = run_of(short_run, heads_first="0.5", eval_every="0", steps="4")
    states = {path.name: load_file(path / "model.safetensors") for path in sorted(run.state.iterdir())}
    names = [name for name in states["step_00000001"] if "lora_" in name]
    assert names
    first, second, last = (states[f"step_0000000{step}"] for step in (1, 2, 4))
    assert all(torch.equal(first[name], second[name]) for name in names)
    assert not all(torch.equal(second[name], last[name]) for name in names)
    heads = [name for name in first if ".heads." in name]
    assert not all(torch.equal(first[name], second[name]) for name in heads)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_resumed_run_ends_as_the_unbroken_one_to_the_last_bit(short_run, tmp_path, method):
    flags = short_run | {"method": method, "average": "ema"}
    whole = run_of(flags)
    broken = tmp_path / "broken"
    shutil.copytree(whole.path, broken)
    for state in sorted((broken / "state").iterdir()):
        if state.name > "step_00000003":
            shutil.rmtree(state)
    shutil.rmtree(broken / "heads")  # as if it had been killed between its steps 3 and 4, and lost more than that
    run = main(recipe_config(Config, RECIPE, [f"--resume={broken}"], ""))
    last = [load_file(path / "state/step_00000006/model.safetensors") for path in (whole.path, run.path)]
    assert all(torch.equal(last[0][name], last[1][name]) for name in last[0])
    assert losses_of(run) == losses_of(whole)


def test_the_best_network_is_kept_and_no_better_one_ends_the_run(short_run, monkeypatch):
    scores = iter([0.2, 0.9, 0.5, 0.4, 0.3, 0.2])
    monkeypatch.setattr("finetune.evaluation.mean_score", lambda values: next(scores))
    run = run_of(short_run, steps="6", eval_every="1", patience="2")
    kept = load_file(run.heads / "heads.safetensors")
    states = {path.name: load_file(path / "model.safetensors") for path in run.state.iterdir()}
    assert max(states) == "step_00000004"
    for step, is_kept in ((2, True), (4, False)):
        state = states[f"step_{step:08d}"]
        same = [torch.equal(value, state[f"model.{name}"]) for name, value in kept.items()]
        assert all(same) == is_kept


def test_other_data_is_tested_where_it_is_given(short_run, band_pack, capsys):
    run_of(short_run, test_data=str(band_pack.folder), steps="2")
    assert f"12 validation clips, 12 test clips of {band_pack.folder}" in capsys.readouterr().out


def test_a_share_of_the_labels_makes_small_batches(short_run, capsys):
    run_of(short_run, label_share="0.1", steps="2")
    said = capsys.readouterr().out
    assert "clips    5 to learn from" in said
    assert "of 5 clips on 1 process" in said


def test_a_clip_in_a_padded_batch_is_heard_as_alone(short_run, band_pack):
    model = FineTuned.load(run_of(short_run, steps="2", pooling="attentive").path)
    waveform = torch.from_numpy(band_pack.samples(1)[:16000] / 32768).float()
    short = waveform.clone()
    short[8000:] = 0.0
    together = model(torch.stack([waveform, short]), torch.tensor([16000, 8000]))
    alone = model(short[None, :8000], torch.tensor([8000]))
    for name, values in together.items():
        torch.testing.assert_close(values[1:], alone[name], atol=1e-5, rtol=1e-5)


def test_a_run_is_judged_by_precision_and_accuracy_alone():
    assert mean_score({"a_map": 0.5, "b_accuracy": 0.7, "a_auc": 1.0}) == pytest.approx(0.6)
    assert mean_score({}) == 0.0


def test_a_clip_is_the_mean_of_its_windows(short_run, band_pack):
    model = FineTuned.load(run_of(short_run, steps="2").path)
    found = predict_clips(model, band_pack, band_pack.rows("test")[:3], frozenset())
    samples = torch.from_numpy(band_pack.samples(int(band_pack.rows("test")[0])) / 32768).float()
    starts = window_starts(len(samples), model.num_samples)
    assert len(starts) == 2
    windows = torch.stack([samples[start : start + model.num_samples] for start in starts])
    expected = model.probabilities(windows)["instrument"].mean(0)
    torch.testing.assert_close(found.probabilities["instrument"][0], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("flags", "error", "message"),
    [
        ({"heads": "[genre]"}, CheckpointError, "asks for genre, which these training clips cannot teach"),
        ({"backbone": "wav2vec2"}, CheckpointError, "holds a"),
        ({"sources": "[nsynth]"}, DataError, "ids begin with nsynth/"),
        ({"consistency": "1", "heads": "[pitch]"}, CheckpointError, "needs the heads instrument and family"),
        ({"head_weights": "{instrument: 0, family: 0, pitch: 0, is_instrument: 0}"}, CheckpointError, "no head"),
        ({"init": "nobody/nothing-of-the-kind"}, CheckpointError, "is no folder here"),
        ({"test_data": "nowhere"}, DataError, "nowhere"),
        ({"protocol": "irmas"}, DataError, "ids begin with irmas/"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_bad_input_gets_one_sentence(short_run, flags, error, message, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(error, match=message):
        run_of(short_run, **flags)


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--method=prompt", "--method"),
        ("--lr=-1", "--lr must be positive"),
        ("--heads_first=1", "--heads_first must lie"),
        ("--patchout=0.5 --pooling=class_token", "--patchout needs"),
        ("--heads=[timbre]", "a head is one of instrument"),
        ("--head_losses={pitch: bce}", "of pitch is one of cross_entropy, focal_cross_entropy, not bce"),
        ("--patchout=0.5 --method=conformer", "convolves neighbouring patches"),
        ("--head_form=attention --pooling=attentive", "pools for each class by itself"),
        ("--head_losses={drums: hinge}", "--head_losses of drums is one of"),
        ("--adapter.kernel=4", "odd number"),
        ("--steps=3 --epochs=1", "choose one"),
        ("--stepz=3", "--steps"),
    ],
)
def test_bad_settings_are_named(flag, message):
    with pytest.raises(CheckpointError, match=message):
        parse_config(Config, [f"--{part}" for part in flag.removeprefix("--").split(" --")], "")


def test_the_module_says_what_the_command_does():
    assert "accelerate launch finetune/adapters.py --backbone ast" in adapters.__doc__


@pytest.mark.slow
def test_two_processes_learn_what_one_does(short_run, tmp_path):
    flags = short_run | {"eval_every": "0", "uncertainty": "true", "metric": "0.1", "method": "bottleneck"}
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    losses = []
    for processes in (1, 2):
        out = tmp_path / f"of_{processes}"
        launcher = [] if processes == 1 else ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
        settings = [f"--{name}={value}" for name, value in (flags | {"out": str(out)}).items()]
        command = [sys.executable, *launcher, "finetune/adapters.py", *settings]
        subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, timeout=300)
        losses.append(losses_of(RunFolder(out)))
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)

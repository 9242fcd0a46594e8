"""The recipe: what it writes, what it refuses, and that it learns."""

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import pretrain.mae
from backbones import ast_encoder, cnn
from checkpoints.config import parse_config, recipe_config, run_command
from checkpoints.errors import CheckpointError
from checkpoints.weights import load_backbone
from data.errors import DataError
from data.writer import write_pack
from pretrain.mae import ERRORS, RECIPE, Config, main

ROOT = Path(__file__).parents[2]


def command_line(arguments: list[str]) -> Config:
    return recipe_config(Config, RECIPE, arguments, pretrain.mae.__doc__)


@pytest.fixture(autouse=True)
def two_layers(monkeypatch):
    monkeypatch.setitem(ast_encoder.PRESETS, "tiny", ast_encoder.PRESETS["tiny"] | {"num_hidden_layers": 2})


@pytest.fixture
def config(family_pack, tmp_path) -> Config:
    return Config(
        data=family_pack.folder, clip_seconds=1.0, batch_size=12, steps=8, log_every=2, eval_every=4, eval_clips=12,
        probe_clips=36, save_minutes=60, out=tmp_path / "run", cpu_threads=1,
    )  # fmt: skip


def test_a_run_folder_holds_what_later_commands_need(config):
    run = main(config)
    names = {path.relative_to(run.path).as_posix() for path in run.path.rglob("*") if path.is_file()}
    assert {
        "config.yaml", "metrics.jsonl", "backbone/config.json", "backbone/model.safetensors",
        "backbone/preprocessor_config.json", "state/step_00000008/state.json", "figures/curves.png",
        "figures/reconstruction.png",
    } <= names  # fmt: skip
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pkl", ".tmp"))]
    saved = yaml.safe_load((run.path / "config.yaml").read_text())
    assert saved["recipe"] == "pretrain/mae.py"
    assert saved["batch_size"] == 12
    lines = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == [2, 4, 6, 8]
    last = lines[-1]
    for name in ("masked_error", "mean_error", "nearest_error", "knn", "linear", "log_mel_knn", "untrained_linear"):
        assert 0 <= last[name] < 2, name
    assert {"loss", "grad_norm", "lr", "clips_per_s", "wait_share", "skipped_steps"} <= lines[0].keys()
    for name in ("curves", "reconstruction"):
        with Image.open(run.figures / f"{name}.png") as picture:
            assert min(picture.size) > 300
            assert len(picture.convert("RGB").getcolors(1 << 24)) > 20, "an empty picture"
    events = EventAccumulator(str(run.path / "logs"))
    events.Reload()
    assert [event.step for event in events.Scalars("loss")] == [2, 4, 6, 8]
    assert load_backbone(run.backbone).ast.config.hidden_size == 192


def test_more_steps_reconstruct_better_than_no_steps(config):
    config.steps, config.eval_every, config.probe_clips, config.lr = 45, 15, 0, 3e-3
    run = main(config)
    errors = [line["masked_error"] for line in run.read_log() if "masked_error" in line]
    assert errors[-1] < 0.95 * errors[0]


def test_the_average_is_what_is_saved(config):
    config.ema, config.probe_clips = 0.5, 0
    run = main(config)
    averaged = load_backbone(run.backbone).ast.state_dict()
    state = run.path / "state" / "step_00000008"
    trained, average = load_file(state / "model.safetensors"), load_file(state / "average.safetensors")
    name = "layers.0.mlp.fc1.weight"
    assert averaged[name].equal(average[f"ast.{name}"])
    assert not averaged[name].equal(trained[f"encoder.ast.{name}"])


def test_a_run_goes_on_from_another_runs_encoder_and_warns_of_other_levels(config, tmp_path, capsys, make_clips):
    config.probe_clips, config.eval_every = 0, 0
    first = main(config)
    assert "warning" not in capsys.readouterr().out, "the statistics are the pack's own"
    quiet = write_pack(make_clips(24, split="train", amplitude=1e-3), tmp_path / "quiet", processes=1)
    config.init, config.data, config.out = str(first.path), quiet.folder, tmp_path / "second"
    config.clip_seconds, config.steps, config.lr = 0.6, 1, 1e-12
    second = main(config)
    said = capsys.readouterr().out
    trained = load_backbone(first.backbone).log_mel
    assert f"init     {first.path}" in said
    assert f"was trained on a log-mel of mean {trained.mean:.2f} and standard deviation {trained.std:.2f}" in said
    assert f"these clips have {quiet.info.log_mel_mean:.2f} and {quiet.info.log_mel_std:.2f}" in said
    before, after = (load_file(run.backbone / "model.safetensors") for run in (first, second))
    name = "encoder.layer.0.intermediate.dense.weight"
    torch.testing.assert_close(after[name], before[name], atol=1e-9, rtol=0)
    assert load_backbone(second.backbone).log_mel.mean == trained.mean
    config.patch_size, config.out = 8, tmp_path / "third"
    with pytest.raises(CheckpointError, match="has patches of 16, --patch_size asks for 8"):
        main(config)


@pytest.fixture
def cnn_config(config, monkeypatch) -> Config:
    monkeypatch.setitem(cnn.CNN_PRESETS, "tiny", "test_convnext")
    return dataclasses.replace(config, backbone="cnn", patch_size=None)


def test_a_convnext_is_pretrained_in_the_same_way(cnn_config, tmp_path, capsys):
    run = main(cnn_config)
    assert "model    cnn tiny: encoder" in (said := capsys.readouterr().out)
    assert "0.975 s, 4 x 3 patches of 32, 80% masked (random)" in said
    last = run.read_log()[-1]
    assert {"masked_error", "mean_error", "knn", "untrained_linear"} <= last.keys()
    assert {path.name for path in run.pictures()} == {"curves.png", "reconstruction.png"}
    assert yaml.safe_load((run.path / "config.yaml").read_text())["patch_size"] == 32
    loaded = load_backbone(run.backbone)
    assert (loaded.kind, loaded.width, loaded.grid) == ("cnn", 64, (4, 3))
    mask = {"mask": "inverse_block", "mask_block": (2, 2), "clones": 2, "target": "normalised"}
    again = dataclasses.replace(cnn_config, init=str(run.path), steps=2, out=tmp_path / "again", **mask)
    assert main(again).read_log()[-1]["masked_error"] > 0
    as_ast = dataclasses.replace(again, backbone="ast", patch_size=None, out=tmp_path / "ast")
    with pytest.raises(CheckpointError, match="holds a backbone of kind cnn, --backbone asks for ast"):
        main(as_ast)


def test_a_convnext_reconstructs_better_with_more_steps(cnn_config):
    cnn_config.steps, cnn_config.eval_every, cnn_config.probe_clips, cnn_config.lr = 30, 10, 0, 3e-3
    errors = [line["masked_error"] for line in main(cnn_config).read_log() if "masked_error" in line]
    assert errors[-1] < 0.95 * errors[0]


def test_a_resumed_convnext_is_the_one_that_was_not_stopped(cnn_config, tmp_path, losses_of):
    cnn_config.log_every, cnn_config.save_minutes, cnn_config.keep_states, cnn_config.probe_clips = 1, 0, 9, 0
    cnn_config.steps, cnn_config.eval_every = 5, 0
    unbroken = main(cnn_config)
    broken = shutil.copytree(unbroken.path, tmp_path / "broken")
    for state in (broken / "state").iterdir():
        if state.name > "step_00000003":
            shutil.rmtree(state)
    resumed = main(command_line(["--resume", str(broken)]))
    assert losses_of(broken) == losses_of(unbroken.path)
    weights = [load_file(run.backbone / "model.safetensors") for run in (unbroken, resumed)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_bad_step_is_skipped_and_counted(config, monkeypatch):
    loss, calls = pretrain.mae.masked_patch_loss, []

    def sometimes_nan(*arguments):
        calls.append(1)
        return loss(*arguments) * (float("nan") if len(calls) == 3 else 1.0)

    monkeypatch.setattr(pretrain.mae, "masked_patch_loss", sometimes_nan)
    config.log_every, config.probe_clips, config.eval_every = 1, 0, 0
    lines = [line for line in main(config).read_log() if "loss" in line]
    assert [line["skipped_steps"] for line in lines] == [0, 0, 1, 1, 1, 1, 1, 1]
    assert all(torch.tensor(line["loss"]).isfinite() for line in lines[3:])


def test_bad_steps_in_a_row_stop_the_run_and_keep_the_last_good_state(config, monkeypatch):
    loss, calls = pretrain.mae.masked_patch_loss, []

    def nan_from_the_fourth(*arguments):
        calls.append(1)
        return loss(*arguments) * (float("nan") if len(calls) > 3 else 1.0)

    monkeypatch.setattr(pretrain.mae, "masked_patch_loss", nan_from_the_fourth)
    config.save_minutes, config.max_bad_steps, config.probe_clips = 0, 2, 0
    with pytest.raises(CheckpointError, match=r"not finite for 2 steps in a row, up to step 5; .* --resume"):
        main(config)
    states = sorted(path.name for path in (config.out / "state").iterdir())
    assert states[-1] == "step_00000003", "nothing is saved between bad steps, whose counters a resumed run would keep"


def test_accumulation_changes_the_loss_by_rounding_only(config, tmp_path):
    config.log_every, config.probe_clips, config.eval_every = 1, 0, 0
    whole = [line["loss"] for line in main(config).read_log() if "loss" in line]
    config.out, config.accumulation = tmp_path / "parts", 3
    parts = [line["loss"] for line in main(config).read_log() if "loss" in line]
    assert parts == pytest.approx(whole, abs=1e-4)


def test_a_pack_without_labels_or_validation_still_trains(make_clips, tmp_path, capsys, config):
    pack = write_pack(make_clips(24, split="train"), tmp_path / "bare", processes=1)
    config.data, config.clip_seconds = pack.folder, 0.5
    run = main(config)
    assert "no validation clips" in capsys.readouterr().out
    assert load_backbone(run.backbone).grid == (8, 3)


@pytest.mark.parametrize("mask", ["time", "frequency", "inverse_block"])
def test_every_mask_and_several_clones_run(config, mask):
    config.mask, config.clones, config.steps, config.probe_clips, config.target = mask, 2, 2, 0, "raw"
    assert len(main(config).read_log()) == 2


def test_shipped_configs_parse():
    files = sorted((ROOT / "pretrain" / "configs").glob("*.yaml"))
    assert files
    for file in files:
        parsed = parse_config(Config, ["--config", str(file)], "")
        for name, value in yaml.safe_load(file.read_text()).items():
            assert getattr(parsed, name) == value
    assert parse_config(Config, ["--config", str(ROOT / "pretrain/configs/mae_tiny.yaml")], "") == Config(
        steps=pretrain.mae.DEFAULT_STEPS
    )


def test_resume_takes_the_config_of_the_run_it_names(config, tmp_path, monkeypatch):
    main(config)
    resumed = command_line(["--resume", str(config.out), "--steps", "10"])
    assert (resumed.batch_size, resumed.steps, resumed.out) == (12, 10, config.out)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    config.out.rename(tmp_path / "runs" / "mine")
    assert command_line(["--resume"]).out == Path("runs/mine")
    assert command_line(["--resume", "--steps", "9"]).steps == 9


def test_another_preset_or_pack_is_refused_in_one_sentence(config, toy_pack, capsys):
    main(config)
    config.resume = str(config.out)
    config.seed = 1
    with pytest.raises(CheckpointError, match="was made with seed '0', not '1'"):
        main(config)
    config.seed, config.data, config.clip_seconds = 0, toy_pack.folder, 1.0
    with pytest.raises(CheckpointError, match="was made with pack"):
        main(config)


def test_a_pack_with_a_flipped_byte_is_refused_and_the_clip_named(config, family_pack, tmp_path):
    config.data = shutil.copytree(family_pack.folder, tmp_path / "damaged")
    shard = config.data / "shard_00000.i16"
    content = bytearray(shard.read_bytes())
    content[1001] ^= 4
    shard.write_bytes(content)
    with pytest.raises(DataError, match=r"1 of 108 clips in .* notes/000 in shard_00000.i16"):
        main(config)


def test_refusals(config, tmp_path):
    main(config)
    with pytest.raises(CheckpointError, match="already holds a run; choose another --out"):
        main(config)
    config.out, config.batch_size = tmp_path / "other", 7
    config.accumulation = 2
    with pytest.raises(DataError, match="choose a multiple of 2"):
        main(config)
    config.batch_size = 10_000
    with pytest.raises(DataError, match="choose a smaller --batch_size"):
        main(config)
    for flags, words in (
        ({"mask_ratio": 1.5}, "between 0 and 1"), ({"steps": 1, "epochs": 1.0}, "choose one"),
        ({"patch_size": 10}, "must divide"), ({"clip_seconds": 0.01}, "shorter than two patches"),
        ({"batch_size": 0}, "must be positive"), ({"patch_size": 0}, "patch_size must be positive"),
        ({"backbone": "cnn", "patch_size": 16}, "--patch_size 16 is for --backbone ast alone; a cnn's is always 32"),
        ({"backbone": "cnn", "probe_pooling": "class_token"}, "class_token is for --backbone ast alone; choose mean"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=words):
            Config(**flags)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--bath_size", "3"], "did you mean --batch_size?"),
        (["--resume", "nowhere"], "a run was expected in nowhere"),
        (["--data", "nowhere"], "a pack was expected at nowhere"),
        (["--config", "nowhere.yaml"], "--config nowhere.yaml cannot be read"),
        (["--lr", "fast"], "--lr: Expected a float. Got value: fast"),
    ],
)
def test_bad_input_ends_with_one_sentence_and_code_2(arguments, words, capsys):
    with pytest.raises(SystemExit) as ended:
        run_command(lambda: main(command_line(arguments)), ERRORS)
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert words in line


def test_a_process_of_its_own_ends_so_too():
    ended = subprocess.run(
        [sys.executable, "pretrain/mae.py", "--bath_size=3"], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == "error: there is no flag --bath_size; did you mean --batch_size?; --help lists them all\n"

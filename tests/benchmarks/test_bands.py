"""Which runs the table of bands needs, which of them are over, and what becomes of those that fail."""

import argparse
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import bands
from benchmarks.bands import Plan, check_packs, check_preset, finish_all, plans_of, rows_of, run_all
from checkpoints.config import as_yaml_values
from checkpoints.errors import CheckpointError
from checkpoints.run import RunFolder
from data.writer import write_pack


@pytest.fixture
def options(tmp_path):
    return argparse.Namespace(
        init=["runs/one", "runs/two"], backbone="ast", preset="tiny", data=tmp_path / "pack",
        test_data=tmp_path / "other", sources=["gm/*/band"], methods=["mfcc_svm", "lora"],
        starts=["pretrained", "untrained"], label_shares=[0.1, 1.0], seeds=2, flags={"steps": "30"},
        runs=tmp_path / "runs", parallel=1, out=tmp_path / "docs" / "bands", labels=bands.LABELS,
    )  # fmt: skip


def settings_of(command: list[str]) -> tuple[str, dict[str, str]]:
    """The module that a command runs, and its flags."""
    assert command[1] == "-m"
    return command[2], dict(flag.removeprefix("--").split("=", 1) for flag in command[3:])


class Recipes:
    """Stands in for the processes: writes what a recipe leaves behind, and notes what it was asked for."""

    def __init__(self):
        self.commands: list[list[str]] = []
        self.fails_on = ""
        """Part of the name of runs that fail."""

    def __call__(self, command: list[str], **_) -> SimpleNamespace:
        self.commands.append(command)
        module, flags = settings_of(command)
        out = Path(flags.pop("resume", None) or flags["out"])
        told = {"out": str(out), "data": flags["data"], "seed": int(flags["seed"])}
        RunFolder(out).write_config(module, told | ({"steps": int(flags["steps"])} if "steps" in flags else {}))
        if self.fails_on and self.fails_on in out.name:
            return SimpleNamespace(returncode=2, stderr="warning\nerror: a head without a positive\n 3%|bar")
        test = dict.fromkeys(bands.SCORES, 0.5 + 0.1 * told["seed"]) | {"instrument_classes": 12}
        (out / "scores.json").write_text(json.dumps({"test": test, "seconds": 3.0}))
        return SimpleNamespace(returncode=0, stderr="")


@pytest.fixture
def recipes(monkeypatch) -> Recipes:
    stand_in = Recipes()
    monkeypatch.setattr("benchmarks.bands.subprocess.run", stand_in)
    return stand_in


def test_every_method_meets_every_share_and_seed_and_backbones_also_start_untrained(options):
    plans = plans_of(options)
    assert [plan.run.path.name for plan in plans[:6]] == [
        "mfcc_svm_100_0", "lora_pretrained_100_0", "lora_untrained_100_0",
        "mfcc_svm_10_0", "lora_pretrained_10_0", "lora_untrained_10_0",
    ]  # fmt: skip
    assert len(plans) == 12
    lora = {(plan.start, plan.seed): plan.config for plan in plans if plan.method == "lora" and plan.share == 0.1}
    assert [lora["pretrained", seed].init for seed in (0, 1)] == ["runs/one", "runs/two"]
    assert [lora["untrained", seed].init for seed in (0, 1)] == ["untrained"] * 2
    one = lora["pretrained", 1]
    assert (one.method, one.steps, one.label_share, one.seed) == ("lora", 30, 0.1, 1)
    assert (one.heads, one.assume_complete, one.sources) == (["instrument"], ["instrument"], ["gm/*/band"])
    for plan in plans:
        assert plan.config.predominant_only
        assert (plan.config.data, plan.config.test_data) == (str(options.data), str(options.test_data))


def test_every_method_has_a_recipe_that_takes_its_settings(options):
    options.methods, options.label_shares, options.seeds = list(bands.METHODS), [1.0], 1
    plans = {plan.run.path.name: plan.config for plan in plans_of(options)}
    assert len(plans) == 5 + 2 * 5
    assert {name: plans[f"{name}_100_0"].features for name in ("mfcc_svm", "classic_svm")} == {
        "mfcc_svm": "mfcc", "classic_svm": "classic",
    }  # fmt: skip
    alone = [plans[f"{name}_100_0"] for name in ("recurrent", "mobilenets")]
    assert [(config.backbone, config.init, config.method) for config in alone] == [
        ("recurrent", "untrained", "full"), ("mobilenets", "untrained", "full"),
    ]  # fmt: skip
    rates = [plans[f"full_{start}_100_0"].lr for start in ("pretrained", "untrained")]
    assert rates == [None, 1e-3]  # that of fine-tuning is too low for a network that knows nothing


def test_a_flag_that_no_recipe_takes_is_refused_before_anything_runs(options):
    options.flags = {"step": "30"}
    with pytest.raises(CheckpointError, match="there is no flag --step"):
        plans_of(options)


def test_what_is_finished_is_not_run_again(options, recipes):
    plans = plans_of(options)
    first = dict(run_all(plans, 1))
    assert len(recipes.commands) == len(plans) == len(first)
    found = dict(run_all(plans, 1))
    assert len(recipes.commands) == len(plans)
    assert {plan.run.path: scores for plan, scores in found.items()} == {
        plan.run.path: scores for plan, scores in first.items()
    }
    rows = rows_of(plans, {plan.run.path: scores for plan, scores in found.items()})
    assert [(row.method, row.start, row.share, len(row.runs)) for row in rows] == [
        ("mfcc_svm", "", 1.0, 2), ("mfcc_svm", "", 0.1, 2), ("lora", "pretrained", 1.0, 2),
        ("lora", "pretrained", 0.1, 2), ("lora", "untrained", 1.0, 2), ("lora", "untrained", 0.1, 2),
    ]  # fmt: skip
    assert rows[0].values("instrument_map") == [0.5, 0.6]


def test_a_run_goes_on_from_its_state_or_begins_again_without_one(options, recipes):
    plan = plans_of(options)[1]
    plan.run.write_config("finetune/adapters.py", as_yaml_values(plan.config))
    (plan.run.state / "step_00000010").mkdir(parents=True)
    plan.finish()
    assert settings_of(recipes.commands[-1])[1]["resume"] == str(plan.run.path)
    assert not plan.run.state.exists()  # nobody goes on from a finished run

    (plan.run.path / "scores.json").unlink()
    (plan.run.path / "metrics.jsonl").write_text("left behind")
    plan.finish()
    assert settings_of(recipes.commands[-1])[1]["out"] == str(plan.run.path)
    assert not plan.run.metrics.exists()


@pytest.mark.parametrize("is_finished", [True, False])
def test_a_run_of_other_settings_is_neither_taken_for_this_one_nor_deleted(options, recipes, is_finished):
    plan = plans_of(options)[1]
    plan.finish()
    if not is_finished:
        (plan.run.path / "scores.json").unlink()
    options.flags = {"steps": "31"}
    other = plans_of(options)[1]
    with pytest.raises(CheckpointError, match=r"was run with --steps 30, this command asks for 31; choose another"):
        other.scores() or other.finish()
    assert (plan.run.path / "config.yaml").is_file()
    assert len(recipes.commands) == 1


def test_damaged_scores_are_named(options, recipes):
    plan = plans_of(options)[0]
    plan.finish()
    (plan.run.path / "scores.json").write_text('{"test": ')
    with pytest.raises(CheckpointError, match=r"scores\.json is damaged; delete .*mfcc_svm_100_0"):
        plan.scores()
    (plan.run.path / "scores.json").write_text('{"test": {"instrument_f1_macro": 0.5, "instrument_f1_micro": 0.5}}')
    with pytest.raises(CheckpointError, match="has no instrument_map of a test"):
        plan.scores()


def test_a_run_that_fails_does_not_keep_others_from_running(options, recipes, capsys):
    recipes.fails_on = "lora_untrained_100_0"
    plans = plans_of(options)
    scores, failed, is_stopped = finish_all(plans, 1)
    assert (len(scores), len(failed), is_stopped) == (11, 1, False)
    assert str(failed[0]).endswith("lora_untrained_100_0 could not be finished: a head without a positive")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "[1/12] MFCC + SVM, 100 % of the labels, seed 0: macro F1 0.500, micro F1 0.500, mAP 0.500"
    assert "LoRA, untrained, 100 % of the labels, seed 0: failed: " in lines[2]
    assert len(lines) == 12


def test_ctrl_c_begins_no_more_runs_and_keeps_what_is_done(options, recipes, monkeypatch):
    real, plans = bands.progress_line, plans_of(options)

    def interrupted(plan: Plan, *rest) -> str:
        if plan is plans[1]:
            raise KeyboardInterrupt
        return real(plan, *rest)

    monkeypatch.setattr(bands, "progress_line", interrupted)
    # A run that is on its way while another ends is let finish.
    scores, failed, is_stopped = finish_all(plans, 1)
    assert is_stopped
    assert not failed
    assert {plan.run.path for plan in plans[:2]} <= scores.keys()


def test_leaving_early_cancels_what_has_not_begun(options, recipes):
    begun = recipes.commands
    iteration = run_all(plans_of(options), 1)
    next(iteration)
    iteration.close()
    after = len(begun)
    assert list(run_all([], 1)) == []
    assert len(begun) == after


def test_untrained_backbones_must_be_as_wide_as_pretrained_ones(options, tmp_path):
    from backbones.builders import untrained_backbone
    from checkpoints.weights import save_backbone

    save_backbone(untrained_backbone("cnn", "tiny", 96, 0.0, 1.0), tmp_path / "pretrained")
    options.init, options.backbone = [tmp_path / "pretrained"], "cnn"
    check_preset(options)
    options.preset = "small"
    with pytest.raises(CheckpointError, match=r"one of --preset small has .*; give the preset that it was pretrained"):
        check_preset(options)


def test_runs_are_of_the_packs_that_are_asked_for(options, toy_pack, make_clips):
    options.data = toy_pack.folder
    options.test_data = write_pack(make_clips(6, split="train"), options.test_data, processes=1).folder
    options.sources = ["toy"]
    learned, chosen = (len(toy_pack.rows(split)) for split in ("train", "validation"))
    words = check_packs(options)
    assert f"from {learned} clips of {toy_pack.folder}" in words
    assert f"chosen on {chosen} others" in words
    assert f"tested on 6 clips of {options.test_data}" in words  # all, for it has no test split
    check_packs(options)
    options.test_data = toy_pack.folder
    with pytest.raises(CheckpointError, match="were made with another --test_data than"):
        check_packs(options)


def test_one_command_writes_tables_numbers_and_a_figure(options, recipes, toy_pack, monkeypatch, capsys):
    arguments = ["--init", "untouched", "--data", toy_pack.folder, "--test_data", toy_pack.folder, "--methods", "lora",
                 "mfcc_svm", "--seeds", 2, "--flags", "steps=30", "--runs", options.runs,
                 "--sources", "toy", "--out", options.out]  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["bands", *map(str, arguments)])
    monkeypatch.setattr(bands, "check_preset", lambda options: None)
    bands.main()
    text = options.out.with_suffix(".md").read_text()
    assert text.startswith("`python -m benchmarks.bands --init untouched")
    assert "| LoRA       | pretrained | 0.550 ± 0.071 |" in text
    assert len(json.loads(options.out.with_suffix(".json").read_text())["rows"]) == 9
    assert options.out.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert "18 runs in" in capsys.readouterr().out

    recipes.fails_on = "bottleneck_untrained_1_1"
    monkeypatch.setattr(sys, "argv", ["bands", *map(str, arguments), "--methods", "lora", "bottleneck"])
    with pytest.raises(CheckpointError, match=r"1 of 24 runs failed, the first as .*the same command tries them again"):
        bands.main()
    assert "bottleneck" in options.out.with_suffix(".md").read_text()

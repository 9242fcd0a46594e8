"""Which runs an ablation needs, and which of them are over."""

import argparse
from types import SimpleNamespace

import pytest

from benchmarks.ablation import AFTER_MAE, UNTRAINED
from benchmarks.contrastive import Plan, flag, plans_of
from checkpoints.config import as_yaml_values
from checkpoints.errors import CheckpointError
from pretrain import contrastive

WELL = {"embedding_std": 0.5, "effective_rank": 20.0}


@pytest.fixture
def options(tmp_path):
    return argparse.Namespace(
        objectives=["supcon", "triplet_one"], starts=["untrained", "mae"], seeds=2, steps=30, mae_steps=20,
        flags={"batch_size": "32"}, mae_flags={"lr": "2e-3"}, data=tmp_path / "pack", probe_clips=8, test_clips=6,
        runs=tmp_path / "runs",
    )  # fmt: skip


@pytest.fixture
def plan(tmp_path) -> Plan:
    return Plan.of(contrastive, tmp_path / "run", {"steps": "30", "lr": "2e-4"})


def begin(plan: Plan, **settings) -> None:
    type(plan.run).create(plan.run.path, plan.recipe, as_yaml_values(plan.config) | settings)


def test_each_objective_starts_from_both_weights_with_every_seed(options):
    plans = plans_of(options)
    assert list(plans) == [
        ("mae", UNTRAINED), ("supcon", UNTRAINED), ("supcon", AFTER_MAE), ("triplet_one", UNTRAINED),
        ("triplet_one", AFTER_MAE),
    ]  # fmt: skip
    assert [plan.config.seed for plan in plans["supcon", AFTER_MAE]] == [0, 1]
    maes, after = plans["mae", UNTRAINED], plans["triplet_one", AFTER_MAE]
    assert [plan.config.init for plan in after] == [str(plan.run.path) for plan in maes]
    assert [plan.config.init for plan in plans["supcon", UNTRAINED]] == ["untrained"] * 2
    assert {plan.run.path for of_seeds in plans.values() for plan in of_seeds} == {
        options.runs / f"{name}_{seed}"
        for name in ("mae", "supcon_untrained", "supcon_mae", "triplet_one_untrained", "triplet_one_mae")
        for seed in (0, 1)
    }
    one = after[0].config
    assert (one.objective, one.tree_margins, one.batch_size, one.steps) == ("triplet", False, 32, 30)
    assert (maes[0].config.steps, maes[0].config.lr) == (20, 2e-3)
    assert after[0].clips == 30 * 32 + 20 * 16


def test_a_flag_that_a_recipe_does_not_take_is_refused_before_anything_runs(options):
    options.flags = {"batch": "32"}
    with pytest.raises(CheckpointError, match="there is no flag --batch"):
        plans_of(options)
    assert flag("lr=1e-3") == ("lr", "1e-3")
    with pytest.raises(argparse.ArgumentTypeError, match="NAME=VALUE, not lr"):
        flag("lr")


def test_a_run_is_over_after_the_evaluation_of_its_last_step(plan):
    assert not plan.is_over
    begin(plan)
    plan.run.log({"step": 15} | WELL)
    plan.run.log({"step": 30, "loss": 1.0, "seconds": 7.5})
    assert not plan.is_over
    plan.run.log({"step": 30} | WELL)
    assert plan.is_over
    assert not plan.has_collapsed
    assert plan.seconds == 7.5
    plan.train()  # nothing left to do


def test_a_run_that_collapsed_is_over(plan):
    begin(plan)
    plan.run.log({"step": 15, "embedding_std": 0.001, "effective_rank": 1.1})
    assert plan.has_collapsed
    assert plan.is_over


def test_a_run_of_other_settings_is_not_taken_for_this_one(plan):
    begin(plan, lr=1e-3)
    plan.run.log({"step": 30} | WELL)
    with pytest.raises(CheckpointError, match=r"was run with --lr 0.001, this command asks for 0.0002"):
        plan.train()


def test_a_recipe_that_fails_is_quoted(plan, monkeypatch):
    failed = SimpleNamespace(returncode=2, stderr="warning\nerror: a pack was expected at x\n")
    monkeypatch.setattr("benchmarks.contrastive.subprocess.run", lambda *command, **options: failed)
    with pytest.raises(CheckpointError, match=r"run could not be finished: a pack was expected at x$"):
        plan.train()

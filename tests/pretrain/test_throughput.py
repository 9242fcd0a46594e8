"""The throughput log of a run: it is there, and the run is the same without it."""

from contextlib import nullcontext

import pytest
from safetensors.torch import load_file

import pretrain.contrastive
import pretrain.mae
from backbones import ast_encoder
from checkpoints.loop import Clock

LOGGED = {"clips_per_s", "wait_share", "flops_per_s", "flops_share", "memory_gib", "seconds"}


@pytest.fixture(autouse=True)
def two_layers(monkeypatch):
    monkeypatch.setitem(ast_encoder.PRESETS, "tiny", ast_encoder.PRESETS["tiny"] | {"num_hidden_layers": 2})


@pytest.fixture
def settings(family_pack) -> dict:
    return {
        "data": family_pack.folder, "clip_seconds": 1.0, "batch_size": 8, "steps": 2, "log_every": 1, "eval_every": 0,
        "probe_clips": 36, "cpu_threads": 1,
    }  # fmt: skip


def test_counting_arithmetic_leaves_a_run_as_it_is(settings, tmp_path, monkeypatch, capsys):
    settings |= {"probe_clips": 0, "eval_clips": 8, "accumulation": 2, "mask_ratio": 0.5}
    counted = pretrain.mae.main(pretrain.mae.Config(out=tmp_path / "counted", **settings))
    assert capsys.readouterr().out.count("speed    ") == 1
    monkeypatch.setattr(Clock, "counting", lambda self: nullcontext())
    plain = pretrain.mae.main(pretrain.mae.Config(out=tmp_path / "plain", **settings))
    lines, others = ([line for line in run.read_log() if "loss" in line] for run in (counted, plain))
    assert lines[0].keys() >= LOGGED
    assert [line["loss"] for line in lines] == [line["loss"] for line in others]
    assert min(line["flops_per_s"] for line in lines) > 1e6
    assert {line["flops_per_s"] for line in others} == {0.0}
    first, second = (load_file(run.state / "step_00000002" / "model.safetensors") for run in (counted, plain))
    assert all(first[name].equal(second[name]) for name in first)


@pytest.mark.slow
def test_a_forward_pass_done_twice_counts_twice(settings, tmp_path, capsys):
    settings |= {"test_clips": 36, "init": "untrained", "objective": "supcon", "clips_per_class": 2}
    told = []
    for size in (None, 4):
        config = pretrain.contrastive.Config(out=tmp_path / str(size), grad_cache=size, **settings)
        pretrain.contrastive.main(config)
        line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("speed"))
        told.append(float(line.split()[1]))
    assert told[1] == pytest.approx(told[0] * 4 / 3, rel=0.05)  # a backward pass costs two forward ones

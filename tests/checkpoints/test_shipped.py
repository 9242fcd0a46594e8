"""Weights are found by name, and recipes start from them where nothing newer is."""

import os
from pathlib import Path

import pytest
import torch

from audit.embedder import Embedder
from checkpoints.errors import CheckpointError
from checkpoints.shipped import SHIPPED, folder_of, shipped_names, starting_point
from checkpoints.weights import checksum_of_weights, find_backbone, save_backbone, window_of

MAE, CONTRASTIVE = "pretrain/mae.py", "pretrain/contrastive.py"


def test_a_name_finds_the_weights_and_a_folder_of_that_name_goes_first(shipped, small_ast):
    assert shipped_names() == ["ast-tiny"]
    found = find_backbone("ast-tiny", "ast")
    assert checksum_of_weights(found) == checksum_of_weights(small_ast)
    assert window_of("ast-tiny", found) == small_ast.num_samples
    with torch.no_grad():
        next(small_ast.parameters()).add_(1.0)
    save_backbone(small_ast, Path("ast-tiny"))
    assert checksum_of_weights(find_backbone("ast-tiny")) == checksum_of_weights(small_ast)


@pytest.mark.parametrize("name", ["", ".", "..", "ast-tiny/..", "mert", "some/id"])
def test_nothing_else_is_a_name(shipped, name):
    assert not folder_of(name).is_relative_to(shipped)


def test_a_wrong_name_is_told_the_right_ones(shipped):
    with pytest.raises(CheckpointError, match=r"the name of weights that ship \(ast-tiny\) .* nothing is at ast-tinny"):
        find_backbone("ast-tinny")
    for name in ("~nobody-of-the-name", "x" * 5000):
        with pytest.raises(CheckpointError, match="nothing is at"):
            find_backbone(name)


def test_an_audit_hears_with_them_as_their_run_was_trained(shipped):
    assert Embedder.load("ast-tiny").pooling == "mean"
    (shipped / "ast-tiny" / "config.yaml").write_text("pooling: mean_layers\nclip_seconds: 1.0\n")
    embedder = Embedder.load("ast-tiny")
    assert (embedder.pooling, embedder.num_samples, embedder.width) == ("mean_layers", 16_000, 48)


def test_the_newest_run_of_the_kind_goes_before_what_ships_and_that_before_nothing(shipped, make_run):
    def start(init: str = "newest", recipes=(MAE, CONTRASTIVE), backbone: str = "ast", preset: str = "tiny"):
        return starting_point(init, recipes, backbone, preset)

    assert start() == "ast-tiny"
    assert start(preset="base") is None
    assert start(backbone="cnn") is None
    assert start("untrained") is None
    assert start("facebook/wav2vec2-base") == "facebook/wav2vec2-base"
    first = make_run("first", MAE, backbone="ast")
    assert start() == start(preset="base") == "runs/first"
    second = make_run("second", CONTRASTIVE, backbone="cnn")
    os.utime(first.path / "config.yaml", (1, 1))
    assert start() == "runs/first"
    assert start(backbone="cnn") == "runs/second"
    assert start(recipes=(MAE,), backbone="cnn") is None
    (second.backbone / "config.json").unlink()  # not evaluated yet
    assert start(backbone="cnn") is None


def test_what_ships_in_this_repository_loads_and_is_small_enough():
    names = shipped_names()
    for name in names:
        assert find_backbone(name).kind == name.partition("-")[0]
        assert {"README.md", "config.yaml"} <= {file.name for file in (SHIPPED / name).iterdir()}
    size = sum((SHIPPED / name / "model.safetensors").stat().st_size for name in names)
    assert size <= 25e6

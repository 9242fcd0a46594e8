"""Weights that ship, small enough for a test."""

from pathlib import Path

import pytest
import torch

from backbones.ast_encoder import PRESETS, AstBackbone
from checkpoints.run import RunFolder
from checkpoints.weights import save_backbone


@pytest.fixture
def small_ast() -> AstBackbone:
    """Two layers, a crop of half a second."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 96}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "two_layers", sizes)
        return AstBackbone.untrained("two_layers", 48, mean=-5.25, std=3.7).eval()


@pytest.fixture
def shipped(small_ast, tmp_path, monkeypatch) -> Path:
    """The folder of weights that ship, with nothing in it but ``ast-tiny``; the working folder is empty."""
    folder = tmp_path / "pretrained"
    save_backbone(small_ast, folder / "ast-tiny")
    monkeypatch.setattr("checkpoints.shipped.SHIPPED", folder)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return folder


@pytest.fixture
def make_run(small_ast):
    """``make_run(name, recipe, **config)``: a run in runs/ with a backbone."""

    def make(name: str, recipe: str, **config) -> RunFolder:
        run = RunFolder.create(Path("runs") / name, recipe, config)
        save_backbone(small_ast, run.backbone)
        return run

    return make

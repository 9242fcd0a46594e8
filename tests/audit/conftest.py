"""A run that is small enough to embed with in a second."""

from pathlib import Path

import pytest
import torch
from transformers import ASTConfig, ASTModel

from backbones.ast_encoder import AstBackbone
from checkpoints.run import RunFolder
from checkpoints.weights import save_backbone


@pytest.fixture(scope="session")
def small_run(tmp_path_factory) -> Path:
    """Folder of a contrastive run with an AST of two layers, width 32, that was trained on clips of half a second.

    Not to be written into: embeddings of it go elsewhere.
    """
    torch.manual_seed(0)
    config = ASTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, patch_size=16,
        frequency_stride=16, time_stride=16, max_length=48, num_mel_bins=128,
    )  # fmt: skip
    run = RunFolder(tmp_path_factory.mktemp("runs") / "small")
    save_backbone(AstBackbone(ASTModel(config), -6.0, 4.0), run.backbone)
    run.write_config("pretrain/contrastive.py", {"clip_seconds": 0.5, "pooling": "mean"})
    return run.path

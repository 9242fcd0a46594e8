"""A merged run is a plain folder of transformers that computes what the adapted network did."""

import sys
from pathlib import Path

import pytest
import torch
from transformers import ASTConfig, ASTModel, AutoModel, Wav2Vec2Config, Wav2Vec2Model

from backbones.ast_encoder import AstBackbone
from backbones.builders import Backbone
from backbones.wav2vec2 import STEADY, Wav2Vec2Backbone
from checkpoints.adapters import save_adapter
from checkpoints.config import run_command
from checkpoints.errors import CheckpointError
from checkpoints.run import RunFolder
from checkpoints.weights import find_backbone, save_backbone
from finetune.merge import main, merge
from finetune.methods import METHODS, AdapterOptions, adapt
from finetune.model import RECIPE

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
MERGE = [name for name, method in METHODS.items() if method.config and method.merges]
TOLERANCE = {"atol": 5e-5, "rtol": 1e-4}  # the change is added to the weights instead of the output: rounding
FILES = ["config.json", "heads/heads.json", "heads/heads.safetensors", "model.safetensors", "preprocessor_config.json"]


def build(kind: str) -> Backbone:
    torch.manual_seed(0)
    if kind == "ast":
        config = ASTConfig(
            **SIZES, patch_size=16, frequency_stride=16, time_stride=16, num_mel_bins=64, max_length=48,
            hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
        )  # fmt: skip
        return AstBackbone(ASTModel(config), mean=-4.0, std=4.0).eval()
    positions = {"num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2}
    layers = {"num_hidden_layers": 0} if kind == "wav2vec2-cnn" else {}
    config = Wav2Vec2Config(**(SIZES | layers), **STEADY, **positions, conv_dim=[16] * 7)
    return Wav2Vec2Backbone(Wav2Vec2Model(config)).eval()


def run_of(path: Path, kind: str, method: str) -> tuple[RunFolder, Backbone]:
    """A finished run, and the network it trained."""
    run = RunFolder.create(path, RECIPE, {"method": method})
    backbone = build(kind)
    save_backbone(backbone, run.backbone)
    adapted = adapt(backbone, method, AdapterOptions(rank=2), num_steps=8)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in backbone.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    if adapted is not None:
        save_adapter(adapted, run.adapter)
    run.heads.mkdir()
    for name in ("heads.json", "heads.safetensors"):
        (run.heads / name).write_text(name)
    return run, backbone.eval()


@pytest.mark.parametrize(
    ("kind", "method"),
    [*(("ast", method) for method in MERGE), *(("wav2vec2", method) for method in ("lora", "dora", "bitfit", "ia3")),
     ("wav2vec2-cnn", "lora")],
)  # fmt: skip
@torch.no_grad()
def test_merged_is_unmerged(kind, method, tmp_path):
    run, backbone = run_of(tmp_path / "run", kind, method)
    waveform = 0.1 * torch.randn(1, 6000, generator=torch.Generator().manual_seed(2))
    expected, before = backbone(waveform).tokens, build(kind)(waveform).tokens
    written = merge(run, tmp_path / "merged")
    assert [str(path.relative_to(tmp_path / "merged")) for path in written] == FILES
    found = find_backbone(str(tmp_path / "merged"), kind).eval()(waveform).tokens
    torch.testing.assert_close(found, expected, **TOLERANCE)
    assert not torch.allclose(found, before, atol=1e-3)


@torch.no_grad()
def test_transformers_loads_it_alone(tmp_path):
    run, backbone = run_of(tmp_path / "run", "ast", "lora")
    merge(run, run.path / "merged")
    features = torch.randn(2, 48, 64)
    model, loading = AutoModel.from_pretrained(run.path / "merged", output_loading_info=True)
    assert not any(loading[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    expected = backbone.model(features)
    for name in ("last_hidden_state", "pooler_output"):
        torch.testing.assert_close(model.eval()(features)[name], expected[name], **TOLERANCE)


def test_the_run_stays_and_nothing_is_overwritten(tmp_path):
    run, _ = run_of(tmp_path / "run", "ast", "lora")
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    merge(run, run.path / "merged")
    assert all(path.read_bytes() == content for path, content in before.items())
    assert (run.path / "merged" / "heads" / "heads.json").read_text() == "heads.json"
    with pytest.raises(CheckpointError, match="merged is there already; give another --out, or delete it first"):
        merge(run, run.path / "merged")


@pytest.mark.parametrize("method", ["bottleneck", "conformer"])
def test_added_layers_are_no_weights(method, tmp_path):
    run, _ = run_of(tmp_path / "run", "ast", method)
    with pytest.raises(
        CheckpointError, match=f"of kind {method} cannot be folded into weights, only lora, dora, .*bitfit"
    ):
        merge(run, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_a_run_without_an_adapter(tmp_path):
    run, _ = run_of(tmp_path / "run", "ast", "head")
    with pytest.raises(CheckpointError, match="a run without adapters"):
        merge(run, tmp_path / "merged")


def test_a_broken_adapter(tmp_path):
    run, backbone = run_of(tmp_path / "run", "ast", "bitfit")
    for parameter in backbone.parameters():
        if parameter.requires_grad:
            parameter.data.fill_(float("inf"))
    run.adapter.rename(tmp_path / "old")
    fresh = build("ast")
    adapted = adapt(fresh, "bitfit")
    fresh.load_state_dict(backbone.state_dict())
    save_adapter(adapted, run.adapter)
    with pytest.raises(CheckpointError, match=r"is broken .* train it again"):
        merge(run, tmp_path / "merged")


def test_the_command_says_what_it_wrote_and_what_is_wrong(tmp_path, monkeypatch, capsys):
    run, _ = run_of(tmp_path / "run", "ast", "lora")
    monkeypatch.setattr(sys, "argv", ["merge", str(run.path), "--out", str(tmp_path / "deep" / "merged")])
    main()
    assert capsys.readouterr().out.splitlines() == [f"wrote {tmp_path / 'deep' / 'merged' / name}" for name in FILES]
    with pytest.raises(SystemExit) as stopped:
        run_command(main, (CheckpointError,))
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1


def test_the_command_explains_itself(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["merge", "--help"])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 0
    assert "python -m finetune.merge runs/lora_20260101-120000 --out" in capsys.readouterr().out

"""Saved backbones are transformers' own: they load in a process that has never imported our code."""

import json
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from safetensors import safe_open
from transformers import ASTConfig, ASTModel

from backbones.ast_encoder import PRESETS, AstBackbone
from backbones.log_mel import RATE, samples_of
from backbones.pooling import mean_pool
from checkpoints.errors import CheckpointError
from checkpoints.weights import find_backbone, load_backbone, save_backbone

FRAMES = 64
FILES = ["config.json", "model.safetensors", "preprocessor_config.json"]


@pytest.fixture(scope="module")
def backbone() -> AstBackbone:
    torch.manual_seed(0)
    sizes = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 96}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "two_layers", sizes)
        return AstBackbone.untrained("two_layers", FRAMES, mean=-5.25, std=3.7).eval()


@pytest.fixture
def folder(backbone, tmp_path):
    save_backbone(backbone, tmp_path / "backbone")
    return tmp_path / "backbone"


def test_what_lies_on_the_disk(backbone, folder):
    assert sorted(path.name for path in folder.iterdir()) == FILES
    with safe_open(folder / "model.safetensors", "pt") as file:
        names = set(file.keys())
    assert len(names) == len(backbone.ast.state_dict())  # under the names of the published AST checkpoints
    assert {"embeddings.cls_token", "encoder.layer.1.attention.attention.query.weight", "layernorm.bias"} < names
    assert {name.partition(".")[0] for name in names} == {"embeddings", "encoder", "layernorm"}
    front_end = json.loads((folder / "preprocessor_config.json").read_text())
    assert (front_end["mean"], front_end["std"], front_end["max_length"]) == (-5.25, 3.7, FRAMES)
    assert json.loads((folder / "config.json").read_text())["architectures"] == ["ASTModel"]


def test_loads_without_our_code_and_gives_our_embedding(backbone, folder, tmp_path):
    waveform = 0.1 * torch.randn(2, samples_of(FRAMES))
    np.save(tmp_path / "waveform.npy", waveform.numpy())
    script = f"""
        import sys
        import numpy as np, torch
        from transformers import AutoFeatureExtractor, AutoModel, ASTModel
        waveform = np.load("waveform.npy")
        extractor = AutoFeatureExtractor.from_pretrained("backbone")
        inputs = extractor(list(waveform), sampling_rate={RATE}, return_tensors="pt")
        with torch.no_grad():
            found = [kind.from_pretrained("backbone")(**inputs).last_hidden_state for kind in (ASTModel, AutoModel)]
        assert torch.equal(*found)
        ours = {{"data", "backbones", "losses", "checkpoints", "pretrain"}} & set(sys.modules)
        assert not ours, ours
        np.save("embedding.npy", found[0][:, 2:].mean(dim=1).numpy())
        """
    command = [sys.executable, "-I", "-c", textwrap.dedent(script)]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    with torch.no_grad():
        expected = mean_pool(backbone(waveform).tokens)
    # The two log-mels differ by rounding, which the logarithm magnifies to 1e-3 in nearly empty bands.
    np.testing.assert_allclose(np.load(tmp_path / "embedding.npy"), expected, atol=1e-3)


def test_a_loaded_backbone_is_the_saved_one(backbone, folder):
    loaded = load_backbone(folder)
    assert (loaded.log_mel.mean, loaded.log_mel.std, loaded.grid) == (-5.25, 3.7, backbone.grid)
    waveform = 0.1 * torch.randn(1, samples_of(FRAMES))
    with torch.no_grad():
        assert torch.equal(loaded.eval()(waveform).tokens, backbone(waveform).tokens)


def test_a_backbone_is_found_by_its_run_its_folder_or_its_name_on_the_hub(backbone, folder, monkeypatch):
    assert find_backbone(str(folder)).grid == find_backbone(str(folder.parent)).grid == backbone.grid
    with pytest.raises(CheckpointError, match="nothing is at runs/of/mine"):
        find_backbone("runs/of/mine")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match="nobody/nothing is no folder here, and the Hub's cache") as raised:
        find_backbone("nobody/nothing")
    assert "\n" not in str(raised.value)


def test_a_second_save_takes_the_place_of_the_first(backbone, folder):
    (folder / "stray").touch()
    save_backbone(backbone, folder)
    assert sorted(path.name for path in folder.iterdir()) == FILES
    assert [path.name for path in folder.parent.iterdir()] == ["backbone"]


@pytest.mark.parametrize("name", FILES)
def test_a_missing_or_damaged_file_is_named(folder, name):
    good = (folder / name).read_bytes()
    (folder / name).write_bytes(b"{" + good[: len(good) // 2])
    with pytest.raises(CheckpointError, match="cannot be loaded as an AST backbone") as raised:
        load_backbone(folder)
    assert "\n" not in str(raised.value)
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=f"but {name} is missing; give RUN/backbone"):
        load_backbone(folder)


def test_a_backbone_of_other_sizes_or_patches_is_named(backbone, folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"hidden_size": 96}))
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        load_backbone(folder)
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    with pytest.raises(CheckpointError, match=r"model\.safetensors misses 16 tensors"):
        load_backbone(folder)
    sizes = {"hidden_size": 48, "num_hidden_layers": 1, "num_attention_heads": 3, "intermediate_size": 96}
    ASTModel(ASTConfig(**sizes)).save_pretrained(folder)  # AST's own patches overlap
    with pytest.raises(CheckpointError, match="do not overlap"):
        load_backbone(folder)

"""Saved adapters are PEFT's own, hold the adapter alone, and go back into the backbone they were made for only."""

import json
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from transformers import ASTConfig, ASTModel, Wav2Vec2Config, Wav2Vec2Model

from backbones.adapters.bottleneck import BottleneckConfig
from backbones.ast_encoder import AstBackbone
from backbones.builders import Backbone
from backbones.wav2vec2 import STEADY, Wav2Vec2Backbone
from checkpoints.adapters import checksum_of_base, load_adapter, save_adapter
from checkpoints.errors import CheckpointError
from checkpoints.weights import load_backbone, save_backbone
from finetune.methods import METHODS, AdapterOptions, adapt, after_step

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
FILES = ["adapter_config.json", "adapter_model.safetensors", "base.json"]
ADAPTERS = [name for name, method in METHODS.items() if method.config]
NUM_STEPS = 8


def build(kind: str = "ast", seed: int = 0, **changes: int) -> Backbone:
    torch.manual_seed(seed)
    sizes = SIZES | changes
    if kind == "ast":
        config = ASTConfig(
            **sizes, patch_size=16, frequency_stride=16, time_stride=16, num_mel_bins=64, max_length=48,
            hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
        )  # fmt: skip
        return AstBackbone(ASTModel(config), mean=-4.0, std=4.0).eval()
    positions = {"num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2}
    return Wav2Vec2Backbone(Wav2Vec2Model(Wav2Vec2Config(**sizes, **STEADY, **positions, conv_dim=[16] * 7))).eval()


def trained(backbone: Backbone, method: str, folder: Path) -> None:
    """Adapts a backbone, takes its adapter somewhere and saves it."""
    adapted = adapt(backbone, method, AdapterOptions(rank=2), NUM_STEPS)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in backbone.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    backbone.eval()
    save_adapter(adapted, folder)


@pytest.fixture(scope="module")
def waveform() -> torch.Tensor:
    return 0.1 * torch.randn(1, 6000, generator=torch.Generator().manual_seed(2))


@pytest.fixture
def folder(tmp_path) -> Path:
    trained(build(), "lora", tmp_path / "adapter")
    return tmp_path / "adapter"


@pytest.mark.parametrize("kind", ["ast", "wav2vec2"])
@pytest.mark.parametrize("method", ADAPTERS)
def test_what_is_saved_is_what_is_loaded_and_the_adapter_alone(kind, method, waveform, tmp_path):
    backbone = build(kind)
    trained(backbone, method, tmp_path / "adapter")
    assert sorted(path.name for path in (tmp_path / "adapter").iterdir()) == FILES
    with safe_open(tmp_path / "adapter" / "adapter_model.safetensors", "pt") as file:
        sizes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118, it is no dict
    parts = [name.removesuffix(".weight") for name, value in backbone.named_parameters() if value.requires_grad]
    assert len(sizes) == len(parts)
    assert not any("base_layer" in name or "default" in name for name in sizes)
    values = sum(value.numel() for value in backbone.parameters() if value.requires_grad)
    assert sum(torch.Size(size).numel() for size in sizes.values()) == values
    with torch.no_grad():
        expected = backbone(waveform).tokens
        other = build(kind)
        load_adapter(other, tmp_path / "adapter")
        assert torch.equal(other.eval()(waveform).tokens, expected)
    assert not any(parameter.requires_grad for parameter in other.parameters())


def test_peft_loads_it_without_our_code(tmp_path):
    save_backbone(build(), tmp_path / "backbone")
    features = torch.randn(1, 48, 64, generator=torch.Generator().manual_seed(3))
    expected = []
    for method in ("lora", "conformer"):
        backbone = build()
        trained(backbone, method, tmp_path / method)
        with torch.no_grad():
            expected.append(backbone.model(features).last_hidden_state.sum(dim=(0, 1)))
    program = """
        import sys, torch
        from peft import PeftModel
        from transformers import AutoModel

        def tokens(adapter):
            model = PeftModel.from_pretrained(AutoModel.from_pretrained("backbone"), adapter).eval()
            features = torch.randn(1, 48, 64, generator=torch.Generator().manual_seed(3))
            with torch.no_grad():
                return model(features).last_hidden_state.sum(dim=(0, 1)).tolist()

        found = [tokens("lora")]
        assert not any(name.partition(".")[0] == "backbones" for name in sys.modules)
        import backbones.adapters
        print([*found, tokens("conformer")])
    """
    environment = {"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": "", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    torch.testing.assert_close(torch.tensor(json.loads(done.stdout)), torch.stack(expected))


def test_the_config_names_no_folder_of_this_machine(folder):
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "../backbone"
    assert config["target_modules"] == r"layers\.\d+\.(attention\.q_proj|attention\.v_proj)"
    assert str(folder.parent) not in (folder / "adapter_config.json").read_text()


def test_it_fits_the_backbone_that_was_saved_beside_it(waveform, tmp_path):
    backbone = build()
    save_backbone(backbone, tmp_path / "backbone")
    trained(backbone, "lora", tmp_path / "adapter")
    loaded = load_backbone(tmp_path / "backbone")
    load_adapter(loaded, tmp_path / "adapter")
    with torch.no_grad():
        assert torch.equal(loaded.eval()(waveform).tokens, backbone(waveform).tokens)


@pytest.mark.parametrize("method", ["lora", "adalora", "bottleneck", "bitfit", "layernorm", "vera"])
def test_the_checksum_is_that_of_the_backbone_however_it_is_adapted(method):
    plain = checksum_of_base(build().model)
    backbone = build()
    adapted = adapt(backbone, method, AdapterOptions(rank=2), NUM_STEPS)
    assert checksum_of_base(adapted.get_base_model()) == plain
    assert checksum_of_base(build(seed=1).model) != plain


def test_adalora_saves_what_the_network_computes_between_two_allocations(waveform, tmp_path):
    backbone = build()
    adapted = adapt(backbone, "adalora", AdapterOptions(rank=2), NUM_STEPS)
    optimizer = torch.optim.SGD([value for value in backbone.parameters() if value.requires_grad], lr=0.5)
    for step in range(1, NUM_STEPS):
        (backbone(waveform).tokens - 1).square().mean().backward()
        optimizer.step()
        if step < NUM_STEPS - 2:
            after_step(adapted, step)
        optimizer.zero_grad()
    assert adapted.peft_config["default"].rank_pattern  # some have been dropped, and have grown back since
    save_adapter(adapted, tmp_path / "adapter")
    other = build()
    load_adapter(other, tmp_path / "adapter")
    with torch.no_grad():
        assert torch.equal(other.eval()(waveform).tokens, backbone.eval()(waveform).tokens)


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        ({"hidden_size": 64}, "hidden_size 32, this one has 64"),
        ({"num_hidden_layers": 3}, "num_hidden_layers 2, this one has 3"),
        ({"kind": "wav2vec2"}, "model_type audio-spectrogram-transformer, this one has wav2vec2"),
        ({"seed": 1}, "a backbone of this size with other weights"),
    ],
)
def test_another_backbone_is_refused(folder, other, expected):
    backbone = build(**other)
    before = list(backbone.state_dict())
    with pytest.raises(CheckpointError, match=rf"{expected}.*give the backbone of its own run"):
        load_adapter(backbone, folder)
    assert list(backbone.state_dict()) == before


def test_a_run_without_adapters(tmp_path):
    with pytest.raises(CheckpointError, match="a run without adapters; give a run of another method than head or full"):
        load_adapter(build(), tmp_path / "adapter")


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_missing(folder, name):
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=rf"but {name} is missing"):
        load_adapter(build(), folder)


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_cut_short(folder, name):
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match=r"copy it again|copy the adapter's folder again"):
        load_adapter(build(), folder)


def test_an_unknown_kind_of_adapter(folder):
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | {"peft_type": "TELEPATHY"}))
    with pytest.raises(CheckpointError, match=r"cannot be loaded .*TELEPATHY"):
        load_adapter(build(), folder)


def test_weights_of_another_adapter(folder, tmp_path):
    trained(build(), "bottleneck", tmp_path / "other")
    shutil.copy(tmp_path / "other" / "adapter_model.safetensors", folder)
    with pytest.raises(CheckpointError, match=r"does not fit its adapter_config.json: \d+ tensors differ"):
        load_adapter(build(), folder)


def test_saving_again_replaces_what_is_there(folder, waveform):
    backbone = build()
    trained(backbone, "bottleneck", folder)
    assert sorted(path.name for path in folder.iterdir()) == FILES
    other = build()
    adapted = load_adapter(other, folder)
    assert isinstance(adapted.peft_config["default"], BottleneckConfig)
    with torch.no_grad():
        assert torch.equal(other.eval()(waveform).tokens, backbone(waveform).tokens)

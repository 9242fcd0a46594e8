"""Every kind of backbone is built by its name and keeps to one interface."""

import pytest
import torch
from torch import nn

from backbones.ast_encoder import PRESETS
from backbones.builders import BUILDERS, Backbone, untrained_backbone
from backbones.clap import CLAP_PRESETS
from backbones.cnn import CNN_PRESETS
from backbones.log_mel import samples_of
from backbones.pooling import pool
from backbones.wav2vec2 import CONVOLUTION_WIDTH, WAV2VEC2_PRESETS

pytestmark = pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask")  # pytest resets our own
SIZES = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 96}
CLAP_SIZES = {"patch_embeds_hidden_size": 8, "num_attention_heads": [1, 2, 2, 4], "depths": [1, 1, 1, 1]}


@pytest.fixture
def small(monkeypatch) -> None:
    """Makes the preset tiny smaller still."""
    for presets in (PRESETS, WAV2VEC2_PRESETS):
        monkeypatch.setitem(presets, "tiny", SIZES)
    monkeypatch.setitem(CONVOLUTION_WIDTH, "tiny", 16)
    monkeypatch.setitem(CNN_PRESETS, "tiny", "test_convnext")
    monkeypatch.setitem(CLAP_PRESETS, "tiny", CLAP_SIZES)


def build(kind: str) -> Backbone:
    torch.manual_seed(0)
    return untrained_backbone(kind, "tiny", 64, -5.0, 4.0)


@pytest.mark.parametrize("kind", BUILDERS)
def test_every_kind_keeps_to_the_interface(kind):
    backbone = build(kind).eval()
    assert backbone.kind == kind
    backbone.use_attention("eager")
    waveform = 0.1 * torch.randn(2, samples_of(64))
    with torch.no_grad():
        whole = backbone(waveform)
        padded = backbone(waveform, torch.tensor([samples_of(64), samples_of(32)]), hidden=True)
    assert whole.tokens.shape[::2] == (2, backbone.width)
    assert whole.is_padding is None
    if kind == "clap":  # which repeats a clip until it fills the picture
        assert padded.is_padding is None
    else:
        assert padded.is_padding.shape == padded.tokens.shape[:2]
        assert padded.is_padding.any(dim=1).tolist() == [False, True]
    assert padded.hidden[-1].shape == padded.tokens.shape
    assert (whole.class_token is not None) == (kind == "ast")
    extractor = backbone.feature_extractor()
    assert extractor.sampling_rate == (48_000 if kind == "clap" else 16_000)
    if hasattr(backbone, "log_mel"):
        assert (extractor.mean, extractor.std) == (-5.0, 4.0)
        assert (backbone.log_mel.mean, backbone.log_mel.std) == (-5.0, 4.0)
    assert hasattr(backbone, "log_mel") == kind.startswith(("ast", "cnn", "recurrent", "mobilenets"))
    if kind in ("ast", "cnn"):
        patches, _ = backbone.patches(waveform)
        assert patches.shape == (2, backbone.grid[0] * backbone.grid[1], backbone.patch_size**2)


@pytest.mark.parametrize("kind", BUILDERS)
def test_a_few_steps_of_training_lower_the_loss(kind, small):
    backbone = build(kind).train()
    time = torch.arange(samples_of(64)) / 16_000
    hertz = torch.tensor([220.0, 1760.0]).repeat(2)[:, None]
    waveform = 0.3 * torch.sin(2 * torch.pi * hertz * time + torch.rand(4, 1)) + 0.01 * torch.randn(4, len(time))
    lengths = torch.tensor([len(time)] * 3 + [samples_of(40)])
    target = (hertz[:, 0] > 1000).float()
    head = nn.Linear(backbone.width, 1)
    optimizer = torch.optim.Adam([*backbone.parameters(), *head.parameters()], lr=3e-3)
    losses = []
    for _ in range(10):
        logits = head(pool(backbone(waveform, lengths), "mean"))[:, 0]
        losses.append(nn.functional.binary_cross_entropy_with_logits(logits, target))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.6 * losses[0], [loss.item() for loss in losses]


def test_what_one_kind_alone_can_choose_goes_to_it():
    assert untrained_backbone("ast", "tiny", 64, 0.0, 1.0, patch_size=8).grid == (16, 8)
    with pytest.raises(ValueError, match=r"a backbone is one of ast, wav2vec2, wav2vec2-cnn, hubert.*, not resnet"):
        untrained_backbone("resnet", "tiny", 64, 0.0, 1.0)

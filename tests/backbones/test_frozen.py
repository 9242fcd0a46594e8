"""A backbone that only listens: means over windows, in whatever batches and precision."""

import pytest
import torch

from backbones import ast_encoder
from backbones.builders import Backbone, untrained_backbone
from backbones.frozen import Frozen
from backbones.log_mel import frames_of
from backbones.pooling import AttentivePooling

WINDOW = 6400


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ast_encoder.PRESETS, "tiny", ast_encoder.PRESETS["tiny"] | {"num_hidden_layers": 2})
        torch.manual_seed(0)
        return untrained_backbone("ast", "tiny", frames_of(WINDOW), -6.0, 4.0)


@pytest.fixture
def waveform() -> torch.Tensor:
    return 0.1 * torch.randn(5, WINDOW, generator=torch.Generator().manual_seed(0))


def test_a_clip_is_the_mean_over_its_windows(backbone, waveform):
    frozen, clip = Frozen(backbone, "mean"), torch.tensor([0, 1, 1, 1, 2])
    found = frozen.of_clips([(waveform[:2], None, clip[:2]), (waveform[2:], None, clip[2:])], 3)
    own = frozen(waveform)
    torch.testing.assert_close(found, torch.stack([own[0], own[1:4].mean(dim=0), own[4]]), atol=1e-5, rtol=1e-4)


def test_attention_takes_the_place_of_the_pooling(backbone, waveform):
    attention = AttentivePooling(backbone.width)
    torch.nn.init.normal_(attention.query)
    found = Frozen(backbone, "attentive", attention=attention)(waveform)
    tokens = Frozen(backbone, "mean").tokens(waveform)
    torch.testing.assert_close(found, attention(tokens.tokens))
    assert not torch.allclose(found, tokens.tokens.mean(dim=1), atol=1e-2)


def test_what_is_multiplied_in_bfloat16_comes_out_in_float32(backbone, waveform):
    exact, rough = Frozen(backbone, "mean")(waveform), Frozen(backbone, "mean", dtype=torch.bfloat16)(waveform)
    assert rough.dtype == torch.float32
    assert not torch.equal(exact, rough)
    assert torch.cosine_similarity(exact, rough).min() > 0.999


def test_training_changes_nothing(backbone, waveform):
    frozen = Frozen(backbone, "class_token").train()
    assert not any(module.training for module in frozen.modules())
    assert not frozen(waveform).requires_grad

"""The recurrent baseline: its features, its attention, and blindness to padding."""

import pytest
import scipy.fft
import torch

from backbones.log_mel import samples_of
from backbones.pooling import pool
from backbones.recurrent import (
    FEATURES,
    RECURRENT_KINDS,
    RECURRENT_PRESETS,
    RecurrentBackbone,
    RecurrentConfig,
    RecurrentModel,
)

TOLERANCE = {"atol": 1e-5, "rtol": 1e-4}  # sums run in another order


def build(features: str = "mel", num_layers: int = 2) -> RecurrentBackbone:
    torch.manual_seed(0)
    config = RecurrentConfig(features=features, hidden_size=6, num_hidden_layers=num_layers)
    backbone = RecurrentBackbone(RecurrentModel(config), -4.0, 4.0)
    with torch.no_grad():  # fresh scores are nearly alike, which hides mistakes
        backbone.model.score.weight.normal_()
        backbone.model.attention.weight.normal_()
    return backbone.eval()


def noise(batch: int, num_frames: int) -> torch.Tensor:
    return 0.1 * torch.randn(batch, samples_of(num_frames), generator=torch.Generator().manual_seed(batch))


@torch.no_grad()
def test_mean_pooling_is_additive_attention():
    backbone = build()
    waveform = noise(2, 20)
    model = backbone.model
    states, _ = model.lstm(backbone.features(waveform)[0])
    expected = torch.zeros(2, backbone.width)
    for clip in range(2):
        scores = [model.score.weight[0] @ torch.tanh(model.attention.weight @ state) for state in states[clip]]
        share = torch.stack(scores).exp() / torch.stack(scores).exp().sum()
        for state, part in zip(states[clip], share, strict=True):
            expected[clip] += part * state
    found = backbone(waveform, hidden=True)
    torch.testing.assert_close(pool(found, "mean"), expected, **TOLERANCE)
    assert found.tokens.shape == (2, 20, backbone.width)
    assert torch.equal(found.hidden[0], found.tokens)


@torch.no_grad()
@pytest.mark.parametrize("features", FEATURES)
def test_a_padded_clip_has_the_tokens_it_has_alone(features):
    backbone = build(features)
    waveform, lengths = noise(3, 40), [samples_of(40), samples_of(17) + 50, 100]  # behind an end lies no silence
    together = backbone(waveform, torch.tensor(lengths))
    assert (~together.is_padding).sum(dim=1).tolist() == [40, 17, 1]
    assert backbone(waveform, torch.full((3,), samples_of(40))).is_padding is None
    for place, length in enumerate(lengths[:2]):
        alone = backbone(waveform[place : place + 1, :length])
        torch.testing.assert_close(
            together.tokens[place, ~together.is_padding[place]], alone.tokens[0], atol=1e-4, rtol=1e-3
        )
        torch.testing.assert_close(pool(together, "mean")[place], pool(alone, "mean")[0], **TOLERANCE)
    assert together.tokens.isfinite().all()


def test_cepstrum_is_the_cosine_transform_of_the_log_mel():
    backbone = build("mfcc")
    log_mel, _ = backbone.log_mel(noise(1, 10))
    expected = torch.from_numpy(scipy.fft.dct(log_mel.numpy(), norm="ortho")[..., :40])
    torch.testing.assert_close(backbone.features(noise(1, 10))[0], expected, **TOLERANCE)


def test_the_shortest_clip_is_a_frame():
    backbone = build()
    assert backbone(torch.zeros(1, backbone.min_samples)).tokens.shape[1] == 1
    with pytest.raises(ValueError, match="at least 400 samples, not 399"):
        backbone(torch.zeros(1, 399))


@pytest.mark.parametrize("features", FEATURES)
def test_gradient_reaches_every_parameter(features):
    backbone = build(features).train()
    tokens = backbone(noise(2, 12), torch.tensor([samples_of(12), samples_of(7)]))
    (pool(tokens, "mean") * torch.randn(2, backbone.width)).sum().backward()
    for name, parameter in backbone.named_parameters():
        assert parameter.grad.abs().max() > 0, name


def test_kinds_and_presets():
    with pytest.raises(ValueError, match="features are one of mel, mfcc, wavelet, not chroma"):
        RecurrentModel(RecurrentConfig(features="chroma"))
    for kind, features in RECURRENT_KINDS.items():
        for preset, width in zip(RECURRENT_PRESETS, (128, 256, 512), strict=True):
            backbone = RecurrentBackbone.untrained(kind, preset, -4.0, 4.0)
            assert (backbone.kind, backbone.model.config.features, backbone.width) == (kind, features, width)

"""Wav2Vec2 behind our interface gives what transformers gives, and is blind to padding."""

import pytest
import torch

from backbones.pooling import pool
from backbones.wav2vec2 import WAV2VEC2_PRESETS, Wav2Vec2Backbone

TOLERANCE = {"atol": 2e-5, "rtol": 1e-4}  # convolutions of other lengths add up in another order


@pytest.fixture(params=[False, True], ids=["whole", "convolutions"])
def backbone(request, monkeypatch) -> Wav2Vec2Backbone:
    torch.manual_seed(0)
    monkeypatch.setitem(WAV2VEC2_PRESETS, "tiny", WAV2VEC2_PRESETS["tiny"] | {"num_hidden_layers": 2})
    return Wav2Vec2Backbone.untrained("tiny", only_convolutions=request.param).eval()


@torch.no_grad()
def test_it_is_transformers_own(backbone):
    waveform = 0.1 * torch.randn(2, 8000)
    extractor = backbone.feature_extractor()
    inputs = extractor(list(waveform.numpy()), sampling_rate=16_000, return_tensors="pt").input_values
    out = backbone.model(inputs)
    found = backbone(waveform, hidden=True)
    expected = out.last_hidden_state if backbone.kind == "wav2vec2" else out.extract_features
    torch.testing.assert_close(found.tokens, expected, **TOLERANCE)
    assert found.tokens.shape[2] == backbone.width
    assert len(found.hidden) == (2 if backbone.kind == "wav2vec2" else 1)
    torch.testing.assert_close(found.hidden[-1], found.tokens)


@torch.no_grad()
def test_a_padded_clip_has_the_tokens_it_has_alone(backbone):
    waveform, lengths = 0.1 * torch.randn(3, 8000), [8000, 5000, 700]
    for row, length in zip(waveform, lengths, strict=True):
        row[length:] = 0
    together = backbone(waveform, torch.tensor(lengths), hidden=True)
    for place, length in enumerate(lengths):
        alone = backbone(waveform[place : place + 1, :length], hidden=True)
        is_sound = ~together.is_padding[place]
        torch.testing.assert_close(together.tokens[place, is_sound], alone.tokens[0], **TOLERANCE)
        for pooling in ("mean", "mean_layers"):
            torch.testing.assert_close(pool(together, pooling)[place], pool(alone, pooling)[0], **TOLERANCE)


def test_a_clip_shorter_than_a_token_gets_one(backbone):
    assert backbone.min_samples == 400
    tokens = backbone(torch.zeros(2, 1000), torch.tensor([1000, 10]))
    assert (~tokens.is_padding).sum(dim=1).tolist() == [2, 1]
    assert tokens.tokens.isfinite().all()


def test_it_learns(backbone):
    backbone.train()
    backbone(0.1 * torch.randn(2, 2000), torch.tensor([2000, 1500])).tokens.square().mean().backward()
    first = backbone.model.feature_extractor.conv_layers[0].conv.weight
    assert first.grad.abs().sum() > 0

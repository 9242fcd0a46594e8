"""Wav2Vec2 and its kin behind our interface give what transformers gives, and are blind to padding."""

import pytest
import torch

from backbones.pooling import pool
from backbones.wav2vec2 import KINDS, WAV2VEC2_PRESETS, Wav2Vec2Backbone, settings_of

pytestmark = pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask")  # pytest resets our own
TOLERANCE = {"atol": 2e-5, "rtol": 1e-4}  # convolutions of other lengths add up in another order
SIZES = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 96}
LARGE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
"""How the large networks differ from the small ones; data2vec has the first of it always."""
VARIANTS = [(kind, {}) for kind in KINDS] + [(kind, LARGE) for kind in ("wav2vec2", "hubert", "wavlm")]


def build(kind: str, **settings) -> Wav2Vec2Backbone:
    torch.manual_seed(0)
    config = KINDS[kind].config_class(conv_dim=[16] * 7, **(SIZES | settings_of(kind)), **settings)
    backbone = Wav2Vec2Backbone(KINDS[kind](config))
    with torch.no_grad():  # fresh biases are zero, and what leaks into padding through them would not show
        for parameter in backbone.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return backbone.eval()


@pytest.fixture(scope="module", params=VARIANTS, ids=lambda variant: f"{variant[0]}{'-large' if variant[1] else ''}")
def backbone(request) -> Wav2Vec2Backbone:
    kind, settings = request.param
    return build(kind, **settings)


@torch.no_grad()
def test_it_is_transformers_own(backbone):
    waveform = 0.1 * torch.randn(2, 8000)
    extractor = backbone.feature_extractor()
    inputs = extractor(list(waveform.numpy()), sampling_rate=16_000, return_tensors="pt").input_values
    out = backbone.model(inputs, output_hidden_states=True)
    found = backbone(waveform, hidden=True)
    expected = out.extract_features if backbone.kind == "wav2vec2-cnn" else out.last_hidden_state
    torch.testing.assert_close(found.tokens, expected, **TOLERANCE)
    assert found.tokens.shape == (2, 24, backbone.width)
    if backbone.kind == "wav2vec2-cnn":
        assert torch.equal(found.hidden[0], found.tokens)
        return
    assert len(found.hidden) == 2
    torch.testing.assert_close(found.hidden[0], out.hidden_states[1], **TOLERANCE)
    last = found.hidden[1]  # the large networks have a norm behind their last layer
    if getattr(backbone.model.config, "do_stable_layer_norm", False):
        last = backbone.model.encoder.layer_norm(last)
    torch.testing.assert_close(last, found.tokens, **TOLERANCE)


@torch.no_grad()
def test_a_padded_clip_has_the_tokens_it_has_alone(backbone):
    waveform, lengths = 0.1 * torch.randn(3, 8000), [8000, 5000, 700]  # what lies behind an end is no silence
    together = backbone(waveform, torch.tensor(lengths), hidden=True)
    for place, length in enumerate(lengths):
        alone = backbone(waveform[place : place + 1, :length], hidden=True)
        is_sound = ~together.is_padding[place]
        torch.testing.assert_close(together.tokens[place, is_sound], alone.tokens[0], **TOLERANCE)
        for pooling in ("mean", "mean_layers"):
            torch.testing.assert_close(pool(together, pooling)[place], pool(alone, pooling)[0], **TOLERANCE)
    assert not backbone.model.encoder.pos_conv_embed._forward_pre_hooks, "hooks stay behind"


def test_a_clip_shorter_than_a_token_gets_one(backbone):
    assert backbone.min_samples == 400
    tokens = backbone(torch.zeros(2, 1000), torch.tensor([1000, 10]))
    assert (~tokens.is_padding).sum(dim=1).tolist() == [2, 1]
    assert tokens.tokens.isfinite().all()
    assert backbone(torch.zeros(1, 400)).tokens.shape[1] == 1


def test_every_parameter_has_a_gradient(backbone):
    tokens = backbone.train()(0.1 * torch.randn(2, 2000), torch.tensor([2000, 1500])).tokens
    (tokens * torch.randn_like(tokens)).sum().backward()
    for name, parameter in backbone.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
    first = backbone.model.feature_extractor.conv_layers[0].conv.weight
    assert first.grad.abs().sum() > 0
    backbone.zero_grad()
    backbone.eval()


@torch.no_grad()
def test_chance_has_no_part_in_it(backbone):
    waveform = 0.1 * torch.randn(2, 4000)
    assert torch.equal(backbone.train()(waveform).tokens, backbone.eval()(waveform).tokens)


@torch.no_grad()
def test_a_batch_norm_keeps_its_statistics():
    backbone = build("hubert", conv_pos_batch_norm=True)
    norm = backbone.model.encoder.pos_conv_embed.batch_norm
    norm.running_mean.normal_()
    waveform = 0.1 * torch.randn(2, 4000)
    alone = backbone(waveform[:1, :3000]).tokens
    for mode in (False, True):
        together = backbone.train(mode)(waveform, torch.tensor([3000, 4000])).tokens
        torch.testing.assert_close(together[:1, : alone.shape[1]], alone, **TOLERANCE)


@torch.no_grad()
def test_the_level_is_heard_where_the_front_end_does_not_normalise():
    backbone = build("wavlm", **LARGE)
    raw = Wav2Vec2Backbone(backbone.model, is_normalised=False)
    assert not raw.feature_extractor().do_normalize
    waveform = 0.01 * torch.randn(1, 4000)
    torch.testing.assert_close(raw(waveform).tokens, backbone.model(waveform).last_hidden_state, **TOLERANCE)
    torch.testing.assert_close(backbone(3 * waveform).tokens, backbone(waveform).tokens, atol=1e-3, rtol=1e-3)
    assert not torch.allclose(raw(3 * waveform).tokens, raw(waveform).tokens, atol=1e-2)


def test_presets_are_built(monkeypatch):
    monkeypatch.setitem(WAV2VEC2_PRESETS, "tiny", SIZES)
    for kind in KINDS:
        backbone = Wav2Vec2Backbone.untrained(kind, "tiny")
        assert (backbone.kind, backbone.width) == (kind, 128 if kind == "wav2vec2-cnn" else 48)

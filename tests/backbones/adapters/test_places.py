"""The names in the tables are those of the installed transformers, and all of them are modules that are called."""

import dataclasses
import re

import pytest
import torch
from torch import nn

from backbones.adapters.places import PLACES, Places, find, places_of
from backbones.builders import Backbone, untrained_backbone
from backbones.clap import CLAP_PRESETS
from backbones.wav2vec2 import KINDS, Wav2Vec2Backbone, settings_of

pytestmark = pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask")
KINDS_WITH_PLACES = ["ast", "wav2vec2", "wav2vec2-cnn", "hubert", "wavlm", "data2vec-audio", "clap", "cnn"]


@pytest.fixture(scope="module", params=KINDS_WITH_PLACES)
def backbone(request) -> Backbone:
    torch.manual_seed(0)
    if request.param in KINDS:
        sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
        positions = {"num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2}
        model = KINDS[request.param]
        settings = sizes | settings_of(request.param) | positions
        return Wav2Vec2Backbone(model(model.config_class(**settings, conv_dim=[8] * 7))).eval()
    with pytest.MonkeyPatch.context() as patch:
        sizes = {"patch_embeds_hidden_size": 8, "num_attention_heads": [1, 2, 4, 8], "depths": [1, 1, 1, 2]}
        patch.setitem(CLAP_PRESETS, "tiny", sizes)
        return untrained_backbone(request.param, "tiny", 64, mean=-4.0, std=4.0).eval()


def patterns(places: Places) -> dict[str, str]:
    behind = [places.after_attention] if places.after_attention else []
    return {
        "queries and values": places.queries_values,
        "linear": places.linear,
        "norms": places.every_norm,
        "biases": places.every_bias,
        "outputs": places.in_layers(*behind, places.feed_forward[-1]),
    }


@torch.no_grad()
def test_every_place_is_a_module_that_is_called_once_a_pass(backbone):
    model, places = backbone.model, places_of(backbone.model)
    found = {name: module for pattern in patterns(places).values() for name, module in find(model, pattern).items()}
    called = dict.fromkeys(found, 0)

    def count(name: str) -> None:
        called[name] += 1

    for name, module in found.items():
        module.register_forward_hook(lambda *_, name=name: count(name))
    backbone(0.1 * torch.randn(1, 12_000))
    assert set(called.values()) == {1}, called


def test_queries_and_values_are_a_third_of_the_linear_maps_where_there_is_attention(backbone):
    places = places_of(backbone.model)
    linear, chosen = (len(find(backbone.model, pattern)) for pattern in (places.linear, places.queries_values))
    assert linear == (3 * chosen if places.attention else chosen) > 0


def test_every_norm_but_those_of_frozen_convolutions_has_its_place(backbone):
    places = places_of(backbone.model)
    norms = {
        name
        for name, module in backbone.model.named_modules()
        if isinstance(module, (nn.LayerNorm, nn.GroupNorm)) and next(module.parameters(), None) is not None
    }
    left_out = norms - find(backbone.model, places.every_norm).keys()
    frozen = r"feature_extractor\..*|audio_encoder\.(batch_norm|patch_embed\.norm)"  # CLAP's first layers
    if backbone.kind == "wav2vec2-cnn":
        frozen = r"encoder\..*"  # idle
    assert all(re.fullmatch(frozen, name) for name in left_out), left_out


def test_a_miss_names_what_is_there(monkeypatch):
    model = untrained_backbone("ast", "tiny", 64, mean=-4.0, std=4.0).model
    old = dataclasses.replace(places_of(model), feed_forward=("intermediate.dense", "mlp.fc2"))
    monkeypatch.setitem(PLACES, "audio-spectrogram-transformer", old)
    with pytest.raises(ValueError, match=r"should have intermediate.dense in each .*layers.0 has .*mlp.fc1, mlp.fc2"):
        places_of(model)
    old = dataclasses.replace(old, layer=r"encoder\.layer\.\d+")
    monkeypatch.setitem(PLACES, "audio-spectrogram-transformer", old)
    with pytest.raises(
        ValueError, match=r"should have attention.k_proj, .* the model has embeddings, layers, layernorm;"
    ):
        places_of(model)


def test_a_model_without_a_table():
    model = untrained_backbone("mobilenets", "tiny", 64, mean=-4.0, std=4.0).model
    with pytest.raises(ValueError, match="choose method head or full"):
        places_of(model)

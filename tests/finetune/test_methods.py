"""Every method leaves the network as it was, trains what it adds and nothing else, and goes on exactly after a stop."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import torch
from peft import PeftModel, get_peft_model_state_dict
from torch import nn
from transformers import ASTConfig, ASTModel

from backbones.ast_encoder import AstBackbone
from backbones.builders import Backbone, untrained_backbone
from backbones.clap import CLAP_PRESETS
from backbones.log_mel import samples_of
from backbones.wav2vec2 import KINDS, Wav2Vec2Backbone, settings_of
from checkpoints.config import parse_config
from finetune.methods import METHODS, AdapterOptions, adapt, after_step, count_trainable, penalty

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
OPTIONS, NUM_STEPS = AdapterOptions(rank=2), 20
ADAPTERS = [name for name, method in METHODS.items() if method.config]
BOTH = pytest.mark.parametrize("kind", ["ast", "wav2vec2"])
ROUNDED = {"dora", "oft", "hra"}
"""They divide by a norm or multiply reflections that cancel: equal up to rounding."""
SHARE = 0.02


def build(kind: str) -> Backbone:
    torch.manual_seed(0)
    if kind == "ast":
        config = ASTConfig(
            **SIZES, patch_size=16, frequency_stride=16, time_stride=16, num_mel_bins=64, max_length=96,
            hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
        )  # fmt: skip
        backbone = AstBackbone(ASTModel(config), mean=-4.0, std=4.0)
    else:
        positions = {"num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2}
        model = KINDS[kind]
        config = model.config_class(conv_dim=[16] * 7, **(SIZES | settings_of(kind)), **positions)
        backbone = Wav2Vec2Backbone(model(config))
    with torch.no_grad():  # fresh biases are zero, and what is lost on them would not show
        for parameter in backbone.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return backbone.eval()


@pytest.fixture(scope="module")
def waveform() -> torch.Tensor:
    return 0.1 * torch.randn(2, 8000, generator=torch.Generator().manual_seed(1))


def train(
    backbone: Backbone, adapted: PeftModel, waveform: torch.Tensor, steps: range,
    build_optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.AdamW,
) -> None:  # fmt: skip
    """Steps towards tokens of another size."""
    parameters = [parameter for parameter in backbone.parameters() if parameter.requires_grad]
    optimizer = build_optimizer(parameters, lr=0.05)
    backbone.train()
    for step in steps:
        (backbone(waveform).tokens - 1).square().mean().backward()
        optimizer.step()
        after_step(adapted, step)
        optimizer.zero_grad()
    backbone.eval()


def scramble(backbone: Backbone, scale: float = 0.1) -> None:
    """Trained adapters, without the training."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in backbone.parameters():
            if parameter.requires_grad:
                parameter.add_(scale * torch.randn(parameter.shape, generator=generator))


@pytest.mark.parametrize(
    ("kind", "options"),
    [("ast", OPTIONS), ("wav2vec2", OPTIONS), ("ast", AdapterOptions(rank=3, target="all", placing="houlsby"))],
    ids=["ast", "wav2vec2", "ast-odd-all"],
)
@pytest.mark.parametrize("method", METHODS)
@torch.no_grad()
def test_it_starts_as_it_was(kind, options, method, waveform):
    backbone = build(kind)
    before = backbone(waveform).tokens
    adapted = adapt(backbone, method, options, NUM_STEPS)
    backbone.eval()
    assert (adapted is None) == (method in ("head", "full"))
    torch.testing.assert_close(backbone(waveform).tokens, before, rtol=0, atol=1e-5 if method in ROUNDED else 0)


@BOTH
@pytest.mark.parametrize("method", ADAPTERS)
def test_it_trains_what_it_adds_and_nothing_else(kind, method, waveform):
    backbone = build(kind)
    before, base = backbone(waveform).tokens, copy.deepcopy(backbone.model.state_dict())
    adapted = adapt(backbone, method, OPTIONS, NUM_STEPS)
    backbone.train()
    backbone(waveform).tokens.square().mean().backward()
    saved = get_peft_model_state_dict(adapted, save_embedding_layers=False)
    trained = {name for name, parameter in adapted.named_parameters() if parameter.requires_grad}
    assert {name.replace(".default", "").removesuffix(".weight") for name in trained} == {
        name.removesuffix(".weight") for name in saved
    }
    assert {name for name, parameter in adapted.named_parameters() if parameter.grad is not None} == trained
    backbone.zero_grad()
    train(backbone, adapted, waveform, range(1, 5))
    plain = {name.replace(".base_layer.", "."): value for name, value in backbone.model.state_dict().items()}
    assert all(torch.equal(plain[name], value) for name, value in base.items())
    assert not torch.allclose(backbone(waveform).tokens, before, atol=1e-5)


@pytest.mark.parametrize("kind", ["ast", "wav2vec2"])
def test_it_is_small(kind):
    backbone = untrained_backbone(kind, "tiny", 96, mean=-4.0, std=4.0)
    for method in ADAPTERS:
        adapted = copy.deepcopy(backbone)
        adapt(adapted, method, num_steps=NUM_STEPS)
        trained, total = count_trainable(adapted)
        assert 0 < trained < SHARE * total, method


def test_head_trains_nothing_and_full_all(waveform):
    backbone = build("ast")
    adapt(backbone, "head")
    assert count_trainable(backbone)[0] == 0
    backbone = build("ast")
    adapt(backbone, "full")
    trained, total = count_trainable(backbone)
    assert trained == total > 0
    backbone = build("wav2vec2-cnn")  # the transformer that is left out stays frozen, or processes wait for it
    adapt(backbone, "full")
    backbone(waveform).tokens.square().mean().backward()
    assert all((parameter.grad is not None) == parameter.requires_grad for parameter in backbone.parameters())


@pytest.mark.parametrize("kind", ["wav2vec2", "hubert", "wavlm", "data2vec-audio"])
@pytest.mark.parametrize(("method", "is_frozen"), [("lora", True), ("bitfit", True), ("head", True), ("full", False)])
def test_no_gradient_flows_through_frozen_convolutions(kind, method, is_frozen, waveform):
    backbone = build(kind)
    adapt(backbone, method, OPTIONS)
    backbone.train()
    seen = []
    for layer in backbone.model.feature_extractor.conv_layers:
        layer.register_forward_hook(lambda layer, inputs, output: seen.append(output.requires_grad))
    backbone(waveform)
    assert seen == [not is_frozen] * 7


@pytest.mark.parametrize("kind", ["ast", "wav2vec2", "wavlm"])
@pytest.mark.parametrize("method", ["lora", "bottleneck", "conformer", "bitfit"])
@torch.no_grad()
def test_a_padded_batch_gives_the_single_clips_tokens(kind, method, waveform):
    backbone = build(kind)
    adapt(backbone, method, OPTIONS)
    scramble(backbone)
    backbone.eval()
    length = samples_of(32)  # two whole columns of AST's patches
    padded = waveform.clone()
    padded[1, length:] = 0
    together, alone = backbone(padded, torch.tensor([8000, length])), backbone(padded[1:, :length])
    is_sound = ~together.is_padding[1]
    torch.testing.assert_close(together.tokens[1, is_sound], alone.tokens[0], rtol=1e-4, atol=2e-5)


def test_wavlm_keeps_adapters_out_of_an_attention_that_calls_no_modules(waveform):
    backbone = build("wavlm")
    adapted = adapt(backbone, "lora", OPTIONS)
    assert all("feed_forward" in name for name in adapted.base_model.targeted_module_names)
    backbone = build("wavlm")
    before = backbone(waveform).tokens
    adapted = adapt(backbone, "bottleneck", OPTIONS)
    assert {name.rpartition(".")[2] for name in adapted.base_model.targeted_module_names} == {
        "attention", "output_dense",
    }  # fmt: skip
    scramble(nn.ModuleList(layer.attention for layer in backbone.model.encoder.layers))
    assert not torch.allclose(backbone(waveform).tokens, before, atol=1e-4)


@pytest.mark.parametrize("kind", ["hubert", "data2vec-audio", "wavlm", "clap", "cnn", "wav2vec2-cnn"])
@pytest.mark.parametrize("method", ["lora", "ia3", "bottleneck", "bitfit", "layernorm"])
def test_other_kinds_take_what_works_on_them(kind, method, waveform, monkeypatch):
    sizes = {"patch_embeds_hidden_size": 8, "num_attention_heads": [1, 2, 4, 8], "depths": [1, 1, 1, 2]}
    monkeypatch.setitem(CLAP_PRESETS, "tiny", sizes)
    is_small = kind in ("clap", "cnn")
    backbone = untrained_backbone(kind, "tiny", 96, mean=-4.0, std=4.0) if is_small else build(kind)
    if kind in ("cnn", "wav2vec2-cnn") and method in ("bottleneck", "ia3") and (kind, method) != ("cnn", "ia3"):
        with pytest.raises(ValueError, match=f"on a {kind} work lora, dora, .*head and full, not {method}"):
            adapt(backbone, method, OPTIONS)
        return
    backbone.eval()
    before = backbone(waveform[:1]).tokens
    adapt(backbone, method, OPTIONS)
    torch.testing.assert_close(backbone.eval()(waveform[:1]).tokens, before, rtol=0, atol=0)
    backbone.train()
    backbone(waveform[:1]).tokens.square().mean().backward()
    assert all((parameter.grad is not None) == parameter.requires_grad for parameter in backbone.parameters())
    assert count_trainable(backbone)[0] > 0


def test_adalora_drops_ranks_and_resumes_exactly(waveform):
    whole = build("ast")
    adapted = adapt(whole, "adalora", AdapterOptions(rank=2), NUM_STEPS)
    train(whole, adapted, waveform, range(1, 8), torch.optim.SGD)
    state = copy.deepcopy(whole.state_dict())
    train(whole, adapted, waveform, range(8, NUM_STEPS + 1), torch.optim.SGD)  # no state of its own

    resumed = build("ast")
    adapted_again = adapt(resumed, "adalora", AdapterOptions(rank=2), NUM_STEPS)
    for name, value in resumed.state_dict().items():
        value.copy_(state[name])
    train(resumed, adapted_again, waveform, range(8, NUM_STEPS + 1), torch.optim.SGD)  # no state of its own
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    singular = [value for name, value in whole.named_parameters() if ".lora_E." in name]
    assert sum(int((value != 0).sum()) for value in singular) == 2 * len(singular)  # of 3 at first


def test_adalora_is_told_its_steps_and_its_gradients(waveform):
    with pytest.raises(ValueError, match="number of steps"):
        adapt(build("ast"), "adalora", OPTIONS)
    adapted = adapt(build("ast"), "adalora", OPTIONS, NUM_STEPS)
    with pytest.raises(RuntimeError, match="before zero_grad"):
        after_step(adapted, 1)
    after_step(None, 1)


def test_the_penalty_is_how_far_factors_are_from_orthogonal():
    assert penalty(None) is None
    assert penalty(adapt(build("ast"), "lora", OPTIONS)) is None
    adapted = adapt(build("ast"), "adalora", OPTIONS, NUM_STEPS)
    with torch.no_grad():
        for name, value in adapted.named_parameters():
            if ".lora_A." in name:
                value.copy_(torch.eye(*value.shape))
            if ".lora_B." in name:
                value.copy_(2 * torch.eye(*value.shape))  # (2 I)(2 I) - I = 3 I, of norm 3 sqrt(rank)
    assert penalty(adapted).item() == pytest.approx(0.1 * 0.5 * 3 * 3**0.5)


def test_conformer_refuses_rows_with_holes(waveform):
    backbone = build("ast")
    adapt(backbone, "conformer", OPTIONS)
    patches, _ = backbone.patches(waveform)
    keep = torch.arange(patches.shape[1] - 1).expand(2, -1)
    with pytest.raises(ValueError, match=r"\(patchout 0\) or choose another adapter"):
        backbone.encode_visible(patches[:, :-1], keep)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"rank": 0}, "rank is at least 1, not 0"),
        ({"alpha": 0}, "alpha is at least 1, not 0"),
        ({"dropout": 1.0}, r"dropout is in \[0, 1\), not 1.0"),
        ({"kernel": 4}, "kernel is an odd number of tokens, not 4"),
        ({"bottleneck": 0}, "bottleneck is at least 1"),
    ],
)
def test_options_that_make_no_sense(options, expected):
    with pytest.raises(ValueError, match=expected):
        AdapterOptions(**options)


def test_methods_and_backbones_that_are_not_there():
    with pytest.raises(ValueError, match=r"a method is one of lora, .* not lorra"):
        adapt(build("ast"), "lorra")
    backbone = untrained_backbone("recurrent", "tiny", 96, mean=-4.0, std=4.0)
    with pytest.raises(
        ValueError, match=r"no table of places for adapters in a .*recurrent; choose method head or full"
    ):
        adapt(backbone, "lora")
    assert count_trainable(backbone)[0] > 0  # what was refused is not frozen


@BOTH
def test_the_target_can_be_all_linear_maps(kind):
    counts = {
        target: len(adapt(build(kind), "lora", AdapterOptions(target=target)).base_model.targeted_module_names)
        for target in ("attention", "all")
    }
    assert counts == {"attention": 2 * 2, "all": 6 * 2}


def test_options_are_nested_flags():
    @dataclass
    class Config:
        adapter: AdapterOptions = field(default_factory=AdapterOptions)
        """Size and places of the adapter."""

    config = parse_config(Config, ["--adapter.rank", "16", "--adapter.placing", "pfeiffer"], "")
    assert config.adapter == AdapterOptions(rank=16, placing="pfeiffer")


def test_adapters_learn_a_hundred_times_as_fast_as_all_weights():
    assert METHODS["lora"].learning_rate == 100 * METHODS["full"].learning_rate
    assert all(method.help for method in METHODS.values())

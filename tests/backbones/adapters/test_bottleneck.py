"""The bottleneck is the network of the paper, behind attention and the feed-forward part, before the residual."""

import pytest
import torch
import torch.nn.functional as F
from peft import get_peft_model
from torch import nn

from backbones.adapters.bottleneck import BottleneckConfig, BottleneckLayer


class Block(nn.Module):
    """A part of a layer with its residual, as transformers writes it."""

    def __init__(self, width: int = 6):
        super().__init__()
        self.inner = nn.Linear(width, width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return tokens + self.inner(tokens)


class Attention(nn.Module):
    """Returns a tuple, as attention does, and has no weight of its own."""

    embed_dim = 6

    def __init__(self):
        super().__init__()
        self.value = nn.Linear(6, 6)

    def forward(self, tokens: torch.Tensor, mask: None = None) -> tuple[torch.Tensor, str]:
        return self.value(tokens), "weights"


@pytest.fixture
def tokens() -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(2, 5, 6)


def adapted(module: nn.Module, target: str, **settings) -> tuple[nn.Module, BottleneckLayer]:
    torch.manual_seed(1)
    get_peft_model(module, BottleneckConfig(target_modules=target, width=3, **settings))
    layer = next(part for part in module.modules() if isinstance(part, BottleneckLayer))
    with torch.no_grad():
        for parameter in layer.parameters():
            if parameter.requires_grad:
                parameter.normal_()
    return module, layer


def test_it_is_a_residual_network_inside_the_residual(tokens):
    block, layer = adapted(Block(), "inner")
    down, up = layer.bottleneck_down["default"], layer.bottleneck_up["default"]
    inner = layer.base_layer(tokens)
    narrow = F.gelu(inner @ down.weight.T + down.bias)
    assert narrow.shape == (2, 5, 3)
    torch.testing.assert_close(block(tokens), tokens + inner + narrow @ up.weight.T + up.bias)


def test_of_a_tuple_the_first_is_the_output(tokens):
    attention, layer = adapted(nn.ModuleDict({"part": Attention()}), "part")
    output, weights = attention["part"](tokens, mask=None)
    assert weights == "weights"
    down, up = layer.bottleneck_down["default"], layer.bottleneck_up["default"]
    plain = layer.base_layer(tokens)[0]
    torch.testing.assert_close(output, plain + up(F.gelu(down(plain))))


def test_it_can_be_switched_off(tokens):
    block, layer = adapted(Block(), "inner")
    assert not torch.equal(block(tokens), tokens + layer.base_layer(tokens))
    layer.enable_adapters(False)
    assert torch.equal(block(tokens), tokens + layer.base_layer(tokens))


def test_dropout_is_on_the_narrow_part_in_training(tokens):
    block, _ = adapted(Block(), "inner", dropout=0.5)
    assert not torch.equal(block.train()(tokens), block(tokens))
    assert torch.equal(block.eval()(tokens), block(tokens))


def test_a_frozen_network_in_half_precision_keeps_its_type(tokens):
    block, _ = adapted(Block().bfloat16(), "inner")
    assert block(tokens.bfloat16()).dtype == torch.bfloat16

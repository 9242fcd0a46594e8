"""The conformer adapter convolves each row of tokens along time, and hears neither padding nor the next row."""

import copy

import pytest
import torch
import torch.nn.functional as F
from peft import get_peft_model
from torch import Tensor, nn

from backbones.adapters.conformer import ConformerConfig, ConformerLayer, padding_of_mask

WIDTH, NARROW, KERNEL, EXTRA, ROWS, TIME = 6, 3, 5, 2, 2, 4


class Layer(nn.Module):
    """What is told of padding, as a layer of transformers is."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(WIDTH, WIDTH)

    def forward(self, tokens: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        return self.inner(tokens)


@pytest.fixture
def network() -> nn.ModuleList:
    torch.manual_seed(0)
    built = nn.ModuleList([Layer()])
    get_peft_model(built, ConformerConfig(
        target_modules=r"\d+\.inner", layers=r"\d+", width=NARROW, kernel=KERNEL, num_extra=EXTRA, num_rows=ROWS,
    ))  # fmt: skip
    with torch.no_grad():
        for name, parameter in built.named_parameters():
            if "conformer" in name:
                parameter.normal_()
    return built


@pytest.fixture
def tokens() -> Tensor:
    return torch.randn(2, EXTRA + ROWS * TIME, WIDTH, generator=torch.Generator().manual_seed(1))


def slow(layer: ConformerLayer, tokens: Tensor, is_padding: Tensor) -> Tensor:
    """The adapter from the paper's figure, one token at a time."""
    down, convolution, norm, up = (getattr(layer, name)["default"] for name in layer.adapter_layer_names)
    inner = layer.base_layer(tokens)
    out = inner.clone()
    for clip in range(len(tokens)):
        gated = down(inner[clip])
        gated = gated[:, :NARROW] * gated[:, NARROW:].sigmoid()
        gated[is_padding[clip]] = 0
        for place in range(len(gated)):
            row = (place - EXTRA) // TIME
            neighbours = range(EXTRA + row * TIME, EXTRA + (row + 1) * TIME) if place >= EXTRA else [place]
            total = convolution.bias.clone()
            for tap in range(KERNEL):
                other = place + tap - KERNEL // 2
                if other in neighbours:
                    total = total + convolution.weight[:, 0, tap] * gated[other]
            out[clip, place] += up(F.silu(norm(total)))
    return out


def padding() -> Tensor:
    """The second clip lacks the last column of both rows."""
    is_padding = torch.zeros(2, EXTRA + ROWS * TIME, dtype=torch.bool)
    is_padding[1, EXTRA + TIME - 1 :: TIME] = True
    return is_padding


def masks(is_padding: Tensor) -> dict[str, Tensor]:
    additive = torch.zeros(is_padding.shape).masked_fill(is_padding, torch.finfo(torch.float32).min)[:, None, None]
    return {
        "of tokens": (~is_padding).long(),
        "of tokens, bool": ~is_padding,
        "added to scores": additive,
        "added to every query's scores": additive.expand(-1, 1, is_padding.shape[1], -1),
        "bool": (~is_padding)[:, None, None].expand(-1, 1, is_padding.shape[1], -1),
    }


def test_it_is_the_slow_loop(network, tokens):
    is_padding = padding()
    mask = masks(is_padding)["added to scores"]
    torch.testing.assert_close(network[0](tokens, mask), slow(network[0].inner, tokens, is_padding))
    nowhere = torch.zeros_like(is_padding)
    torch.testing.assert_close(network[0](tokens), slow(network[0].inner, tokens, nowhere))


@pytest.mark.parametrize("form", masks(padding()))
def test_padding_is_read_from_every_mask(network, tokens, form):
    mask = masks(padding())[form]
    assert torch.equal(padding_of_mask(mask), padding())
    by_name, by_place = network[0](tokens, attention_mask=mask), network[0](tokens, mask)
    assert torch.equal(by_name, by_place)
    changed = torch.where(padding()[..., None], 100.0, tokens)
    torch.testing.assert_close(network[0](changed, mask)[~padding()], by_name[~padding()])


def test_rows_and_extra_tokens_do_not_hear_each_other(network, tokens):
    tokens.requires_grad_()
    for place in range(tokens.shape[1]):
        gradient = torch.autograd.grad(network[0](tokens)[0, place].sum(), tokens)[0]
        heard = gradient[0].abs().sum(dim=1).nonzero().flatten().tolist()
        row = (place - EXTRA) // TIME
        whole = range(EXTRA + row * TIME, EXTRA + (row + 1) * TIME) if place >= EXTRA else [place]
        assert heard == [other for other in whole if abs(other - place) <= KERNEL // 2]


def test_padding_is_forgotten_and_a_copy_tells_its_own(network, tokens):
    mask = masks(padding())["bool"]
    twin = copy.deepcopy(network)
    expected = network[0](tokens)
    network[0](tokens, mask)
    assert network[0].inner.is_padding is None
    assert torch.equal(network[0](tokens), expected)
    seen = []
    network[0].inner.conformer_norm["default"].register_forward_hook(lambda *_: seen.append("the first"))
    twin[0].inner.conformer_norm["default"].register_forward_hook(
        lambda *_: seen.append((network[0].inner.is_padding, twin[0].inner.is_padding))
    )
    twin[0](tokens, mask)
    assert len(seen) == 1
    assert seen[0][0] is None
    assert torch.equal(seen[0][1], padding())

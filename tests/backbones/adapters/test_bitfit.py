"""BitFit's changes are what training the biases themselves would be, and fold back into them."""

import pytest
import torch
from peft import get_peft_model
from timm.layers import LayerNorm2d
from torch import nn

from backbones.adapters.bitfit import BitfitConfig, BitfitLayer

CASES = {
    "linear": (lambda: nn.Linear(6, 4), (2, 5, 6)),
    "norm": (lambda: nn.LayerNorm(6), (2, 5, 6)),
    "convolution": (lambda: nn.Conv1d(3, 4, 3), (2, 3, 7)),
    "picture": (lambda: nn.Conv2d(3, 4, 3), (2, 3, 5, 7)),
    "norm of a picture": (lambda: LayerNorm2d(3), (2, 3, 5, 7)),
    "norm of groups": (lambda: nn.GroupNorm(2, 4), (2, 4, 7)),
}


@pytest.mark.parametrize("name", CASES)
def test_its_gradient_is_the_bias_own(name):
    torch.manual_seed(0)
    build, shape = CASES[name]
    network, inputs = nn.ModuleDict({"part": build()}), torch.randn(shape)
    network["part"](inputs).square().sum().backward()
    expected = network["part"].bias.grad
    get_peft_model(network, BitfitConfig(target_modules="part"))
    network["part"](inputs).square().sum().backward()
    torch.testing.assert_close(network["part"].bitfit_bias["default"].grad, expected)


@pytest.mark.parametrize("name", CASES)
def test_merged_is_unmerged(name):
    torch.manual_seed(0)
    build, shape = CASES[name]
    network, inputs = nn.ModuleDict({"part": build()}), torch.randn(shape)
    adapted = get_peft_model(network, BitfitConfig(target_modules="part"))
    before = network["part"].base_layer.bias.clone()
    with torch.no_grad():
        network["part"].bitfit_bias["default"].normal_()
    expected = network["part"](inputs)
    adapted.merge_adapter()
    torch.testing.assert_close(network["part"](inputs), expected)  # the sum is taken in another order
    adapted.unmerge_adapter()
    torch.testing.assert_close(network["part"].base_layer.bias, before)
    adapted.merge_and_unload()
    assert not isinstance(network["part"], BitfitLayer)
    torch.testing.assert_close(network["part"](inputs), expected)


def test_what_is_broken_is_not_merged():
    network = nn.ModuleDict({"part": nn.Linear(2, 2)})
    adapted = get_peft_model(network, BitfitConfig(target_modules="part"))
    with torch.no_grad():
        network["part"].bitfit_bias["default"].fill_(float("nan"))
    with pytest.raises(ValueError, match="not finite"):
        adapted.merge_and_unload(safe_merge=True)


def test_what_has_no_bias_is_left_alone():
    network = nn.ModuleDict({"with": nn.Linear(2, 2), "without": nn.Linear(2, 2, bias=False)})
    get_peft_model(network, BitfitConfig(target_modules=["with", "without"]))
    assert isinstance(network["with"], BitfitLayer)
    assert isinstance(network["without"], nn.Linear)

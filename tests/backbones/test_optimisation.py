"""Decay groups, schedule and moving average, against answers known in advance."""

import math

import pytest
import torch

from backbones.ast_encoder import AstBackbone
from backbones.mae import MaskedAutoencoder
from backbones.optimisation import WeightAverage, learning_rate, parameter_groups


def test_the_learning_rate_rises_and_falls():
    rates = [learning_rate(step, 2.0, 100, 10) for step in range(101)]
    assert rates[0] == pytest.approx(0.2)
    assert rates[9] == pytest.approx(2.0)
    assert rates[55] == pytest.approx(1.0)
    assert rates[100] == pytest.approx(0.0)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[32] == pytest.approx(1 + math.cos(math.pi * 22 / 90))
    assert learning_rate(0, 2.0, 10, 0) == 2.0


def test_norms_biases_tokens_and_positions_are_not_decayed():
    model = MaskedAutoencoder(AstBackbone.untrained("tiny", 64, -5.0, 4.0), 32, 1, 2)
    decayed, spared = parameter_groups(model, 0.05)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    spared_names = {names[id(parameter)] for parameter in spared["params"]}
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.05, 0.0)
    assert {names[id(p)] for p in decayed["params"]} | spared_names == set(names.values())
    for name in names.values():
        kept = "norm" in name or name.endswith(("bias", "_token", "position_embeddings"))
        assert (name in spared_names) == kept, name


def test_the_average_follows_its_formula():
    module = torch.nn.Linear(3, 2)
    average = WeightAverage(module, 0.9)
    expected = module.weight.detach().clone()
    for step in range(1, 30):
        with torch.no_grad():
            module.weight += 0.1
        average.update(step)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * module.weight.detach()
    torch.testing.assert_close(average.tensors["weight"], expected)
    trained = module.weight.detach().clone()
    average.swap()
    torch.testing.assert_close(module.weight.detach(), expected)
    average.swap()
    assert module.weight.equal(trained)

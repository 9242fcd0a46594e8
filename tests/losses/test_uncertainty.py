"""Learned weights of losses against a slow loop, their minimum, and numerical gradients."""

import math

import pytest
import torch

from losses.uncertainty import uncertainty_weighted


def test_equals_the_sum_written_from_the_paper():
    means, log_variance = [0.7, 2.0, 0.1], [0.3, -1.0, 2.0]
    sigma = [math.exp(value / 2) for value in log_variance]
    expected = sum(mean / one**2 + math.log(one) for mean, one in zip(means, sigma, strict=True))
    found = uncertainty_weighted(torch.tensor(means), torch.tensor(log_variance))
    assert found.item() == pytest.approx(expected, rel=1e-6)


def test_even_variances_of_one_add_the_losses():
    means = torch.tensor([0.7, 2.0])
    assert uncertainty_weighted(means, torch.zeros(2)) == means.sum()


def test_the_variance_becomes_twice_the_loss():
    means = torch.tensor([0.02, 0.5, 3.0], dtype=torch.float64)
    log_variance = (2 * means).log().requires_grad_()
    uncertainty_weighted(means, log_variance).backward()
    torch.testing.assert_close(log_variance.grad, torch.zeros_like(means))
    nearby = log_variance.detach() + 0.1
    assert uncertainty_weighted(means, nearby) > uncertainty_weighted(means, log_variance)


def test_gradcheck():
    values = torch.tensor([0.7, 2.0], dtype=torch.float64).requires_grad_()
    log_variance = torch.tensor([0.3, -1.0], dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(uncertainty_weighted, (values, log_variance))


def test_a_loss_that_found_nothing_pays_and_moves_nothing():
    log_variance = torch.tensor([0.5, -0.5]).requires_grad_()
    total = uncertainty_weighted(torch.tensor([0.0, 1.0]), log_variance)
    total.backward()
    assert total.item() == pytest.approx(math.exp(0.5) - 0.25)
    assert log_variance.grad[0] == 0
    assert uncertainty_weighted(torch.zeros(0), torch.zeros(0)) == 0


def test_a_loss_that_is_no_number_is_not_hidden():
    assert uncertainty_weighted(torch.tensor([math.nan, 1.0]), torch.zeros(2)).isnan()

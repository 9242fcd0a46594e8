"""Contrastive losses against slow loops, closed forms, and the published libraries."""

import math

import pytest
import torch
from lightly.loss import NTXentLoss
from pytorch_metric_learning.losses import SupConLoss
from torch.nn.functional import normalize

from losses.contrastive import combine_levels, level_losses, scaled_similarity, supervised_contrastive

TEMPERATURE = 0.2


def unit(rows: int, size: int = 8, seed: int = 0, dtype=torch.float64) -> torch.Tensor:
    return normalize(torch.randn(rows, size, dtype=dtype, generator=torch.Generator().manual_seed(seed)), dim=1)


def slow(similarity, is_positive, is_candidate) -> float:
    """Equation 2, anchor by anchor."""
    losses = []
    for anchor in range(len(similarity)):
        positives = [j for j in range(similarity.shape[1]) if is_positive[anchor, j]]
        candidates = [j for j in range(similarity.shape[1]) if is_candidate[anchor, j]]
        if not positives or len(candidates) == len(positives):
            continue
        below = sum(math.exp(similarity[anchor, j]) for j in candidates)
        losses.append(-sum(math.log(math.exp(similarity[anchor, p]) / below) for p in positives) / len(positives))
    return sum(losses) / max(len(losses), 1)


def random_relation(anchors: int, others: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(-1, 2, (anchors, others), generator=torch.Generator().manual_seed(seed), dtype=torch.int8)


@pytest.mark.parametrize("seed", range(5))
def test_equals_the_loop_written_from_the_paper(seed):
    similarity = unit(7, seed=seed) @ unit(11, seed=seed + 100).T / TEMPERATURE
    relation = random_relation(7, 11, seed)
    is_self = torch.eye(7, 11, dtype=torch.bool)
    found = level_losses(similarity, [relation], is_self)[0].mean()
    expected = slow(similarity, (relation == 1) & ~is_self, (relation >= 0) & ~is_self)
    assert found.item() == pytest.approx(expected, rel=1e-12)


def test_equals_pytorch_metric_learning_where_all_labels_are_known():
    embeddings, labels = unit(24), torch.arange(24) % 5
    same = (labels == labels[:, None]).to(torch.int8)
    similarity = scaled_similarity(embeddings, embeddings, TEMPERATURE)
    found = level_losses(similarity, [same], torch.eye(24, dtype=torch.bool))[0].mean()
    expected = SupConLoss(temperature=TEMPERATURE)(embeddings.float(), labels)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


def test_with_one_positive_it_is_lightlys_nt_xent():
    first, second = unit(9, seed=1).float(), unit(9, seed=2).float()
    views = torch.cat([first, second])
    clip = torch.arange(9).repeat(2)
    is_self = torch.eye(18, dtype=torch.bool)
    is_positive = (clip == clip[:, None]) & ~is_self
    found = supervised_contrastive(scaled_similarity(views, views, TEMPERATURE), is_positive, ~is_self).mean()
    expected = NTXentLoss(temperature=TEMPERATURE, gather_distributed=False)(first, second)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


def test_equal_embeddings_cost_the_logarithm_of_the_candidates():
    similarity = scaled_similarity(torch.ones(4, 1), torch.ones(4, 1), 0.1)
    is_self = torch.eye(4, dtype=torch.bool)
    loss = supervised_contrastive(similarity, ~is_self & (torch.arange(4) < 2), ~is_self)
    assert loss.count == 4
    assert loss.mean().item() == pytest.approx(math.log(3))


def test_gradcheck():
    relation = random_relation(4, 6)
    others = unit(6, seed=3)

    def loss(anchors):
        return level_losses(anchors @ others.T / TEMPERATURE, [relation], torch.eye(4, 6, dtype=torch.bool))[0].mean()

    assert torch.autograd.gradcheck(loss, unit(4).requires_grad_())


@pytest.mark.parametrize("value", [0, -1, 1], ids=["all different", "all unknown", "one class"])
def test_without_a_positive_or_a_negative_loss_and_gradient_are_zero(value):
    embeddings = unit(5).requires_grad_()
    relation = torch.full((5, 5), value, dtype=torch.int8)
    loss = level_losses(embeddings @ embeddings.T, [relation], torch.eye(5, dtype=torch.bool))[0]
    loss.mean().backward()
    assert (loss.total, loss.count, loss.mean()) == (0, 0, 0)
    assert torch.equal(embeddings.grad, torch.zeros_like(embeddings))


def test_half_precision_does_not_overflow():
    embeddings = unit(6, dtype=torch.float32)
    expected = scaled_similarity(embeddings, embeddings, 1e-5)
    for dtype in (torch.float16, torch.bfloat16):
        with torch.autocast("cpu", torch.bfloat16):
            found = scaled_similarity(embeddings.to(dtype), embeddings.to(dtype), 1e-5)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, expected, atol=2e3, rtol=0.02)


def test_levels_add_up_with_none_below_the_finer_one():
    fine, middle, coarse = (torch.tensor(value, requires_grad=True) for value in (2.0, 1.0, 3.0))
    total = combine_levels([fine, middle, coarse])
    assert total.item() == pytest.approx(2 * 2.0 + 2**0.5 * 2.0 + 2 ** (1 / 3) * 3.0)
    total.backward()
    assert (fine.grad.item(), middle.grad, coarse.grad.item()) == (
        pytest.approx(2 + 2**0.5),
        pytest.approx(0.0),
        pytest.approx(2 ** (1 / 3)),
    )
    assert combine_levels([fine, coarse], weights=[1.0, 0.0]).item() == 2.0

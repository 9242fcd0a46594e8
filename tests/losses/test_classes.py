"""Class losses against loops, closed forms and pytorch-metric-learning."""

import math

import pytest
import torch
from pytorch_metric_learning.losses import ArcFaceLoss
from torch.nn.functional import normalize

from losses.classes import (
    ClassCentres,
    arcface_logits,
    centre_loss,
    centroid_distance,
    classification_loss,
    expected_distance,
)

CLASSES = torch.tensor([0, 2, 1, -1, 2, 0])


def unit(rows: int, size: int = 5, seed: int = 0, dtype=torch.float32) -> torch.Tensor:
    return normalize(torch.randn(rows, size, dtype=dtype, generator=torch.Generator().manual_seed(seed)), dim=1)


def test_centre_loss_is_half_the_squared_distance_of_known_clips():
    embeddings, centres = unit(6), unit(3, seed=1)
    expected = [
        0.5 * sum((x - c) ** 2 for x, c in zip(embeddings[i].tolist(), centres[y].tolist(), strict=True))
        for i, y in enumerate(CLASSES.tolist())
        if y >= 0
    ]
    loss = centre_loss(embeddings, centres, CLASSES)
    assert loss.count == 5
    assert loss.total.item() == pytest.approx(sum(expected), rel=1e-5)
    assert centre_loss(centres, centres, torch.arange(3)).total == 0


def test_arcface_adds_an_angle_to_the_own_class_only():
    embeddings, centres = unit(6), unit(3, seed=1)
    plain = embeddings @ centres.T
    found = arcface_logits(embeddings, centres, CLASSES, scale=10.0, margin=0.3)
    for row, own in enumerate(CLASSES.tolist()):
        for column in range(3):
            cosine = plain[row, column].item()
            expected = math.cos(math.acos(cosine) + 0.3) if column == own else cosine
            assert found[row, column].item() == pytest.approx(10 * expected, abs=1e-3)
    torch.testing.assert_close(arcface_logits(embeddings, centres, CLASSES, 1.0, 0.0), plain)


def test_arcface_is_pytorch_metric_learnings():
    embeddings, centres, classes = unit(6), unit(3, seed=1), CLASSES.clamp(min=0)
    library = ArcFaceLoss(3, 5, margin=math.degrees(0.3), scale=10)
    with torch.no_grad():
        library.W.copy_(centres.T)
    found = classification_loss(arcface_logits(embeddings, centres, classes, 10.0, 0.3), classes).mean()
    assert found.item() == pytest.approx(library(embeddings, classes).item(), rel=1e-4)


def test_at_the_centre_and_opposite_to_it_the_gradient_is_finite():
    centres = unit(3, seed=1)
    for embeddings in (centres.clone(), -centres):
        embeddings.requires_grad_()
        logits = arcface_logits(embeddings, centres, torch.arange(3), 64.0, 0.5)
        classification_loss(logits, torch.arange(3)).mean().backward()
        assert embeddings.grad.isfinite().all()


def test_a_wider_angle_never_raises_the_own_logit():
    centre = torch.tensor([[1.0, 0.0]])
    angles = torch.linspace(0, math.pi, 200)
    embeddings = torch.stack([angles.cos(), angles.sin()], dim=1)
    logits = arcface_logits(embeddings, centre, torch.zeros(200, dtype=torch.long), 1.0, 0.5)[:, 0]
    assert (logits.diff() <= 1e-6).all()


def test_the_expected_distance_is_the_mean_over_guesses():
    logits = torch.tensor([[0.0, math.log(2), math.log(3)]])
    distance = torch.tensor([[0.0, 1.0, 2.0], [1.0, 0.0, 2.0], [2.0, 2.0, 0.0]])
    loss = expected_distance(logits, torch.tensor([0]), distance)
    assert loss.total.item() == pytest.approx((2 * 1 + 3 * 2) / 6)
    assert expected_distance(logits, torch.tensor([-1]), distance).mean() == 0


def test_gradcheck():
    centres = unit(3, seed=1, dtype=torch.float64)
    distance = 1 - torch.eye(3, dtype=torch.float64)

    def losses(embeddings):
        logits = 4 * embeddings @ centres.T
        return (
            classification_loss(logits, CLASSES).total,
            expected_distance(logits, CLASSES, distance).total,
        )

    assert torch.autograd.gradcheck(losses, unit(6, dtype=torch.float64).requires_grad_())


def test_distances_of_centroids():
    embeddings = torch.tensor([[2.0, 0.0], [1.0, 0.0], [0.0, 3.0], [-1.0, 0.0], [5.0, 5.0]])
    distance = centroid_distance(embeddings, torch.tensor([0, 0, 1, 2, -1]), 3)
    torch.testing.assert_close(distance, torch.tensor([[0.0, 0.5, 1.0], [0.5, 0.0, 0.5], [1.0, 0.5, 0.0]]))
    with pytest.raises(ValueError, match="1 have none, class 3 first"):
        centroid_distance(embeddings, torch.tensor([0, 0, 1, 2, -1]), 4)


def test_all_labels_unknown_cost_nothing():
    embeddings, centres = unit(4).requires_grad_(), ClassCentres(3, 5)
    unknown = torch.full((4,), -1)
    logits = arcface_logits(embeddings, centres(), unknown, 30.0, 0.5)
    losses = [
        classification_loss(logits, unknown),
        centre_loss(embeddings, centres(), unknown),
        expected_distance(logits, unknown, 1 - torch.eye(3)),
    ]
    assert [(loss.mean().item(), loss.count.item()) for loss in losses] == [(0, 0)] * 3
    sum(loss.mean() for loss in losses).backward()
    assert not embeddings.grad.any()
    assert not centres.weight.grad.any()

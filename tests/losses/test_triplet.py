"""Triplets with tree margins against loops over all of them, closed forms, and pytorch-metric-learning."""

import pytest
import torch
from pytorch_metric_learning.losses import TripletMarginLoss
from pytorch_metric_learning.miners import BatchHardMiner
from torch.nn.functional import normalize, softplus

from losses.miners import batch_hard, family_balanced, semi_hard
from losses.triplet import Triplets, all_triplets, euclidean, label_classes, mined_triplets, tree_classes

MARGIN, GENRE_MARGIN = 0.2, 0.1


def unit(rows: int, size: int = 6, seed: int = 0, dtype=torch.float32) -> torch.Tensor:
    return normalize(torch.randn(rows, size, dtype=dtype, generator=torch.Generator().manual_seed(seed)), dim=1)


def random_tree(anchors: int, others: int, seed: int):
    """Bounds of depths, a relation of genres, and the diagonal as self."""
    generator = torch.Generator().manual_seed(seed)
    low = torch.randint(0, 5, (anchors, others), generator=generator, dtype=torch.int8)
    more = torch.randint(0, 3, (anchors, others), generator=generator, dtype=torch.int8)
    high = torch.minimum(low + more, torch.tensor(4, dtype=torch.int8))
    genre = torch.randint(-1, 2, (anchors, others), generator=generator, dtype=torch.int8)
    return low, high, genre, torch.eye(anchors, others, dtype=torch.bool)


def triplets_of(low, high, genre, is_self, anchor):
    """Every triplet of an anchor with its margin, from the definition in words."""
    low, high, genre = low.long(), high.long(), genre.long()
    for p in range(low.shape[1]):
        for n in range(low.shape[1]):
            if is_self[anchor, p] or is_self[anchor, n]:
                continue
            step = (low[anchor, n] - high[anchor, p]).item()
            extra = 0
            if genre[anchor, p] >= 0 and genre[anchor, n] >= 0:
                extra = (genre[anchor, p] - genre[anchor, n]).item()
            is_exact = low[anchor, p] == high[anchor, p] and low[anchor, n] == high[anchor, n]
            if step > 0 or (step == 0 and is_exact and extra > 0):
                yield p, n, MARGIN * step + GENRE_MARGIN * extra


def slow(distance, tree):
    """The loss by listing."""
    costs = [
        distance[a, p] - distance[a, n] + margin for a in range(len(distance)) for p, n, margin in triplets_of(*tree, a)
    ]
    active = [cost for cost in costs if cost > 0]
    return sum(active), len(active)


@pytest.mark.parametrize("seed", range(6))
def test_all_triplets_equal_the_list_of_them_in_value_and_gradient(seed):
    tree = random_tree(5, 9, seed)
    distance = (
        2 * torch.rand(5, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    ).requires_grad_()
    low, high, genre, is_self = tree
    found = all_triplets(distance, tree_classes(low, high, is_self, MARGIN, genre, GENRE_MARGIN))
    (of_found,) = torch.autograd.grad(found.total, distance)
    expected, count = slow(distance, tree)
    (of_expected,) = torch.autograd.grad(expected, distance)
    assert found.count == count
    # The margins are float32.
    torch.testing.assert_close(found.total, expected, rtol=1e-6, atol=1e-6)
    assert torch.equal(of_found, of_expected)


def test_gradient_of_embeddings_equals_the_slow_loops_to_1e_6():
    tree = random_tree(16, 16, 3)
    low, high, genre, is_self = tree
    embeddings = torch.randn(16, 8, generator=torch.Generator().manual_seed(0), requires_grad=True)
    distance = euclidean(normalize(embeddings, dim=1), normalize(embeddings, dim=1))
    found = all_triplets(distance, tree_classes(low, high, is_self, MARGIN, genre, GENRE_MARGIN))
    (of_found,) = torch.autograd.grad(found.mean(), embeddings, retain_graph=True)
    total, count = slow(distance, tree)
    (of_expected,) = torch.autograd.grad(total / count, embeddings)
    torch.testing.assert_close(of_found, of_expected, rtol=0, atol=1e-6)


def test_gradcheck():
    low, high, genre, is_self = random_tree(3, 7, 1)
    classes = tree_classes(low, high, is_self, MARGIN, genre, GENRE_MARGIN)
    distance = (2 * torch.rand(3, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(5))).requires_grad_()
    assert torch.autograd.gradcheck(lambda values: all_triplets(values, classes).total, distance)


def labelled(seed: int = 0, rows: int = 20, classes: int = 4):
    labels = torch.arange(rows) % classes
    same = (labels == labels[:, None]).to(torch.int8)
    return unit(rows, seed=seed).requires_grad_(), labels, same, torch.eye(rows, dtype=torch.bool)


def test_one_margin_is_pytorch_metric_learnings_all_triplets():
    embeddings, labels, same, is_self = labelled()
    normalised = normalize(embeddings, dim=1)  # as the library does, or the gradients differ along the radius
    found = all_triplets(euclidean(normalised, normalised), label_classes(same, is_self, MARGIN)).mean()
    expected = TripletMarginLoss(margin=MARGIN)(embeddings, labels)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    gradients = [torch.autograd.grad(loss, embeddings)[0] for loss in (found, expected)]
    torch.testing.assert_close(*gradients, atol=1e-6, rtol=1e-4)


def test_batch_hard_is_pytorch_metric_learnings():
    embeddings, labels, same, is_self = labelled(1)
    distance, classes = euclidean(embeddings, embeddings), label_classes(same, is_self, MARGIN)
    found = batch_hard(distance, classes)
    expected = BatchHardMiner()(embeddings, labels)
    assert [part.tolist() for part in found] == [part.tolist() for part in expected]
    loss = mined_triplets(distance, classes, found).mean()
    assert loss.item() == pytest.approx(TripletMarginLoss(margin=MARGIN)(embeddings, labels, expected).item(), rel=1e-5)


def test_batch_hard_looks_at_every_pair_of_depths():
    low, high, genre, is_self = random_tree(6, 12, 2)
    distance = euclidean(unit(6, seed=1), unit(12, seed=2))
    classes = tree_classes(low, high, is_self, MARGIN, genre, GENRE_MARGIN)
    for anchor, positive, negative in zip(*(part.tolist() for part in batch_hard(distance, classes)), strict=True):
        row, column = classes.as_positive[anchor, positive], classes.as_negative[anchor, negative]
        assert distance[anchor, positive] == distance[anchor][classes.as_positive[anchor] == row].max()
        assert distance[anchor, negative] == distance[anchor][classes.as_negative[anchor] == column].min()
        assert classes.margins[row, column].isfinite()


def test_semi_hard_negatives_are_the_nearest_beyond_the_positive_and_within_the_margin():
    embeddings, labels, same, is_self = labelled(2)
    distance, classes = euclidean(embeddings, embeddings).detach(), label_classes(same, is_self, MARGIN)
    found = {(a, p): n for a, p, n in zip(*(part.tolist() for part in semi_hard(distance, classes)), strict=True)}
    for anchor in range(20):
        for positive in range(20):
            if anchor == positive or labels[anchor] != labels[positive]:
                continue
            beyond = [
                n for n in range(20)
                if labels[n] != labels[anchor] and distance[anchor, n] > distance[anchor, positive]
                and distance[anchor, n] < distance[anchor, positive] + MARGIN
            ]  # fmt: skip
            nearest = min(beyond, key=lambda n: distance[anchor, n].item(), default=None)
            assert found.get((anchor, positive)) == nearest
    assert found


def test_a_share_of_the_negatives_comes_from_the_anchors_own_family():
    # Clips 0 and 1 share a timbre, 2 to 5 the family, 6 to 15 are of others.
    low = torch.full((16, 16), 3, dtype=torch.int8)
    low[:6, :6], low[6:, 6:] = 2, 0
    low[:2, :2] = 0
    is_self = torch.eye(16, dtype=torch.bool)
    classes = tree_classes(low, low, is_self, MARGIN)
    uniform = torch.rand(16, 16, generator=torch.Generator().manual_seed(0))
    picked = []
    for shift in range(400):
        found = family_balanced(classes, low <= 2, (uniform + shift * 0.618034) % 1, own_family_share=0.25)
        picked += found.negative[(found.anchor == 0) & (found.positive == 1)].tolist()
    share = sum(negative < 6 for negative in picked) / len(picked)
    assert len(picked) == 400
    assert share == pytest.approx(0.25, abs=0.02)
    assert set(picked) == set(range(2, 16)), "every negative has its turn"


def test_where_the_family_has_no_negative_another_is_taken():
    low = torch.tensor([[0, 0, 4, 4]], dtype=torch.int8)
    is_self = torch.tensor([[True, False, False, False]])
    found = family_balanced(tree_classes(low, low, is_self, MARGIN), low <= 2, torch.zeros(1, 4), 1.0)
    assert (found.anchor.tolist(), found.positive.tolist()) == ([0], [1])
    assert found.negative.item() in (2, 3)


def test_the_soft_margin_has_no_edge():
    distance = torch.tensor([[0.0, 0.5, 1.5]])
    classes = label_classes(torch.tensor([[-1, 1, 0]]), torch.zeros(1, 3, dtype=torch.bool), MARGIN)
    triplet = Triplets(*(torch.tensor([place]) for place in (0, 1, 2)))
    assert mined_triplets(distance, classes, triplet).total == 0
    soft = mined_triplets(distance, classes, triplet, is_soft=True)
    assert soft.count == 1
    assert soft.total.item() == pytest.approx(softplus(torch.tensor(0.5 - 1.5 + MARGIN)).item())


def test_equal_embeddings_cost_the_margin_of_each_step():
    low = torch.tensor([[0, 1, 3]], dtype=torch.int8)
    loss = all_triplets(torch.ones(1, 3), tree_classes(low, low, torch.zeros(1, 3, dtype=torch.bool), MARGIN))
    assert loss.count == 3
    assert loss.total.item() == pytest.approx(MARGIN * (1 + 3 + 2))


def test_the_pull_of_the_genre_is_weaker_than_that_of_the_tree():
    with pytest.raises(ValueError, match=r"margin of a genre must lie between 0 and that of a level \(0.2\), not 0.3"):
        tree_classes(*(torch.zeros(1, 1, dtype=torch.int8),) * 2, torch.zeros(1, 1, dtype=torch.bool), 0.2, None, 0.3)


@pytest.mark.parametrize("bounds", [(0, 0), (0, 4), (3, 3)], ids=["one class", "all unknown", "no positive"])
def test_a_batch_without_triplets_costs_nothing(bounds):
    embeddings = unit(6).requires_grad_()
    low, high = (torch.full((6, 6), bound, dtype=torch.int8) for bound in bounds)
    classes = tree_classes(low, high, torch.eye(6, dtype=torch.bool), MARGIN)
    distance = euclidean(embeddings, embeddings)
    uniform = torch.rand(6, 6)
    losses = [all_triplets(distance, classes)] + [
        mined_triplets(distance, classes, triplets)
        for triplets in (
            batch_hard(distance, classes),
            semi_hard(distance, classes),
            family_balanced(classes, low <= 2, uniform, 0.5),
        )
    ]
    for loss in losses:
        assert (loss.mean(), loss.count) == (0, 0)
    sum(loss.mean() for loss in losses).backward()
    assert torch.equal(embeddings.grad, torch.zeros_like(embeddings))


def test_distances_of_equal_embeddings_have_a_gradient():
    embeddings = unit(3).requires_grad_()
    euclidean(embeddings, embeddings.detach()).sum().backward()
    assert embeddings.grad.isfinite().all()
    assert euclidean(embeddings, embeddings).dtype == torch.float32

"""Scores of neighbours on cases worked out by hand, and against pytorch-metric-learning."""

import math

import pytest
import torch
from pytorch_metric_learning.distances import CosineSimilarity
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from pytorch_metric_learning.utils.inference import CustomKNN
from torch.nn.functional import normalize

from losses.retrieval import (
    alignment,
    distance_of_wrong_neighbours,
    mean_distance_of_depths,
    retrieval,
    uniformity,
)

EVERYTHING = torch.ones(1, 4, dtype=torch.bool)


def test_by_hand():
    similarity = torch.tensor([[0.9, 0.8, 0.7, 0.6]])
    is_relevant = torch.tensor([[True, False, True, True]])
    scores = retrieval(similarity, is_relevant, EVERYTHING)
    assert scores == {"precision_at_1": 1.0, "map_at_r": pytest.approx((1 + 0 + 2 / 3) / 3)}
    without_first = torch.tensor([[False, True, True, True]])
    scores = retrieval(similarity, is_relevant, without_first)
    assert scores == {"precision_at_1": 0.0, "map_at_r": pytest.approx((0 + 1 / 2) / 2)}
    assert retrieval(similarity, ~EVERYTHING, EVERYTHING) == {}


def test_equals_pytorch_metric_learning():
    generator = torch.Generator().manual_seed(0)
    embeddings, labels = torch.randn(40, 6, generator=generator), torch.arange(40) % 7
    unit = normalize(embeddings, dim=1)
    is_other = ~torch.eye(40, dtype=torch.bool)
    found = retrieval(unit @ unit.T, labels == labels[:, None], is_other)
    library = AccuracyCalculator(
        include=("precision_at_1", "mean_average_precision_at_r"), k="max_bin_count",
        knn_func=CustomKNN(CosineSimilarity()),
    )  # fmt: skip
    expected = library.get_accuracy(unit, labels, unit, labels, ref_includes_query=True)
    assert found["precision_at_1"] == pytest.approx(expected["precision_at_1"])
    assert found["map_at_r"] == pytest.approx(expected["mean_average_precision_at_r"])


def test_wrong_neighbours_are_those_beyond_the_right_depth_where_a_better_one_was_there():
    similarity = torch.tensor([[0.9, 0.1, 0.2], [0.1, 0.9, 0.2], [0.3, 0.1, 0.2], [0.3, 0.1, 0.2]])
    depth = torch.tensor([[3, 1, 1], [1, 2, 1], [-1, 1, 4], [-1, 4, 4]], dtype=torch.int8)
    candidate = torch.ones(4, 3, dtype=torch.bool)
    assert distance_of_wrong_neighbours(similarity, depth, candidate, right=2) == pytest.approx((3 + 4) / 2)
    assert distance_of_wrong_neighbours(similarity, depth, candidate, right=1) == pytest.approx((3 + 2 + 4) / 3)
    assert distance_of_wrong_neighbours(similarity, depth, candidate, right=4) is None
    assert distance_of_wrong_neighbours(similarity, depth, candidate & (depth > 1), right=1) is None


def test_distances_by_depth():
    unit = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    depth = torch.tensor([[-1, 0, 3], [0, -1, 0], [3, 0, -1]], dtype=torch.int8)
    found = mean_distance_of_depths(unit, depth)
    assert found == [pytest.approx(math.sqrt(2)), None, None, pytest.approx(2.0), None]


def test_alignment_and_uniformity():
    unit = normalize(torch.randn(500, 64, generator=torch.Generator().manual_seed(0)), dim=1)
    assert alignment(unit, unit) == 0
    assert alignment(unit, -unit) == pytest.approx(4.0)
    assert uniformity(unit) == pytest.approx(
        -4 + 0.125, abs=0.02
    )  # log E exp(-4 + 4 x.y), x.y nearly normal, variance 1/64
    assert uniformity(unit[:1].expand(5, -1)) == pytest.approx(0.0, abs=1e-5)

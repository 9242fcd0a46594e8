"""Exact search against sorting everything, with tiles so small that every seam is crossed."""

import numpy as np
import pytest
import torch

from audit import exact
from audit.exact import largest, nearest, nearest_others


@pytest.fixture
def small_tiles(monkeypatch):
    monkeypatch.setattr(exact, "QUERIES", 16)
    monkeypatch.setattr(exact, "COLUMNS", 32)


def unit_vectors(count: int, width: int = 8, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((count, width)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def slow(similarity: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """By sorting; what is -inf is no neighbour."""
    rows = np.argsort(-similarity, axis=1, kind="stable")[:, :k]
    values = np.take_along_axis(similarity, rows, 1)
    return values, np.where(np.isinf(values), -1, rows)


@pytest.mark.parametrize(("columns", "k"), [(7, 3), (7, 7), (64, 1), (1000, 10), (1003, 10), (5000, 100), (4096, 2)])
def test_largest_is_topk(columns, k):
    scores = torch.randn(5, columns, generator=torch.Generator().manual_seed(columns))
    values, places = largest(scores, k)
    assert torch.equal(values.sort(descending=True).values, scores.topk(k, dim=1).values)
    assert all(len(set(row)) == k for row in places.tolist())
    assert torch.equal(scores.gather(1, places), values)


def test_largest_finds_neighbours_that_are_next_to_each_other():
    scores = torch.zeros(2, 4096)
    scores[:, 100:110] = torch.arange(1.0, 11)
    assert largest(scores, 10)[1].sort().values.tolist() == [list(range(100, 110))] * 2


def test_largest_of_rows_that_are_mostly_barred():
    scores = torch.full((1, 4096), float("-inf"))
    scores[0, 4095] = 1
    values, places = largest(scores, 3)
    assert sorted(values[0].tolist()) == [float("-inf"), float("-inf"), 1]
    assert places[0, values[0].argmax()] == 4095


@pytest.mark.parametrize("sizes", [(100,), (40, 1, 33, 26)])
@pytest.mark.parametrize("k", [1, 5, 100])
@pytest.mark.usefixtures("small_tiles")
def test_nearest_is_sorting(sizes, k):
    unit, queries = unit_vectors(100), unit_vectors(37, seed=1)
    expected, expected_rows = slow(queries @ unit.T, k)
    similarity, rows = nearest(queries, np.split(unit, np.cumsum(sizes)[:-1]), k)
    np.testing.assert_allclose(similarity, expected, atol=1e-6)
    np.testing.assert_array_equal(rows, expected_rows)
    assert (similarity.dtype, rows.dtype) == (np.float32, np.int64)


def test_nearest_says_where_there_are_none():
    similarity, rows = nearest(unit_vectors(2), [unit_vectors(3)], 5)
    assert (rows[:, 3:] == -1).all()
    assert np.isneginf(similarity[:, 3:]).all()
    assert sorted(rows[0, :3]) == [0, 1, 2]


def test_nearest_takes_no_queries():
    assert [found.shape for found in nearest(np.empty((0, 8), np.float32), [unit_vectors(3)], 2)] == [(0, 2), (0, 2)]


@pytest.mark.parametrize("runs", [np.arange(100), np.repeat([0, 1, 2, 3], [1, 70, 9, 20]), np.arange(100) // 3])
@pytest.mark.usefixtures("small_tiles")
def test_others_are_those_of_sorting(runs):
    unit, k = unit_vectors(100), 12
    similarity = unit @ unit.T
    of_others = np.where(np.eye(100, dtype=bool), -np.inf, similarity)
    of_strangers = np.where(runs[:, None] == runs, -np.inf, similarity)
    done = []
    found = nearest_others(unit, runs, k, (False, True), progress=done.append)
    for (values, rows), expected in zip(found, (of_others, of_strangers), strict=True):
        expected_values, expected_rows = slow(expected, k)
        np.testing.assert_allclose(values, expected_values, atol=1e-6)
        np.testing.assert_array_equal(rows, expected_rows)
    assert sum(done) == 100
    (alone,) = nearest_others(unit, runs, k, (True,))
    np.testing.assert_array_equal(alone[1], found[1][1])


def test_rows_of_one_run_have_no_strangers():
    ((values, rows),) = nearest_others(unit_vectors(10), np.zeros(10, np.int64), 3, (True,))
    assert (rows == -1).all()
    assert np.isneginf(values).all()

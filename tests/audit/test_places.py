"""Hubs and outliers of made-up neighbours."""

import numpy as np
import pytest
from scipy.stats import skew

from audit.neighbours import Neighbours
from audit.places import mean_similarity, occurrences, places, skewness


def made_up(pack, seed: int = 0) -> Neighbours:
    """Three neighbours a clip: the first is clip 7 for all others, the rest are at random."""
    generator = np.random.default_rng(seed)
    rows = generator.integers(10, len(pack), (len(pack), 3))
    rows[:, 0] = 7
    rows[7, 0] = 11
    similarity = -np.sort(-generator.uniform(0.8, 0.9, rows.shape).astype(np.float32), axis=1)
    similarity[5], similarity[6] = 0.1, 0.2
    rows[9, 1:], similarity[9, 1:] = -1, -np.inf
    return Neighbours(similarity, rows)


def test_occurrences_and_nearness_are_counted(toy_pack):
    neighbours = made_up(toy_pack)
    count, nearness = occurrences(neighbours), mean_similarity(neighbours)
    for row in range(len(toy_pack)):
        assert count[row] == (neighbours.rows == row).sum()
        is_there = neighbours.rows[row] >= 0
        assert nearness[row] == pytest.approx(neighbours.similarity[row][is_there].mean())
    assert np.isnan(mean_similarity(Neighbours(np.full((2, 1), -np.inf), np.full((2, 1), -1)))).all()


def test_a_hub_and_two_outliers_are_found(toy_pack):
    neighbours = made_up(toy_pack)
    found = places(toy_pack, neighbours)
    ids = toy_pack.column("id")
    assert found.hubs[0].clip == ids[7]
    assert found.hubs[0].value == len(toy_pack) - 1
    count = occurrences(neighbours)
    assert [place.value for place in found.hubs] == sorted(count[count > count.mean() + 2 * count.std()], reverse=True)
    assert [place.clip for place in found.outliers] == [ids[5], ids[6]]
    assert found.outliers[0].value == pytest.approx(0.1)
    assert [neighbour.clip for neighbour in found.outliers[0].neighbours] == list(ids[neighbours.rows[5]])
    assert found.hubness == pytest.approx(skew(count))
    assert found.hubness > 1
    assert len(places(toy_pack, neighbours, most=1).outliers) == 1


def test_a_ring_has_no_hubs_and_no_outliers(toy_pack):
    rows = (np.arange(len(toy_pack))[:, None] + np.array([1, 2])) % len(toy_pack)
    found = places(toy_pack, Neighbours(np.full(rows.shape, 0.5, np.float32), rows))
    assert (found.hubs, found.outliers, found.hubness) == ((), (), 0.0)


def test_neighbours_that_are_missing_are_not_named(toy_pack):
    neighbours = made_up(toy_pack)
    rows = np.full_like(neighbours.rows, -1)
    rows[:, 0] = 7
    similarity = np.where(rows >= 0, neighbours.similarity, -np.inf).astype(np.float32)
    similarity[3, 0] = -0.5
    found = places(toy_pack, Neighbours(similarity, rows))
    assert [len(place.neighbours) for place in (*found.hubs, *found.outliers)] == [1] * (
        len(found.hubs) + len(found.outliers)
    )
    assert found.outliers[0].clip == toy_pack.column("id")[3]


def test_skewness_of_what_is_even_is_none():
    assert skewness(np.full(4, 3)) == 0
    assert skewness(np.array([0, 0, 0, 12])) == pytest.approx(skew([0, 0, 0, 12]))

"""Dividing groups among splits, by hand and against chance."""

import itertools

import numpy as np
import pytest

from data.stratification import stratify

SHARES = np.array([0.8, 0.1, 0.1])


def divided(counts, shares=SHARES, seed=0) -> np.ndarray:
    """Divides groups of which every label is on so many clips, ``(G, C)``."""
    group, label = np.nonzero(counts)
    number = np.asarray(counts)[group, label]
    rank = np.random.default_rng(seed).permutation(len(counts))
    return stratify(np.repeat(group, number), np.repeat(label, number), rank, np.asarray(shares))


def found_shares(counts, split, num_splits=3) -> np.ndarray:
    """float64 ``(J, C)``"""
    counts = np.asarray(counts)
    return np.array([counts[split == number].sum(axis=0) for number in range(num_splits)]) / counts.sum(axis=0)


@pytest.mark.parametrize(
    ("sizes", "clips"),
    [
        ([1] * 10, [8, 1, 1]),
        ([8, 1, 1], [8, 1, 1]),
        ([1, 8, 1], [8, 1, 1]),
        ([30] + [10] * 7, [80, 10, 10]),
        ([10] * 10, [80, 10, 10]),
        ([50, 30, 20], [50, 30, 20]),  # three groups reach three splits, the largest trains
        ([7], [7, 0, 0]),
        ([4, 3], [7, 0, 0]),
    ],
)
def test_one_label_by_hand(sizes, clips):
    for seed in range(5):
        split = divided([[size] for size in sizes], seed=seed)
        found = [sum(itertools.compress(sizes, split == number)) for number in range(3)]
        assert found[0] == clips[0]
        assert sorted(found[1:]) == sorted(clips[1:])


def test_two_labels_at_once_by_hand():
    # Four clips each of A alone, B alone and of both; half of each label's eight are wanted in either split.
    counts = [[1, 0]] * 4 + [[0, 1]] * 4 + [[1, 1]] * 4
    for seed in range(5):
        split = divided(counts, (0.5, 0.5), seed)
        np.testing.assert_array_equal(found_shares(counts, split, 2), 0.5)


def test_a_rare_label_is_not_used_up_by_a_frequent_one():
    # The five clips of the second label are among the first hundred.
    counts = [[1, number < 5] for number in range(100)]
    for seed in range(20):
        split = divided(np.array(counts, int), seed=seed)
        shares = found_shares(np.array(counts, int), split)
        np.testing.assert_allclose(shares[:, 0], SHARES, atol=1e-9)
        np.testing.assert_allclose(shares[:, 1], [0.6, 0.2, 0.2])


def test_a_label_of_as_many_groups_as_splits_reaches_each():
    rng = np.random.default_rng(3)
    for seed in range(10):
        counts = rng.integers(1, 30, (80, 1)) * (rng.random((80, 20)) < 0.06)
        counts = np.hstack([counts, np.maximum(counts.max(axis=1, keepdims=True), 1)])
        split = divided(counts, seed=seed)
        for label in np.flatnonzero((counts > 0).sum(axis=0) >= 3):
            assert set(split[counts[:, label] > 0]) == {0, 1, 2}, f"label {label} of draw {seed}"


@pytest.mark.parametrize("sizes", ["equal", "even", "skewed"])
def test_shares_are_far_closer_than_by_chance(sizes):
    rng = np.random.default_rng(7)
    size = {"equal": np.ones(2000, int), "even": rng.integers(1, 300, 2000),
            "skewed": np.minimum(rng.zipf(1.7, 2000), 1000)}[sizes]  # fmt: skip
    wanted = rng.random((2000, 40)) < 1 / np.arange(2, 42)
    counts = np.hstack([np.where(wanted, size[:, None], 0), size[:, None]])
    off = np.abs(found_shares(counts, divided(counts)) - SHARES[:, None]).max(axis=0)
    by_chance = [found_shares(counts, rng.choice(3, 2000, p=SHARES)) - SHARES[:, None] for _ in range(5)]
    chance_off = np.mean([np.abs(shares).max(axis=0) for shares in by_chance], axis=0)
    assert off.mean() < {"equal": 0.2, "even": 0.2, "skewed": 0.5}[sizes] * chance_off.mean()
    assert off[-1] < 0.01  # of all clips


def test_large_groups_do_not_all_train():
    size = np.random.default_rng(0).integers(1, 500, 1000)
    split = divided(size[:, None])
    for number in range(3):
        assert size[split == number].mean() == pytest.approx(size.mean(), rel=0.05)


def test_the_rank_decides_between_equals_and_nothing_else():
    counts = np.ones((30, 1), int)
    assert divided(counts, seed=1).tolist() == divided(counts, seed=1).tolist() != divided(counts, seed=2).tolist()
    order = np.random.default_rng(0).permutation(200)
    counts = np.random.default_rng(1).integers(0, 9, (200, 6)) + np.eye(6, dtype=int)[np.arange(200) % 6]
    group, label = np.nonzero(counts)
    number = counts[group, label]
    shuffled = np.random.default_rng(2).permutation(number.sum())
    one = stratify(np.repeat(group, number), np.repeat(label, number), order, SHARES)
    other = stratify(np.repeat(group, number)[shuffled], np.repeat(label, number)[shuffled], order, SHARES)
    np.testing.assert_array_equal(one, other)


def test_nothing_to_divide():
    empty = np.zeros(0, np.int64)
    assert len(stratify(empty, empty, empty, SHARES)) == 0

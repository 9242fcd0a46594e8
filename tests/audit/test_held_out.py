"""Probes that never learn from what they are asked about, against slow ones."""

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import Ridge

from audit.held_out import FOLDS, RIDGES, SHRINKAGE, class_probabilities, folds_of, ridge_predictions


@pytest.fixture
def clips() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values ``(N, E)``, groups and classes: 40 groups of one class each."""
    generator = np.random.default_rng(0)
    group = np.repeat(np.arange(40), generator.integers(5, 12, 40))
    label = group % 4
    centre, own = generator.normal(size=(4, 6)), 0.5 * generator.normal(size=(40, 6))
    values = centre[label] + own[group] + 0.7 * generator.normal(size=(len(group), 6))
    return values.astype(np.float32), group, label


def test_folds_cut_no_group_and_are_alike(clips):
    _, group, label = clips
    fold = folds_of(group, label)
    assert all(len(set(fold[group == number])) == 1 for number in range(40))
    assert np.array_equal(fold, folds_of(group, label))
    counts = np.bincount(fold, minlength=FOLDS)
    assert counts.max() - counts.min() <= 11  # a group
    for number in range(4):
        assert len(set(fold[label == number])) == FOLDS  # of ten groups
    assert len(set(folds_of(group).tolist())) == FOLDS


def test_a_group_that_alone_carries_its_class_is_divided():
    group = np.repeat([0, 1, 2, 3, 4], 20)
    label = np.where(group == 4, 1, 0)
    label[[3, 25]] = 1  # wrong, and no reason to think that others carry the class
    fold = folds_of(group, label)
    assert np.bincount(fold[group == 4], minlength=FOLDS).max() == 2
    assert all(len(set(fold[group == number])) == 1 for number in range(4))
    assert all(len(set(folds_of(group)[group == number])) == 1 for number in range(5))


def test_probabilities_are_those_of_a_discriminant_fitted_without_the_fold(clips):
    values, group, label = clips
    fold = folds_of(group, label)
    found = class_probabilities(values, label, fold)
    for number in range(FOLDS):
        own = fold == number
        slow = LinearDiscriminantAnalysis(solver="eigen", shrinkage=SHRINKAGE)
        # Its covariance is the mean of those of the classes, as ours is; its shrinkage standardises first.
        slow.fit(values[~own].astype(float), label[~own])
        assert np.abs(found[own] - slow.predict_proba(values[own])).max() < 0.02
    assert found.sum(axis=1) == pytest.approx(np.ones(len(found)), abs=1e-5)
    assert (found.argmax(axis=1) == label).mean() > 0.6


def test_what_the_other_folds_do_not_hold_is_never_found():
    values = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    label = np.repeat([0, 1, 2], [20, 19, 1])
    fold = np.arange(40) % 2
    found = class_probabilities(values, label, fold)
    assert not np.isnan(found).any()
    assert (found[fold == fold[-1], 2] == 0).all()


def test_a_ridge_is_that_of_the_other_folds(clips):
    values, group, _ = clips
    fold = folds_of(group)
    target = values @ np.array([1, -2, 0, 0.5, 0, 3]) + np.random.default_rng(1).normal(size=len(values)) * 0.1 + 7
    slow = {}
    for ridge in RIDGES:
        slow[ridge] = np.empty(len(values))
        for number in range(FOLDS):
            own = fold == number
            rest = values[~own].astype(float)
            even = rest.var(axis=0).mean()
            model = Ridge(alpha=ridge * even * len(rest)).fit(rest, target[~own])
            slow[ridge][own] = model.predict(values[own])
    best = min(slow.values(), key=lambda predicted: np.square(predicted - target).sum())
    assert ridge_predictions(values, target, fold) == pytest.approx(best, abs=1e-3)

"""Classifiers: that they are what they are called, learn what is known alone, and say nothing of what nobody knows."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVC

from finetune.attentive import fit_attentive
from finetune.choice import CLASSIFIERS, choose
from finetune.classifiers import Clips, fit_knn, fit_logistic, fit_svm, questions, standardised
from finetune.heads import HeadSpec
from finetune.targets import Target

CPU = torch.device("cpu")
INSTRUMENT = HeadSpec("instrument", "binary", ("violin", "cello", "flute"))
PITCH = HeadSpec("pitch", "classes", ("60", "61", "62"))
SPECS = [INSTRUMENT, PITCH]
OF_VECTORS = [name for name in CLASSIFIERS if name != "attentive"]


def draw(count: int, seed: int, share_known: float = 1.0) -> Clips:
    """Three questions of six numbers and noise; the third pitch where the last number is large, else by the first."""
    generator = np.random.default_rng(seed)
    features = generator.standard_normal((count, 6)).astype(np.float32)
    value = (features[:, :3] + 0.3 * generator.standard_normal((count, 3)) > 0.4).astype(np.float32)
    is_known = generator.random((count, 3)) < share_known
    pitch = np.where(features[:, 5] > 0.5, 2, features[:, 0] > 0)
    targets = {
        "instrument": Target(torch.from_numpy(np.where(is_known, value, 0)), torch.from_numpy(is_known)),
        "pitch": Target(torch.from_numpy(pitch), torch.from_numpy(generator.random(count) < share_known)),
    }
    return Clips(features, targets)


@pytest.fixture(scope="module")
def train() -> Clips:
    return draw(300, seed=0, share_known=0.6)


@pytest.fixture(scope="module")
def test() -> Clips:
    return draw(400, seed=1)


@pytest.mark.parametrize("c", [1e-3, 0.1, 1.0])
def test_logistic_regression_is_that_of_sklearn(train, test, c):
    logits = fit_logistic(train, SPECS, 0, CPU, c)(test.features)
    value, is_known = (part.numpy() for part in train.targets["instrument"])
    for place in range(3):
        known = is_known[:, place]
        theirs = LogisticRegression(C=c, tol=1e-8, max_iter=1000).fit(train.features[known], value[known, place])
        np.testing.assert_allclose(
            logits["instrument"][:, place], theirs.decision_function(test.features), rtol=1e-2, atol=2e-3
        )
    value, is_known = (part.numpy() for part in train.targets["pitch"])
    theirs = LogisticRegression(C=c, tol=1e-8, max_iter=1000).fit(train.features[is_known], value[is_known])
    np.testing.assert_allclose(
        logits["pitch"].softmax(dim=1), theirs.predict_proba(test.features), rtol=1e-2, atol=1e-3
    )


def test_each_svm_is_that_of_sklearn(train, test):
    is_present, is_known = questions(INSTRUMENT, train.targets["instrument"])
    found = fit_svm(train.features, is_present, is_known, seed=0, c=2.0, width=0.5)(test.features)
    for place in range(3):
        known = is_known[:, place]
        theirs = SVC(C=2.0, gamma=0.5 / 6).fit(train.features[known], is_present[known, place])
        np.testing.assert_allclose(found[:, place], theirs.decision_function(test.features), atol=1e-3)


def test_neighbours_are_those_that_know():
    features = np.array([[1, 0.1], [1, 0.2], [1, 0.3], [0.1, 1]], np.float32)
    is_present = np.array([[True, False], [False, False], [False, True], [False, True]])
    is_known = np.array([[True, False], [True, False], [False, True], [True, True]])
    found = fit_knn(features, is_present, is_known, seed=0, neighbours=1)(np.array([[1, 0.12], [1, 0.28]], np.float32))
    assert found[0, 0] > 0 > found[1, 0]  # the third clip is nearer to the second, and does not know
    assert (found[:, 1] > 0).all()


@pytest.mark.parametrize("name", OF_VECTORS)
def test_unknown_labels_do_not_count(train, test, name):
    other = {
        name: Target(torch.where(target.is_known, target.value, 1), target.is_known)
        for name, target in train.targets.items()
    }
    setting = CLASSIFIERS[name].settings[0]
    ours, theirs = (
        CLASSIFIERS[name].fit(clips, SPECS, 0, CPU, **setting)(test.features)
        for clips in (train, Clips(train.features, other))
    )
    for spec in SPECS:
        assert torch.equal(ours[spec.name], theirs[spec.name])


@pytest.mark.parametrize("name", OF_VECTORS)
def test_a_class_that_is_everywhere_or_unknown_gets_one_answer(test, name):
    train = draw(60, seed=3)
    value, is_known = (part.clone() for part in train.targets["instrument"])
    value[:, 0], is_known[:, 1] = 1.0, False
    clips = Clips(train.features, train.targets | {"instrument": Target(value, is_known)})
    logits = CLASSIFIERS[name].fit(clips, SPECS, 0, CPU, **CLASSIFIERS[name].settings[-1])(test.features)["instrument"]
    assert logits[:, 0].min() > 1
    assert logits[:, 1].abs().max() < 1e-3


@pytest.mark.parametrize("name", OF_VECTORS)
def test_the_best_setting_tells_other_clips_apart(train, test, name):
    notes = []
    probe = choose(name, train, draw(200, seed=2), SPECS, 0, CPU, notes.append)
    said = probe(test)
    assert len(notes) == len(CLASSIFIERS[name].settings)
    assert all(0.5 < note["instrument_validation"] <= 1 for note in notes)
    probability, value = said.probabilities["instrument"], test.targets["instrument"].value
    assert ((probability >= 0.5) == (value == 1)).float().mean() > 0.8
    # Probabilities hold: among a hundred clips of 0.7 about seventy sound.
    middle = (probability > 0.2) & (probability < 0.8)
    assert value[middle].mean() == pytest.approx(probability[middle].mean().item(), abs=0.12)
    pitch = said.probabilities["pitch"]
    torch.testing.assert_close(pitch.sum(dim=1), torch.ones(len(pitch)))
    assert (pitch.argmax(dim=1) == test.targets["pitch"].value).float().mean() > 0.7


@pytest.mark.parametrize("name", OF_VECTORS)
def test_a_classifier_is_the_same_twice(test, name):
    train, setting = draw(80, seed=4), CLASSIFIERS[name].settings[0]
    one, two = (CLASSIFIERS[name].fit(train, SPECS, 0, CPU, **setting)(test.features) for _ in range(2))
    assert all(torch.equal(one[spec.name], two[spec.name]) for spec in SPECS)


def test_attention_finds_the_token_that_tells():
    def tokens(count: int, seed: int) -> Clips:
        """Of twelve tokens one tells, by its sign; the last number says which; short clips have eight."""
        generator = np.random.default_rng(seed)
        values = 0.5 * generator.standard_normal((count, 12, 8)).astype(np.float32)
        which, present = generator.integers(0, 8, count), generator.random(count) < 0.5
        values[np.arange(count), which, 0] = np.where(present, 3.0, -3.0)
        values[np.arange(count), which, 7] = 6.0
        values[::3, 8:] = np.nan
        value = torch.from_numpy(present).float()[:, None]
        return Clips(values.astype(np.float16), {"drums": Target(value, torch.ones_like(value, dtype=torch.bool))})

    specs = [HeadSpec("drums", "binary", ("drums",))]
    test = tokens(128, 2)
    logits = fit_attentive(tokens(256, 0), specs, 0, CPU, epochs=40)(test.features)["drums"]
    assert ((logits > 0) == (test.targets["drums"].value == 1)).float().mean() > 0.9


def test_standardised_features_have_the_deviation_of_the_training_clips():
    train = np.random.default_rng(0).normal(5, 3, (1000, 2)).astype(np.float32)
    train = np.concatenate([train, np.full((1000, 1), 7.0, np.float32)], axis=1)
    own, other = standardised(train, np.array([[5, 8, 9]], np.float32))
    np.testing.assert_allclose(own.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(own.std(axis=0), [1, 1, 0], atol=1e-5)
    np.testing.assert_allclose(other, [[0, 1, 0]], atol=0.15)
    assert other[0, 2] == 0

"""Recall by hand, and the choice of parameters by a recall that is known."""

import numpy as np
import pytest

from audit.embeddings import write_embeddings
from audit.kinds import KINDS
from audit.recall import Sample, choose_parameters, samples_of


@pytest.fixture(scope="module")
def embeddings(toy_pack, tmp_path_factory):
    """On a circle, a degree apart; the last twenty are all alike."""
    angle = np.radians(np.minimum(np.arange(120), 100))
    vectors = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return write_embeddings(tmp_path_factory.mktemp("circle"), vectors, toy_pack)


def answers(embeddings, found):
    """A search that always finds the same rows."""
    return lambda unit, k: (np.einsum("qe,qke->qk", unit, embeddings.unit()[found]), found)


def test_recall_counts_others_alone(embeddings):
    sample = Sample.of(embeddings, np.array([50]))
    assert sample.k == 10
    assert sample.bound == pytest.approx([np.cos(np.radians(5))], abs=1e-6)
    assert sample.recall(answers(embeddings, np.arange(45, 56)[None])) == 1
    assert sample.recall(answers(embeddings, np.array([[50, 49, 51, 1, 2, 3, 4, 5, 6, 7, 8]]))) == pytest.approx(0.2)


def test_of_clips_that_are_equally_near_any_will_do(embeddings):
    sample = Sample.of(embeddings, np.array([110]))
    assert sample.recall(answers(embeddings, np.arange(100, 111)[None])) == 1
    assert sample.recall(answers(embeddings, np.arange(109, 120)[None])) == 1


def test_what_was_not_found_counts_as_missed(embeddings):
    sample = Sample.of(embeddings, np.array([50]))
    rows = np.array([[50, 51, 49, *[-1] * 8]])
    similarity = np.where(rows < 0, -np.inf, 1).astype(np.float32)
    assert sample.recall(lambda unit, k: (similarity, rows)) == pytest.approx(0.2)


def test_measured_clips_are_not_those_that_chose(embeddings):
    first, second = samples_of(embeddings)
    assert (len(first.rows), len(second.rows)) == (60, 60)
    assert not set(first.rows) & set(second.rows)


def test_speed_counts_queries(embeddings, monkeypatch):
    sample = Sample.of(embeddings, np.arange(60))
    monkeypatch.setattr("audit.recall.SECONDS", 0.05)
    slept = []
    speed = sample.speed(lambda unit, k: slept.append(sum(range(10**5))))
    assert speed == pytest.approx(60 * len(slept) / 0.05, rel=0.5)


def recall_of(parameters):
    """Refinement and lists multiply."""
    return (1 - 0.03 / parameters["refine"]) * (1 - 0.16 / parameters["nprobe"] ** 2)


def test_the_least_that_finds_enough_is_chosen():
    steps = KINDS["ivfpq"].steps("nprobe", {"nlist": 100})
    assert steps == [1, 2, 4, 8, 16, 32, 64, 100]
    chosen = choose_parameters(KINDS["ivfpq"], {"nlist": 100}, 0.98, recall_of)
    assert chosen == {"nlist": 100, "refine": 4, "nprobe": 4}
    assert recall_of(chosen) >= 0.98 > recall_of(chosen | {"nprobe": 2})


def test_what_was_given_stays():
    chosen = choose_parameters(KINDS["ivfpq"], {"nlist": 100, "refine": 2}, 0.98, recall_of)
    assert chosen == {"nlist": 100, "refine": 2, "nprobe": 8}
    assert choose_parameters(KINDS["exact"], {}, 0.98, recall_of) == {}


def test_the_most_thorough_is_chosen_where_none_is_enough():
    chosen = choose_parameters(KINDS["ivfpq"], {"nlist": 100}, 0.999999, recall_of)
    assert chosen == {"nlist": 100, "refine": 64, "nprobe": 100}

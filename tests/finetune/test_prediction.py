"""Chunks to recordings and spans of time."""

import math
from pathlib import Path

import numpy as np
import pytest

from finetune.prediction import POOLINGS, HeadPrediction, Prediction, pool_over_time


def head_of(probabilities, kind: str = "binary", thresholds=(0.5, 0.5), silent=()) -> HeadPrediction:
    values = np.array(probabilities, np.float32)
    sounding = np.delete(values, list(silent), axis=0)
    thresholds = np.array(thresholds, np.float32) if kind == "binary" else None
    return HeadPrediction("instrument", kind, ("oboe", "viola"), values, pool_over_time(sounding, "mean"), thresholds)


def prediction_of(head: HeadPrediction, size: float = 4.0, hop: float = 2.0, silent=()) -> Prediction:
    first = np.arange(len(head.probabilities)) * hop
    is_silent = np.isin(np.arange(len(first)), list(silent))
    return Prediction(Path("a.wav"), np.stack([first, first + size], 1), is_silent, {"instrument": head}, "mean")


@pytest.mark.parametrize("pooling", POOLINGS)
def test_poolings_equal_their_formulas(pooling):
    p = np.random.default_rng(0).uniform(0, 1, (7, 3)).astype(np.float32)
    for place, found in enumerate(pool_over_time(p, pooling)):
        chunks = p[:, place].tolist()
        missed = math.prod(1 - one for one in chunks)
        expected = {
            "mean": sum(chunks) / 7,
            "max": max(chunks),
            "noisy_or": 1 - missed,
            "attention": sum(one / sum(chunks) * one for one in chunks),
        }[pooling]
        assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_poolings_of_one_value_of_nothing_and_of_certainty(pooling):
    assert pool_over_time(np.float32([[0.3, 0.0, 1.0]]), pooling).tolist() == pytest.approx([0.3, 0.0, 1.0])
    assert pool_over_time(np.zeros((5, 2), np.float32), pooling).tolist() == [0, 0]
    assert pool_over_time(np.ones((5, 2), np.float32), pooling).tolist() == [1, 1]
    assert pool_over_time(np.zeros((0, 2), np.float32), pooling).tolist() == [0, 0]


def test_noisy_or_saturates_and_the_others_do_not():
    low = np.full((200, 1), 0.02, np.float32)
    pooled = {pooling: float(pool_over_time(low, pooling)[0]) for pooling in POOLINGS}
    assert pooled.pop("noisy_or") == pytest.approx(1 - 0.98**200, rel=1e-4)
    assert list(pooled.values()) == pytest.approx([0.02] * 3)


def test_an_unknown_pooling_is_refused():
    with pytest.raises(ValueError, match="one of mean, max, noisy_or, attention, not median"):
        pool_over_time(np.zeros((1, 1)), "median")


def test_neighbouring_chunks_become_spans_in_order_of_time():
    head = head_of([[0.1, 0.9], [0.6, 0.7], [0.8, 0.2], [0.2, 0.5]])
    prediction = prediction_of(head)
    # Chunks of 4 s, one every 2 s, in 10 s: their middles lie at 2, 4, 6 and 8.
    assert prediction.edges.tolist() == [0, 3, 5, 7, 10]
    spans = [
        (span.start_s, span.end_s, span.name, round(span.probability, 4)) for span in prediction.spans("instrument")
    ]
    assert spans == [(0, 5, "viola", 0.8), (3, 7, "oboe", 0.7), (7, 10, "viola", 0.5)]
    assert prediction.present == {"instrument": ["viola"]}


def test_chunks_without_overlap_answer_for_themselves():
    assert prediction_of(head_of([[0, 0]] * 3), size=2.0).edges.tolist() == [0, 2, 4, 6]
    assert prediction_of(head_of([[0, 0]]), size=1.5).edges.tolist() == [0, 1.5]


def test_each_class_has_its_own_threshold():
    head = head_of([[0.4, 0.4]], thresholds=(0.4, 0.41))
    assert head.present == ["oboe"]


def test_silence_is_no_class_whatever_the_threshold():
    head = head_of([[0, 0], [0.5, 0.6]], thresholds=(0, 0), silent=[0])
    prediction = prediction_of(head, silent=[0])
    assert {span.start_s for span in prediction.spans("instrument")} == {3.0}
    assert head.pooled.tolist() == pytest.approx([0.5, 0.6])
    assert head_of([[0, 0]], "classes", silent=[0]).present == []


def test_one_of_many_classes_is_the_likeliest():
    head = head_of([[0.9, 0.1], [0.3, 0.7], [0.0, 0.0], [0.2, 0.8]], "classes", silent=[2])
    found = [(span.start_s, span.end_s, span.name) for span in prediction_of(head, silent=[2]).spans("instrument")]
    assert found == [(0, 3, "oboe"), (3, 5, "viola"), (7, 10, "viola")]
    assert head.present == ["viola"]

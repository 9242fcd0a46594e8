"""A weighted order draws what the weights say, as a function of seed and epoch."""

import pickle
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from data.clip import NOTHING, Labels, LabelSet
from data.errors import DataError
from data.labels import LabelTable
from data.sampler import Windows
from data.weighted import WeightedOrder, balancing_weights
from data.writer import write_pack

WEIGHTS = np.array([1.0, 0.0, 2.5, 0.1, 4.0, 1.0, 0.0, 3.0, 1.3, 0.0])


def epoch(order: WeightedOrder, number: int) -> np.ndarray:
    first = number * order.steps_per_epoch
    return np.concatenate([order.batch(first + step) for step in range(order.steps_per_epoch)])


def test_every_count_is_the_next_whole_number_and_right_on_average():
    order = WeightedOrder(WEIGHTS, 5, seed=0)
    expected = WEIGHTS / WEIGHTS.sum() * 10
    counts = np.array([np.bincount(epoch(order, number), minlength=10) for number in range(3000)])
    assert (np.abs(counts - expected) < 1 + 1e-9).all(), "above or below, never further"
    assert counts[:, WEIGHTS == 0].sum() == 0
    np.testing.assert_allclose(counts.mean(axis=0), expected, atol=4 * 0.5 / 3000**0.5)  # four standard errors


def test_equal_weights_give_each_clip_once():
    order = WeightedOrder(np.full(12, 0.3), 4, seed=1)
    assert order.steps_per_epoch == 3
    for number in range(3):
        assert sorted(epoch(order, number)) == list(range(12))


def test_an_epoch_is_a_function_of_seed_and_number():
    order, again = WeightedOrder(WEIGHTS, 3, seed=2), WeightedOrder(WEIGHTS * 7, 3, seed=2)
    batches = [order.batch(step) for step in range(6)]
    assert np.array_equal(again.batch(5), batches[5]), "without what came before, and in another unit"
    assert np.array_equal(pickle.loads(pickle.dumps(again)).batch(0), batches[0])
    assert not np.array_equal(np.concatenate(batches[:3]), np.concatenate(batches[3:]))
    assert not np.array_equal(WeightedOrder(WEIGHTS, 3, seed=3).batch(0), batches[0])
    assert batches[0].dtype == np.int64
    assert [order.epoch_of(step) for step in (0, 1, 7)] == [0, 1, 7], "a clip that comes again is cropped anew"


def test_the_sample_is_shuffled():
    order = WeightedOrder(np.ones(1000), 1000, seed=0)
    assert abs(np.corrcoef(order.batch(0), np.arange(1000))[0, 1]) < 0.15


def test_a_batch_may_be_greater_than_the_split():
    order = WeightedOrder(np.array([1.0, 3.0]), 8, seed=0)
    assert order.steps_per_epoch == 1
    assert Counter(order.batch(4).tolist()) == {0: 2, 1: 6}


def test_only_clips_that_weigh_something_come_at_the_ends():
    for seed in range(50):
        order = WeightedOrder(np.array([0.0, 1 / 3, 1e-300, 1 / 3, 0.0]), 7, seed)
        assert set(order.batch(0)) <= {1, 2, 3}


@pytest.mark.parametrize(
    ("weights", "batch_size", "message"),
    [
        ([], 2, "a weight for each clip was expected"),
        ([[1.0]], 2, "a weight for each clip was expected"),
        ([1.0, -1.0], 2, "finite, none below 0 and one above, found -1 to 1"),
        ([0.0, 0.0], 2, "none below 0 and one above, found 0 to 0"),
        ([1.0, np.nan], 2, "finite"),
        ([1.0, np.inf], 2, "finite"),
        ([1.0], 0, "a clip or more, 0 asked for; choose another --batch_size"),
    ],
)
def test_weights_that_nothing_can_be_drawn_by_are_refused(weights, batch_size, message):
    with pytest.raises(DataError, match=message):
        WeightedOrder(np.array(weights), batch_size, 0)


@pytest.fixture(scope="module")
def table(make_clips, tmp_path_factory) -> LabelTable:
    """24 pianos, 12 violins, 4 violins with a piano, one harp, 3 dogs, 2 clips of which nothing is known."""
    named = [("piano",)] * 24 + [("violin",)] * 12 + [("violin", "piano")] * 4 + [("harp",)]
    labels = [Labels(is_instrument=True, instrument=LabelSet(names)) for names in named]
    labels += [Labels(is_instrument=False, family=NOTHING, instrument=NOTHING)] * 3 + [Labels()] * 2
    clips = [replace(clip, labels=own) for clip, own in zip(make_clips(len(labels)), labels, strict=True)]
    return LabelTable(write_pack(clips, tmp_path_factory.mktemp("weighted") / "pack", processes=1))


def test_a_clip_weighs_as_much_as_its_rarest_label(table):
    weights = balancing_weights(table, np.arange(46), "instrument")
    expected = [1.0] * 24 + [28 / 16] * 16 + [10.0]  # of 28 pianos and one harp, no more than ten
    np.testing.assert_allclose(weights[:41], expected)
    np.testing.assert_allclose(weights[41:], np.mean(expected))
    some = np.array([40, 45, 0, 24])
    np.testing.assert_allclose(balancing_weights(table, some, "instrument"), 1.0)


def test_what_cannot_be_balanced_gets_a_sentence(table):
    with pytest.raises(DataError, match="balanced by family, instrument, genre, 'pitch' was asked for"):
        balancing_weights(table, np.arange(46), "pitch")
    for rows in (np.arange(46), np.arange(0)):
        with pytest.raises(DataError, match=f"a known genre to be balanced by it, none of {len(rows)} has"):
            balancing_weights(table, rows, "genre")


def test_it_says_what_an_epoch_is_made_of():
    assert WeightedOrder(np.array([1.0, 1.0, 2.0, 4.0]), 2, 0).describe() == (
        "4 clips drawn by weight, with replacement; in an epoch the heaviest come 2 times, the lightest 0.5"
    )


def test_windows_put_an_epoch_in_order_and_change_nothing_else():
    weights = np.random.default_rng(0).uniform(0.1, 3, 60)
    block = np.arange(60) // 6
    windows = Windows(block, at_once=2)
    for number in range(3):
        clips = epoch(WeightedOrder(weights, 6, 1, windows), number)
        assert sorted(clips) == sorted(epoch(WeightedOrder(weights, 6, 1), number))
        places = [np.flatnonzero(block[clips] == one) for one in range(10)]
        at_a_time = [sum(one[0] <= place <= one[-1] for one in places) for place in range(60)]
        assert max(at_a_time) == 2
        assert (np.diff(block[clips]) != 0).sum() > 15  # the blocks of a window alternate

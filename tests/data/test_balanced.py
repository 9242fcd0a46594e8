"""Batches for metric learning are balanced, and a function of seed and step."""

from collections import Counter

import numpy as np
import pytest

from data.balanced import BalancedOrder
from data.clip import NOTHING, Labels, LabelSet
from data.errors import DataError
from data.sampler import Share
from data.writer import write_pack


@pytest.fixture(scope="module")
def pack(make_clips, tmp_path_factory):
    """Two data sets: one of timbres (many guitars, two strings), one of instruments; bells, barks, unlabelled clips."""
    labelled = []
    for timbre in range(12):
        family = "guitar" if timbre < 10 else "string"
        labels = Labels(is_instrument=True, family=LabelSet((family,), complete=True), timbre=f"{family}_{timbre}")
        labelled += [("notes", labels)] * (6 if timbre else 2)
    for name, family in (("violin", "string"), ("trumpet", "brass"), ("piano", "keyboard")):
        labels = Labels(is_instrument=True, family=LabelSet((family,)), instrument=LabelSet((name,)))
        labelled += [("songs", labels)] * 10
    labelled += [("songs", Labels(is_instrument=True))] * 3
    labelled += [("noise", Labels(is_instrument=False, family=NOTHING, instrument=NOTHING))] * 20
    clips = []
    for number, (source, labels) in enumerate(labelled):
        fields = {"id": f"{source}/{number}", "source": source, "labels": labels, "split": "train"}
        clip = make_clips(number + 1)[number]
        clips.append(type(clip)(**{**{key: getattr(clip, key) for key in clip.__slots__}, **fields}))
    return write_pack(clips, tmp_path_factory.mktemp("balanced") / "pack", processes=1)


def order_of(pack, **changes) -> BalancedOrder:
    values = {"batch_size": 40, "clips_per_class": 4, "non_instrument_share": 0.1, "seed": 3} | changes
    return BalancedOrder(pack, pack.rows("train"), **values)


def test_a_batch_holds_k_clips_of_each_class_and_the_share_of_non_instruments(pack):
    rows, timbre, source = pack.rows("train"), pack.column("timbre"), pack.column("source")
    order = order_of(pack)
    for step in range(20):
        batch = rows[order.batch(step)]
        assert (source[batch] == "noise").sum() == 4
        sizes = Counter(timbre[row] for row in batch if timbre[row] is not None)
        assert set(sizes.values()) == {4}
        assert len(batch) == 40


def test_data_sets_and_their_families_come_in_turn(pack):
    rows, source = pack.rows("train"), pack.column("source")
    family = [names[0] if names else None for names in pack.column("family_present")]
    order, seen = order_of(pack, non_instrument_share=0.0), Counter()
    for step in range(100):
        seen.update((source[row], family[row]) for row in rows[order.batch(step)])
    # Five classes of notes a batch: strings would have two or three of them, and are only two; blindly it were 0.8.
    assert (seen["notes", "guitar"], seen["notes", "string"]) == (1200, 800)
    of_songs = [seen["songs", name] for name in ("string", "brass", "keyboard", None)]
    assert of_songs == [400, 400, 400, 800], "one class each of the first three"


def test_a_class_of_fewer_clips_gives_them_again(pack):
    rows, timbre = pack.rows("train"), pack.column("timbre")
    order = order_of(pack, clips_per_class=8)
    for step in range(100):
        members = Counter(row for row in rows[order.batch(step)] if timbre[row] == "guitar_0")
        if members:
            assert sorted(members.values()) == [4, 4]
            return
    raise AssertionError("the class never came")


def test_a_batch_is_a_function_of_seed_and_step(pack):
    assert np.array_equal(order_of(pack).batch(7), order_of(pack).batch(7))
    assert not np.array_equal(order_of(pack).batch(7), order_of(pack).batch(8))
    assert not np.array_equal(order_of(pack).batch(7), order_of(pack, seed=4).batch(7))
    shares = [Share(process, 2).of(order_of(pack).batch(7), 0) for process in range(2)]
    assert np.array_equal(np.concatenate(shares), order_of(pack).batch(7))


def test_without_non_instruments_or_instruments_the_rest_fills_the_batch(pack):
    rows, source = pack.rows("train"), pack.column("source")
    notes, noise = rows[source[rows] == "notes"], rows[source[rows] == "noise"]
    assert len(BalancedOrder(pack, notes, 40, 4, 0.5, 0).batch(0)) == 40
    assert len(BalancedOrder(pack, noise, 40, 4, 0.1, 0).batch(0)) == 40
    with pytest.raises(DataError, match="a batch of 42 clips cannot be made of classes of 4"):
        BalancedOrder(pack, notes, 42, 4, 0.1, 0)
    with pytest.raises(DataError, match="should have a training split"):
        BalancedOrder(pack, rows[:0], 40, 4, 0.1, 0)


def test_it_says_what_batches_are_made_of(pack):
    assert order_of(pack).describe() == (
        "18 classes of 6 families and data sets, 6 clips each in the middle; 4 of 40 clips are no instruments"
    )

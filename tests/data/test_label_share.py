"""A share of the labels: as many clips, the same labels, nothing left to the order in which clips lie."""

import numpy as np
import pytest

from data.clip import Clip, Labels, LabelSet
from data.errors import DataError
from data.label_share import share_of_labels
from data.labels import LabelTable
from data.predominant import PredominantTable
from data.writer import write_pack

COMMON, RARE = ("violin", "trumpet"), ("harp", "tuba")


@pytest.fixture(scope="module")
def table(make_clips, tmp_path_factory) -> LabelTable:
    """400 clips: violin in all, trumpet in half, harp in four, tuba in one; one in ten has a genre."""
    clips = []
    for number, clip in enumerate(make_clips(400, split="train", amplitude=0.1)):
        present = ["violin"] + ["trumpet"] * (number % 2) + ["harp"] * (number % 100 == 7) + ["tuba"] * (number == 42)
        genre = LabelSet(("jazz_blues",), complete=True) if number % 10 == 3 else LabelSet()
        labels = Labels(is_instrument=True, instrument=LabelSet(tuple(present), complete=True), genre=genre)
        clips.append(Clip(clip.id, clip.source, clip.recording, clip.group, clip.audio, clip.split, labels=labels))
    return LabelTable(write_pack(clips, tmp_path_factory.mktemp("share") / "pack", processes=1))


def counts(table: LabelTable, rows: np.ndarray) -> dict[str, int]:
    present = (table.column("instrument", rows) == 1).sum(axis=0)
    return {name: int(present[table.names["instrument"].index(name)]) for name in (*COMMON, *RARE)}


def test_labels_are_as_frequent_as_in_all_clips(table):
    rows = share_of_labels(table, np.arange(400), 0.1, seed=0)
    assert len(rows) == 40
    assert (np.diff(rows) > 0).all()
    found = counts(table, rows)
    assert found["violin"] == 40
    assert 14 <= found["trumpet"] <= 26
    assert found["tuba"] == 1
    assert 1 <= found["harp"] <= 2
    assert 3 <= (table.column("genre", rows) == 1).sum() <= 6


def test_every_label_keeps_a_clip_even_of_a_smaller_share(table):
    for seed in range(5):
        rows = share_of_labels(table, np.arange(400), 0.005, seed)
        assert min(counts(table, rows).values()) >= 1
        assert (table.column("genre", rows) == 1).any()
        assert len(rows) <= 4


def test_what_is_learned_counts_and_not_what_sounds(table):
    # Violin is named first everywhere: where that is all that is learned, no clip need have a harp.
    rows = [share_of_labels(PredominantTable(table._pack), np.arange(400), 0.005, seed) for seed in range(20)]
    assert min(counts(table, own)["harp"] for own in rows) == 0


def test_a_draw_depends_on_the_seed_and_the_clips_alone(table):
    rows = np.arange(400)
    one = share_of_labels(table, rows, 0.2, seed=1)
    assert np.array_equal(one, share_of_labels(table, rows, 0.2, seed=1))
    assert not np.array_equal(one, share_of_labels(table, rows, 0.2, seed=2))
    assert np.array_equal(share_of_labels(table, rows, 1.0, seed=1), rows)
    some = rows[100:200]
    assert set(share_of_labels(table, some, 0.2, seed=1)) <= set(some)


def test_clips_without_labels_are_drawn_blindly(toy_pack):
    rows = toy_pack.rows("train")
    assert len(share_of_labels(LabelTable(toy_pack), rows, 0.5, seed=0)) == round(0.5 * len(rows))


@pytest.mark.parametrize("share", [0.0, -0.1, 1.5, float("nan")])
def test_a_share_that_is_none_is_refused(table, share):
    with pytest.raises(DataError, match=r"lies above 0 and reaches 1"):
        share_of_labels(table, np.arange(10), share, seed=0)

"""What splits share, counted by hand."""

import numpy as np
import pyarrow as pa

from data.clip import SPLITS
from data.leaks import find_leaks, spare_clips
from data.rejected import Rejected

TRAIN, VALIDATION, TEST = range(3)


def spare(rows, keep_duplicates=False) -> dict[int, int]:
    """Rows are (sound, split, is given)."""
    sound, split, is_given = (np.array(column) for column in zip(*rows, strict=True))
    found = spare_clips(sound, split, is_given, keep_duplicates)
    return dict(zip(*(rows.tolist() for rows in found), strict=True))


def test_later_clips_of_a_sound_are_spare():
    rows = [(5, TRAIN, True), (6, TRAIN, True), (5, TRAIN, True), (7, TEST, False), (5, TRAIN, True), (7, TEST, False)]
    assert spare(rows) == {2: 0, 4: 0, 5: 3}
    assert spare(rows, keep_duplicates=True) == {}


def test_the_guarded_split_keeps_its_clip_whatever_the_order():
    rows = [(1, TRAIN, True), (1, TEST, True), (1, VALIDATION, True), (1, TEST, True), (1, TRAIN, True)]
    assert spare(rows) == {0: 1, 2: 1, 3: 1, 4: 1}
    assert spare(rows, keep_duplicates=True) == {0: 1, 2: 1, 4: 1}
    assert spare(rows[2:3] + rows[:1]) == {1: 0}


def test_a_given_split_goes_before_a_drawn_one():
    assert spare([(1, TEST, False), (1, TEST, True)]) == {0: 1}
    assert spare([(1, TEST, False), (1, TRAIN, True)]) == {1: 0}
    assert spare([(0, TRAIN, True)]) == {}


def manifest(*rows: tuple[str, str, str, str | None, str]) -> pa.Table:
    """Rows are (split, group, recording, timbre, checksum); ids count from a."""
    columns = dict(zip(("split", "group", "recording", "timbre", "checksum"), zip(*rows, strict=True), strict=True))
    columns |= {"id": [chr(ord("a") + number) for number in range(len(rows))], "source": ["toy"] * len(rows)}
    return pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})


def test_leaks_are_counted_by_what_and_where():
    table = manifest(
        ("train", "ann", "1", "horn", "s1"),
        ("test", "ann", "2", "horn", "s2"),
        ("train", "bob", "3", None, "s3"),
        ("train", "bob", "3", None, "s4"),
        ("test", "bob", "3", None, "s5"),
        ("validation", "cat", "4", "pipe", "s1"),
        ("train", "dan", "5", "pipe", "s6"),
        ("test", "eve", "6", "pipe", "s6"),
    )
    found = {(leak.what, leak.splits): leak for leak in find_leaks(table)}
    assert {key: (leak.count, leak.clips, leak.examples) for key, leak in found.items()} == {
        ("group", ("train", "test")): (2, {"train": 3, "test": 2}, ("ann", "bob")),
        ("recording", ("train", "test")): (1, {"train": 2, "test": 1}, ("toy/3",)),
        ("timbre", ("train", "test")): (1, {"train": 1, "test": 1}, ("horn",)),
        ("timbre", SPLITS): (1, {"train": 1, "validation": 1, "test": 1}, ("pipe",)),
        ("sound", ("train", "validation")): (1, {"train": 1, "validation": 1}, ("a = f",)),
        ("sound", ("train", "test")): (1, {"train": 1, "test": 1}, ("g = h",)),
    }
    assert str(found["group", ("train", "test")]) == "groups in train and test: 2 (ann, bob), 3 train and 2 test clips"
    assert str(found["timbre", SPLITS]).startswith("timbres in train, validation and test: 1 (pipe), 1 train, 1 valid")


def test_the_same_recording_name_of_two_sources_is_no_leak():
    table = manifest(("train", "a", "1", None, "s1"), ("test", "b", "1", None, "s2"))
    table = table.set_column(table.schema.get_field_index("source"), "source", [["one", "other"]])
    assert find_leaks(table) == []


def test_dropped_clips_are_told_as_a_leak_of_the_given_splits():
    table = manifest(("test", "a", "1", None, "s1"), ("train", "b", "2", None, "s2"), ("test", "c", "3", None, "s3"))
    rejected = [
        Rejected("duplicate", "toy", "9", "same sound as a", "x", "train"),
        Rejected("duplicate", "toy", "9", "same sound as a", "y", "train"),
        Rejected("duplicate", "toy", "9", "same sound as c", "z", "validation"),
        Rejected("duplicate", "toy", "9", "same sound as b", "in the same split", "train"),
        Rejected("duplicate", "toy", "9", "same sound as c", "drawn", ""),
        Rejected("broken", "toy", "9", "silent: peak -inf dBFS", "v", "train"),
    ]
    train, validation = find_leaks(table, rejected)
    assert (train.what, train.splits, train.dropped_from) == ("sound", ("train", "test"), "train")
    assert (train.count, train.clips, train.examples) == (1, {"train": 2, "test": 1}, ("x = a",))
    assert (validation.splits, validation.count) == (("validation", "test"), 1)
    assert str(train) == "sounds in train and test: 1 (x = a), 2 train and 1 test clips; dropped from train"


def test_many_leaks_are_listed_in_part():
    rows = [(split, f"g{number}", f"{split}{number}", None, f"{split}{number}")
            for number in range(1200) for split in ("train", "test")]  # fmt: skip
    table = manifest(*rows)
    table = table.set_column(table.schema.get_field_index("id"), "id", [[str(number) for number in range(len(rows))]])
    (leak,) = find_leaks(table)
    assert str(leak) == (
        "groups in train and test: 1,200 (g0, g1, g10 and 1,197 more), 1,200 train and 1,200 test clips"
    )

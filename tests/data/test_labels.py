"""Labels as integers: 1 present, 0 absent, -1 unknown."""

import numpy as np
import pytest
import torch

from data.clip import NOTHING, Labels, LabelSet
from data.labels import INSTRUMENTS, LabelTable
from data.taxonomy import FAMILIES, GENRES
from data.writer import write_pack

VIOLIN, FLUTE, STRING = INSTRUMENTS.index("violin"), INSTRUMENTS.index("flute"), FAMILIES.index("string")

LABELS = {
    "note": Labels(
        is_instrument=True,
        family=LabelSet(("string",), complete=True),
        instrument=LabelSet(("violin",), complete=True),
        timbre="violin_b",
        pitch=60,
        velocity=100,
    ),
    "excerpt": Labels(
        is_instrument=True,
        family=LabelSet(("string",)),
        instrument=LabelSet(("violin",), absent=("flute",)),
        genre=LabelSet(("classical",), complete=True),
        drums=False,
    ),
    "band": Labels(
        is_instrument=True,
        family=LabelSet(("string", "brass"), complete=True),
        genre=LabelSet(("jazz_blues",)),
        drums=True,
    ),
    "bark": Labels(is_instrument=False, family=NOTHING, instrument=NOTHING),
    "unlabelled": Labels(),
    "other_note": Labels(timbre="flute_a", family=LabelSet((), absent=tuple(f for f in FAMILIES if f != "flute"))),
}


@pytest.fixture(scope="module")
def table(make_clips, tmp_path_factory) -> LabelTable:
    clips = [make_clips(1, id=f"toy/{name}", labels=labels)[0] for name, labels in LABELS.items()]
    return LabelTable(write_pack(clips, tmp_path_factory.mktemp("labelled") / "pack", processes=1, duplicates="keep"))


def row(name: str) -> int:
    return list(LABELS).index(name)


def test_known_complete_labels(table):
    family = table.columns["family"][row("note")]
    assert family[STRING] == 1
    assert np.delete(family, STRING).tolist() == [0] * (len(FAMILIES) - 1)
    instrument = table.columns["instrument"][row("note")]
    assert instrument.sum() == instrument[VIOLIN] == 1
    assert instrument.min() == 0


def test_what_nobody_said_is_unknown(table):
    family = table.columns["family"][row("excerpt")]
    assert family[STRING] == 1
    assert np.delete(family, STRING).tolist() == [-1] * (len(FAMILIES) - 1)
    instrument = table.columns["instrument"][row("excerpt")]
    assert (instrument[VIOLIN], instrument[FLUTE]) == (1, 0)
    assert np.delete(instrument, [VIOLIN, FLUTE]).max() == -1
    for name, column in table.columns.items():
        assert (column[row("unlabelled")] == -1).all(), name


def test_several_and_none(table):
    family = table.columns["family"][row("band")]
    assert [FAMILIES[place] for place in np.flatnonzero(family == 1)] == ["brass", "string"]
    assert family.min() == 0
    assert not table.columns["family"][row("bark")].any()
    assert not table.columns["instrument"][row("bark")].any()


def test_numbers_and_codes(table):
    columns = table.columns
    assert columns["is_instrument"].tolist() == [1, 1, 1, 0, -1, -1]
    assert columns["drums"].tolist() == [-1, 0, 1, -1, -1, -1]
    assert columns["pitch"].tolist() == [60, -1, -1, -1, -1, -1]
    assert columns["velocity"].tolist() == [100, -1, -1, -1, -1, -1]
    classical, jazz = GENRES.index("classical"), GENRES.index("jazz_blues")
    assert columns["genre"][row("excerpt")].tolist() == [int(name == classical) for name in range(len(GENRES))]
    assert columns["genre"][row("band")].tolist() == [1 if name == jazz else -1 for name in range(len(GENRES))]
    assert table.timbre_names == ("flute_a", "violin_b")
    assert columns["timbre"].tolist() == [1, -1, -1, -1, -1, 0]


def test_single_family_needs_one_present_and_all_others_absent(table):
    assert table.single_family.tolist() == [STRING, -1, -1, -1, -1, -1]


def test_take_gives_tensors_in_the_order_asked_for(table):
    rows = np.array([row("bark"), row("note"), row("note")])
    taken = table.take(rows)
    assert set(taken) == set(table.columns)
    for name, tensor in taken.items():
        is_set = name in ("family", "instrument", "genre")
        assert tensor.dtype == (torch.int8 if is_set else torch.int64)
        assert tensor.shape == ((3, table.columns[name].shape[1]) if is_set else (3,))
        assert np.array_equal(tensor.numpy(), table.columns[name][rows])


def test_a_label_that_the_taxonomy_does_not_know_is_left_out(make_clips, tmp_path):
    clips = make_clips(9, labels=Labels(instrument=LabelSet(("violin", "theremin"))))
    instrument = LabelTable(write_pack(clips, tmp_path / "pack", processes=1, duplicates="keep")).columns["instrument"]
    assert (instrument[:, VIOLIN] == 1).all()
    assert (np.delete(instrument, VIOLIN, axis=1) == -1).all()

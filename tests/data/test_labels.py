"""Labels as integers: 1 present, 0 absent, -1 unknown."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch

from data.clip import NOTHING, Labels, LabelSet
from data.codes import INSTRUMENTS
from data.labels import NUMBERS, LabelTable
from data.pack import Pack
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
        is_weak=True,
    ),
    "bark": Labels(is_instrument=False, family=NOTHING, instrument=NOTHING),
    "unlabelled": Labels(),
    "other_note": Labels(timbre="flute_a", family=LabelSet((), absent=tuple(f for f in FAMILIES if f != "flute"))),
}


@pytest.fixture(scope="module")
def pack_of(make_clips, tmp_path_factory):
    """``pack_of(labels)``: a pack with one clip for each."""

    def write(labels: list[Labels]) -> Pack:
        clips = [replace(clip, labels=known) for clip, known in zip(make_clips(len(labels)), labels, strict=True)]
        return write_pack(clips, tmp_path_factory.mktemp("labelled") / "pack", processes=1)

    return write


@pytest.fixture(scope="module")
def table(pack_of) -> LabelTable:
    return LabelTable(pack_of(list(LABELS.values())))


def row(name: str) -> int:
    return list(LABELS).index(name)


def test_known_complete_labels(table):
    family = table.column("family")[row("note")]
    assert family[STRING] == 1
    assert np.delete(family, STRING).tolist() == [0] * (len(FAMILIES) - 1)
    instrument = table.column("instrument")[row("note")]
    assert instrument.sum() == instrument[VIOLIN] == 1
    assert instrument.min() == 0


def test_what_nobody_said_is_unknown(table):
    family = table.column("family")[row("excerpt")]
    assert family[STRING] == 1
    assert np.delete(family, STRING).tolist() == [-1] * (len(FAMILIES) - 1)
    instrument = table.column("instrument")[row("excerpt")]
    assert (instrument[VIOLIN], instrument[FLUTE]) == (1, 0)
    assert np.delete(instrument, [VIOLIN, FLUTE]).max() == -1
    for name, label in table.take(np.array([row("unlabelled")])).items():
        assert (label == (0 if name == "is_weak" else -1)).all(), name


def test_several_and_none(table):
    family = table.column("family")[row("band")]
    assert [FAMILIES[place] for place in np.flatnonzero(family == 1)] == ["brass", "string"]
    assert family.min() == 0
    assert not table.column("family")[row("bark")].any()
    assert not table.column("instrument")[row("bark")].any()


def test_numbers_and_codes(table):
    assert table.column("is_instrument").tolist() == [1, 1, 1, 0, -1, -1]
    assert table.column("drums").tolist() == [-1, 0, 1, -1, -1, -1]
    assert table.column("pitch").tolist() == [60, -1, -1, -1, -1, -1]
    assert table.column("velocity").tolist() == [100, -1, -1, -1, -1, -1]
    assert table.column("is_weak").tolist() == [0, 0, 1, 0, 0, 0]
    assert table.timbre_names == ("flute_a", "violin_b")
    assert table.column("timbre").tolist() == [1, -1, -1, -1, -1, 0]


def test_genres_of_the_taxonomy_and_then_those_of_the_pack(table, pack_of):
    assert table.names["genre"] == GENRES
    classical, jazz = GENRES.index("classical"), GENRES.index("jazz_blues")
    genre = table.column("genre")
    assert genre[row("excerpt")].tolist() == [int(name == classical) for name in range(len(GENRES))]
    assert genre[row("band")].tolist() == [1 if name == jazz else -1 for name in range(len(GENRES))]
    own = LabelTable(
        pack_of(
            [
                Labels(genre=LabelSet(("klezmer", "classical"))),
                Labels(genre=LabelSet((), absent=("bebop",))),
                Labels(genre=LabelSet(("jazz_blues",), complete=True)),
            ]
        )
    )
    assert own.names["genre"] == (*GENRES, "bebop", "klezmer")
    assert own.column("genre")[:, -2:].tolist() == [[-1, 1], [0, -1], [0, 0]]
    assert own.column("genre")[0, classical] == 1


def test_single_family_needs_one_present_and_all_others_absent(table):
    assert table.single_family.tolist() == [STRING, -1, -1, -1, -1, -1]


def test_take_gives_tensors_in_the_order_asked_for(table):
    rows = np.array([row("bark"), row("note"), row("note")])
    taken = table.take(rows)
    assert set(taken) == {*NUMBERS, *table.names}
    for name, tensor in taken.items():
        assert tensor.dtype == (torch.int8 if name in table.names else torch.int64)
        assert tensor.shape == ((3, len(table.names[name])) if name in table.names else (3,))
        assert np.array_equal(tensor.numpy(), table.column(name)[rows])
        assert np.array_equal(tensor.numpy(), table.column(name, rows))


def test_relevance_where_a_pack_has_any(table, pack_of):
    assert "relevance" not in table.take(np.arange(2))
    packs = pack_of(
        [Labels(), Labels(relevance=(("violin", 0.25), ("flute", 1.0))), Labels(relevance=(("flute", 0.125),))]
    )
    relevance = LabelTable(packs).take(np.array([2, 1, 0]))["relevance"]
    assert relevance.dtype == torch.float32
    expected = torch.full((3, len(INSTRUMENTS)), torch.nan)
    expected[0, FLUTE], expected[1, FLUTE], expected[1, VIOLIN] = 0.125, 1.0, 0.25
    assert torch.equal(relevance.nan_to_num(-1), expected.nan_to_num(-1))


def test_what_is_known_to_be_no_instrument(table):
    assert table.non_instruments(np.arange(6)[::-1]).tolist() == [row("bark")]
    assert table.non_instruments(np.array([row("note"), row("unlabelled")])).tolist() == []


def test_a_label_that_the_taxonomy_does_not_know_is_left_out(pack_of):
    instrument = LabelTable(pack_of([Labels(instrument=LabelSet(("violin", "theremin")))] * 9)).column("instrument")
    assert (instrument[:, VIOLIN] == 1).all()
    assert (np.delete(instrument, VIOLIN, axis=1) == -1).all()


def test_tables_hold_nothing_of_their_own(table):
    assert len(pickle.dumps(table)) < 1000

"""One label a clip, as IRMAS's training set has it."""

import numpy as np
import pytest

from data.clip import NOTHING, Labels, LabelSet
from data.labels import INSTRUMENTS, LabelTable
from data.predominant import PredominantTable
from data.taxonomy import FAMILIES
from data.writer import write_pack

LABELS = (
    Labels(is_instrument=True, instrument=LabelSet(("violin", "piano"), complete=True), pitch=60),
    Labels(is_instrument=False, instrument=NOTHING, family=NOTHING),
    Labels(is_instrument=True, instrument=LabelSet(("piano", "flute"))),
)


@pytest.fixture(scope="module")
def pack(make_clips, tmp_path_factory):
    clips = [make_clips(1, id=f"toy/{number}", labels=labels)[0] for number, labels in enumerate(LABELS)]
    return write_pack(clips, tmp_path_factory.mktemp("packs") / "toy", processes=1, duplicates="keep")


def test_only_the_first_instrument_and_its_family_stay_known(pack):
    labels = PredominantTable(pack).take(np.array([0, 2]))
    is_known = labels["instrument"] >= 0
    assert [INSTRUMENTS[row.nonzero()[0, 0]] for row in is_known] == ["violin", "piano"]
    assert is_known.sum(1).tolist() == [1, 1]
    assert [FAMILIES[row.argmax()] for row in labels["family"]] == ["string", "keyboard"]
    assert (labels["family"] >= 0).sum(1).tolist() == [1, 1]
    assert labels["pitch"].tolist() == [60, -1]


def test_a_clip_that_names_nothing_keeps_its_labels(pack):
    found, plain = (table(pack).take(np.array([1])) for table in (PredominantTable, LabelTable))
    assert all(found[name].equal(plain[name]) for name in plain)


def test_a_column_says_what_taking_all_rows_says(pack):
    table = PredominantTable(pack)
    assert (table.column("instrument") == table.take(np.arange(3))["instrument"].numpy()).all()
    assert (table.column("pitch") == LabelTable(pack).column("pitch")).all()

"""MedleyDB's activations: what they say of a stretch, and files that are none."""

import pytest

from data.errors import DataError
from data.sources.medleydb_activations import Activations

HOP_S = 2048 / 44_100


@pytest.fixture
def write_table(tmp_path):
    def write(*rows: str, header: str = "time,S01,S02"):
        path = tmp_path / "Toy_Song_ACTIVATION_CONF.lab"
        path.write_text("\n".join([header, *rows, ""]))
        return path

    return write


def ten_seconds(first, second):
    return [f"{frame * HOP_S:.4f},{first:.4f},{second:.4f}" for frame in range(round(10 / HOP_S))]


def test_how_long_a_stem_sounds(write_table):
    table = Activations.read(write_table(*ten_seconds(0.0474, 0.98)))
    assert table.seconds("S02", 2.0, 7.0) == pytest.approx(5.0, abs=HOP_S)
    assert table.seconds("S01", 2.0, 7.0) == 0
    assert table.seconds("S03", 2.0, 7.0) is None
    assert table.confidence.shape == (round(10 / HOP_S), 2)


def test_a_soft_stem_is_neither_sounding_nor_silent(write_table):
    table = Activations.read(write_table(*ten_seconds(0.3, 0.0991)))
    assert table.seconds("S01", 0.0, 10.0) is None
    assert table.seconds("S02", 0.0, 10.0) == 0


def test_beyond_the_end_of_the_table_nobody_can_tell(write_table):
    table = Activations.read(write_table(*ten_seconds(0.0474, 0.98)))
    assert table.seconds("S01", 8.0, 18.0) is None
    assert table.seconds("S01", 20.0, 30.0) is None
    assert table.seconds("S02", 8.0, 18.0) == pytest.approx(2.0, abs=2 * HOP_S)
    assert table.seconds("S01", 8.0, 10.3) == 0  # the last frames may be missing


@pytest.mark.parametrize(
    ("rows", "header", "words"),
    [
        (["0,0.1,0.2", "0.1,0.1"], "time,S01,S02", "should be a table of confidences"),
        (["0,0.1,0.2", "0.1,0.1,much"], "time,S01,S02", "should be a table of confidences"),
        (["0,0.1,0.2", "0.1,0.1,0.1"], "0,0.1,0.2", "should begin with time,S01,S02 and so on, '0,0.1,0.2' found"),
        (["0,0.1,0.2", "0.1,0.1,0.1"], "time,S01,violin", "should begin with time,S01,S02"),
        (["0,0.1,0.2,0.3", "0.1,0.1,0.1,0.1"], "time,S01,S02", "should have rows of 3 numbers, 2 of 4 found"),
        (["0,0.1,0.2"], "time,S01,S02", "should have rows of 3 numbers, 1 of 3 found"),
        (["1,0.1,0.2", "0.1,0.1,0.1"], "time,S01,S02", "should have rising times and confidences from 0 to 1"),
        (["0,0.1,0.2", "0.1,nan,0.1"], "time,S01,S02", "should have rising times and confidences from 0 to 1"),
        (["0,0.1,0.2", "0.1,7,0.1"], "time,S01,S02", "should have rising times and confidences from 0 to 1"),
        ([], "time,S01,S02", "should have rows of 3 numbers, 0 of 3 found"),
        ([], "", "should begin with time,S01,S02 and so on, '' found"),
    ],
)
def test_a_damaged_table_is_said(write_table, rows, header, words):
    path = write_table(*rows, header=header)
    with pytest.raises(DataError, match=rf"Toy_Song_ACTIVATION_CONF\.lab {words}.* get it again, or remove it"):
        Activations.read(path)


def test_a_table_that_is_no_text(tmp_path):
    path = tmp_path / "Toy_Song_ACTIVATION_CONF.lab"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="should be a table of confidences"):
        Activations.read(path)

"""``rejected.csv``, written, read and counted."""

import pytest

from data.errors import DataError
from data.rejected import Rejected, count_reasons, read_rejected, write_rejected

ROWS = [
    Rejected("broken", "toy", "a\nb,c\r.wav", 'silent: peak -inf dBFS, "expected"', "toy/1", "test"),
    Rejected("broken", "toy", "längst/日本.ogg", "at 30 s: silent: peak -90 dBFS", "toy/2"),
    Rejected("broken", "toy", "c", "holds 3 NaN or infinite values of 8", "toy/3"),
    Rejected("broken", "toy", "d", "cannot be decoded: Flac decoder lost sync", "toy/4"),
    Rejected("duplicate", "toy", "e", "same sound as toy/1", "toy/5", "train"),
    Rejected("duplicate", "toy", "f", "same sound as toy/2", "toy/6"),
    Rejected("left_out", "toy", "g", "music: not a non-instrument"),
]


def test_rows_come_back_whatever_their_names(tmp_path):
    write_rejected(tmp_path, ROWS)
    assert (tmp_path / "rejected.csv").read_text("utf-8").startswith("kind,source,recording,reason,id,split\n")
    assert read_rejected(tmp_path) == ROWS


def test_a_name_that_is_no_text_is_written_all_the_same(tmp_path):
    write_rejected(tmp_path, [Rejected("broken", "toy", "a\udcff.wav", "empty")])
    assert [row.recording for row in read_rejected(tmp_path)] == ["a\\udcff.wav"]


def test_reasons_are_counted_by_kind_without_the_single_case():
    assert count_reasons(ROWS) == {
        "broken": {"silent": 2, "holds NaN or infinite values": 1, "cannot be decoded: Flac decoder lost sync": 1},
        "duplicate": {"same sound as another clip": 2},
        "left_out": {"music": 1},
    }
    assert count_reasons([]) == {}


@pytest.mark.parametrize(
    "content", ["source,recording\nx,y\n", "kind,source,recording,reason\n,a,b,c\n", None, b"\xff"]
)
def test_damage_is_one_sentence(tmp_path, content):
    if content is not None:
        (tmp_path / "rejected.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=r"rejected\.csv .*; copy the pack again or prepare it anew"):
        read_rejected(tmp_path)

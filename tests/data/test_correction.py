"""One correction, and what hangs on it at the other levels."""

import pytest

from data.correction import Correction, corrected
from data.errors import DataError
from data.taxonomy import FAMILIES, FAMILY_OF_INSTRUMENT, GENRES

LABELS = ("is_instrument", *(f"{level}_{part}" for level in ("family", "instrument", "genre")
                             for part in ("present", "absent", "complete")), "instrument_relevance")  # fmt: skip


def row(**labels) -> dict:
    values = {"id": "a/1", **dict.fromkeys(LABELS), "is_instrument": True, "timbre": "violin 3"}
    values |= {f"{level}_complete": False for level in ("family", "instrument", "genre")}
    return values | labels


def violin(complete: bool = True) -> dict:
    """A clip of a violin; nothing else sounds if the lists are complete."""
    return row(
        family_present=["string"], family_absent=[], family_complete=complete,
        instrument_present=["violin"], instrument_absent=[], instrument_complete=complete,
    )  # fmt: skip


def correct(before: dict, *texts: tuple[str, ...]) -> dict:
    """What changes, for ``(level, text)`` or ``(level, text, given)``."""
    after = corrected(before, [Correction(2, "a/1", *text) for text in texts], GENRES)
    return {name: value for name, value in after.items() if value != before[name]}


def test_another_instrument_brings_its_family():
    assert correct(violin(), ("instrument", "trumpet")) == {
        "family_present": ["brass"],
        "instrument_present": ["trumpet"],
    }


def test_what_is_replaced_is_known_to_be_silent_and_an_open_list_stays_open():
    assert correct(violin(complete=False), ("instrument", "trumpet")) == {
        "family_present": ["brass"],  # a string may still sound: only the violin is known not to
        "instrument_present": ["trumpet"],
        "instrument_absent": ["violin"],
    }


def test_another_family_leaves_open_which_instrument_it_is():
    found = correct(violin(), ("family", "brass"))
    assert found["family_present"] == ["brass"]
    assert found["instrument_present"] == []
    assert not found["instrument_complete"]
    assert "violin" in found["instrument_absent"]
    assert "trumpet" not in found["instrument_absent"]
    assert "is_instrument" not in found


def test_family_and_instrument_may_be_corrected_together():
    apart = correct(violin(), ("instrument", "trumpet"))
    assert correct(violin(), ("instrument", "trumpet"), ("family", "brass")) == apart
    with pytest.raises(DataError, match=r"line 2 .instrument of a/1.: 'flute' contradicts"):
        correct(violin(), ("family", "brass"), ("instrument", "flute"))
    with pytest.raises(DataError, match="contradicts"):
        correct(violin(), ("instrument", "flute"), ("instrument", "trumpet"))


def test_sets_are_amended():
    assert correct(violin(), ("instrument", "also piano")) == {
        "family_present": ["keyboard", "string"],
        "instrument_present": ["piano", "violin"],
    }
    duo = violin() | {"family_present": ["keyboard", "string"], "instrument_present": ["piano", "violin"]}
    assert correct(duo, ("instrument", "no violin")) == {
        "family_present": ["keyboard"],
        "instrument_present": ["piano"],
    }
    assert correct(duo, ("instrument", "no piano; also cello"))["instrument_present"] == ["violin", "cello"]
    assert correct(violin(), ("instrument", "violin; piano")) == correct(violin(), ("instrument", "also piano"))
    opened = correct(violin(complete=False), ("instrument", "no violin"))
    assert (opened["instrument_absent"], opened["family_present"]) == (["violin"], None)
    assert opened["instrument_present"] == []


def test_no_instrument_at_all():
    for level in ("family", "instrument"):
        assert correct(violin(complete=False), (level, "none")) == {
            "is_instrument": False,
            "family_present": [], "family_complete": True, "instrument_present": [], "instrument_complete": True,
        }  # fmt: skip
    silent = row(
        is_instrument=False, family_present=[], family_absent=[], family_complete=True,
        instrument_present=[], instrument_absent=[], instrument_complete=True,
    )  # fmt: skip
    assert correct(silent, ("family", "organ"))["is_instrument"] is True
    assert correct(silent, ("family", "unknown"))["is_instrument"] is None


def test_unknown():
    found = correct(violin(), ("instrument", "unknown"))
    assert found == {"instrument_present": None, "instrument_absent": None, "instrument_complete": False}
    found = correct(violin(), ("family", "unknown"))
    assert found["family_present"] is None
    assert found["instrument_present"] is None


def test_genres_stand_beside_the_tree():
    jazz = violin() | {"genre_present": ["jazz_blues"], "genre_absent": [], "genre_complete": True}
    assert correct(jazz, ("genre", "classical")) == {"genre_present": ["classical"]}
    with pytest.raises(DataError, match="no such name as 'none'"):
        correct(jazz, ("genre", "none"))


def test_relevance_of_what_was_corrected_goes():
    heard = violin() | {"instrument_relevance": [("violin", 0.9), ("piano", 0.1)]}
    assert correct(heard, ("instrument", "cello"))["instrument_relevance"] == [("piano", pytest.approx(0.1))]


def test_what_is_right_already_stays_to_the_letter():
    assert correct(violin(), ("instrument", "violin"), ("family", "string", "brass"), ("instrument", "no piano")) == {}


def test_a_label_that_is_another_by_now_is_left_alone():
    assert correct(violin(), ("instrument", "trumpet", "violin"))
    assert correct(violin(), ("instrument", "also piano", "no piano"))
    with pytest.raises(DataError, match="was 'cello' when the table was made"):
        correct(violin(), ("instrument", "trumpet", "cello"))


@pytest.mark.parametrize(
    ("level", "text", "message"),
    [
        ("family", "strings", "line 2 .* no such name as 'strings'; did it mean string"),
        ("instrument", "qqqq", "taxonomy.py lists them"),
        ("instrument", "trumpet; also piano", "both replaces labels and amends"),
        ("timbre", "violin 4", "a level should be one of family, instrument, genre, found 'timbre'"),
    ],
)
def test_what_does_not_fit_is_named(level, text, message):
    with pytest.raises(DataError, match=message):
        correct(violin(), (level, text))


def test_every_family_agrees_with_its_instruments_whatever_is_corrected():
    texts = [("family", name) for name in FAMILIES] + [("instrument", "also drum_kit"), ("instrument", "no violin")]
    for complete in (True, False):
        for text in texts:
            after = corrected(violin(complete), [Correction(2, "a/1", *text)], GENRES)
            families = {FAMILY_OF_INSTRUMENT[name] for name in after["instrument_present"] or ()}
            assert families <= set(after["family_present"] or ())

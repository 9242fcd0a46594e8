"""Labels with times: what is present, absent and unknown in a stretch."""

import pytest

from data.clip import NOTHING, Clip, Labels, LabelSet, Reject
from data.decode import AudioFile
from data.errors import DataError
from data.sources.sounding import MIN_SOUNDING_SECONDS, cut_by_time, drums_of, labels_in
from data.taxonomy import FAMILIES, FAMILY_OF_INSTRUMENT, labels_of

INSTRUMENTS = set(FAMILY_OF_INSTRUMENT)


def absent(labels: LabelSet, names) -> set[str]:
    return set(names) - set(labels.present) if labels.complete else set(labels.absent)


def test_what_sounds_long_enough_is_present_and_all_else_absent():
    labels = labels_in("medleydb", {"violin": 3.0, "piano": MIN_SOUNDING_SECONDS, "flute": 0.0})
    assert labels.instrument == LabelSet(("violin", "piano"), complete=True)
    assert labels.family == LabelSet(("string", "keyboard"), complete=True)
    assert (labels.is_instrument, labels.drums, labels.is_weak) == (True, False, False)


@pytest.mark.parametrize("seconds", [0.2, None])
def test_what_sounds_too_briefly_or_perhaps_is_unknown(seconds):
    labels = labels_in("medleydb", {"violin": 3.0, "piano": seconds})
    assert labels.instrument.present == ("violin",)
    assert absent(labels.instrument, INSTRUMENTS) == INSTRUMENTS - {"violin", "piano"}
    assert labels.family.present == ("string",)
    assert absent(labels.family, FAMILIES) == set(FAMILIES) - {"string", "keyboard"}


def test_an_unknown_instrument_of_a_family_that_sounds_leaves_the_family_present():
    labels = labels_in("medleydb", {"violin": 3.0, "cello": 0.1})
    assert labels.family == LabelSet(("string",), complete=True)
    assert absent(labels.instrument, INSTRUMENTS) == INSTRUMENTS - {"violin", "cello"}


def test_when_all_is_unsure_only_the_absent_is_known():
    labels = labels_in("medleydb", {"violin": None, "cello": 0.1})
    assert (labels.is_instrument, labels.instrument.present, labels.family.present) == (None, (), ())
    assert absent(labels.instrument, INSTRUMENTS) == INSTRUMENTS - {"violin", "cello"}
    assert absent(labels.family, FAMILIES) == set(FAMILIES) - {"string"}


@pytest.mark.parametrize("other", ["synthesizer", "fx/processed sound", "Main System"])
def test_an_open_label_leaves_all_else_open(other):
    for seconds in (3.0, None):
        labels = labels_in("medleydb", {"violin": 3.0, other: seconds})
        assert labels.instrument == LabelSet(("violin",))
        assert labels.family == LabelSet(("string",))
        assert labels.drums is None


def test_speech_is_no_instrument():
    assert labels_in("medleydb", {"male speaker": 5.0, "piano": 0.0}) == Labels(
        is_instrument=False, family=NOTHING, instrument=NOTHING, drums=False
    )
    labels = labels_in("medleydb", {"male speaker": 5.0, "piano": None})
    assert labels.is_instrument is None
    assert absent(labels.instrument, INSTRUMENTS) == INSTRUMENTS - {"piano"}


def test_silence_has_no_labels():
    assert labels_in("medleydb", {"violin": 0.0}) is None
    assert labels_in("medleydb", {}) is None
    with pytest.raises(DataError, match="expected a label of medleydb, found 'fiddle'"):
        labels_in("medleydb", {"fiddle": 1.0})


@pytest.mark.parametrize(
    ("present", "complete", "drums"),
    [
        (("drum set", "violin"), True, True),
        (("drum machine",), False, True),
        (("violin",), True, False),
        (("violin",), False, None),
        (("tambourine", "violin"), True, None),
        (("conga",), True, None),
        ((), True, False),
    ],
)
def test_drums(present, complete, drums):
    assert drums_of(labels_of("medleydb", present, complete=complete)) is drums


def test_each_clip_has_the_labels_of_its_stretch(write_wav, make_tone):
    audio = AudioFile.of(write_wav("song.wav", make_tone(25.5, 440)))
    genre = LabelSet(("classical",), complete=True)
    whole = Clip("toy/song", "toy", "song.wav", "toy/song", audio, labels=Labels(genre=genre))
    asked = []

    def labels_between(start_s: float, end_s: float) -> Labels | None:
        asked.append((start_s, end_s))
        return None if start_s == 10 else Labels(pitch=int(start_s))

    first, last, reject = cut_by_time(whole, 25.5, 10.0, None, labels_between)
    assert asked == [(0, 10), (10, 20), (20, 25.5)]
    assert (first.id, first.labels) == ("toy/song@0", Labels(pitch=0, genre=genre))
    assert (last.id, last.start_s, last.labels) == ("toy/song@20", 20, Labels(pitch=20, genre=genre))
    assert reject == Reject("toy", "song.wav", "nothing sounds in some of its clips: 1 of 3", is_left_out=True)

"""Every label that a data set publishes means something here, and no more than it says.

``published_labels.json`` holds the labels as the data sets publish them: IRMAS's folder names, OpenMIC's
class-map.json, MedleyDB's taxonomy.yaml and the genres of its metadata, the programs in MusicNet's labels, ESC-50's
categories, FSD50K's vocabulary.csv, MUSAN's folders and the genres in its ANNOTATIONS, UrbanSound8K's classes, the
genres of the Free Music Archive, and the instruments of some sets that mirdata loads.
"""

import json
from collections import Counter
from pathlib import Path

import pytest

from data.clip import NOTHING, UNKNOWN, LabelSet
from data.errors import DataError
from data.taxonomy import (
    ALIASES,
    FAMILIES,
    FAMILY_OF_INSTRUMENT,
    GENRE_ALIASES,
    GENRES,
    INSTRUMENTS_OF_FAMILY,
    genres_of,
    labels_of,
    meaning_of,
)

PUBLISHED = json.loads(Path(__file__).with_name("published_labels.json").read_text())
ALL = set(FAMILY_OF_INSTRUMENT)
MALLETS = set(INSTRUMENTS_OF_FAMILY["mallet"])


@pytest.mark.parametrize("source", PUBLISHED["instruments"])
def test_every_published_label_is_mapped(source):
    assert set(PUBLISHED["instruments"][source]) <= set(ALIASES[source])


@pytest.mark.parametrize("source", ["irmas", "openmic", "medleydb", "esc50", "fsd50k", "urbansound8k"])
def test_no_label_is_mapped_that_is_not_published(source):
    assert set(ALIASES[source]) == set(PUBLISHED["instruments"][source])


@pytest.mark.parametrize("dataset", PUBLISHED["mir"])
def test_every_instrument_of_the_sets_behind_mirdata_is_mapped(dataset):
    assert set(PUBLISHED["mir"][dataset]) <= set(ALIASES["mir"])


@pytest.mark.parametrize("source", PUBLISHED["genres"])
def test_every_published_genre_is_mapped(source):
    assert set(PUBLISHED["genres"][source]) <= set(GENRE_ALIASES[source])


def test_the_published_lists_are_whole():
    counts = {source: len(set(labels)) for source, labels in PUBLISHED["instruments"].items()}
    expected = {"irmas": 11, "openmic": 20, "medleydb": 117, "musicnet": 11, "esc50": 50, "fsd50k": 200, "musan": 3}
    assert counts == {**expected, "urbansound8k": 10}
    assert len(set(PUBLISHED["genres"]["openmic"])) == 163


def test_every_instrument_has_one_family():
    names = Counter(name for members in INSTRUMENTS_OF_FAMILY.values() for name in members)
    assert set(names.values()) == {1}
    assert set(FAMILY_OF_INSTRUMENT.values()) == set(FAMILIES)


def test_meanings_agree_with_the_tree():
    for source, table in ALIASES.items():
        for label, meaning in table.items():
            assert meaning.candidates <= ALL, (source, label)
            families = {FAMILY_OF_INSTRUMENT[name] for name in meaning.candidates}
            assert meaning.family == (families.pop() if len(families) == 1 else None), (source, label)
            if meaning.instrument is not None:
                assert meaning.candidates == {meaning.instrument}, (source, label)
            if meaning.candidates:
                assert meaning.is_instrument is True, (source, label)


def test_genres_map_to_canonical_genres():
    for table in GENRE_ALIASES.values():
        assert set(table.values()) <= {*GENRES, None}


@pytest.mark.parametrize(
    ("source", "label", "instrument", "family", "is_instrument"),
    [
        ("irmas", "gac", "acoustic_guitar", "guitar", True),
        ("openmic", "guitar", None, "guitar", True),
        ("openmic", "bass", None, "bass", True),
        ("openmic", "mallet_percussion", None, "mallet", True),
        ("openmic", "cymbals", None, "percussion", True),
        ("openmic", "synthesizer", None, None, True),
        ("openmic", "ukulele", "ukulele", "guitar", True),
        ("medleydb", "double bass", None, None, True),  # bowed, a string; plucked, a bass
        ("medleydb", "horn section", None, None, True),  # saxophones in it are reeds
        ("medleydb", "harmonica", "harmonica", "organ", True),
        ("medleydb", "tenor saxophone", "saxophone", "reed", True),
        ("medleydb", "Main System", None, None, True),
        ("medleydb", "crowd", None, None, None),
        ("medleydb", "male speaker", None, None, False),
        ("musicnet", "41", "violin", "string", True),
        ("musicnet", "44", "double_bass", "string", True),
        ("esc50", "dog", None, None, False),
        ("esc50", "church_bells", None, None, None),
        ("fsd50k", "Guitar", None, None, True),  # AudioSet's guitars include the bass guitar
        ("fsd50k", "Bass_guitar", "electric_bass", "bass", True),
        ("fsd50k", "Rattle", None, None, False),
        ("fsd50k", "Rattle_(instrument)", "shaker", "percussion", True),
        ("musan", "speech", None, None, False),
        ("urbansound8k", "street_music", None, None, True),
        ("mir", "Violoncello", "cello", "string", True),
        ("mir", "bass", None, None, True),
    ],
)
def test_what_labels_mean(source, label, instrument, family, is_instrument):
    meaning = meaning_of(source, label)
    assert (meaning.instrument, meaning.family, meaning.is_instrument) == (instrument, family, is_instrument)


@pytest.mark.parametrize(
    ("source", "label", "hint"),
    [("fsd50k", "Trompet", "Trumpet"), ("openmic", "kazoo_orchestra", "data/aliases.py"), ("ermas", "cel", "irmas")],
)
def test_an_unknown_label_is_named_with_what_is_close(source, label, hint):
    with pytest.raises(DataError, match=hint) as raised:
        meaning_of(source, label)
    assert (source if hint == "irmas" else label) in str(raised.value)


def test_an_incomplete_list_knows_what_it_names_and_no_more():
    labels = labels_of("irmas", ["cel"])
    assert labels.is_instrument is True
    assert labels.family == LabelSet(("string",))
    assert labels.instrument == LabelSet(("cello",))


def test_an_absent_instrument_says_nothing_of_its_family():
    labels = labels_of("openmic", (), absent=["violin", "cello"])
    assert labels.family == UNKNOWN
    assert set(labels.instrument.absent) == {"violin", "cello"}
    assert not labels.instrument.complete
    assert labels.is_instrument is None


def test_an_absent_family_takes_its_instruments_with_it():
    labels = labels_of("openmic", ["piano"], absent=["mallet_percussion"])
    assert labels.family == LabelSet(("keyboard",), ("mallet",))
    assert set(labels.instrument.absent) == MALLETS


def test_an_absent_guitar_leaves_the_banjo_alone():
    labels = labels_of("openmic", ["banjo"], absent=["guitar"])
    assert labels.family == LabelSet(("guitar",))
    assert labels.instrument.present == ("banjo",)
    assert set(labels.instrument.absent) == {"acoustic_guitar", "electric_guitar", "lap_steel_guitar"}


def test_an_absent_synthesizer_says_nothing():
    assert labels_of("openmic", ["flute"], absent=["synthesizer"]) == labels_of("openmic", ["flute"])


def test_a_complete_list_of_instruments():
    labels = labels_of("medleydb", ["harp", "flute"], complete=True)
    assert labels.is_instrument is True
    assert labels.family == LabelSet(("string", "flute"), complete=True)
    assert labels.instrument == LabelSet(("harp", "flute"), complete=True)


def test_a_family_in_a_complete_list_leaves_its_instruments_open():
    labels = labels_of("fsd50k", ["Mallet_percussion", "Harp"], complete=True)
    assert labels.family == LabelSet(("mallet", "string"), complete=True)
    assert labels.instrument.present == ("harp",)
    assert not labels.instrument.complete
    assert set(labels.instrument.absent) == ALL - MALLETS - {"harp"}


def test_an_open_label_leaves_a_complete_list_open():
    labels = labels_of("medleydb", ["synthesizer", "viola"], complete=True)
    assert labels.is_instrument is True
    assert labels.family == LabelSet(("string",))
    assert labels.instrument == LabelSet(("viola",))


def test_an_open_label_keeps_what_is_said_to_be_absent():
    labels = labels_of("medleydb", ["synthesizer"], absent=["viola"], complete=True)
    assert labels.instrument == LabelSet((), ("viola",))


def test_a_label_of_two_families_leaves_both_open():
    labels = labels_of("medleydb", ["double bass"], complete=True)
    assert labels.family.present == ()
    assert set(labels.family.absent) == set(FAMILIES) - {"string", "bass"}
    assert set(labels.instrument.absent) == ALL - {"double_bass", "double_bass_plucked"}


def test_a_section_may_hide_its_instruments():
    labels = labels_of("medleydb", ["string section"], complete=True)
    assert labels.family == LabelSet(("string",), complete=True)
    assert labels.instrument.present == ("string_section",)
    assert not {"violin", "viola", "cello", "double_bass"} & set(labels.instrument.absent)
    assert {"harp", "trumpet"} <= set(labels.instrument.absent)


def test_a_snare_drum_may_be_one_of_a_kit():
    labels = labels_of("medleydb", ["snare drum"], complete=True)
    assert "drum_kit" not in labels.instrument.absent
    assert "gong" in labels.instrument.absent


@pytest.mark.parametrize("present", [[], ["dog"], ["dog", "rain"]])
def test_a_complete_list_without_an_instrument_is_none(present):
    labels = labels_of("esc50", present, complete=True)
    assert (labels.is_instrument, labels.family, labels.instrument) == (False, NOTHING, NOTHING)


def test_a_dog_in_an_incomplete_list_does_not_silence_the_band():
    labels = labels_of("fsd50k", ["Dog"])
    assert (labels.is_instrument, labels.family, labels.instrument) == (None, UNKNOWN, UNKNOWN)


def test_a_dog_among_instruments_changes_nothing():
    assert labels_of("fsd50k", ["Dog", "Harp"], complete=True) == labels_of("fsd50k", ["Harp"], complete=True)


def test_what_may_be_music_stays_unknown():
    labels = labels_of("esc50", ["church_bells"], complete=True)
    assert (labels.is_instrument, labels.family, labels.instrument) == (None, UNKNOWN, UNKNOWN)


def test_a_label_that_is_present_and_absent_is_refused():
    with pytest.raises(DataError, match="both for \\['violin'\\]"):
        labels_of("openmic", ["violin", "piano"], absent=["violin"])


def test_two_labels_of_one_instrument_are_one():
    labels = labels_of("medleydb", ["violin", "violin section"])
    assert labels.instrument.present == ("violin",)
    assert labels.family.present == ("string",)


@pytest.mark.parametrize(
    ("source", "names", "expected"),
    [
        ("irmas", ["jaz_blu"], LabelSet(("jazz_blues",), complete=True)),
        ("openmic", ["Loud-Rock", "Psych-Rock"], LabelSet(("pop_rock",), complete=True)),
        ("openmic", ["Hip-Hop", "Soundtrack"], LabelSet(("hip_hop",))),
        ("openmic", ["Instrumental"], UNKNOWN),
        ("openmic", [], UNKNOWN),
        ("musan", ["blues", "rock", "indierock"], LabelSet(("jazz_blues", "pop_rock"), complete=True)),
        ("medleydb", ["Musical Theatre"], UNKNOWN),
    ],
)
def test_genres(source, names, expected):
    assert genres_of(source, names) == expected


def test_an_unknown_genre_is_named():
    with pytest.raises(DataError, match="genre of openmic, found 'Psych-Rok'; did it mean Psych-Rock"):
        genres_of("openmic", ["Psych-Rok"])

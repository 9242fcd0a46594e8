"""The source ``openmic``, on folders laid out as the published one."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from data.clip import UNKNOWN, Clip, LabelSet, Reject
from data.errors import DataError
from data.leaks import find_leaks
from data.pcm import to_pcm
from data.sources.openmic import OpenmicOptions, clips
from data.writer import write_pack

CLASSES = (
    "accordion", "banjo", "bass", "cello", "clarinet", "cymbals", "drums", "flute", "guitar", "mallet_percussion",
    "mandolin", "organ", "piano", "saxophone", "synthesizer", "trombone", "trumpet", "ukulele", "violin", "voice",
)  # fmt: skip
COLUMNS = (
    "track_id", "album_id", "album_title", "album_url", "artist_id", "artist_name", "artist_url", "artist_website",
    "license_image_file", "license_image_file_large", "license_parent_id", "license_title", "license_url", "tags",
    "track_bit_rate", "track_comments", "track_composer", "track_copyright_c", "track_copyright_p",
    "track_date_created", "track_date_recorded", "track_disc_number", "track_duration", "track_explicit",
    "track_explicit_notes", "track_favorites", "track_file", "track_genres", "track_image_file", "track_information",
    "track_instrumental", "track_interest", "track_language_code", "track_listens", "track_lyricist", "track_number",
    "track_publisher", "track_title", "track_url", "sample_key", "start_time",
)  # fmt: skip
LABELS = (
    ("000046_3840", "clarinet", 0.17104999999999998, 3),
    ("000046_3840", "flute", 0.0, 3),
    ("000046_3840", "trumpet", 0.5, 3),
    ("000135_483840", "drums", 1.0, 4),
    ("000135_483840", "guitar", 0.9, 3),
    ("000135_483840", "violin", 0.1, 3),
    ("000178_3840", "synthesizer", 0.83, 3),
    ("000178_3840", "mallet_percussion", 0.0, 3),
    ("000178_3840", "drums", 0.2, 3),
    ("095253_134400", "piano", 1.0, 3),
    ("120195_184320", "voice", 1.0, 3),
)
ARTISTS = {"000046_3840": "4", "000135_483840": "52", "000178_3840": "52", "095253_134400": "60", "120195_184320": ""}
GENRES = {
    "000046_3840": "[{'genre_id': '76', 'genre_title': 'Experimental Pop', 'genre_url': 'http://example.org'}, "
    "{'genre_id': '103', 'genre_title': 'Singer-Songwriter', 'genre_url': 'http://example.org'}]",
    "000135_483840": "[{'genre_id': '45', 'genre_title': 'Loud-Rock', 'genre_url': 'http://example.org'}]",
    "000178_3840": "[]",
    "095253_134400": "",
    "120195_184320": "",
}
PARTITIONS = {
    "split01_train.csv": ("000046_3840", "000135_483840", "095253_134400", "120195_184320"),
    "split01_test.csv": ("000178_3840",),
}
SHARED = Path(__file__).parents[4] / "shared" / "data"


def write_metadata(folder: Path, **genres: str) -> None:
    with open(folder / "openmic-2018-metadata.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="")
        writer.writeheader()
        for key, artist in ARTISTS.items():
            cell = genres.get(f"of_{key}", GENRES[key])
            about = 'They said: "play",\nand we played.' + " Again." * 20_000  # more than csv reads by default
            writer.writerow(
                {"artist_id": artist, "track_genres": cell, "sample_key": key, "track_information": about},
            )


@pytest.fixture
def openmic(tmp_path):
    """Five clips of half a second, one of a corrupt track, one of an unknown artist."""
    folder = tmp_path / "unpacked" / "openmic-2018"
    (folder / "partitions").mkdir(parents=True)
    rows = ["sample_key,instrument,relevance,num_responses", *(",".join(map(str, row)) for row in LABELS)]
    (folder / "openmic-2018-aggregated-labels.csv").write_text("\n".join(rows) + "\n")
    (folder / "class-map.json").write_text(json.dumps({name: place for place, name in enumerate(CLASSES)}))
    write_metadata(folder)
    for name, keys in PARTITIONS.items():
        (folder / "partitions" / name).write_text("\n".join(keys) + "\n")
    rng = np.random.default_rng(0)
    for key in ARTISTS:
        path = folder / "audio" / key[:3] / f"{key}.ogg"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = rng.uniform(-0.5, 0.5, (22_050, 2))
        soundfile.write(path, noise, 44_100, format="OGG", subtype="VORBIS", compression_level=0.5)
    return folder


def found(folder, **options) -> dict[str, Clip]:
    items = clips(OpenmicOptions(folder, **options))
    return {item.id.removeprefix("openmic/"): item for item in items if isinstance(item, Clip)}


def rejects(folder) -> list[tuple[str, str]]:
    """What is rejected, but for the corrupt track."""
    items = [item for item in clips(OpenmicOptions(folder)) if isinstance(item, Reject)]
    return [(item.recording, item.reason) for item in items if not item.is_left_out]


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_relevance_is_kept_and_halved_into_present_and_absent(openmic):
    labels = found(openmic)["000046_3840"].labels
    assert labels.relevance == (("clarinet", 0.17104999999999998), ("flute", 0.0), ("trumpet", 0.5))
    assert labels.instrument.present == ("trumpet",)
    assert set(labels.instrument.absent) == {"clarinet", "flute"}
    assert not labels.instrument.complete  # seventeen classes were not asked about
    assert (labels.is_instrument, labels.drums) == (True, None)
    assert labels.family == LabelSet(("brass",))


def test_labels_that_are_no_single_instrument(openmic):
    items = found(openmic)
    labels = items["000135_483840"].labels
    assert set(labels.family.present) == {"guitar", "percussion"}
    assert labels.instrument.present == ()
    assert labels.relevance == (("violin", 0.1),)  # guitar and drums are families
    assert labels.drums is True
    labels = items["000178_3840"].labels  # a synthesizer plays anything, but no mallet sounds
    assert "mallet" in labels.family.absent
    assert {"marimba", "kick_drum"} < set(labels.instrument.absent)
    assert labels.family.present == ()
    assert (labels.is_instrument, labels.drums) == (True, False)


def test_genres_are_read_from_pythons_notation(openmic):
    items = found(openmic)
    assert set(items["000046_3840"].labels.genre.present) == {"pop_rock", "country_folk"}
    assert items["000135_483840"].labels.genre == LabelSet(("pop_rock",), complete=True)
    assert items["000178_3840"].labels.genre == items["120195_184320"].labels.genre == UNKNOWN


def test_groups_are_artists_and_splits_the_published_ones(openmic):
    items = found(openmic, validation_share=0)
    assert {key: clip.split for key, clip in items.items()} == {
        "000046_3840": "train",
        "000135_483840": "train",
        "120195_184320": "train",
        "000178_3840": "test",
    }
    assert [items[key].group for key in ("000046_3840", "000135_483840", "000178_3840", "120195_184320")] == [
        "openmic/artist_4",
        "openmic/artist_52",
        "openmic/artist_52",
        "openmic/track_120195",
    ]


def test_a_share_of_the_training_artists_is_for_validation(openmic):
    drawn = [found(openmic, validation_share=0.5, seed=seed) for seed in range(8)]
    assert {items["000046_3840"].split for items in drawn} == {"train", "validation"}
    assert {items["000178_3840"].split for items in drawn} == {"test"}


def test_corrupt_tracks_are_left_out_by_name(openmic):
    left_out = [item for item in clips(OpenmicOptions(openmic)) if isinstance(item, Reject)]
    assert [(item.recording, item.is_left_out) for item in left_out] == [("audio/095/095253_134400.ogg", True)]
    assert "corrupt" in left_out[0].reason


def test_the_npz_says_the_same_where_the_csv_is_absent(openmic):
    expected = list(clips(OpenmicOptions(openmic)))
    keys = sorted({row[0] for row in LABELS})
    relevance, is_known = np.full((len(keys), 20), 0.5), np.zeros((len(keys), 20), bool)
    for key, name, value, _ in LABELS:
        relevance[keys.index(key), CLASSES.index(name)] = value
        is_known[keys.index(key), CLASSES.index(name)] = True
    np.savez(
        openmic / "openmic-2018.npz",
        X=np.zeros((len(keys), 10, 128), int),
        Y_true=relevance,
        Y_mask=is_known,
        sample_key=np.array(keys, dtype=object),
    )
    (openmic / "openmic-2018-aggregated-labels.csv").unlink()
    assert list(clips(OpenmicOptions(openmic))) == expected


def test_it_becomes_a_pack(openmic, tmp_path):
    options = OpenmicOptions(openmic.parent, validation_share=0)  # the folder above it will do
    pack = write_pack(clips(options), tmp_path / "pack", processes=1)
    rows = {row["id"]: row for row in pack.manifest.to_pylist()}
    assert [rows[f"openmic/{key}"]["split"] for key in ("000046_3840", "000178_3840")] == ["train", "test"]
    assert dict(rows["openmic/000046_3840"]["instrument_relevance"]) == pytest.approx(
        {"clarinet": 0.17105, "flute": 0, "trumpet": 0.5}
    )
    assert set(pack.num_samples) == {8_000}
    (leak,) = find_leaks(pack.manifest)  # published splits are kept, and what they share is told
    assert (leak.what, leak.examples) == ("group", ("openmic/artist_52",))


def test_rows_without_recordings_and_recordings_without_rows_are_named(openmic):
    audio = openmic / "audio"
    (audio / "000" / "000178_3840.ogg").rename(audio / "000" / "000999_3840.ogg")
    (audio / "000" / "000046_3840.ogg").rename(audio / "120" / "000046_3840.ogg")
    edit(openmic / "openmic-2018-aggregated-labels.csv", "120195_184320,voice,1.0,3\n", "000555_0,voice,1.0,3\n")
    assert rejects(openmic) == [
        ("audio/000/000046_3840.ogg", "missing: named in a table, not in audio/"),
        ("audio/000/000178_3840.ogg", "missing: named in a table, not in audio/"),
        ("audio/000/000555_0.ogg", "missing: named in a table, not in audio/"),
        ("audio/120/120195_184320.ogg", "no label names it"),
        ("audio/000/000999_3840.ogg", "not named in partitions/ or the labels, so nothing is known about it"),
        ("audio/120/000046_3840.ogg", "not named in partitions/ or the labels, so nothing is known about it"),
    ]


def test_a_labelled_clip_without_a_split_is_named(openmic):
    edit(openmic / "partitions" / "split01_test.csv", "000178_3840\n", "")
    assert rejects(openmic) == [("audio/000/000178_3840.ogg", "not named in partitions/, so nobody knows its split")]


@pytest.mark.parametrize(
    ("name", "old", "new", "words"),
    [
        ("openmic-2018-aggregated-labels.csv", "000046_3840,flute", "../../etc/passwd,flute",
         r"line 3: a key as 000046_3840 was expected, '\.\./\.\./etc/passwd' found"),
        ("openmic-2018-aggregated-labels.csv", "violin", "fiddle", "line 7: .*'fiddle'"),
        ("openmic-2018-aggregated-labels.csv", "0.17104999999999998", "1.5",
         r"line 2: a relevance from 0 to 1 was expected, '1\.5' found"),
        ("openmic-2018-aggregated-labels.csv", "0.17104999999999998", "nan", "line 2: a relevance from 0 to 1"),
        ("openmic-2018-aggregated-labels.csv", "0.17104999999999998", "yes", "line 2: a relevance from 0 to 1"),
        ("openmic-2018-aggregated-labels.csv", "relevance,", "relevant,", "should have a column 'relevance'"),
        ("openmic-2018-metadata.csv", "artist_id", "artist", "should have a column 'artist_id'"),
        ("openmic-2018-metadata.csv", "Loud-Rock", "Loud-Rok", "line 5: .*'Loud-Rok'"),
        ("partitions/split01_train.csv", "000135_483840", "/etc/000135_483840", "line 2: a key as 000046_3840"),
        ("partitions/split01_test.csv", "000178_3840", "000046_3840", "line 1: 000046_3840 is in both splits"),
        ("partitions/split01_test.csv", "000178_3840\n", "sample_key\n000178_3840\n", "line 1: a key as"),
    ],
)  # fmt: skip
def test_what_a_table_gets_wrong_is_said_with_its_line(openmic, name, old, new, words):
    edit(openmic / name, old, new)
    with pytest.raises(DataError, match=words):
        list(clips(OpenmicOptions(openmic)))


@pytest.mark.parametrize(
    "cell",
    [
        "__import__('os').mkdir('it ran')",
        "[{'genre_title': __import__('os').mkdir('it ran')}]",
        "[{'genre_title': 'Pop'}",
        "[{'title': 'Pop'}]",
        "[{'genre_title': 3}]",
        "5",
        "[" * 15_000,
        "-" * 15_000 + "1",
        "[" + "1," * 15_000 + "]",
    ],
)
def test_a_cell_of_genres_is_read_and_never_run(openmic, cell, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    write_metadata(openmic, of_000135_483840=cell)
    with pytest.raises(DataError, match="line 5: track_genres should "):
        list(clips(OpenmicOptions(openmic)))
    assert not (tmp_path / "it ran").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "OpenMIC's classes were expected in"),
        ("[]", "should number OpenMIC's classes from 0"),
        ('{"accordion": 0, "banjo": 2}', "should number OpenMIC's classes from 0"),
        ('{"accordion": "0"}', "should number OpenMIC's classes from 0"),
        ('{"accordion": 0, "lute": 1}', r"class-map\.json: .*'lute'"),
    ],
)
def test_a_damaged_class_map(openmic, text, words):
    (openmic / "openmic-2018-aggregated-labels.csv").rename(openmic / "openmic-2018.npz")
    (openmic / "class-map.json").write_text(text)
    with pytest.raises(DataError, match=words):
        list(clips(OpenmicOptions(openmic)))


@pytest.mark.parametrize(
    "name",
    ["openmic-2018-aggregated-labels.csv", "openmic-2018-metadata.csv", "partitions/split01_test.csv", "audio"],
)
def test_a_folder_that_is_not_openmic(openmic, name):
    (openmic / name).rename(openmic / "elsewhere")
    with pytest.raises(DataError, match=f"OpenMIC-2018 was expected in .*, {name} not found; give the folder"):
        list(clips(OpenmicOptions(openmic)))


def test_a_link_to_nowhere_is_said_when_it_is_read(openmic, tmp_path):
    path = openmic / "audio" / "000" / "000046_3840.ogg"
    path.unlink()
    path.symlink_to(tmp_path / "nowhere")
    with pytest.raises(DataError, match="cannot be read: No such file"):
        found(openmic)["000046_3840"].audio.read()


@pytest.mark.skipif(not (SHARED / "openmic2018").is_dir(), reason="the published files are not here")
def test_published_files(tmp_path):
    items = found(SHARED / "openmic2018", validation_share=0)
    assert list(items) == ["000046_3840"]
    clip = items["000046_3840"]
    assert (clip.group, clip.split) == ("openmic/artist_4", "train")
    assert clip.labels.relevance == (("clarinet", 0.17104999999999998), ("flute", 0.0), ("trumpet", 0.0))
    assert set(clip.labels.instrument.absent) == {"clarinet", "flute", "trumpet"}
    assert set(clip.labels.genre.present) == {"pop_rock", "country_folk"}
    assert len(to_pcm(clip.audio, 0.25).samples) == 32_000

    for name in ("openmic-2018-aggregated-labels.csv", "openmic-2018-metadata.csv", "class-map.json"):
        (tmp_path / name).symlink_to(SHARED / "openmic2018" / name)
    for name in ("audio", "partitions"):
        (tmp_path / name).symlink_to(SHARED / "openmic2018-full-clip" / name)
    whole = list(clips(OpenmicOptions(tmp_path)))
    assert len(whole) == 20_000
    assert sum(isinstance(item, Reject) and item.is_left_out for item in whole) == 10
    (clip,) = (item for item in whole if isinstance(item, Clip))
    assert len(to_pcm(clip.audio, 0.25).samples) == 160_000

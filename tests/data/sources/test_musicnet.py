"""The source ``musicnet``, on folders laid out as the published one."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from data.clip import Clip, LabelSet, Reject
from data.errors import DataError
from data.sources.musicnet import MusicnetOptions, clips
from data.taxonomy import FAMILY_OF_INSTRUMENT
from data.writer import write_pack

METADATA = """\
id,composer,composition,movement,ensemble,source,transcriber,catalog_name,seconds
1727,Schubert,Piano Quintet in A major,2. Andante,Piano Quintet,European Archive,http://tirolmusic.blogspot.com/,OP114,4
1757,Schubert,Piano Sonata in C minor,1. Allegro,Solo Piano,Museopen,Martin Charles Bucknall,D958,4
1759,Schubert,Piano Sonata in C minor,3. Menuetto and Trio,Solo Piano,Museopen,Martin Charles Bucknall,D958,2
2155,Brahms,String Sextet No 1 in B-flat major,"2. Andante, ma moderato",String Sextet,Carl Banner,harfesoft.de,OP18,4
2532,Beethoven,Piano Sonata No 20 in C minor,1. Maestoso,Solo Piano,Neal O\u2019Doan,piano-midi.de,OP111,4
"""
HEADER = "start_time,end_time,instrument,note,start_beat,end_beat,note_value"
RATE = 8_000
"""Hz, of the recordings; the published 44.1 kHz take longer. The times of the labels count at 44.1 kHz as ever."""
PIANO, VIOLIN, CELLO, HORN = 1, 41, 43, 61
NOTES = {
    # Seconds: piano throughout, violin in the second half of the first clip and 0.2 s of the second, cello late.
    "train/1727": [
        (0.0, 30.0, PIANO), (5.0, 8.0, VIOLIN), (6.0, 10.2, VIOLIN), (20.5, 24.0, CELLO), (25.0, 25.2, HORN),
    ],
    "train/1757": [(1.0, 9.0, PIANO)],
    "train/2155": [(0.0, 9.0, VIOLIN), (0.5, 9.0, CELLO)],
    "train/2532": [(0.0, 9.0, PIANO)],
    "test/1759": [(0.0, 2.0, PIANO)],
}  # fmt: skip
SECONDS = {"train/1727": 40.0, "test/1759": 2.0}


@pytest.fixture
def musicnet(tmp_path):
    """Four recordings for training and one for testing, as the archive and its table unpack beside each other."""
    folder = tmp_path / "data"
    rng = np.random.default_rng(0)
    for name, notes in NOTES.items():
        part, number = name.split("/")
        audio, labels = (folder / "musicnet" / f"{part}_{kind}" for kind in ("data", "labels"))
        audio.mkdir(parents=True, exist_ok=True)
        labels.mkdir(exist_ok=True)
        noise = rng.uniform(-0.5, 0.5, round(SECONDS.get(name, 10.0) * RATE))
        soundfile.write(audio / f"{number}.wav", noise, RATE, subtype="FLOAT")
        rows = [
            f"{round(start * 44_100)},{round(end * 44_100)},{program},60,0.0,1.0,Quarter"
            for start, end, program in notes
        ]
        (labels / f"{number}.csv").write_text("\n".join([HEADER, *rows, ""]))
    (folder / "musicnet_metadata.csv").write_text(METADATA, encoding="utf-8")
    return folder


def found(folder: Path, **options) -> dict[str, Clip]:
    return {item.id: item for item in clips(MusicnetOptions(folder, **options)) if isinstance(item, Clip)}


def rejects(folder: Path) -> dict[str, str]:
    return {item.recording: item.reason for item in clips(MusicnetOptions(folder)) if isinstance(item, Reject)}


def test_notes_go_to_the_clips_in_which_they_sound(musicnet):
    clip = found(musicnet)
    assert [name for name in clip if "1727" in name] == [f"musicnet/1727@{start}" for start in (0, 10, 20)]
    first, second, third = (clip[f"musicnet/1727@{start}"].labels for start in (0, 10, 20))
    assert first.instrument == LabelSet(("piano", "violin"), complete=True)
    assert first.family == LabelSet(("keyboard", "string"), complete=True)
    assert (first.is_instrument, first.drums, first.is_weak) == (True, False, False)
    # 0.2 s of violin and of horn are too little to be present, and too much to be absent.
    assert second.instrument.present == ("piano",)
    assert set(second.instrument.absent) == set(FAMILY_OF_INSTRUMENT) - {"piano", "violin"}
    assert third.instrument.present == ("piano", "cello")
    assert set(third.instrument.absent) == set(FAMILY_OF_INSTRUMENT) - {"piano", "cello", "french_horn"}
    assert {item.labels.genre for item in clip.values()} == {LabelSet(("classical",), complete=True)}


def test_a_clip_without_a_note_is_left_out_and_counted(musicnet):
    left_out = [item for item in clips(MusicnetOptions(musicnet)) if isinstance(item, Reject)]
    reason = "nothing sounds in some of its clips: 1 of 4"
    assert left_out == [Reject("musicnet", "musicnet/train_data/1727.wav", reason, is_left_out=True)]


def test_movements_of_a_composition_are_one_group(musicnet):
    clip = found(musicnet, validation_share=0)
    assert clip["musicnet/1727@0"].group == "musicnet/Schubert/OP114"
    assert clip["musicnet/1757"].group == clip["musicnet/1759"].group == "musicnet/Schubert/D958"
    assert clip["musicnet/2532"].group == "musicnet/Beethoven/OP111"
    assert {item.split for name, item in clip.items() if name != "musicnet/1759"} == {"train"}
    assert clip["musicnet/1759"].split == "test"


def test_a_composition_without_a_catalogue_number(musicnet):
    table = musicnet / "musicnet_metadata.csv"
    table.write_text(table.read_text(encoding="utf-8").replace(",OP18,", ",,"), encoding="utf-8")
    assert found(musicnet)["musicnet/2155"].group == "musicnet/Brahms/String Sextet No 1 in B-flat major"


def test_a_share_of_the_training_compositions_validates(musicnet):
    clip = found(musicnet, validation_share=0.5, seed=1)
    splits = {name: item.split for name, item in clip.items()}
    assert {splits[f"musicnet/1727@{start}"] for start in (0, 10, 20)} == {"validation"}
    assert (splits["musicnet/2532"], splits["musicnet/1759"]) == ("train", "test")
    with pytest.raises(DataError, match="--validation_share should be from 0 to below 1, 1 found"):
        MusicnetOptions(musicnet, validation_share=1)


def test_clips_overlap_on_request(musicnet):
    clip = found(musicnet, clip_seconds=10, hop_seconds=5)
    assert "musicnet/1727@5" in clip
    assert clip["musicnet/1727@5"].labels.instrument == LabelSet(("piano", "violin"), complete=True)
    with pytest.raises(DataError, match="--hop_seconds should be"):
        MusicnetOptions(musicnet, hop_seconds=11)


def test_it_becomes_a_pack(musicnet, tmp_path):
    pack = write_pack(clips(MusicnetOptions(musicnet, validation_share=0)), tmp_path / "pack", processes=1)
    assert sorted(zip(pack.manifest["id"].to_pylist(), pack.num_samples, strict=True)) == [
        ("musicnet/1727@0", 160_000),
        ("musicnet/1727@10", 160_000),
        ("musicnet/1727@20", 160_000),
        ("musicnet/1757", 160_000),
        ("musicnet/1759", 32_000),
        ("musicnet/2155", 160_000),
        ("musicnet/2532", 160_000),
    ]


@pytest.mark.parametrize("root", ["musicnet", "."])
def test_the_archive_alone_with_the_table_in_it(musicnet, root):
    expected = set(found(musicnet))
    shutil.move(musicnet / "musicnet_metadata.csv", musicnet / "musicnet")
    assert set(found(musicnet / "musicnet")) == expected
    assert set(found(musicnet)) == expected


def test_recordings_and_labels_without_each_other_are_named(musicnet):
    (musicnet / "musicnet/train_data/1757.wav").unlink()
    (musicnet / "musicnet/train_labels/2155.csv").unlink()
    shutil.copy(musicnet / "musicnet/test_data/1759.wav", musicnet / "musicnet/test_data/9999.wav")
    shutil.copy(musicnet / "musicnet/test_labels/1759.csv", musicnet / "musicnet/test_labels/9999.csv")
    (musicnet / "musicnet/train_data/2532.wav").write_text("no sound")
    named = rejects(musicnet)
    assert named["musicnet/train_data/1757.wav"] == "missing: it has labels in train_labels/, and is not in train_data/"
    assert named["musicnet/train_data/2155.wav"] == "not named in train_labels/, so nothing is known about it"
    assert named["musicnet/test_data/9999.wav"].startswith("not named in musicnet_metadata.csv")
    assert named["musicnet/train_data/2532.wav"].startswith("cannot be decoded")


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("0,44100,41,60,0.0", "line 3: 7 cells were expected, more or fewer found"),
        ("0,4.41e4,41,60,0,1,Half", "line 3: a time in samples was expected, '4.41e4' found"),
        ("-5,44100,41,60,0,1,Half", "line 3: a time in samples was expected, '-5' found"),
        ("44100,0,41,60,0,1,Half", "line 3: a note should end after its start, 44100 to 0 found"),
        ("0,44100,violin,60,0,1,Half", "line 3: expected a label of musicnet, found 'violin'"),
        ("0,44100,129,60,0,1,Half", "line 3: expected a label of musicnet, found '129'"),
    ],
)
def test_a_damaged_label_file_is_said_with_its_line(musicnet, row, words):
    path = musicnet / "musicnet/train_labels/1757.csv"
    path.write_text("\n".join([HEADER, "0,44100,1,60,0.0,1.0,Quarter", row, ""]))
    with pytest.raises(DataError, match=f"1757.csv, {words}"):
        found(musicnet)


def test_tables_that_are_others(musicnet):
    (musicnet / "musicnet/test_labels/1759.csv").write_text("onset,offset\n0,1\n")
    with pytest.raises(DataError, match="should have a column 'start_time', found onset, offset"):
        found(musicnet)
    (musicnet / "musicnet_metadata.csv").unlink()
    with pytest.raises(DataError, match=r"MusicNet's table was expected at .*musicnet_metadata\.csv"):
        found(musicnet)


def test_a_folder_that_is_not_musicnet(tmp_path):
    with pytest.raises(DataError, match=r"MusicNet was expected in .*, none of them found"):
        found(tmp_path)

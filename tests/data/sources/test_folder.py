"""The source ``folder``: what it finds, how it cuts, what its CSV may say."""

import os
from pathlib import Path

import numpy as np
import pytest

from data.clip import NOTHING, UNKNOWN, Clip, LabelSet, Reject
from data.errors import DataError
from data.sources.folder import FolderOptions, clips
from data.writer import write_pack


@pytest.fixture
def tree(write_wav, make_tone) -> Path:
    """Three recordings and what is none."""
    for name in ("b/2.flac", "b/1.WAV", "a.ogg", ".hidden.wav"):
        write_wav(name, make_tone(1, 440))
    folder = write_wav("z/notes.wav", make_tone(1, 440)).parents[1]
    (folder / "z" / "notes.wav").rename(folder / "z" / "notes.txt")
    return folder


def labelled(folder: Path, text: str) -> dict[str, Clip]:
    path = folder.parent / "labels.csv"
    path.write_text(text)
    return {clip.recording: clip for clip in clips(FolderOptions(folder, path))}


def test_recordings_are_found_sorted_and_each_is_its_own_group(tree):
    found = list(clips(FolderOptions(tree)))
    assert [clip.recording for clip in found] == ["a.ogg", "b/1.WAV", "b/2.flac"]
    assert [clip.id for clip in found] == [f"folder/{clip.recording}" for clip in found]
    assert [clip.group for clip in found] == [clip.id for clip in found]
    assert found[0].labels.is_instrument is None
    assert found[0].split is None


def test_links_are_followed_and_loops_end(tree, tmp_path, write_wav, make_tone):
    (tmp_path / "elsewhere").mkdir()
    (tree / "a.ogg").rename(tmp_path / "elsewhere" / "c.ogg")
    os.symlink(tmp_path / "elsewhere", tree / "linked")
    os.symlink(tree, tree / "b" / "loop")
    assert [clip.recording for clip in clips(FolderOptions(tree))] == ["b/1.WAV", "b/2.flac", "linked/c.ogg"]


def test_long_recordings_are_cut_and_nothing_is_lost(write_wav, tmp_path):
    samples = np.random.default_rng(0).integers(-9999, 9999, int(7.5 * 16_000)).astype(np.int16)
    folder = write_wav("a.flac", samples).parent
    found = list(clips(FolderOptions(folder, clip_seconds=3)))
    assert [clip.id for clip in found] == ["folder/a.flac@0", "folder/a.flac@3", "folder/a.flac@6"]
    assert [clip.start_s for clip in found] == [0, 3, 6]
    assert {clip.group for clip in found} == {"folder/a.flac"}
    pack = write_pack(found, tmp_path / "pack", processes=1)
    np.testing.assert_array_equal(np.concatenate([pack.samples(row) for row in range(3)]), samples)
    assert len(set(pack.column("split"))) == 1
    short_rest = list(clips(FolderOptions(folder, clip_seconds=3.5)))  # 0.5 s are left: they go to the clip before
    assert [clip.start_s for clip in short_rest] == [0, 3.5]
    pack = write_pack(short_rest, tmp_path / "other", processes=1)
    assert pack.num_samples.tolist() == [3.5 * 16_000, 4 * 16_000]


def test_what_cannot_be_opened_is_rejected_by_name(tree):
    (tree / "bad.mp3").write_bytes(b"not an mp3" * 50)
    (tree / "empty.wav").touch()
    rejects = [item for item in clips(FolderOptions(tree)) if isinstance(item, Reject)]
    assert [(reject.recording, reject.reason.split(":")[0]) for reject in rejects] == [
        ("bad.mp3", "cannot be decoded"),
        ("empty.wav", "empty"),
    ]


def test_labels_are_read_and_empty_cells_are_unknown(tree):
    found = labelled(
        tree,
        "file,instruments,genre,drums,split,group,timbre,pitch\n"
        'a.ogg,"violin; trumpet",jazz_blues,no,test,Quartet,my_violin,60\n'
        "b/1.WAV,,,,,,,\n",
    )
    labels = found["a.ogg"].labels
    assert labels.instrument == LabelSet(("violin", "trumpet"))
    assert labels.family == LabelSet(("string", "brass"))
    assert (labels.is_instrument, labels.genre, labels.drums) == (
        True,
        LabelSet(("jazz_blues",), complete=True),
        False,
    )
    assert (labels.timbre, labels.pitch, found["a.ogg"].split) == ("my_violin", 60, "test")
    assert found["a.ogg"].group == "folder/Quartet"
    for recording in ("b/1.WAV", "b/2.flac"):
        assert found[recording].labels.instrument == UNKNOWN
        assert found[recording].labels.drums is None
        assert found[recording].group == f"folder/{recording}"


def test_names_are_known_by_what_people_call_them(tree):
    found = labelled(
        tree,
        "file,instrument,family,genre\n"
        "a.ogg,Double Bass; drum set;HI-HAT;sax,,Rock;Hip-Hop\n"
        "b/1.WAV,strings;guitar,Brass,klezmer;my own genre\n"
        "b/2.flac,bass,,instrumental\n",
    )
    labels = found["a.ogg"].labels
    assert labels.instrument == LabelSet(("double_bass", "drum_kit", "hi_hat", "saxophone"))
    assert labels.family == LabelSet(("string", "percussion", "reed"))
    assert labels.genre == LabelSet(("pop_rock", "hip_hop"), complete=True)
    assert labels.drums is True
    labels = found["b/1.WAV"].labels  # none of these names is one instrument
    assert (labels.is_instrument, labels.instrument) == (True, UNKNOWN)
    assert labels.family == LabelSet(("brass", "guitar"))
    assert labels.genre == LabelSet(("world", "my own genre"), complete=True)
    labels = found["b/2.flac"].labels
    assert (labels.instrument, labels.family) == (UNKNOWN, LabelSet(("bass",)))
    assert (labels.genre, labels.drums) == (UNKNOWN, None)  # "instrumental" is no genre


def test_labels_of_a_recording_that_is_cut_are_weak(write_wav, make_tone):
    folder = write_wav("a.flac", make_tone(7, 440)).parent
    write_wav("b.flac", make_tone(2, 440))
    path = folder.parent / "labels.csv"
    path.write_text("file,instrument,genre\na.flac,cello,jazz\nb.flac,cello,\n")
    found = list(clips(FolderOptions(folder, path, clip_seconds=3, hop_seconds=2)))
    assert [clip.id for clip in found] == [
        "folder/a.flac@0", "folder/a.flac@2", "folder/a.flac@4", "folder/b.flac",
    ]  # fmt: skip
    assert [clip.labels.is_weak for clip in found] == [True, True, True, False]
    assert {clip.labels.instrument for clip in found} == {LabelSet(("cello",))}
    assert found[1].labels.genre == LabelSet(("jazz_blues",), complete=True)


def test_labels_with_times_go_to_the_clips_in_which_they_sound(write_wav, make_tone):
    folder = write_wav("a.flac", make_tone(12, 440)).parent
    path = folder.parent / "labels.csv"
    path.write_text(
        "file,instrument,family,drums,start_s,end_s\n"
        "a.flac,cello,,,1.0,3.4\n"  # of the second clip only 0.4 s
        "a.flac,drum set,,,3.5,3.6\n"  # short, but there
        "a.flac,trumpet,flute,,5,13\n"
    )
    found = list(clips(FolderOptions(folder, path, clip_seconds=3)))
    assert [clip.labels.instrument.present for clip in found] == [
        ("cello",), ("drum_kit", "trumpet"), ("trumpet",), ("trumpet",),
    ]  # fmt: skip
    assert found[1].labels.family == LabelSet(("percussion", "flute", "brass"))
    assert [clip.labels.drums for clip in found] == [None, True, None, None]
    assert not any(clip.labels.is_weak for clip in found)
    with open(path, "a") as file:
        file.write("a.flac,piano,,no,,\n")
    found = list(clips(FolderOptions(folder, path, clip_seconds=3)))
    assert [clip.labels.instrument.present for clip in found] == [
        ("piano", "cello"), ("piano", "drum_kit", "trumpet"), ("piano", "trumpet"), ("piano", "trumpet"),
    ]  # fmt: skip
    assert all(clip.labels.is_weak for clip in found)
    assert [clip.labels.drums for clip in found] == [False, True, False, False]


def test_what_is_no_instrument_has_no_family_and_that_is_known(tree):
    labels = labelled(tree, "file,is_instrument\na.ogg,no\n")["a.ogg"].labels
    assert (labels.is_instrument, labels.family, labels.instrument) == (False, NOTHING, NOTHING)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("file,instrument\na.ogg,violn\n", r"line 2: unknown instrument 'violn' \(close: violin"),
        ("file,instrument\na.ogg,Acustic Gitar\n", r"unknown instrument 'Acustic Gitar' \(close: acoustic_guitar"),
        ("file,family\na.ogg,string\nb/1.WAV,strings\n", r"line 3: unknown family 'strings' \(close: string"),
        ("file,drums\na.ogg,maybe\n", "line 2: drums should be yes or no, 'maybe' found"),
        ("file,pitch\na.ogg,200\n", "line 2: pitch should be a whole number from 0 to 127, '200' found"),
        ("file,split\na.ogg,dev\n", "line 2: unknown split 'dev'"),
        ("file,genre\nc.ogg,jazz\n", r"line 2: no recording 'c\.ogg' in the folder \(close: a\.ogg\)"),
        (
            "file,group,split\na.ogg,g,test\nb/1.WAV,g,train\n",
            "line 3: the group 'g' is in train, in line 2 in test; mend the cell",
        ),
        ("file,genre\na.ogg,x\na.ogg,y\n", r"line 3: 'a\.ogg' was already in line 2"),
        ("file,is_instrument,family\na.ogg,no,brass\n", "is_instrument is no, but brass is said to sound"),
        ("file,genre\na.ogg,x,y\n", "line 2: more cells than the header's 2"),
        ("file,instrument,start_s\na.ogg,cello,0\n", "line 2: end_s should be a number of seconds, '' found"),
        ("file,instrument,start_s,end_s\na.ogg,cello,1,soon\n", "end_s should be a number of seconds, 'soon' found"),
        ("file,instrument,start_s,end_s\na.ogg,cello,2,1\n", r"end_s should be above start_s \(2\), 1 found"),
        ("file,genre,start_s,end_s\na.ogg,rock,0,1\n", "genre holds for a whole recording, but this row has times"),
        ("file,start_s,end_s\na.ogg,0,1\n", "a row with times should name instruments or families, none found"),
        (
            "file,instrument,start_s,end_s,is_instrument\na.ogg,cello,0,1,\na.ogg,,,,no\n",
            "line 3: is_instrument is no in one row of the recording, but another has an instrument",
        ),
        ("file,instrument,start_s,end_s\na.ogg,cello,9,10\n", r"line 2: start_s is 9, but a\.ogg has only 1\.00 s"),
        ("name,genre\na.ogg,x\n", "should have a column 'file', found name, genre"),
        ("file,gener\na.ogg,x\n", r"unknown column 'gener' \(close: genre"),
        ("", "should have a column 'file', found an empty file"),
    ],
)
def test_what_a_csv_gets_wrong_is_said_with_its_line(tree, text, words):
    with pytest.raises(DataError, match=words):
        labelled(tree, text)


def test_folders_and_files_that_are_not_there(tmp_path, tree):
    with pytest.raises(DataError, match="no folder found"):
        list(clips(FolderOptions(tmp_path / "nowhere")))
    with pytest.raises(DataError, match="a CSV of labels was expected at"):
        list(clips(FolderOptions(tree, tmp_path / "nowhere.csv")))
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match=r"were expected in .*none, none found"):
        list(clips(FolderOptions(tmp_path / "none")))
    with pytest.raises(DataError, match="clip_seconds should be from 1 to 599, 0 found"):
        FolderOptions(tree, clip_seconds=0)

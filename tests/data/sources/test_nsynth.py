"""The source ``nsynth``, on folders laid out as the published ones."""

import json
import shutil

import numpy as np
import pytest
import soundfile

from data.clip import LabelSet, Reject
from data.errors import DataError
from data.leaks import find_leaks
from data.rejected import SAME_SOUND, read_rejected
from data.sources.nsynth import NsynthOptions, clips
from data.writer import write_pack


def fields(note: str, **changes) -> dict:
    instrument, pitch, velocity = note.rsplit("-", 2)
    family, source, _ = instrument.rsplit("_", 2)
    return {
        "note_str": note,
        "instrument_str": instrument,
        "instrument_family_str": family,
        "instrument_source_str": source,
        "pitch": int(pitch),
        "velocity": int(velocity),
        "sample_rate": 16000,
        "qualities_str": ["bright", "long_release"],
        **changes,
    }


@pytest.fixture
def nsynth(tmp_path):
    """Three notes in each published split."""
    notes = {
        "nsynth-train": [
            "bass_synthetic_033-022-050",
            "synth_lead_synthetic_001-060-100",
            "guitar_acoustic_014-064-127",
        ],
        "nsynth-valid": ["string_acoustic_012-057-075", "vocal_acoustic_000-050-025", "reed_acoustic_011-070-100"],
        "nsynth-test": ["string_acoustic_012-058-075", "brass_acoustic_046-084-025", "organ_electronic_007-040-050"],
    }
    rng = np.random.default_rng(0)
    for split, names in notes.items():
        (tmp_path / split / "audio").mkdir(parents=True)
        (tmp_path / split / "examples.json").write_text(json.dumps({name: fields(name) for name in names}))
        for name in names:
            soundfile.write(tmp_path / split / "audio" / f"{name}.wav", rng.uniform(-0.5, 0.5, 64_000), 16_000)
    return tmp_path


def test_labels_groups_and_published_splits(nsynth):
    found = {clip.id: clip for clip in clips(NsynthOptions(nsynth))}
    assert len(found) == 9
    clip = found["nsynth/guitar_acoustic_014-064-127"]
    labels = clip.labels
    assert (clip.split, clip.group) == ("train", "nsynth/guitar_acoustic_014")
    assert labels.family == LabelSet(("guitar",), complete=True)
    assert (labels.timbre, labels.pitch, labels.velocity) == ("guitar_acoustic_014", 64, 127)
    assert (labels.production, labels.is_instrument) == ("acoustic", True)
    assert labels.qualities == LabelSet(("bright", "long_release"), complete=True)
    assert found["nsynth/synth_lead_synthetic_001-060-100"].labels.family.present == ("synth_lead",)
    assert found["nsynth/string_acoustic_012-057-075"].split == "validation"
    assert found["nsynth/brass_acoustic_046-084-025"].split == "test"
    assert found["nsynth/string_acoustic_012-058-075"].group == found["nsynth/string_acoustic_012-057-075"].group


def test_it_becomes_a_pack_though_validation_and_test_share_an_instrument(nsynth, tmp_path):
    pack = write_pack(clips(NsynthOptions(nsynth)), tmp_path / "pack", processes=1)
    assert [pack.info.splits[split]["clips"] for split in ("train", "validation", "test")] == [3, 3, 3]
    assert set(pack.num_samples) == {64_000}


def test_one_split_alone(nsynth):
    found = list(clips(NsynthOptions(nsynth / "nsynth-valid")))
    assert {clip.split for clip in found} == {"validation"}
    renamed = (nsynth / "nsynth-valid").rename(nsynth / "my_notes")
    assert {clip.split for clip in clips(NsynthOptions(renamed))} == {None}


def test_missing_and_stray_recordings_are_named(nsynth):
    audio = nsynth / "nsynth-test" / "audio"
    (audio / "brass_acoustic_046-084-025.wav").rename(audio / "stray.wav")
    rejects = [item for item in clips(NsynthOptions(nsynth)) if isinstance(item, Reject)]
    assert [(reject.recording, reject.reason) for reject in rejects] == [
        ("nsynth-test/audio/brass_acoustic_046-084-025.wav", "missing: named in examples.json, not in audio/"),
        ("nsynth-test/audio/stray.wav", "not named in examples.json, so nothing is known about it"),
    ]


def test_a_folder_that_is_not_nsynth(tmp_path):
    with pytest.raises(DataError, match=r"NSynth was expected in .* none of them found"):
        list(clips(NsynthOptions(tmp_path)))


def damaged(nsynth, change):
    path = nsynth / "nsynth-train" / "examples.json"
    path.write_text(change(path.read_text()))
    return list(clips(NsynthOptions(nsynth)))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: text[: len(text) // 2], "it breaks off or is damaged at line 1, column"),
        (lambda text: "[1, 2]", "should be a table from note to its fields"),
        (lambda text: text.replace('"pitch"', '"ptich"'), "note bass_synthetic_033-022-050: the field 'pitch'"),
        (lambda text: text.replace('"bass"', '"contrabass"'), "found family 'contrabass', source 'synthetic'"),
        (lambda text: text.replace('"pitch": 22', '"pitch": "low"'), "NSynth's fields were expected, found invalid"),
        (lambda text: text.replace('"pitch": 22', '"pitch": 220'), "found pitch 220, velocity 50"),
        (lambda text: text.replace('"pitch": 22', '"pitch": Infinity'), "NSynth's fields were expected, found cannot"),
        (lambda text: "[" * 100_000, "cannot be read"),
    ],
)
def test_a_damaged_table_is_said_with_its_place(nsynth, change, words):
    with pytest.raises(DataError, match=words):
        damaged(nsynth, change)


def test_recordings_not_unpacked(nsynth):
    (nsynth / "nsynth-train" / "audio").rename(nsynth / "nsynth-train" / "sound")
    with pytest.raises(DataError, match=r"recordings were expected in .*nsynth-train/audio \(No such file"):
        list(clips(NsynthOptions(nsynth)))


def test_equal_notes_are_dropped_by_name_and_shared_instruments_told(nsynth, tmp_path):
    test, training = nsynth / "nsynth-test" / "audio", nsynth / "nsynth-train" / "audio"
    shutil.copy(test / "brass_acoustic_046-084-025.wav", test / "organ_electronic_007-040-050.wav")
    shutil.copy(test / "brass_acoustic_046-084-025.wav", training / "guitar_acoustic_014-064-127.wav")
    pack = write_pack(clips(NsynthOptions(nsynth)), tmp_path / "pack", processes=1)
    assert [pack.info.splits[split]["clips"] for split in ("train", "validation", "test")] == [2, 3, 2]
    rejected = read_rejected(pack.folder)
    assert sorted((row.recording, row.reason) for row in rejected) == [
        ("nsynth-test/audio/organ_electronic_007-040-050.wav", f"{SAME_SOUND}nsynth/brass_acoustic_046-084-025"),
        ("nsynth-train/audio/guitar_acoustic_014-064-127.wav", f"{SAME_SOUND}nsynth/brass_acoustic_046-084-025"),
    ]
    leaks = {leak.what: leak for leak in find_leaks(pack.manifest, rejected)}
    assert leaks["group"].examples == ("nsynth/string_acoustic_012",)
    kept = write_pack(clips(NsynthOptions(nsynth)), tmp_path / "kept", processes=1, duplicates="keep")
    assert kept.info.splits["test"]["clips"] == 3


def test_a_link_to_nowhere_is_one_reject(nsynth, tmp_path):
    path = nsynth / "nsynth-train" / "audio" / "guitar_acoustic_014-064-127.wav"
    path.unlink()
    path.symlink_to(tmp_path / "nowhere")
    pack = write_pack(clips(NsynthOptions(nsynth)), tmp_path / "pack", processes=1, max_reject_share=0.5)
    assert [row.recording for row in read_rejected(pack.folder)] == [
        "nsynth-train/audio/guitar_acoustic_014-064-127.wav"
    ]

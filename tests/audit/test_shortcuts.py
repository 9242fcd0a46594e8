"""Embeddings that hold what they should not, and ones that do not."""

import dataclasses

import numpy as np
import pytest

from audit.embeddings import write_embeddings
from audit.neighbours import Neighbours
from audit.shortcuts import find_shortcuts
from data.pack import Pack
from data.writer import write_pack


@pytest.fixture(scope="module")
def two_sources(make_clips, tmp_path_factory) -> Pack:
    """160 clips of two data sets, four a recording and group, at several levels."""
    clips = []
    for number, clip in enumerate(make_clips(160)):
        audio = dataclasses.replace(clip.audio, amplitude=0.02 * (1 + number % 23))
        name = "first" if number % 8 < 4 else "second"
        fields = {"id": f"{name}/{number}", "source": name, "group": f"{name}/{number // 4}", "audio": audio}
        clips.append(dataclasses.replace(clip, recording=f"{number // 4}", **fields))
    return write_pack(clips, tmp_path_factory.mktemp("packs") / "two", processes=1)


def found_in(pack: Pack, vectors: np.ndarray, nearest: np.ndarray, folder) -> dict:
    neighbours = Neighbours(np.ones((len(pack), 1), np.float32), nearest[:, None])
    shortcuts, notes = find_shortcuts(write_embeddings(folder / "embeddings", vectors, pack), neighbours)
    assert notes == []
    return {one.name: one for one in shortcuts}


def test_what_the_embedding_holds_is_found(two_sources, tmp_path):
    pitch = np.array([-1 if value is None else value for value in two_sources.column("pitch")])
    is_first = two_sources.column("source") == "first"
    columns = [pitch / 128, two_sources.column("rms_dbfs") / 30, is_first, np.ones(160)]
    noise = np.random.default_rng(0).normal(size=(160, 4)) * 0.01
    vectors = np.concatenate([np.stack(columns, axis=1), noise], axis=1).astype(np.float32)
    nearest = np.arange(160) ^ 1  # its partner in the recording
    found = found_in(two_sources, vectors, nearest, tmp_path)
    assert list(found) == ["pitch", "loudness", "source", "recording"]
    assert found["pitch"].value > 0.8
    assert found["pitch"].clips == (pitch >= 0).sum()
    assert found["loudness"].value > 0.8
    assert (found["source"].value, found["source"].chance) == (1.0, 0.5)
    assert found["source"].measure == "balanced_accuracy"
    assert (found["recording"].value, found["recording"].chance) == (
        pytest.approx(1.0),
        pytest.approx(3 / 159),
    )
    assert all(one.explanation.endswith(".") for one in found.values())


def test_what_it_does_not_hold_is_at_chance(two_sources, tmp_path):
    vectors = np.random.default_rng(0).normal(size=(160, 8)).astype(np.float32)
    found = found_in(two_sources, vectors, (np.arange(160) + 80) % 160, tmp_path)
    assert abs(found["pitch"].value) < 0.2
    assert abs(found["loudness"].value) < 0.2
    assert abs(found["source"].value - 0.5) < 0.15
    assert found["recording"].value == 0


def test_labels_alone_are_told(two_sources, tmp_path):
    vectors = np.random.default_rng(0).normal(size=(160, 8)).astype(np.float32)
    found = found_in(two_sources, vectors, np.arange(160) ^ 1, tmp_path)
    assert "the labels alone would explain 0." in found["pitch"].explanation
    assert "with the same labels would be in 0.0" in found["recording"].explanation


def test_what_cannot_be_measured_is_said(toy_pack, make_clips, tmp_path):
    small = write_pack(make_clips(12), tmp_path / "small", processes=1)
    vectors = np.random.default_rng(0).normal(size=(12, 8)).astype(np.float32)
    neighbours = Neighbours(np.ones((12, 1), np.float32), np.zeros((12, 1), np.int64))
    shortcuts, notes = find_shortcuts(write_embeddings(tmp_path / "embeddings", vectors, small), neighbours)
    assert shortcuts == []
    assert [note.partition(":")[0] for note in notes] == ["pitch", "loudness", "source", "recording"]

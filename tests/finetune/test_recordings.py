"""Which recordings a command line names."""

from pathlib import Path

import pytest

from finetune.recordings import find_recordings


@pytest.fixture
def folder(tmp_path) -> Path:
    for name in ("b/x.wav", "a.MP3", "b/x.mp3", "notes.txt", ".hidden.wav", ".git/y.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"sound")
    return tmp_path


def test_a_folder_is_walked(folder):
    found = find_recordings([folder])
    assert {str(path.relative_to(folder)): str(name) for path, name in found.recordings.items()} == {
        name: name for name in ("a.MP3", "b/x.mp3", "b/x.wav")
    }
    assert found.failures == []


def test_nothing_is_heard_twice_and_no_link_is_followed_in_circles(folder):
    (folder / "b/loop").symlink_to(folder)
    (folder / "c.wav").symlink_to(folder / "b/x.wav")
    found = find_recordings([folder / "a.MP3", folder, folder / "b" / "x.wav"])
    assert [path.name for path in found.recordings] == ["a.MP3", "c.wav", "x.mp3"]
    assert found.num_repeated == 3  # a.MP3 in the folder, b/x.wav in it, and by its name


def test_names_differ_where_paths_do(folder):
    (folder / "d").mkdir()
    (folder / "d/x.wav").write_bytes(b"other")
    found = find_recordings([folder / "b/x.wav", folder / "d/x.wav"])
    assert [str(name) for name in found.recordings.values()] == ["x.wav", "x-2.wav"]


def test_a_file_that_is_named_counts_and_what_holds_none_is_said(folder):
    (folder / "empty").mkdir()
    found = find_recordings([folder / "notes.txt", folder / "missing.wav", folder / "empty"])
    assert [path.name for path in found.recordings] == ["notes.txt", "missing.wav"]
    assert [(path.name, "none found" in reason) for path, reason in found.failures] == [("empty", True)]

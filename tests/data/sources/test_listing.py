"""What is listed of a folder."""

import pytest

from data.errors import DataError
from data.sources.listing import folders, sizes


def test_files_by_ending_sorted_with_their_bytes(tmp_path):
    for name, content in (("b.wav", "12"), ("a.wav", "123"), ("a.txt", ""), ("._a.wav", "x"), ("c.ogg", "x")):
        (tmp_path / name).write_text(content)
    (tmp_path / "nowhere.wav").symlink_to(tmp_path / "missing")
    assert list(sizes(tmp_path, ".wav").items()) == [("a.wav", 3), ("b.wav", 2), ("nowhere.wav", 0)]
    assert list(sizes(tmp_path, ".txt", ".ogg")) == ["a.txt", "c.ogg"]


def test_folders_sorted_without_what_a_mac_adds(tmp_path):
    for name in ("b", "a", ".hidden", "__MACOSX"):
        (tmp_path / name).mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "linked").symlink_to(tmp_path / "a")
    assert [path.name for path in folders(tmp_path)] == ["a", "b", "linked"]


@pytest.mark.parametrize("listed", [sizes, folders])
def test_no_such_folder(tmp_path, listed):
    with pytest.raises(DataError, match=r"expected .* \(No such file or directory\)"):
        listed(tmp_path / "nowhere")

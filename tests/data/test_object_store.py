"""Files on stores: parts, sizes, and one sentence for everything that goes wrong."""

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from data import object_store
from data.errors import DataError
from data.object_store import RemoteFolder, Span, is_url


@pytest.fixture
def folder() -> RemoteFolder:
    files, root = fsspec.filesystem("memory"), "/folder"
    files.pipe({f"{root}/a.bin": bytes(range(100)), f"{root}/b.bin": b"hello"})
    yield RemoteFolder(f"memory:/{root}")
    files.rm(root, recursive=True)


@pytest.mark.parametrize("place", ["s3://bucket/pack", "gs://b", "memory://x", "file:///mnt/x", "S3a+b.c-d://x"])
def test_urls_are_urls(place):
    assert is_url(place)


@pytest.mark.parametrize("place", ["packs/gm", "/mnt/packs", "s3:/bucket", "~/packs", "C:\\packs", "./a://b", "://x"])
def test_paths_are_not(place):
    assert not is_url(place)


def test_whole_files_parts_and_sizes(folder):
    assert folder.read("b.bin") == b"hello"
    parts = folder.ranges([Span("a.bin", 90, 100), Span("b.bin", 1, 3), Span("a.bin", 0, 2)])
    assert parts == [bytes(range(90, 100)), b"el", b"\x00\x01"]
    assert folder.sizes() == {"a.bin": 100, "b.bin": 5}


def test_what_is_gone_or_shorter_is_named(folder):
    with pytest.raises(FileNotFoundError):
        folder.read("c.bin")
    with pytest.raises(DataError, match=r"memory://.*/c\.bin is gone; copy the pack there again$"):
        folder.ranges([Span("c.bin", 0, 1)])
    with pytest.raises(DataError, match=r"a\.bin should hold 101 bytes or more and holds 100; copy"):
        folder.ranges([Span("a.bin", 90, 101)])
    assert RemoteFolder("memory://nowhere").sizes() is None


def test_a_store_that_fails_for_a_while_is_asked_again(folder, monkeypatch):
    monkeypatch.setattr(object_store, "PAUSES", (0.0, 0.0))
    asked, cat = [], MemoryFileSystem.cat_file

    def fail_twice(self, *arguments, **options):
        asked.append(arguments)
        if len(asked) < 3:
            raise TimeoutError("the network is away")
        return cat(self, *arguments, **options)

    monkeypatch.setattr(MemoryFileSystem, "cat_file", fail_twice)
    assert folder.read("b.bin") == b"hello"
    assert len(asked) == 3


@pytest.mark.parametrize(("error", "attempts"), [(TimeoutError("away\nmore"), 3), (PermissionError("Forbidden"), 1)])
def test_a_store_that_refuses_ends_with_a_sentence(folder, monkeypatch, error, attempts):
    monkeypatch.setattr(object_store, "PAUSES", (0.0, 0.0))
    asked = []

    def refuse(*_, **__):
        asked.append(1)
        raise error

    monkeypatch.setattr(MemoryFileSystem, "cat_file", refuse)
    words = str(error).splitlines()[0]
    with pytest.raises(DataError, match=rf"b\.bin cannot be read \({words}\); check the network and your credentials"):
        folder.ranges([Span("b.bin", 0, 1)])
    assert len(asked) == attempts


def test_an_unknown_store_is_named():
    with pytest.raises(DataError, match=r"nostore://x cannot be read \(.*nostore.*pip install 'luthier\[remote\]'"):
        RemoteFolder("nostore://x").read("pack.json")

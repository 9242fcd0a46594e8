"""A bounded cache: what is kept, what is removed, who fetches."""

import errno
import multiprocessing
import os
import threading
import time

import numpy as np
import pytest
from filelock import FileLock

from data.block_cache import BlockCache, cache_folder
from data.errors import DataError

BYTES = 1000


def content(number: int) -> bytes:
    return np.full(BYTES // 2, number, "<i2").tobytes()


@pytest.fixture
def cache(tmp_path) -> BlockCache:
    return BlockCache(tmp_path / "cache", 3 * BYTES)


def fetch(cache: BlockCache, number: int, **options) -> np.ndarray | None:
    return cache.fetch(cache.root / "pack" / f"block_{number}.i16", BYTES, lambda: content(number), **options)


def cached(cache: BlockCache) -> list[int]:
    return sorted(int(path.stem[6:]) for path in cache.root.glob("*/*.i16"))


def age(cache: BlockCache, number: int, seconds: float) -> None:
    path = cache.root / "pack" / f"block_{number}.i16"
    os.utime(path, (time.time() - seconds,) * 2)


def test_a_file_is_fetched_once(cache):
    assert cache.find(cache.root / "pack" / "block_0.i16", BYTES) is None
    assert (fetch(cache, 0) == 0).all()
    path = cache.root / "pack" / "block_0.i16"
    assert (cache.fetch(path, BYTES, lambda: pytest.fail("it is there")) == 0).all()
    assert not list(cache.root.glob("*/*.part"))


def test_what_was_touched_longest_ago_makes_room(cache):
    for number in range(3):
        fetch(cache, number)
        age(cache, number, 100 - number)
    cache.touch([cache.root / "pack" / "block_0.i16", cache.root / "pack" / "no_such_file.i16"])
    fetch(cache, 3)
    assert cached(cache) == [0, 2, 3]
    kept = fetch(cache, 2)
    age(cache, 0, 90)
    other = BlockCache(cache.root, 2 * BYTES)
    other.fetch(cache.root / "another_pack" / "block_7.i16", BYTES, lambda: content(7))
    assert len(cached(cache)) == 2
    assert (kept == 2).all()  # mapped, wherever its file is


def test_a_file_of_another_size_is_fetched_again(cache):
    path = cache.root / "pack" / "block_0.i16"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"half")
    assert (fetch(cache, 0) == 0).all()


def test_a_download_that_fails_leaves_nothing(cache):
    def fail() -> bytes:
        raise DataError("the network is away")

    with pytest.raises(DataError, match="the network is away"):
        cache.fetch(cache.root / "pack" / "block_0.i16", BYTES, fail)
    assert [path.name for path in cache.root.glob("*/*")] == ["block_0.i16.lock"]


def test_a_full_disk_is_a_sentence(cache, monkeypatch):
    def refuse(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(DataError, match=r"cannot write .*block_0\.i16 \(No space left.*free some room"):
        fetch(cache, 0)
    assert cached(cache) == []


def test_what_a_killed_process_left_makes_room(cache):
    folder = cache.root / "pack"
    folder.mkdir(parents=True)
    for number in (0, 1):  # one of another file, one of the file that is fetched
        (folder / f"block_{number}.i16.part").write_bytes(bytes(3 * BYTES))
    assert (fetch(cache, 0) == 0).all()
    assert not list(folder.glob("*.part"))


def test_others_wait_or_go_on(cache):
    began, may_end = threading.Event(), threading.Event()

    def slowly() -> bytes:
        began.set()
        may_end.wait(10)
        return content(0)

    path = cache.root / "pack" / "block_0.i16"
    first = threading.Thread(target=cache.fetch, args=(path, BYTES, slowly))
    first.start()
    began.wait(10)
    assert fetch(cache, 0, waits=False) is None
    assert (fetch(cache, 1) == 1).all()
    may_end.set()
    assert (cache.fetch(path, BYTES, lambda: pytest.fail("another fetched it")) == 0).all()
    first.join()


def read_at_random(cache: BlockCache, seed: int, counts) -> None:
    draw = np.random.default_rng(seed)
    try:
        for number in draw.integers(8, size=40).tolist():

            def download(number: int = number) -> bytes:
                counts.put(number)
                return content(number)

            sound = cache.fetch(cache.root / "pack" / f"block_{number}.i16", BYTES, download)
            assert (sound == number).all()
            with FileLock(cache.root / ".lock"):  # or another would remove what is being looked at
                assert sum(path.stat().st_size for path in cache.root.glob("*/*.i16")) <= cache.max_bytes
    finally:
        counts.put(-1)


def test_processes_share_it_without_races(cache):
    context = multiprocessing.get_context("fork")
    counts = context.SimpleQueue()
    processes = [context.Process(target=read_at_random, args=(cache, seed, counts)) for seed in range(3)]
    for process in processes:
        process.start()
    fetched, ended = [], 0
    while ended < 3:
        found = counts.get()
        ended += found < 0
        fetched += [found] if found >= 0 else []
    for process in processes:
        process.join(30)
        assert process.exitcode == 0
    assert set(fetched) == set(range(8))
    assert len(fetched) < 120  # most were found, some had been removed
    assert len(cached(cache)) <= 3
    assert not list(cache.root.glob("*/*.part"))


def test_where_it_lies(monkeypatch, tmp_path):
    monkeypatch.setenv("LUTHIER_CACHE", str(tmp_path / "here"))
    assert cache_folder() == tmp_path / "here"
    monkeypatch.delenv("LUTHIER_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "luthier"

"""Packs that lie on object stores: what is read is what the same pack on this machine holds."""

import json
import multiprocessing
import pickle
import shutil
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import fsspec
import numpy as np
import pytest

import data.describe
import data.pack
import data.relabel
from data import object_store
from data.ahead import windows_of
from data.errors import DataError
from data.loader import TrainBatches
from data.mixing import Mixing
from data.object_store import RemoteFolder
from data.pack import INFO_NAME, Pack
from data.remote import RemotePack
from data.sampler import GlobalOrder, Share

BLOCK = 40_000
"""Bytes; the toy pack has eight shards and some sixty of these."""
SMALL = 400_000 / 2**30
"""GiB, of a cache that holds ten blocks or so."""
CROP = 6000


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    """An empty cache, small blocks, and no patience with stores that fail."""
    monkeypatch.setenv("LUTHIER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(data.pack, "BLOCK_BYTES", BLOCK)
    monkeypatch.setattr(object_store, "PAUSES", ())
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def s3():
    """An S3 server on this machine; URLs that begin with s3:// are read from it."""
    import boto3  # both take seconds, and most tests do without
    from moto.server import ThreadedMotoServer

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = ThreadedMotoServer("127.0.0.1", port, verbose=False)
    server.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "me")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        client = boto3.client("s3")
        client.create_bucket(Bucket="sounds")
        yield client
    server.stop()


@pytest.fixture
def upload(toy_pack, tmp_path, request) -> Callable[[str], str]:
    """``upload(store)`` copies the toy pack to a store and returns its URL there."""

    def copy(store: str) -> str:
        if store == "s3":
            client = request.getfixturevalue("s3")
            for path in toy_pack.folder.iterdir():
                if path.is_file():
                    client.upload_file(str(path), "sounds", f"packs/toy/{path.name}")
            return "s3://sounds/packs/toy"
        if store == "file":
            return f"file://{shutil.copytree(toy_pack.folder, tmp_path / 'mounted' / 'toy')}"
        files = fsspec.filesystem("memory")
        files.store.clear()
        for path in toy_pack.folder.iterdir():
            if path.is_file():
                files.pipe(f"/packs/toy/{path.name}", path.read_bytes())
        return "memory://packs/toy"

    return copy


@pytest.fixture
def asked(monkeypatch) -> list[tuple[str, int]]:
    """Name and bytes of every part that was fetched, by this process."""
    found, ranges = [], RemoteFolder.ranges
    others = set(threading.enumerate()) - {threading.current_thread()}  # which may still read ahead for another test

    def count(self, spans):
        if threading.current_thread() not in others:
            found.extend((span.name, span.stop - span.start) for span in spans)
        return ranges(self, spans)

    monkeypatch.setattr(RemoteFolder, "ranges", count)
    return found


def batches(pack: Pack, shuffle_blocks: int | None = None, mixing: Mixing | None = None) -> TrainBatches:
    rows = pack.rows("train")
    order = GlobalOrder(len(rows), 8, 5, windows_of(pack, rows, shuffle_blocks))
    return TrainBatches(pack, rows, order, Share(0, 1), CROP, mixing=mixing)


def assert_alike(first: TrainBatches, second: TrainBatches, begin: int, end: int, num_workers: int = 0) -> None:
    count = 0
    for one, other in zip(first.loader(begin, end, 0), second.loader(begin, end, num_workers), strict=True):
        assert one.rows.equal(other.rows)
        assert one.waveform.equal(other.waveform)
        assert one.keys.equal(other.keys)
        assert one.partners is None or one.partners.waveform.equal(other.partners.waveform)
        count += 1
    assert count == end - begin


@pytest.mark.parametrize("store", ["memory", "file"])
def test_a_pack_by_its_url_is_the_pack(store, upload, toy_pack, cache):
    pack = Pack.open(upload(store))
    assert isinstance(pack, RemotePack)
    assert pack.info == toy_pack.info
    assert (pack.fingerprint, pack.sound_fingerprint) == (toy_pack.fingerprint, toy_pack.sound_fingerprint)
    assert pack.manifest.equals(toy_pack.manifest)
    assert pack.folder.is_relative_to(cache)
    assert pack.place == pack.address == repr(pack).split("'")[1]
    for row in (0, 57, len(pack) - 1):
        assert np.array_equal(pack.samples(row), toy_pack.samples(row))
    pack.verify()


@pytest.mark.parametrize(("cache_gib", "shuffle_blocks"), [(1, None), (1, 3), (SMALL, None), (SMALL, 3)])
def test_batches_are_those_of_the_same_pack_on_this_machine(cache_gib, shuffle_blocks, upload, toy_pack, cache):
    pack = Pack.open(upload("memory"), cache_gib)
    assert pack.fits == (cache_gib == 1)
    local, remote = (batches(one, shuffle_blocks, Mixing(probability=0.5)) for one in (toy_pack, pack))
    steps = local.order.steps_per_epoch
    assert steps > 8
    assert_alike(local, remote, 0, steps + 3)
    assert_alike(local, remote, steps - 2, steps + 2, num_workers=1)  # as a resumed run, in a worker
    assert sum(path.stat().st_size for path in cache.glob("*/*.i16")) <= pack.cache.max_bytes


def test_a_cache_that_holds_the_pack_fetches_it_once(upload, toy_pack, asked):
    pack = Pack.open(upload("memory"))
    assert_alike(batches(toy_pack), batches(pack), 0, 30)
    pack.verify()
    assert sum(size for _, size in asked) == sum(pack.info.shard_bytes)
    asked.clear()
    assert_alike(batches(toy_pack), batches(Pack.open(pack.place)), 0, 5)
    assert asked == []


def test_windows_read_a_larger_pack_once_an_epoch(upload, toy_pack, asked):
    pack = Pack.open(upload("memory"), SMALL)
    local, remote = batches(toy_pack, 3), batches(pack, 3)
    assert_alike(local, remote, 0, 2 * local.order.steps_per_epoch)
    of_split = pack.blocks.num_bytes[np.unique(pack.blocks.of_clip[pack.rows("train")])].sum()
    fetched = sum(size for _, size in asked) / of_split
    rows = np.concatenate([local.rows[local.order.batch(step)] for step in range(local.order.steps_per_epoch)])
    read = 2 * int(pack.num_samples[rows].sum())
    # All that the first epoch reads, at least; how much the second still finds depends on who was faster.
    assert read / of_split <= fetched < 2.3


def test_clips_of_no_planned_block_are_fetched_alone(upload, toy_pack, asked, cache):
    pack = Pack.open(upload("memory"), SMALL)
    assert_alike(batches(toy_pack), batches(pack), 0, 4)
    rows = np.concatenate([batches(toy_pack).order.batch(step) for step in range(4)])
    assert sorted(size for _, size in asked) == sorted(2 * toy_pack.num_samples[toy_pack.rows("train")[rows]])
    assert not list(cache.glob("*/*.i16"))


def test_too_many_blocks_or_too_small_a_cache_are_refused(upload):
    pack = Pack.open(upload("memory"), SMALL)
    with pytest.raises(DataError, match=r"--shuffle_blocks 6 should leave room for two windows"):
        windows_of(pack, pack.rows("train"), 6)
    with pytest.raises(DataError, match=r"should hold a block of .* GiB of memory://packs/toy; give a larger"):
        Pack.open(pack.place, 1000 / 2**30)


def test_it_can_be_sent_to_another_process(upload, toy_pack):
    sent = pickle.loads(pickle.dumps(batches(Pack.open(upload("file")))))
    assert_alike(batches(toy_pack), sent, 2, 4)


def damage(url: str, name: str, change: Callable[[bytes], bytes | None]) -> None:
    files, path = fsspec.filesystem("memory"), url.removeprefix("memory:/") + f"/{name}"
    changed = change(files.cat_file(path))
    files.rm(path)
    if changed is not None:
        files.pipe(path, changed)


def flipped(content: bytes) -> bytes:
    """With a bit of every tenth part turned, so that any clip is hit."""
    changed = bytearray(content)
    for place in range(len(content) // 20, len(content), len(content) // 10):
        changed[place] ^= 1
    return bytes(changed)


DAMAGE = {"gone": lambda _: None, "shorter": lambda content: content[:-2], "changed": flipped}


@pytest.mark.parametrize("cache_gib", [1, SMALL])
@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("gone", r"shard_00000\.i16( or another of \d files)? is gone; copy the pack there again$"),
        ("shorter", r"shard_00000\.i16 should hold \d+ bytes or more and holds \d+; copy the pack there again$"),
        ("changed", r"shard_00000\.i16 is not what was written, its clip toy/\d+ has changed; copy the pack there"),
    ],
    ids=DAMAGE,
)
def test_a_shard_that_is_spoilt_while_it_is_read_ends_with_a_sentence(kind, words, cache_gib, upload):
    pack = Pack.open(upload("memory"), cache_gib)
    damage(pack.place, "shard_00000.i16", DAMAGE[kind])
    with pytest.raises(DataError, match=words):
        for _ in batches(pack).loader(0, 60, int(kind == "gone")):
            pass
    assert not multiprocessing.active_children(), "a worker that stays keeps the process from ending"


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("shard_00001.i16", "gone", r"toy/shard_00001\.i16 should hold \d+ bytes and is missing; copy"),
        ("shard_00001.i16", "shorter", r"toy/shard_00001\.i16 should hold \d+ bytes and holds \d+; copy"),
        ("pack.json", "gone", r"a pack was expected at memory://packs/toy, none found; copy one there"),
        ("manifest.parquet", "gone", r"toy/manifest\.parquet is missing; copy the pack there again"),
        ("manifest.parquet", "changed", r"toy/manifest\.parquet is not what was written; copy the pack there again"),
        ("codes.arrow", "changed", r"toy/codes\.arrow is not what was written; copy the pack there again"),
    ],
)
def test_a_spoilt_pack_is_not_opened(name, kind, words, upload):
    url = upload("memory")
    damage(url, name, DAMAGE[kind])
    with pytest.raises(DataError, match=words):
        Pack.open(url)


def test_a_pack_that_was_replaced_is_another_one(upload, toy_pack):
    first = Pack.open(upload("memory"))
    damage(first.place, INFO_NAME, lambda content: content.replace(b'"toy"', b'"new"'))
    second = Pack.open(first.place)
    assert second.folder != first.folder
    assert second.info.name != first.info.name or second.info.sources != first.info.sources
    assert np.array_equal(second.samples(3), toy_pack.samples(3))


def test_verify_mends_the_cache_and_finds_what_is_damaged(upload, toy_pack):
    pack = Pack.open(upload("memory"))
    pack.verify()
    block = pack.folder / "block_00000_000000000000.i16"
    block.write_bytes(flipped(block.read_bytes()))
    pack.verify()
    assert np.array_equal(Pack.open(pack.place).samples(0), toy_pack.samples(0))
    block.unlink()
    damage(pack.place, "shard_00000.i16", flipped)
    with pytest.raises(DataError, match=r"shard_00000\.i16 is not what was written"):
        pack.verify()


def test_batches_from_s3(upload, toy_pack, cache, monkeypatch):
    monkeypatch.setattr(data.pack, "BLOCK_BYTES", 64 << 20)  # a shard each
    pack = Pack.open(upload("s3"), 3 * SMALL)
    assert not pack.fits
    assert pack.address == "s3://sounds/packs/toy"
    local, remote = batches(Pack.open(toy_pack.folder), 1), batches(pack, 1)
    assert_alike(local, remote, 0, 6)
    assert_alike(local, remote, 4, 8, num_workers=1)
    assert 0 < sum(path.stat().st_size for path in cache.glob("*/*.i16")) <= pack.cache.max_bytes
    first = Pack.open(pack.place, 3 * SMALL)  # nothing is planned: what is not in the cache comes alone
    assert all(np.array_equal(first.samples(row), toy_pack.samples(row)) for row in range(0, len(first), 15))


def test_s3_without_a_pack_is_a_sentence(s3):
    with pytest.raises(DataError, match=r"a pack was expected at s3://sounds/nothing, none found"):
        Pack.open("s3://sounds/nothing")
    with pytest.raises(DataError, match=r"a pack was expected at s3://nobody/toy, none found"):
        Pack.open("s3://nobody/toy")


def test_commands_take_urls(upload, toy_pack, capsys, tmp_path):
    url = upload("memory")
    assert data.describe.main([url, "--verify", "--json", "--out", str(tmp_path)]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["folder"] == url
    assert said["clips"] == len(toy_pack)
    assert (tmp_path / "describe.png").is_file()
    assert data.relabel.main([url, "corrections.csv"]) == 2
    assert "a pack on this machine was expected, memory://packs/toy is none" in capsys.readouterr().err

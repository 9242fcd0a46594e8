"""The manifest in numbers: what is derived, mapped, and found out of date."""

import json
import os
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from data import codes as module
from data.clip import Labels, LabelSet
from data.codes import CODES_NAME, INSTRUMENTS, Codes, write_codes
from data.errors import DataError
from data.pack import Pack
from data.writer import write_pack


@pytest.fixture(scope="module")
def pack(make_clips, tmp_path_factory) -> Pack:
    """Sixty clips of ten kinds of labels, in three splits."""
    labels = [
        Labels(
            is_instrument=None if kind % 5 == 4 else kind % 2 == 0,
            instrument=LabelSet(INSTRUMENTS[kind : kind + kind % 3], INSTRUMENTS[20:22], complete=kind == 7),
            genre=LabelSet(("klezmer",) if kind == 3 else ()),
            timbre=None if kind == 0 else f"timbre_{9 - kind}",
            pitch=None if kind == 2 else 40 + kind,
            relevance=((INSTRUMENTS[50], kind / 8), (INSTRUMENTS[3], 1.0)) if kind in (5, 6) else (),
        )
        for kind in range(10)
    ]
    clips = [replace(clip, labels=labels[number % 10]) for number, clip in enumerate(make_clips(60))]
    return write_pack(clips, tmp_path_factory.mktemp("codes") / "pack", processes=1)


@pytest.fixture
def folder(pack, tmp_path):
    """A copy without the sound."""
    for name in (CODES_NAME, "manifest.parquet", "pack.json"):
        (tmp_path / name).write_bytes((pack.folder / name).read_bytes())
    return tmp_path


def mapped(folder) -> Codes | None:
    info = json.loads((folder / "pack.json").read_text())
    return Codes.mapped(folder, info["codes_checksum"], info["manifest_checksum"])


def assert_equal(one: Codes, other: Codes):
    assert one.names == other.names
    assert one.timbre_names == other.timbre_names
    for found, expected in ((one.columns, other.columns), (one.sets, other.sets)):
        assert found.keys() == expected.keys()
        for name in found:
            assert found[name].dtype == expected[name].dtype
            np.testing.assert_array_equal(found[name], expected[name])


def test_what_is_mapped_is_what_the_manifest_says(pack, folder):
    codes = mapped(folder)
    for name in ("shard", "offset", "num_samples"):
        np.testing.assert_array_equal(codes.columns[name], pack.column(name))
    for name in ("is_instrument", "pitch", "is_weak"):
        assert codes.columns[name].tolist() == [-1 if value is None else value for value in pack.column(name)]
    assert codes.timbre_names == tuple(f"timbre_{kind}" for kind in range(9))
    timbres = [-1 if value is None else codes.timbre_names.index(value) for value in pack.column("timbre")]
    assert codes.columns["timbre"].tolist() == timbres
    assert [("train", "validation", "test")[split] for split in codes.columns["split"]] == list(pack.column("split"))
    assert codes.names["relevance"] == (INSTRUMENTS[3], INSTRUMENTS[50])
    assert len(codes.sets["relevance"]) == 3
    assert len(codes.sets["instrument"]) <= 10


def test_it_lies_in_the_file_and_cannot_be_changed(folder):
    codes = mapped(folder)
    size = (folder / CODES_NAME).stat().st_size
    arrays = [*codes.columns.values(), *codes.sets.values()]
    with open("/proc/self/maps") as maps:
        found = [line.split()[0].split("-") for line in maps if line.rstrip().endswith(os.fspath(folder / CODES_NAME))]
    start, end = int(found[0][0], 16), int(found[0][1], 16)
    assert end - start >= size
    for array in arrays:
        assert start <= array.ctypes.data < end
        assert not array.flags.writeable


def test_batches_of_any_size_give_the_same(pack, monkeypatch):
    whole = Codes.derived(pack._batches, "x")
    monkeypatch.setattr("data.pack.ROWS_AT_ONCE", 7)
    assert_equal(Codes.derived(pack._batches, "x"), whole)
    assert_equal(whole, pack.codes)


def test_the_same_bytes_from_a_manifest_in_memory(pack, folder, monkeypatch):
    before = (folder / CODES_NAME).read_bytes()
    monkeypatch.setattr(module, "ROWS_AT_ONCE", 13)
    manifest = pa.concat_tables([pack.manifest.slice(0, 17), pack.manifest.slice(17)])
    checksum = write_codes(folder, manifest, pack.info.manifest_checksum)
    assert checksum == pack.info.codes_checksum
    assert (folder / CODES_NAME).read_bytes() == before


@pytest.mark.parametrize(
    "damage", ["gone", "cut", "flipped", "of another manifest", "of another taxonomy", "of another layout"]
)
def test_what_is_not_right_is_not_used(pack, folder, damage, monkeypatch):
    path = folder / CODES_NAME
    content = bytearray(path.read_bytes())
    if damage == "gone":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(content[:-100])
    elif damage == "flipped":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif damage == "of another manifest":
        info = json.loads((folder / "pack.json").read_text()) | {"manifest_checksum": "0"}
        (folder / "pack.json").write_text(json.dumps(info))
    elif damage == "of another layout":
        monkeypatch.setattr(module, "_VERSION", 2)
    else:
        monkeypatch.setattr(module, "INSTRUMENTS", (*INSTRUMENTS[:40], "theremin", *INSTRUMENTS[40:]))
    assert mapped(folder) is None
    opened = Pack(folder, pack.info)
    if damage == "of another taxonomy":
        sets = opened.codes.sets["instrument"]
        assert (np.delete(sets, 40, axis=1)[opened.codes.columns["instrument"]] == pack.codes.sets["instrument"][
            pack.codes.columns["instrument"]]).all()  # fmt: skip
    else:
        assert_equal(Pack(folder, pack.info).codes, pack.codes)


@pytest.mark.parametrize("damage", ["gone", "flipped"])
def test_verify_names_it(pack, copied_pack, damage):
    path = copied_pack / CODES_NAME
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert len(Pack.open(copied_pack)) == 120  # it is derived again
    with pytest.raises(DataError, match=r"codes\.arrow is not what was written; copy the pack again"):
        Pack.open(copied_pack).verify()

"""Reading packs, whole and damaged."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.codes import write_codes
from data.errors import DataError
from data.files import checksum_of
from data.pack import Pack


def test_what_is_written_is_read(toy_pack, make_tone):
    assert len(toy_pack) == 120
    assert toy_pack.column("id")[7] == "toy/0007"
    samples = toy_pack.samples(7)
    np.testing.assert_allclose(samples / 32768, make_tone(0.57, 270), atol=1 / 32768)
    assert samples.dtype == np.int16
    assert not samples.flags.writeable
    assert toy_pack.shard.dtype == np.int32
    assert toy_pack.offset.dtype == toy_pack.num_samples.dtype == np.int64
    toy_pack.verify()


def test_clips_lie_one_behind_the_other(toy_pack):
    for shard, size in enumerate(toy_pack.info.shard_bytes):
        rows = np.flatnonzero(toy_pack.shard == shard)
        ends = np.cumsum(toy_pack.num_samples[rows])
        np.testing.assert_array_equal(toy_pack.offset[rows], ends - toy_pack.num_samples[rows])
        assert 2 * ends[-1] == size


def test_columns_tell_unknown_from_nothing(toy_pack):
    assert list(toy_pack.column("is_instrument")[:3]) == [True, True, None]
    assert list(toy_pack.column("family_present")[:3]) == [("string",), ("brass",), ()]
    assert list(toy_pack.column("family_complete")[:3]) == [True, True, False]
    assert list(toy_pack.column("instrument_present")[:2]) == [(), ()]
    assert toy_pack.column("pitch")[:3].tolist() == [0, 1, None]
    assert toy_pack.column("num_samples").dtype == np.int64
    stored = pq.read_table(toy_pack.folder / "manifest.parquet").slice(0, 3).to_pydict()
    assert stored["family_present"] == [["string"], ["brass"], None]
    assert stored["drums"] == [None, None, None]
    with pytest.raises(DataError, match="no column 'familly'"):
        toy_pack.column("familly")


def test_splits_share_the_rows_and_no_group(toy_pack):
    rows = {split: toy_pack.rows(split) for split in ("train", "validation", "test")}
    assert sorted(np.concatenate(list(rows.values()))) == list(range(120))
    groups = [set(toy_pack.column("group")[found]) for found in rows.values()]
    assert not groups[0] & groups[1] | groups[0] & groups[2] | groups[1] & groups[2]
    assert all(np.all(np.diff(found) > 0) for found in rows.values())
    assert len(rows["train"]) == toy_pack.info.splits["train"]["clips"] > 60


def test_crops_are_padded_behind_short_clips(toy_pack):
    rows = np.array([3, 100, 3, 55])
    starts = np.array([0, 100, 4000, 10**6])
    out = np.full((4, 9000), 7, np.int16)
    toy_pack.read_crops(rows, starts, 9000, out)
    for row, start, crop in zip(rows, starts, out, strict=True):
        expected = toy_pack.samples(row)[start : start + 9000]
        np.testing.assert_array_equal(crop[: len(expected)], expected)
        assert not crop[len(expected) :].any()
    with pytest.raises(ValueError, match="sample 0 or later"):
        toy_pack.read_crops(rows, starts - 1, 9000, out)


def test_a_pack_crosses_to_another_process_by_its_path(toy_pack):
    toy_pack.samples(0)  # mapped: must not travel
    sent = pickle.dumps(toy_pack)
    assert len(sent) < 1000
    received = pickle.loads(sent)
    np.testing.assert_array_equal(received.samples(11), toy_pack.samples(11))
    assert received.fingerprint == toy_pack.fingerprint


def test_a_flipped_bit_of_sound_is_found_and_named(copied_pack):
    shard = copied_pack / "shard_00002.i16"
    content = bytearray(shard.read_bytes())
    content[5] ^= 1
    shard.write_bytes(content)
    with pytest.raises(DataError, match=r"1 of 120 clips .* toy/0032 in shard_00002\.i16"):
        Pack.open(copied_pack).verify()


def test_a_flipped_byte_of_the_manifest_is_found(copied_pack):
    manifest = copied_pack / "manifest.parquet"
    content = bytearray(manifest.read_bytes())
    content[20] ^= 1
    manifest.write_bytes(content)
    with pytest.raises(DataError, match="manifest"):
        Pack.open(copied_pack).verify()


def test_a_damaged_footer_is_an_error_on_opening(copied_pack):
    (copied_pack / "manifest.parquet").write_bytes(b"PAR1 and nothing else")
    with pytest.raises(DataError, match="cannot be read as a manifest"):
        Pack.open(copied_pack)


def change_info(folder, **values):
    path = folder / "pack.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: change_info(folder, version=99), "version 99, this code reads version 2"),
        (lambda folder: change_info(folder, colour="red"), "misses or adds the keys colour"),
        (lambda folder: change_info(folder, num_clips=7), "should hold 7 clips and holds 120"),
        (lambda folder: (folder / "pack.json").write_text('{"version": 1'), "does not describe a pack"),
        (lambda folder: (folder / "pack.json").write_text("[]"), "does not describe a pack"),
        (lambda folder: (folder / "pack.json").unlink(), "a pack was expected at .* other folder found"),
        (
            lambda folder: (folder / "shard_00001.i16").unlink(),
            r"shard_00001\.i16 should hold \d+ bytes and is missing",
        ),
        (lambda folder: (folder / "shard_00001.i16").write_bytes(b"ab"), r"should hold \d+ bytes and holds 2;"),
    ],
)
def test_damage_is_said_on_opening(copied_pack, damage, words):
    damage(copied_pack)
    with pytest.raises(DataError, match=words):
        Pack.open(copied_pack)


def forge(folder: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    """Changes the manifest and makes its checksum right, which takes no secret."""
    path = folder / "manifest.parquet"
    pq.write_table(change(pq.read_table(path)), path)
    change_info(folder, manifest_checksum=checksum_of(path.read_bytes()))


def setting(column: str, row: int, value: object) -> Callable[[pa.Table], pa.Table]:
    """Sets one value of a manifest."""

    def change(table: pa.Table) -> pa.Table:
        values = table[column].to_pylist()
        values[row] = value
        place = table.schema.get_field_index(column)
        return table.set_column(place, table.schema.field(column), pa.array(values, table.schema.field(column).type))

    return change


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("shard", 99), ("shard", 8), ("shard", -1), ("shard", None),
        ("offset", -1), ("offset", -(2**63)), ("offset", 10**12), ("offset", 2**63 - 1), ("offset", None),
        ("num_samples", 10**12), ("num_samples", 2**63 - 1), ("num_samples", -1), ("num_samples", 0),
        ("num_samples", None),
    ],
)  # fmt: skip
def test_a_manifest_that_points_outside_its_shards_is_refused(copied_pack, column, value):
    assert len(Pack.open(copied_pack).info.shard_bytes) == 8
    forge(copied_pack, setting(column, 63, value))
    with pytest.raises(DataError, match=r"clip should lie inside the shards of .*, 1 do not: the first, row 63, "):
        Pack.open(copied_pack)


def test_the_last_sample_of_a_shard_is_inside_and_the_next_is_not(copied_pack):
    pack = Pack.open(copied_pack)
    row = int(np.flatnonzero(pack.shard == 3)[-1])
    size = int(pack.num_samples[row])
    assert 2 * (int(pack.offset[row]) + size) == pack.info.shard_bytes[3]
    forge(copied_pack, setting("num_samples", row, size + 1))
    with pytest.raises(DataError, match=f"row {row}, has {size + 1} samples"):
        Pack.open(copied_pack)
    forge(copied_pack, setting("num_samples", row, size))
    np.testing.assert_array_equal(Pack.open(copied_pack).samples(row), pack.samples(row))


@pytest.mark.parametrize("path", ["/etc/passwd", "../secret.wav", "a/../../b.wav", "a/..", "..", "a/../b\n.wav"])
def test_recordings_outside_their_source_are_refused(copied_pack, path):
    forge(copied_pack, setting("recording", 77, path))
    with pytest.raises(DataError, match=r"path inside its source, row 77 of .*; trust this pack no further"):
        Pack.open(copied_pack)


@pytest.mark.parametrize("path", ["..a/b..wav", "a/...", "gm/program 3", "a\n..b", "C:..\\..", "", None])
def test_recordings_of_odd_names_are_not(copied_pack, path):
    forge(copied_pack, setting("recording", 77, path))
    assert len(Pack.open(copied_pack)) == 120


def test_a_place_in_the_codes_is_checked_as_well(copied_pack):
    """Whoever reads sound asks the codes, so a manifest that is right does not vouch for them."""
    right = Pack.open(copied_pack)
    offset = right.offset.copy()
    offset[5] = 10**9
    manifest = right.manifest.set_column(right.manifest.column_names.index("offset"), "offset", pa.array(offset))
    forged = write_codes(copied_pack, manifest, right.info.manifest_checksum)
    change_info(copied_pack, codes_checksum=forged)
    with pytest.raises(DataError, match="row 5, has"):
        Pack.open(copied_pack)


@pytest.mark.parametrize("name", ["shard_00001.i16", "manifest.parquet"])
def test_a_link_out_of_the_pack_is_refused_and_one_inside_is_not(copied_pack, tmp_path, name):
    (copied_pack / name).rename(tmp_path / name)
    (copied_pack / name).symlink_to(tmp_path / name)
    with pytest.raises(DataError, match=rf"below .* expected, '{name}' leads out of it"):
        Pack.open(copied_pack)
    (copied_pack / name).unlink()
    (tmp_path / name).rename(copied_pack / "elsewhere")
    (copied_pack / name).symlink_to("elsewhere")
    assert len(Pack.open(copied_pack)) == 120
    (tmp_path / "link").symlink_to(copied_pack)
    assert len(Pack.open(tmp_path / "link")) == 120


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda table: table.drop_columns("offset"), "should hold a column offset of int64"),
        (lambda table: table.set_column(8, "offset", table["id"]), "should hold a column "),
        (lambda table: table.slice(0, 119), "should hold 120 clips and holds 119"),
        (lambda table: table.slice(0, 0), "should hold clips and holds none"),
    ],
)
def test_a_manifest_of_another_shape_is_refused(copied_pack, change, words):
    forge(copied_pack, change)
    with pytest.raises(DataError, match=words):
        Pack.open(copied_pack)


def test_a_column_that_the_user_added_can_be_read(copied_pack):
    forge(copied_pack, lambda table: table.append_column("mood", pa.array(range(120))))
    assert Pack.open(copied_pack).column("mood").tolist() == list(range(120))


def test_half_written_and_absent_packs(tmp_path):
    with pytest.raises(DataError, match=r"no such folder found; make one with python -m data.prepare"):
        Pack.open(tmp_path / "nowhere")
    (tmp_path / "half" / ".partial").mkdir(parents=True)
    with pytest.raises(DataError, match="is half written; run the command"):
        Pack.open(tmp_path / "half")

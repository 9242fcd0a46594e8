"""Reading packs, whole and damaged."""

import json
import pickle

import numpy as np
import pyarrow.parquet as pq
import pytest

from data.errors import DataError
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


def test_half_written_and_absent_packs(tmp_path):
    with pytest.raises(DataError, match=r"no such folder found; make one with python -m data.prepare"):
        Pack.open(tmp_path / "nowhere")
    (tmp_path / "half" / ".partial").mkdir(parents=True)
    with pytest.raises(DataError, match="is half written; run the command"):
        Pack.open(tmp_path / "half")

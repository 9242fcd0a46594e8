"""Embeddings on the disk: what is written is read, and what does not belong to them is refused."""

import json
import shutil

import numpy as np
import pytest

from audit.embedder import Embedder
from audit.embeddings import Embeddings, write_embeddings
from audit.errors import AuditError
from checkpoints.weights import load_backbone, save_backbone
from data.labels import LabelTable
from data.pack import Pack
from data.relabel import read_corrections, relabel
from data.taxonomy import FAMILIES
from data.writer import write_pack


@pytest.fixture
def vectors(toy_pack) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((len(toy_pack), 6)).astype(np.float32)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_what_is_written_is_read(toy_pack, vectors, tmp_path, dtype):
    parts = (part for part in np.array_split(vectors, 7))
    written = write_embeddings(tmp_path / "e", parts, toy_pack, dtype=dtype, backbone="ast", layers=(1, 2))
    found = Embeddings.open(tmp_path / "e")
    assert isinstance(found.vectors, np.memmap)
    assert found.vectors.dtype == dtype
    assert found.vectors.flags["C_CONTIGUOUS"]
    np.testing.assert_array_equal(found.vectors, vectors.astype(dtype))
    assert found.info == written.info
    assert (found.info.count, found.info.width, found.info.layers) == (120, 6, [1, 2])
    assert found.pack.folder == toy_pack.folder.resolve()
    assert sorted(path.name for path in (tmp_path / "e").iterdir()) == ["embeddings.json", "vectors.npy"]
    found.check_finite()


def test_unit_vectors_are_copies_of_length_one(toy_pack, vectors, tmp_path):
    vectors[3] = 0
    found = write_embeddings(tmp_path, vectors, toy_pack, dtype="float16")
    unit = found.unit(np.array([5, 3, 5]))
    assert unit.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), [1, 0, 1], rtol=1e-6)
    np.testing.assert_allclose(unit[0], vectors[5] / np.linalg.norm(vectors[5]), atol=1e-3)
    unit[:] = 9
    assert found.unit().shape == (120, 6)
    assert found.unit().max() <= 1


def test_vectors_without_a_direction_are_named(toy_pack, vectors, tmp_path):
    vectors[[7, 30, 31, 90]] = [[np.nan], [0], [np.inf], [0]]
    found = write_embeddings(tmp_path, vectors, toy_pack)
    with pytest.raises(AuditError, match=r"4 of 120 in .*: toy/0007, toy/0030, toy/0031 and 1 more; embed with"):
        found.check_finite()


def test_every_clip_needs_a_vector(toy_pack, vectors, tmp_path):
    for wrong in (vectors[:-1], np.concatenate([vectors, vectors])):
        with pytest.raises(ValueError, match="a vector for each of 120 clips was expected"):
            write_embeddings(tmp_path / "e", wrong, toy_pack)
    with pytest.raises(ValueError, match="vectors of length 6 were expected"):
        write_embeddings(tmp_path / "e", [vectors[:60], vectors[60:, :5]], toy_pack)
    with pytest.raises(ValueError, match="float32 or float16, not int8"):
        write_embeddings(tmp_path / "e", vectors, toy_pack, dtype="int8")
    assert list((tmp_path / "e").iterdir()) == []


def test_new_embeddings_take_the_place_of_old_ones_and_leave_the_rest(toy_pack, vectors, tmp_path):
    write_embeddings(tmp_path, vectors, toy_pack)
    (tmp_path / "index-exact").mkdir()
    write_embeddings(tmp_path, 2 * vectors[:, :3], toy_pack)
    np.testing.assert_array_equal(Embeddings.open(tmp_path).vectors, 2 * vectors[:, :3])
    assert (tmp_path / "index-exact").is_dir()


def test_what_is_none_gets_one_sentence(toy_pack, vectors, tmp_path):
    with pytest.raises(AuditError, match=r"no such folder found; make some with python -m audit\.embed"):
        Embeddings.open(tmp_path / "nowhere")
    with pytest.raises(AuditError, match=r"a folder without embeddings\.json found"):
        Embeddings.open(tmp_path)
    (tmp_path / ".partial").mkdir()
    with pytest.raises(AuditError, match="is not finished"):
        Embeddings.open(tmp_path)
    write_embeddings(tmp_path, vectors, toy_pack)
    info = tmp_path / "embeddings.json"
    values = json.loads(info.read_text())
    for text, sentence in (
        ("[]", "does not describe embeddings"),
        ("{", "does not describe embeddings"),
        (json.dumps(values | {"version": 9}), "of version 9, this code reads version 1"),
        (json.dumps({name: value for name, value in values.items() if name != "width"}), "the keys width"),
    ):
        info.write_text(text)
        with pytest.raises(AuditError, match=sentence):
            Embeddings.open(tmp_path)


def test_damaged_vectors_are_refused(toy_pack, vectors, tmp_path):
    write_embeddings(tmp_path, vectors, toy_pack)
    file = tmp_path / "vectors.npy"
    whole = file.read_bytes()
    for damaged in (whole[:-4] + b"abcd", whole[:-4], b"", b"no array"):
        file.write_bytes(damaged)
        with pytest.raises(AuditError, match=r"vectors\.npy (is not what was written|cannot be read)"):
            Embeddings.open(tmp_path)
    np.save(file, np.array([object()]), allow_pickle=True)
    with pytest.raises(AuditError, match="cannot be read as vectors"):
        Embeddings.open(tmp_path)
    file.unlink()
    with pytest.raises(AuditError, match="cannot be read as vectors"):
        Embeddings.open(tmp_path)


def test_corrected_labels_leave_embeddings_good(copied_pack, vectors, tmp_path):
    write_embeddings(tmp_path / "e", vectors, Pack.open(copied_pack))
    (tmp_path / "corrections.csv").write_text("clip,level,correction\ntoy/0000,family,flute\n")
    relabel(Pack.open(copied_pack), read_corrections(tmp_path / "corrections.csv"))
    assert LabelTable(Embeddings.open(tmp_path / "e").pack).column("family")[0, FAMILIES.index("flute")] == 1


def test_a_pack_that_moved_is_found_and_another_one_refused(toy_pack, copied_pack, make_clips, vectors, tmp_path):
    write_embeddings(tmp_path / "e", vectors, toy_pack)
    assert Embeddings.open(tmp_path / "e", copied_pack).pack.folder == copied_pack
    other = write_pack(make_clips(120, amplitude=0.4), tmp_path / "other", processes=1, seed=1)
    with pytest.raises(AuditError, match=r"is not the pack that .* was made of, or has changed since"):
        Embeddings.open(tmp_path / "e", other.folder)
    for gone in (tmp_path / "gone", "x" * 5000):
        with pytest.raises(AuditError, match=r"embeddings of the pack .*, which is not there"):
            Embeddings.open(tmp_path / "e", gone)


def made_by(run, pack, folder) -> Embeddings:
    embedder = Embedder.load(run)
    return write_embeddings(
        folder, embedder.of_rows(pack, np.arange(len(pack))), pack, run=str(run), backbone=embedder.kind,
        backbone_checksum=embedder.checksum, num_samples=embedder.num_samples,
    )  # fmt: skip


def test_a_sound_is_embedded_as_the_clips_were(small_run, toy_pack, tmp_path):
    made_by(small_run, toy_pack, tmp_path)
    found = Embeddings.open(tmp_path)
    embedder = found.embedder()
    assert embedder.width == found.info.width == 32
    for row in (0, 49, 119):
        sound = toy_pack.samples(row).astype(np.float32) / 32_768
        np.testing.assert_allclose(embedder(sound), found.vectors[row], atol=1e-5)


def test_embeddings_in_a_run_move_with_it(small_run, toy_pack, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(small_run, run)
    made_by(run, toy_pack, run / "embeddings" / "toy")
    moved = run.rename(tmp_path / "moved")
    assert Embeddings.open(moved / "embeddings" / "toy").embedder().kind == "ast"


def test_another_model_and_no_model_are_refused(small_run, toy_pack, vectors, tmp_path):
    write_embeddings(tmp_path / "e", vectors, toy_pack)
    with pytest.raises(AuditError, match="names no run that made its vectors"):
        Embeddings.open(tmp_path / "e").embedder()
    run = tmp_path / "run"
    shutil.copytree(small_run, run)
    made_by(run, toy_pack, tmp_path / "e")
    backbone = load_backbone(run / "backbone")
    backbone.ast.layernorm.bias.data += 1e-3
    save_backbone(backbone, run / "backbone")
    with pytest.raises(AuditError, match=r"is not the model that made .* have changed since"):
        Embeddings.open(tmp_path / "e").embedder()

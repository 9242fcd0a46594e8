"""Indices on the disk: what they find, what they say of it, and what they refuse."""

import dataclasses
import importlib
import json
import shutil

import numpy as np
import pytest

from audit import index as module
from audit.embeddings import Embeddings, write_embeddings
from audit.errors import AuditError
from audit.index import ERRORS, Index, build_index, main
from audit.kinds import KINDS, PARAMETERS
from checkpoints.config import run_command
from data.writer import write_pack

COUNT, WIDTH = 120, 16


def vectors_of(count: int, width: int = WIDTH, seed: int = 0) -> np.ndarray:
    """Twelve clusters of vectors of any length."""
    generator = np.random.default_rng(seed)
    centres = 2 * generator.standard_normal((12, width))
    return (centres[np.arange(count) % 12] + generator.standard_normal((count, width))).astype(np.float32)


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
    """Measures speed by a single search."""
    monkeypatch.setattr("audit.recall.SECONDS", 0.0)


@pytest.fixture(autouse=True, scope="module")
def change_faiss():
    """As pytorch-metric-learning does when it is imported: FAISS's search is replaced by one without parameters."""
    importlib.import_module("faiss.contrib.torch_utils")


@pytest.fixture
def embeddings(toy_pack, tmp_path) -> Embeddings:
    return write_embeddings(tmp_path / "toy", vectors_of(COUNT), toy_pack, backbone_checksum="abc")


@pytest.fixture(scope="module")
def large_embeddings(make_clips, tmp_path_factory) -> Embeddings:
    """Enough for every kind to learn from."""
    folder = tmp_path_factory.mktemp("large")
    clips = [dataclasses.replace(clip, audio=clip.audio.__class__(clip.audio.hz, 0.03)) for clip in make_clips(700)]
    pack = write_pack(clips, folder / "pack", processes=1, seed=1, min_seconds=0.01)
    return write_embeddings(folder / "embeddings", vectors_of(700), pack)


def nearest_slowly(unit: np.ndarray, queries: np.ndarray, k: int) -> np.ndarray:
    return np.argsort(-(queries @ unit.T), axis=1, kind="stable")[:, :k]


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_kept_and_finds_what_it_says(large_embeddings, kind, shards, tmp_path):
    folder = tmp_path / "index"
    built = build_index(large_embeddings, folder, kind, shards)
    parts = ["index.faiss"] if shards == 1 else [f"index_{number:05d}.faiss" for number in range(shards)]
    assert sorted(file.name for file in folder.iterdir()) == sorted(["index.json", *parts])
    index = Index.open(folder)
    assert index.info == built.info
    assert set(index.info.parameters) == set(KINDS[kind].names)
    unit, rows = large_embeddings.unit(), np.arange(0, 700, 7)
    similarity, found = index.search(unit[rows], 10)
    assert (similarity.dtype, found.dtype, similarity.shape, found.shape) == (
        np.float32,
        np.int64,
        (100, 10),
        (100, 10),
    )
    np.testing.assert_allclose(similarity, np.einsum("qe,qke->qk", unit[rows], unit[found]), atol=1e-5)
    expected = nearest_slowly(unit, unit[rows], 10)
    recall = np.mean([len(set(one) & set(other)) / 10 for one, other in zip(found, expected, strict=True)])
    assert recall == pytest.approx(index.info.recall_at_10, abs=0.03)
    assert index.info.recall_at_10 > 0.95
    assert min(index.info.queries_per_s, index.info.exact_queries_per_s) > 0
    again = built.search(unit[rows], 10)
    np.testing.assert_array_equal(again[1], found)


def test_exact_search_is_exact(large_embeddings, tmp_path):
    index = build_index(large_embeddings, tmp_path / "index")
    unit = large_embeddings.unit()
    np.testing.assert_array_equal(index.search(unit, 20)[1], nearest_slowly(unit, unit, 20))
    assert index.info.recall_at_10 == 1
    assert (index.info.kind, index.info.parameters, index.info.metric) == ("exact", {}, "cosine")


def test_an_index_that_finds_little_says_so(large_embeddings, tmp_path):
    index = build_index(large_embeddings, tmp_path / "index", "ivf", nlist=100, nprobe=1)
    unit = large_embeddings.unit()
    found, expected = index.search(unit, 11)[1], nearest_slowly(unit, unit, 11)
    hits = [len({*one} & {*other} - {row}) / 10 for row, (one, other) in enumerate(zip(found, expected, strict=True))]
    assert index.info.recall_at_10 == pytest.approx(np.mean(hits), abs=0.05)
    assert index.info.recall_at_10 < 0.6
    assert index.info.parameters == {"nlist": 100, "nprobe": 1}
    assert (found[:, -1] == -1).any()


def test_codes_tell_embeddings_of_a_narrow_cone_apart(large_embeddings, tmp_path):
    vectors = 20 + vectors_of(700)
    narrow = write_embeddings(tmp_path / "narrow", vectors, large_embeddings.pack)
    assert (narrow.unit() @ narrow.unit().T).min() > 0.97
    assert build_index(narrow, tmp_path / "index", "ivfpq", refine=8).info.recall_at_10 > 0.95


def test_search_parameters_reach_the_recall_asked_for(large_embeddings, tmp_path):
    probes = []
    for recall in (0.5, 0.8, 0.999):
        info = build_index(large_embeddings, tmp_path / str(recall), "ivf", recall=recall, nlist=64).info
        assert info.recall_at_10 > recall - 0.05
        probes.append(info.parameters["nprobe"])
    assert probes[0] < probes[1] < probes[2]


def test_an_index_moves_with_its_embeddings(embeddings, tmp_path):
    build_index(embeddings, embeddings.folder / "index-exact")
    moved = embeddings.folder.rename(tmp_path / "moved")
    index = Index.open(moved / "index-exact")
    assert index.info.embeddings == ".."
    assert index.embeddings.folder.resolve() == moved.resolve()
    assert len(index) == COUNT


def test_an_index_elsewhere_finds_its_embeddings(embeddings, tmp_path, monkeypatch):
    build_index(embeddings, tmp_path / "deep" / "index")
    monkeypatch.chdir(tmp_path / "deep")
    assert Index.open("index").embeddings.folder == embeddings.folder


def test_an_index_is_replaced_by_another(embeddings, tmp_path):
    build_index(embeddings, tmp_path / "index", shards=3)
    build_index(embeddings, tmp_path / "index", "sq8")
    assert sorted(file.name for file in (tmp_path / "index").iterdir()) == ["index.faiss", "index.json"]
    assert Index.open(tmp_path / "index").info.kind == "sq8"


def test_nothing_is_left_of_an_index_that_failed(embeddings, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "samples_of", lambda vectors: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        build_index(embeddings, tmp_path / "index")
    assert [file.name for file in tmp_path.iterdir()] == ["toy"]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"kind": "ivfpq"}, "--kind ivfpq learns from 624 clips or more, 120 found"),
        ({"kind": "hnsw", "nprobe": 3}, "--nprobe is nothing that --kind hnsw knows, it has --hnsw_m"),
        ({"kind": "exact", "nprobe": 3}, "it has no parameters"),
        ({"kind": "ivf", "nlist": 121}, "--nlist should be at most the number of clips, 120, 121 found"),
        ({"kind": "ivf", "nlist": 3, "nprobe": 4}, "--nprobe should be at most --nlist, 3, 4 found"),
        ({"kind": "ivf", "nprobe": 0}, "--nprobe should be 1 or more, 0 found"),
        ({"kind": "hnsw", "hnsw_m": 1}, "--hnsw_m should be 2 or more, 1 found"),
        ({"kind": "lsh"}, "the kind should be one of exact, hnsw, ivf, ivfpq, sq8, 'lsh' found"),
        ({"recall": 0.0}, r"--recall should lie in \(0, 1\], 0.0 found"),
        ({"shards": 121}, "--shards should lie in 1 to 120"),
    ],
)
def test_settings_that_cannot_be(embeddings, tmp_path, settings, says):
    with pytest.raises((AuditError, ValueError), match=says):
        build_index(embeddings, tmp_path / "index", **settings)
    assert not (tmp_path / "index").exists()


def test_codes_have_to_divide_an_embedding(large_embeddings, tmp_path):
    with pytest.raises(AuditError, match="--subspaces should divide the size of embeddings, 16, 5 found"):
        build_index(large_embeddings, tmp_path / "index", "ivfpq", subspaces=5)


@pytest.mark.parametrize("value", [np.nan, 0.0])
def test_vectors_without_a_direction_are_refused(toy_pack, tmp_path, value):
    vectors = vectors_of(COUNT)
    vectors[7] = value
    with pytest.raises(AuditError, match=r"1 of 120 .*: toy/0007;"):
        build_index(write_embeddings(tmp_path / "toy", vectors, toy_pack), tmp_path / "index")


def test_whatever_else_is_in_a_folder_stays(embeddings):
    with pytest.raises(AuditError, match="is there already and is no index"):
        build_index(embeddings, embeddings.folder)
    with pytest.raises(AuditError, match=r"a folder was expected at .*vectors\.npy, a file found"):
        build_index(embeddings, embeddings.folder / "vectors.npy")
    assert Embeddings.open(embeddings.folder).info == embeddings.info


def test_queries_have_to_fit(embeddings, tmp_path):
    index = build_index(embeddings, tmp_path / "index")
    with pytest.raises(AuditError, match=r"embeddings of 16 numbers, an array of shape \(1, 15\) found"):
        index.search(np.ones((1, 15), np.float32), 1)
    with pytest.raises(AuditError, match="holds 120 clips, k of 121 found"):
        index.search(np.ones((1, WIDTH), np.float32), 121)
    with pytest.raises(ValueError, match="1 or more, 0 found"):
        index.search(np.ones((1, WIDTH), np.float32), 0)
    assert index.search(np.empty((0, WIDTH), np.float32), 3)[1].shape == (0, 3)


@pytest.mark.parametrize(
    ("vectors", "checksum", "says"),
    [
        (vectors_of(COUNT, 12), "abc", "embeddings of 16 numbers, .* has 12"),
        (vectors_of(COUNT, seed=1), "def", "embeddings of another model"),
        (vectors_of(COUNT, seed=1), "abc", "embeddings that have changed since"),
    ],
)
def test_embeddings_that_changed_are_told_apart(embeddings, toy_pack, tmp_path, vectors, checksum, says):
    build_index(embeddings, tmp_path / "index")
    write_embeddings(embeddings.folder, vectors, toy_pack, backbone_checksum=checksum)
    with pytest.raises(AuditError, match=f"is an index of {says}.*; make it again"):
        Index.open(tmp_path / "index")


def without_end(folder):
    file = folder / "index.faiss"
    file.write_bytes(file.read_bytes()[:1000])


def with_a_flipped_bit(folder):
    file = folder / "index.faiss"
    content = bytearray(file.read_bytes())
    content[-5] ^= 1  # of the last vector
    file.write_bytes(content)


def with_info(**values):
    def change(folder):
        file = folder / "index.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | values))

    return change


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (with_a_flipped_bit, "misses a part, or one is damaged"),
        (lambda folder: (folder / "index.faiss").write_bytes(b""), "misses a part, or one is damaged"),
        (with_info(files=[]), "an index without files"),
        (without_end, "misses a part, or one is damaged"),
        (lambda folder: (folder / "index.faiss").unlink(), "misses a part, or one is damaged"),
        (lambda folder: (folder / "index.faiss").write_bytes(b"nothing"), "misses a part, or one is damaged"),
        (lambda folder: (folder / "index.json").unlink(), "a folder without index.json found"),
        (lambda folder: (folder / "index.json").write_text("{"), "does not describe an index"),
        (shutil.rmtree, "no such folder found; make one with python -m audit.index"),
        (with_info(version=0), "an index of version 0, this code reads version 2"),
        (with_info(more=0), "misses or adds the keys more"),
        (with_info(count=119), "should hold 119 clips of 16 numbers, 120 of 16 found"),
        (with_info(embeddings="gone"), "embeddings were expected at .*gone"),
    ],
)
def test_what_is_no_index_is_refused(embeddings, tmp_path, damage, says):
    folder = tmp_path / "index"
    build_index(embeddings, folder)
    damage(folder)
    with pytest.raises(AuditError, match=says):
        Index.open(folder)


def test_the_command_writes_beside_the_embeddings(embeddings, capsys):
    main([str(embeddings.folder), "--kind", "hnsw", "--hnsw_m", "8"])
    said = capsys.readouterr().out
    assert "hnsw_m 8, ef_construction 64, ef_search" in said
    assert "of the 10 nearest, of 60 clips" in said
    index = Index.open(embeddings.folder / "index-hnsw")
    assert f"recall   {index.info.recall_at_10:.3f}" in said
    assert f"speed    {index.info.queries_per_s:.0f} queries/s" in said


def test_the_command_warns_of_little_recall(embeddings, capsys):
    main([str(embeddings.folder), "--kind", "ivf", "--nlist", "40", "--nprobe", "1"])
    assert "recall is below 0.98; more of nprobe raises it" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["nowhere"], ["{}", "--kind", "ivf", "--nlist", "1000"], ["{}", "--out", "{}"]])
def test_bad_input_ends_with_a_sentence(embeddings, arguments, capsys):
    arguments = [argument.format(embeddings.folder) for argument in arguments]
    with pytest.raises(SystemExit) as stopped:
        run_command(lambda: main(arguments), ERRORS)
    assert stopped.value.code == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    assert "found" in error or "choose" in error


def test_every_parameter_has_a_kind():
    assert set(PARAMETERS) == {name for kind in KINDS.values() for name in kind.names}

"""Embeddings and indices from somebody else."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from audit.embeddings import INFO_NAME, VECTORS_NAME, Embeddings, write_embeddings
from audit.index import INFO_NAME as INDEX_INFO_NAME
from audit.index import Index, build_index


@pytest.fixture(scope="session")
def embedded(toy_pack, tmp_path_factory) -> Path:
    """Embeddings of nobody's, and an index in them."""
    folder = tmp_path_factory.mktemp("embedded") / "embeddings"
    vectors = np.random.default_rng(0).standard_normal((len(toy_pack), 8)).astype(np.float32)
    build_index(write_embeddings(folder, vectors, toy_pack), folder / "index-exact")
    return folder


def _search(folder: Path) -> None:
    index = Index.open(folder / "index-exact")
    index.search(index.embeddings.unit(slice(3)), 5)
    assert f"{index.embeddings!r} {index.info.recall_at_10:.3f} {index.info.queries_per_s:.0f}"


@pytest.mark.parametrize("name", [INFO_NAME, VECTORS_NAME])
def test_embeddings(attack, damaged, damaged_json, embedded, tmp_path, name):
    folder = Path(shutil.copytree(embedded, tmp_path / "embeddings"))
    file = folder / name

    def read() -> None:
        embeddings = Embeddings.open(folder)
        embeddings.unit()
        embeddings.check_finite()
        assert f"{embeddings!r}{embeddings.run}"

    cases = damaged_json if file.suffix == ".json" else damaged
    attack(cases(file.read_bytes()), file.write_bytes, read)


def test_what_describes_an_index(attack, damaged_json, embedded, tmp_path):
    folder = Path(shutil.copytree(embedded, tmp_path / "embeddings"))
    file = folder / "index-exact" / INDEX_INFO_NAME
    attack(damaged_json(file.read_bytes()), file.write_bytes, lambda: _search(folder))


def test_indices(attack, damaged, embedded, tmp_path):
    folder = Path(shutil.copytree(embedded, tmp_path / "embeddings"))
    file = folder / "index-exact" / "index.faiss"
    attack(damaged(file.read_bytes()), file.write_bytes, lambda: _search(folder))

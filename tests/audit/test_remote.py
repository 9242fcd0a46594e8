"""An audit of a pack that lies at a URL."""

import fsspec
import numpy as np

from audit.embeddings import Embeddings, write_embeddings
from data.pack import Pack


def test_embeddings_find_their_pack_at_its_url(toy_pack, tmp_path, monkeypatch):
    monkeypatch.setenv("LUTHIER_CACHE", str(tmp_path / "cache"))
    files = fsspec.filesystem("memory")
    for path in toy_pack.folder.iterdir():
        if path.is_file():
            files.pipe(f"/audited/toy/{path.name}", path.read_bytes())
    pack = Pack.open("memory://audited/toy")
    vectors = np.random.default_rng(0).standard_normal((len(pack), 8)).astype(np.float32)
    written = write_embeddings(tmp_path / "embeddings", vectors, pack)
    assert written.info.pack == "memory://audited/toy"
    found = Embeddings.open(tmp_path / "embeddings")
    assert found.pack.place == "memory://audited/toy"
    assert np.array_equal(found.pack.samples(5), toy_pack.samples(5))
    assert Embeddings.open(tmp_path / "embeddings", toy_pack.folder).pack.place == str(toy_pack.folder)

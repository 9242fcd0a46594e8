"""What the benchmark of search searches in, and that its candidates find the same."""

import faiss
import numpy as np
import torch

from audit.exact import nearest
from benchmarks.search import UnitVectors, approximate_candidates, clusters, enlarged, products, stock


def test_enlarged_embeddings_are_among_their_neighbours():
    unit = clusters(300, 16)
    more = enlarged(unit, 2000)
    assert more.shape == (2000, 16)
    np.testing.assert_array_equal(more[:300], unit)
    np.testing.assert_allclose(np.linalg.norm(more, axis=1), 1, atol=1e-5)
    to_nearest = nearest(more[300:], [unit], 1)[0][:, 0]
    between = np.sort(unit @ unit.T, axis=1)[:, -2]
    assert to_nearest.max() < 1 - 1e-5  # none is a copy
    assert np.median(to_nearest) > np.median(between)  # and none a stranger


def test_the_floor_is_the_product_of_all_with_all():
    unit = torch.from_numpy(clusters(50, 8))
    out = torch.empty(50 * 50)
    products(unit, unit, out)
    torch.testing.assert_close(out.view(50, 50), unit @ unit.T)


def test_stock_search_leaves_no_trace():
    flat = faiss.IndexFlatIP(8)
    flat.add(clusters(50, 8))
    before = faiss.cvar.distance_compute_blas_threshold
    stock(flat, clusters(5, 8))
    assert faiss.cvar.distance_compute_blas_threshold == before == 20


def test_every_kind_is_made_and_measured(tmp_path):
    calls, about = approximate_candidates(clusters(2000, 16), tmp_path)
    assert set(about) == {"exact", "hnsw", "ivf", "ivfpq", "sq8"}
    assert set(calls) == {*about, "IndexFlatIP as it comes"}
    assert all(recall > 0.95 for _, recall, _ in about.values())
    for call in calls.values():
        call()


def test_unit_vectors_are_what_they_hold():
    vectors = UnitVectors(clusters(10, 4))
    assert len(vectors) == 10
    np.testing.assert_array_equal(vectors.unit(slice(2, 4)), vectors.all[2:4])

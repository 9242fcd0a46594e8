"""Neighbours against comparing everything by a slow loop, on every kind of index."""

import numpy as np
import pytest

from audit import neighbours as module
from audit.embeddings import write_embeddings
from audit.errors import AuditError
from audit.index import build_index
from audit.neighbours import Neighbours, both_neighbours, neighbours_of_all

COUNT = 120


@pytest.fixture(scope="module")
def embeddings(toy_pack, tmp_path_factory):
    """Clips 3, 40 and 41 sound exactly alike."""
    vectors = np.random.default_rng(0).standard_normal((COUNT, 16)).astype(np.float32)
    vectors[[40, 41]] = 3 * vectors[3]
    return write_embeddings(tmp_path_factory.mktemp("embeddings"), vectors, toy_pack)


@pytest.fixture
def make_index(embeddings, tmp_path, monkeypatch):
    monkeypatch.setattr("audit.recall.SECONDS", 0.0)  # nobody looks at speeds here

    def make(kind, **parameters):
        return build_index(embeddings, tmp_path / "index", kind, **parameters)

    return make


def slowly(embeddings, k: int, group: np.ndarray) -> Neighbours:
    unit = embeddings.unit()
    similarity, rows = np.full((COUNT, k), -np.inf, np.float32), np.full((COUNT, k), -1, np.int64)
    for row in range(COUNT):
        others = [other for other in range(COUNT) if group[other] != group[row]]
        others.sort(key=lambda other: -float(unit[row] @ unit[other]))
        for place, other in enumerate(others[:k]):
            similarity[row, place], rows[row, place] = unit[row] @ unit[other], other
    return Neighbours(similarity, rows)


def assert_same(found: Neighbours, expected: Neighbours) -> None:
    """Equal but for the order of clips that are equally near."""
    np.testing.assert_allclose(found.similarity, expected.similarity, atol=1e-6)
    swapped = found.rows != expected.rows
    assert np.isin(found.rows[swapped], [3, 40, 41]).all()
    assert (found.similarity.dtype, found.rows.dtype) == (np.float32, np.int64)


GROUPS = {
    "interleaved": np.arange(COUNT) % 7,
    "larger than k": np.arange(COUNT) // 50,
    "nearly everything": np.where(np.arange(COUNT) == 5, 99, -4),
}
KINDS = {
    "exact": {},
    "hnsw": {"ef_search": COUNT},
    "ivf": {"nlist": 4, "nprobe": 4},
    "sq8": {"refine": COUNT},
    "exact in shards": {"shards": 3},
    "ivf in shards": {"nlist": 4, "nprobe": 4, "shards": 2},
}


@pytest.mark.parametrize("kind", KINDS)
def test_neighbours_are_those_of_a_slow_loop(make_index, embeddings, kind):
    index = make_index(kind.partition(" ")[0], **KINDS[kind])
    for group in (np.arange(COUNT), *GROUPS.values()):
        everywhere, elsewhere = both_neighbours(index, 10, group)
        assert_same(everywhere, slowly(embeddings, 10, np.arange(COUNT)))
        assert_same(elsewhere, slowly(embeddings, 10, group))
        assert_same(neighbours_of_all(index, 10, group), elsewhere)
    assert_same(neighbours_of_all(index, 10), everywhere)


@pytest.mark.parametrize("kind", ["exact", "sq8"])
def test_a_clip_is_dropped_by_its_row_though_a_duplicate_comes_first(make_index, kind):
    found = neighbours_of_all(make_index(kind), 2)
    for row in (3, 40, 41):
        assert set(found.rows[row]) == {3, 40, 41} - {row}
        np.testing.assert_allclose(found.similarity[row], 1, atol=1e-6)


def test_all_others_may_be_asked_for(make_index):
    rows = neighbours_of_all(make_index("exact"), COUNT - 1).rows
    assert all(sorted([row, *rows[row]]) == list(range(COUNT)) for row in range(COUNT))


def test_an_index_is_asked_in_parts(make_index, embeddings, monkeypatch):
    monkeypatch.setattr(module, "FETCHED", 40)
    group = GROUPS["larger than k"]
    assert_same(neighbours_of_all(make_index("sq8", refine=COUNT), 3, group), slowly(embeddings, 3, group))


def test_what_an_index_does_not_find_is_no_neighbour(make_index, embeddings):
    index = make_index("ivf", nlist=12, nprobe=1)
    found, every = neighbours_of_all(index, 60), slowly(embeddings, 60, np.arange(COUNT))
    assert (found.rows[:, -1] == -1).any()
    assert (np.isneginf(found.similarity) == (found.rows == -1)).all()
    assert (found.similarity[:, 0] <= every.similarity[:, 0] + 1e-6).all()
    for row in range(COUNT):
        there = found.rows[row][found.rows[row] >= 0]
        assert row not in there
        assert len(set(there)) == len(there)


def test_k_and_groups_are_checked(make_index):
    index = make_index("exact")
    with pytest.raises(AuditError, match="a clip of 120 has 119 others, k of 120 found"):
        neighbours_of_all(index, COUNT)
    with pytest.raises(ValueError, match="1 or more, 0 found"):
        neighbours_of_all(index, 0)
    with pytest.raises(ValueError, match="120 clips need as many groups, 3 found"):
        neighbours_of_all(index, 2, np.zeros(3, np.int64))

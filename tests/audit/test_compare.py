"""Two runs over one pack."""

import numpy as np
import pytest

from audit.compare import compare, overlaps
from audit.embeddings import write_embeddings
from audit.errors import AuditError
from audit.findings import Score
from audit.neighbours import Neighbours
from data.writer import write_pack


def neighbours_of(rows: np.ndarray) -> Neighbours:
    similarity = np.where(rows >= 0, np.linspace(0.9, 0.5, rows.shape[1]), -np.inf)
    return Neighbours(similarity.astype(np.float32), rows)


def test_overlap_is_what_two_lists_have_in_common():
    generator = np.random.default_rng(0)
    one = np.stack([generator.permutation(12)[:5] for _ in range(40)])
    other = np.stack([generator.permutation(12)[:4] for _ in range(40)])
    one[3, 2:] = other[7, 1:] = one[9] = -1
    found = overlaps(neighbours_of(one), neighbours_of(other))
    for row in range(40):
        ours, theirs = set(one[row, :4]) - {-1}, set(other[row]) - {-1}
        if row == 9:
            assert np.isnan(found[row])
        else:
            assert found[row] == pytest.approx(len(ours & theirs) / min(len(ours), len(theirs)))


@pytest.fixture
def embeddings(toy_pack, tmp_path):
    vectors = np.random.default_rng(0).normal(size=(len(toy_pack), 3)).astype(np.float32)
    return write_embeddings(tmp_path / "now", vectors, toy_pack, run="runs/now")


def test_clips_whose_neighbours_changed_most_come_first(toy_pack, embeddings, tmp_path):
    before = write_embeddings(tmp_path / "before", np.asarray(embeddings.vectors), toy_pack)
    count = len(toy_pack)
    rows = (np.arange(count)[:, None] + np.array([1, 2])) % count
    old = rows.copy()
    old[4] = 50, 51
    old[8] = 9, 60
    scores = [Score("family", "purity@1", 0.5, 0.4, 0.6, 0.1, 120)]
    found = compare(embeddings, neighbours_of(rows), before, neighbours_of(old), scores)
    ids = toy_pack.column("id")
    assert [(change.clip, change.overlap) for change in found.changes] == [(ids[4], 0.0), (ids[8], 0.5)]
    assert [neighbour.clip for neighbour in found.changes[0].before] == [ids[50], ids[51]]
    assert [neighbour.clip for neighbour in found.changes[0].after] == [ids[5], ids[6]]
    assert found.overlap == pytest.approx((count - 1.5) / count)
    assert found.scores == tuple(scores)
    assert found.run == str(tmp_path / "before")
    assert len(compare(embeddings, neighbours_of(rows), before, neighbours_of(old), scores, most=1).changes) == 1
    assert compare(embeddings, neighbours_of(rows), before, neighbours_of(rows), scores).changes == ()


def test_another_pack_is_refused(make_clips, embeddings, tmp_path):
    pack = write_pack(make_clips(120, amplitude=0.3), tmp_path / "other", processes=1, seed=1)
    before = write_embeddings(tmp_path / "before", np.asarray(embeddings.vectors), pack)
    rows = neighbours_of(np.zeros((120, 1), int))
    with pytest.raises(AuditError, match="compared over the same pack"):
        compare(embeddings, rows, before, rows, [])

"""The map of an embedding."""

import numpy as np
import pytest

from audit.embeddings import Embeddings, write_embeddings
from audit.map import MAP_NAME, layout, map_of, rows_for_map


def clouds(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors in three clouds, and whose each is."""
    random = np.random.default_rng(seed)
    cloud = np.arange(count) % 3
    vectors = random.standard_normal((3, 24))[cloud] + 0.1 * random.standard_normal((count, 24))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), cloud


@pytest.fixture
def embeddings(toy_pack, tmp_path) -> Embeddings:
    return write_embeddings(tmp_path / "embeddings", clouds(len(toy_pack))[0], toy_pack)


def test_a_small_pack_is_shown_whole():
    assert rows_for_map(7, np.array([3]), 0).tolist() == list(range(7))


def test_a_large_pack_is_shown_evenly_and_with_what_was_found():
    always = np.array([5, 6, 7, 8, 9, 99_999, 5])
    rows = rows_for_map(100_000, always, seed=1, most=1000)
    assert 990 <= len(rows) <= 1000
    assert np.array_equal(rows, np.unique(rows))
    assert np.isin(always, rows).all()
    per_tenth = np.bincount(rows // 10_000, minlength=10)
    assert per_tenth.min() >= 97
    assert per_tenth.max() <= 107
    assert np.array_equal(rows, rows_for_map(100_000, always, seed=1, most=1000))
    assert not np.array_equal(rows, rows_for_map(100_000, always, seed=2, most=1000))


def test_what_was_found_never_exceeds_the_map():
    rows = rows_for_map(1000, np.arange(500), seed=0, most=100)
    assert rows.tolist() == list(range(100))


@pytest.mark.slow  # UMAP compiles for ten seconds
def test_a_map_keeps_clouds_apart():
    unit, cloud = clouds(150)
    place = layout(unit, seed=0)
    assert place.dtype == np.float32
    assert place.shape == (150, 2)
    assert place.min() == 0
    assert place.max() == 1
    apart = np.linalg.norm(place[:, None] - place, axis=2)
    np.fill_diagonal(apart, np.inf)
    assert np.mean(cloud[apart.argmin(axis=1)] == cloud) == 1


@pytest.mark.slow
def test_copies_of_a_clip_do_not_confuse_it():
    unit, _ = clouds(60)
    unit[20:40] = unit[0]  # more copies than a point has neighbours on the map
    assert np.isfinite(layout(unit, seed=0)).all()


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_handful_of_clips_is_laid_out_too(count):
    place = layout(clouds(count)[0], seed=0)
    assert place.shape == (count, 2)
    assert np.isfinite(place).all()


def test_equal_vectors_lie_in_one_place():
    assert not layout(np.ones((4, 8), np.float32) / 8**0.5, seed=0).any()


def test_a_map_is_kept_until_something_changes(embeddings, tmp_path):
    rows = np.arange(20)
    first = map_of(embeddings, rows, 0, tmp_path)
    kept = np.load(tmp_path / MAP_NAME, allow_pickle=False)
    np.savez(tmp_path / MAP_NAME, key=kept["key"], place=first + 1)  # so that one sees where a map comes from
    assert np.array_equal(map_of(embeddings, rows, 0, tmp_path), first + 1)
    assert not np.array_equal(map_of(embeddings, rows[::-1], 0, tmp_path), first + 1)
    assert np.array_equal(map_of(embeddings, rows, 0, tmp_path), first)
    assert np.array_equal(map_of(embeddings, rows, 0), first)


def test_a_damaged_map_is_made_anew(embeddings, tmp_path):
    first = map_of(embeddings, np.arange(20), 0, tmp_path)
    (tmp_path / MAP_NAME).write_bytes(b"no map")
    assert np.array_equal(map_of(embeddings, np.arange(20), 0, tmp_path), first)

"""A map of the embedding: clips that are neighbours lie near each other on a plane.

A clip is its row in the manifest. N clips of the pack, M on the map, E embedding size.
"""

import hashlib
import warnings
from pathlib import Path

import faiss
import numpy as np

from audit.embeddings import Embeddings
from checkpoints.files import replacing

MOST_POINTS = 20_000
"""On a map; more can neither be told apart nor be panned without stutter."""
DIMENSIONS = 50
"""That principal components leave: the nearest stay the nearest, at a fraction of the time."""
NEIGHBOURS = 15
"""Of a point that the map keeps near it, itself among them; UMAP's default."""
MAP_NAME = "map.npz"


def rows_for_map(count: int, always: np.ndarray, seed: int, most: int = MOST_POINTS) -> np.ndarray:
    """Chooses the clips of a map: those that must be on it, and others evenly over the pack.

    Args:
        count: N.
        always: int64, rows to be on the map, as those that findings name; the first `most` of them.
        seed: one row of each of as many equal stretches of the manifest is drawn with it.
        most: M at most.

    Returns:
        int64 `(M,)`, rising.
    """
    if count <= most:
        return np.arange(count)
    always = np.unique(always[:most])
    edges = np.linspace(0, count, most + 1)
    drawn = (edges[:-1] + np.random.default_rng(seed).random(most) * np.diff(edges)).astype(np.int64)
    # Those that must be there take the place of others: every step-th of the drawn stays.
    others = np.setdiff1d(drawn, always)
    room = most - len(always)
    kept = others[np.linspace(0, len(others), room, endpoint=False).astype(np.int64)] if room < len(others) else others
    return np.union1d(always, kept)


def map_of(embeddings: Embeddings, rows: np.ndarray, seed: int, cache: Path | None = None) -> np.ndarray:
    """Lays out some clips by UMAP (McInnes et al. 2018, arXiv 1802.03426) of their unit embeddings.

    Args:
        embeddings: of the pack.
        rows: int64 `(M,)`.
        seed: the same rows and seed give the same map on the same machine.
        cache: folder, as that of an index, in which `MAP_NAME` keeps the map; it is taken from there if it is of the
            same embeddings, rows and seed.

    Returns:
        float32 `(M, 2)` in [0, 1], the longer side filled.

    Raises:
        CheckpointError: the map cannot be written.
    """
    settings = f"{embeddings.info.checksum} {seed} {DIMENSIONS} {NEIGHBOURS}"
    key = hashlib.sha256(settings.encode() + np.asarray(rows, "<i8").tobytes()).hexdigest()
    place = _kept(cache / MAP_NAME, key, len(rows)) if cache else None
    if place is None:
        place = layout(embeddings.unit(rows), seed)
        if cache:
            with replacing(cache / MAP_NAME) as temporary, open(temporary, "wb") as file:
                np.savez(file, key=np.array(key), place=place)
    return place


def layout(unit: np.ndarray, seed: int) -> np.ndarray:
    """The map of vectors.

    Args:
        unit: float32 `(M, E)`, M at least 1 and E at least 2.
        seed: of UMAP.

    Returns:
        float32 `(M, 2)` in [0, 1], the longer side filled.
    """
    place = _components(unit, DIMENSIONS)
    if len(unit) > 2 * NEIGHBOURS:  # of fewer there is no neighbourhood to keep; two components show them as well
        place = _umap(place, seed)
    place = place[:, :2] - place[:, :2].min(axis=0)
    return place / max(float(place.max()), 1e-12)


def _components(unit: np.ndarray, most: int) -> np.ndarray:
    """The first principal components, float32 `(M, D)` with D at least 2."""
    centred = unit - unit.mean(axis=0)
    _, axes = np.linalg.eigh(centred.T @ centred)  # (E, E), the strongest last
    return np.ascontiguousarray(centred @ axes[:, ::-1][:, : max(most, 2)])


def _umap(vectors: np.ndarray, seed: int) -> np.ndarray:
    from umap import UMAP  # here: it compiles for seconds when imported

    # Exact neighbours, found in a moment: without them UMAP compiles and runs an approximate search of its own.
    index = faiss.IndexFlatL2(vectors.shape[1])
    index.add(vectors)
    squares, ids = index.search(vectors, NEIGHBOURS)
    own = np.arange(len(vectors))
    for row in np.flatnonzero(ids[:, 0] != own):  # a copy of a clip may come before it; UMAP wants itself first
        at = np.flatnonzero(ids[row] == row)
        last = at[0] if len(at) else NEIGHBOURS - 1
        ids[row, 1 : last + 1], squares[row, 1 : last + 1] = ids[row, :last].copy(), squares[row, :last].copy()
        ids[row, 0], squares[row, 0] = row, 0
    squares[:, 0] = 0
    known = (ids, np.sqrt(np.maximum(squares, 0)))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "precomputed_knn", UserWarning)  # only later points would need more of it
        # Started from components: a spectral start fails on maps that fall into many parts.
        found = UMAP(NEIGHBOURS, init="pca", random_state=seed, n_jobs=1, precomputed_knn=known).fit_transform(vectors)
    return np.asarray(found, np.float32)


def _kept(path: Path, key: str, count: int) -> np.ndarray | None:
    """The map in a file, if it is the one that is wanted."""
    try:
        with np.load(path, allow_pickle=False) as saved:
            place = saved["place"]
            is_same = str(saved["key"]) == key and place.shape == (count, 2)
    except (OSError, ValueError, KeyError, EOFError):  # none, or damaged: it is made anew
        return None
    return place if is_same else None

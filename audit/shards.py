"""The files of an index: made one after another, mapped, and searched as one.

Mapped means that a search reads from the disk what it looks at, inverted lists and vectors alike, and that an index may
be larger than the memory; with several files no more than one has to fit while they are made.

Shapes: N clips, M of a shard, Q queries, E embedding size, k neighbours.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import faiss
import numpy as np
from tqdm import tqdm

from audit.errors import AuditError
from audit.exact import NONE, nearest
from audit.kinds import KINDS
from checkpoints.errors import CheckpointError
from data.files import checksum_of

ROWS_AT_ONCE = 16_384
"""That are added at a time."""
LEARNED_FROM = 65_536
"""Clips at most, drawn from all."""


class Vectors(Protocol):
    """What shards are made of, as `audit.embeddings.Embeddings`."""

    def __len__(self) -> int: ...

    def unit(self, rows: np.ndarray | slice) -> np.ndarray:
        """Some of them, L2-normalised: float32 ``(M, E)``."""


def write_shards(vectors: Vectors, folder: Path, kind: str, parameters: Mapping[str, int], shards: int) -> list[str]:
    """Makes an index in some files; returns their checksums.

    Args:
        vectors: N of them; their rows are what is found.
        folder: that is there.
        kind, parameters: see `audit.kinds`.
        shards: how many files.

    Raises:
        CheckpointError: the folder cannot be written.
    """
    count = len(vectors)
    learned = KINDS[kind].empty(vectors.unit(slice(1)).shape[1], parameters)
    if not learned.is_trained:
        drawn = np.random.default_rng(0).permutation(count)[:LEARNED_FROM]
        learned.train(vectors.unit(np.sort(drawn)))
    bounds, checksums = np.linspace(0, count, shards + 1).astype(int).tolist(), []
    with tqdm(total=count, desc=f"index of kind {kind}", unit="clip") as bar:
        for number, (first, last) in enumerate(pairwise(bounds)):
            shard = faiss.clone_index(learned)
            for begin in range(first, last, ROWS_AT_ONCE):
                part = vectors.unit(slice(begin, min(begin + ROWS_AT_ONCE, last)))
                shard.add(part)
                bar.update(len(part))
            file = folder / _file_name(number, shards)
            try:
                faiss.write_index(shard, str(file))
            except RuntimeError as error:
                raise CheckpointError(f"{folder} cannot be written (is the disk full?); free some room") from error
            checksums.append(_checksum_of(file))
    return checksums


def read_shards(folder: Path, checksums: Sequence[str]) -> list[faiss.Index]:
    """Maps the files of an index.

    Args:
        checksums: of all of them, as `write_shards` gave them.

    Raises:
        AuditError: one is damaged or not there.
    """
    files = [folder / _file_name(number, len(checksums)) for number in range(len(checksums))]
    try:
        if [_checksum_of(file) for file in files] != list(checksums):
            raise ValueError("not what was written")
        return [faiss.read_index(str(file), faiss.IO_FLAG_MMAP_IFC) for file in files]
    except (OSError, ValueError, RuntimeError) as error:
        raise AuditError(
            f"{folder} misses a part, or one is damaged; make it again with python -m audit.index"
        ) from error


def search_shards(
    shards: Sequence[faiss.Index], kind: str, parameters: Mapping[str, int], unit: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest in all shards together.

    Args:
        unit: L2-normalised, float32 ``(Q, E)``.
        k: N at most.

    Returns:
        Cosines float32 ``(Q, k)``, -inf where none was found, and rows int64 ``(Q, k)``, -1 there.
    """
    if kind == "exact":
        return nearest(unit, [_vectors_of(shard) for shard in shards], k)
    found, before, settings = [], 0, KINDS[kind].search_parameters(parameters)
    for shard in shards:
        # faiss.contrib.torch_utils, which other packages import, puts a search that takes no parameters over FAISS's.
        search = getattr(shard, "search_numpy", shard.search)
        squares, rows = search(unit, min(k, shard.ntotal), params=settings)
        is_none = rows < 0
        similarity = 1 - squares / 2  # |x - y|^2 = 2 - 2 x y
        found.append((np.where(is_none, NONE, similarity), np.where(is_none, -1, rows + before)))
        before += shard.ntotal
    similarity, rows = (np.concatenate(one, axis=1) for one in zip(*found, strict=True))
    order = np.argsort(-similarity, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(similarity, order, 1), np.take_along_axis(rows, order, 1)


def _vectors_of(flat: faiss.IndexFlat) -> np.ndarray:
    """float32 ``(M, E)``, where FAISS has mapped them; holds as long as the index does."""
    return faiss.rev_swig_ptr(flat.get_xb(), flat.ntotal * flat.d).reshape(flat.ntotal, flat.d)


def _checksum_of(file: Path) -> str:
    return checksum_of(np.memmap(file, np.uint8, "r"))


def _file_name(shard: int, shards: int) -> str:
    return "index.faiss" if shards == 1 else f"index_{shard:05d}.faiss"

"""Nearest neighbours by comparing everything with everything: matrix products, a tile of similarities at a time.

FAISS's own exact search is slower and cannot leave out a clip's own group; here the product costs nearly all of the
time, since of a tile only the maxima of small sets are looked at first.

Shapes: Q queries at a time, M columns of a tile, N clips, E embedding size, k neighbours.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

QUERIES, COLUMNS = 1024, 65_536
"""Of a tile: 256 MiB of similarities, however many clips there are."""
NONE = float("-inf")
"""Similarity of what is no neighbour."""


class Best:
    """The best columns of every row, of the tiles seen so far.

    Args:
        count: Q.
        k: how many of each row.
    """

    def __init__(self, count: int, k: int, device: torch.device):
        self.similarity = torch.full((count, k), NONE, device=device)
        self.columns = torch.full((count, k), -1, device=device)

    def offer(self, scores: Tensor, first: int) -> None:
        """Takes what is better from a tile ``(Q, M)``, whose columns count from `first`."""
        k = self.similarity.shape[1]
        values, columns = largest(scores, min(k, scores.shape[1]))
        values, columns = torch.cat([self.similarity, values], 1), torch.cat([self.columns, columns + first], 1)
        self.similarity, places = values.topk(k, dim=1)
        self.columns = columns.gather(1, places)

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """Similarities float32 ``(Q, k)``, -inf where there is none, and columns int64 ``(Q, k)``, -1 there."""
        columns = self.columns.masked_fill(self.similarity == NONE, -1)
        return self.similarity.cpu().numpy(), columns.cpu().numpy()


def largest(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """As ``scores.topk(k)`` of rows ``(Q, M)`` but unsorted, and several times faster where M is large.

    The columns are dealt out to sets; the k largest of a row lie in the k sets with the largest maxima.
    """
    num_columns = scores.shape[1]
    size = 2 ** max(0, round(math.log2(num_columns / k) / 2) - 1)
    num_sets = num_columns // size
    if size == 1 or num_sets <= k:
        return scores.topk(k, dim=1, sorted=False)
    dealt = scores[:, : num_sets * size].unflatten(1, (size, num_sets))  # column c is of set c % num_sets
    sets = dealt.amax(dim=1).topk(k, dim=1, sorted=False).indices
    values = dealt.gather(2, sets[:, None].expand(-1, size, -1)).flatten(1)  # (Q, size * k)
    rest = scores[:, num_sets * size :]
    values, places = torch.cat([values, rest], dim=1).topk(k, dim=1, sorted=False)
    columns = places // k * num_sets + sets.gather(1, places % k)
    return values, torch.where(places < size * k, columns, places - size * k + num_sets * size)


def nearest(queries: np.ndarray, parts: Iterable[np.ndarray], k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k rows with the largest inner product with each query.

    Args:
        queries: unit embeddings, float32 ``(Q, E)``.
        parts: those that are searched, float32 ``(M, E)`` each, asked for once, one after another; rows count on from
            one to the next.
        k: neighbours of each query.

    Returns:
        Similarities float32 ``(Q, k)``, -inf where there is none, and rows int64 ``(Q, k)``, -1 there.
    """
    blocks = torch.from_numpy(queries).split(QUERIES)
    bests = [Best(len(block), k, block.device) for block in blocks]
    products, before = _Products(), 0
    for part in parts:
        vectors = torch.from_numpy(part)
        for block, best in zip(blocks, bests, strict=True):
            for first, scores in products.tiles(block, vectors):
                best.offer(scores, before + first)
        before += len(part)
    similarity, rows = _nothing(len(queries), k)
    for number, best in enumerate(bests):
        block = slice(number * QUERIES, (number + 1) * QUERIES)
        similarity[block], rows[block] = best.result()
    return similarity, rows


def nearest_others(
    unit: np.ndarray,
    run_of: np.ndarray,
    k: int,
    skips_runs: Sequence[bool],
    device: torch.device | str = "cpu",
    progress: Callable[[int], object] = lambda count: None,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """The k nearest others of every row, of all or of those in other runs, both from one product.

    Args:
        unit: unit embeddings, float32 ``(N, E)``, the rows of a run behind one another.
        run_of: int64 ``(N,)``, as 0, 0, 1, 2, 2, 2: the number of the run that each row is in.
        k: neighbours of each row.
        skips_runs: for each answer that is wanted, whether rows of the own run are left out, or the row itself alone,
            which go first.
        progress: called with the number of rows that were done since the last call.

    Returns:
        For each of `skips_runs`, similarities float32 ``(N, k)``, -inf where there is none, and rows int64 ``(N, k)``,
        -1 there.
    """
    count = len(unit)
    vectors = torch.from_numpy(unit).to(device)
    begins = np.append(np.flatnonzero(np.diff(run_of, prepend=-1)), count)  # of runs, and the end of the last
    products = _Products()
    answers = [_nothing(count, k) for _ in skips_runs]
    for begin in range(0, count, QUERIES):
        end = min(begin + QUERIES, count)
        bests = [Best(end - begin, k, vectors.device) for _ in skips_runs]
        for first, scores in products.tiles(vectors[begin:end], vectors):
            _leave_out(scores, begin, first, range(begin, end + 1))
            for best, skips in zip(bests, skips_runs, strict=True):
                if skips:
                    _leave_out(scores, begin, first, begins[run_of[begin] : run_of[end - 1] + 2].tolist())
                best.offer(scores, first)
        for (similarity, rows), best in zip(answers, bests, strict=True):
            similarity[begin:end], rows[begin:end] = best.result()
        progress(end - begin)
    return answers


def _leave_out(scores: Tensor, row: int, column: int, bounds: Sequence[int]) -> None:
    """Makes similarities within a run those of no neighbours.

    Args:
        scores: ``(Q, M)``, whose rows count from `row` and whose columns from `column`.
        bounds: where runs begin, and where the last of them ends.
    """
    for low, high in pairwise(bounds):
        if low < column + scores.shape[1] and high > column:
            scores[max(low - row, 0) : high - row, max(low - column, 0) : high - column] = NONE


def _nothing(count: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    return np.full((count, k), NONE, np.float32), np.full((count, k), -1, np.int64)


class _Products:
    """Tiles of similarities, all in the same memory: fresh memory costs as much as looking for the best in it."""

    def __init__(self):
        self._buffer = torch.empty(0)

    def tiles(self, queries: Tensor, vectors: Tensor) -> Iterator[tuple[int, Tensor]]:
        """The first row of each tile and its similarities ``(Q, M)``, which hold until the next is asked for."""
        needed = len(queries) * min(COLUMNS, len(vectors))
        if len(self._buffer) < needed:
            self._buffer = torch.empty(needed, device=vectors.device)
        for first in range(0, len(vectors), COLUMNS):
            columns = vectors[first : first + COLUMNS]
            scores = self._buffer[: len(queries) * len(columns)].view(len(queries), len(columns))
            yield first, torch.mm(queries, columns.T, out=scores)

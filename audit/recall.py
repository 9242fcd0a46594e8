"""How much an index finds, and how fast: what nobody should take on trust.

Shapes: Q clips that are asked for, E embedding size, k neighbours.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from audit.exact import nearest
from audit.kinds import Kind
from audit.shards import Vectors

K = 10
"""Neighbours that recall is measured on, fewer if there are not as many other clips."""
CLIPS = 1000
"""That are asked for to choose parameters, and others to measure what came of it; half of all clips at most."""
ROWS_AT_ONCE = 65_536
ROUNDING = 2e-6
"""By which products of the same vectors may differ."""
SECONDS = 0.3
"""That a speed is measured for, at least."""

Search = Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray]]
"""Takes unit embeddings ``(Q, E)`` and k to similarities and rows ``(Q, k)``."""


@dataclass(frozen=True)
class Sample:
    """Clips whose nearest others are known."""

    rows: np.ndarray
    unit: np.ndarray
    """float32 ``(Q, E)``."""
    bound: np.ndarray
    """``(Q,)``, the similarity of the k-th nearest other."""
    k: int
    queries_per_s: float
    """Of exact search."""

    @classmethod
    def of(cls, vectors: Vectors, rows: np.ndarray) -> "Sample":
        """Looks at all clips for the neighbours of some."""
        reading = 0.0

        def parts() -> Iterator[np.ndarray]:
            nonlocal reading
            for begin in range(0, len(vectors), ROWS_AT_ONCE):
                start = time.perf_counter()
                part = vectors.unit(slice(begin, begin + ROWS_AT_ONCE))
                reading += time.perf_counter() - start
                yield part

        unit, k = vectors.unit(rows), min(K, len(vectors) - 1)
        start = time.perf_counter()
        similarity, found = nearest(unit, parts(), k + 1)
        seconds = time.perf_counter() - start - reading
        return cls(rows, unit, _of_others(similarity, found, rows, k)[:, -1], k, len(rows) / seconds)

    def recall(self, search: Search) -> float:
        """Share of the nearest others that are found; of clips that are equally near any will do."""
        similarity = _of_others(*search(self.unit, self.k + 1), self.rows, self.k)
        return float((similarity >= self.bound[:, None] - ROUNDING).mean())

    def speed(self, search: Search) -> float:
        """Queries per second of wall time, many at once."""
        start, count = time.perf_counter(), 0
        while (seconds := time.perf_counter() - start) < SECONDS or not count:
            search(self.unit, self.k + 1)
            count += len(self.unit)
        return count / seconds


def samples_of(vectors: Vectors) -> tuple[Sample, Sample]:
    """Clips to choose parameters with, and others to measure with."""
    count = len(vectors)
    drawn = np.random.default_rng(0).permutation(count)[: 2 * min(CLIPS, count // 2)]
    half = len(drawn) // 2
    return Sample.of(vectors, np.sort(drawn[:half])), Sample.of(vectors, np.sort(drawn[half:]))


def choose_parameters(
    kind: Kind,
    parameters: Mapping[str, int],
    wanted: float,
    recall: Callable[[dict[str, int]], float],
) -> dict[str, int]:
    """The fastest search parameters that find enough, or the most thorough ones if none do.

    Args:
        parameters: of the index; those in it stay as they are.
        wanted: recall at 10.
        recall: with some parameters.
    """
    free = [name for name in kind.searching if name not in parameters]
    chosen = dict(parameters) | {name: kind.steps(name, parameters)[-1] for name in free}
    for number, name in enumerate(free, start=1):
        # What is chosen with the others at their most leaves them half of what may be missed.
        enough = 1 - (1 - wanted) * number / len(free)
        for value in kind.steps(name, parameters):
            chosen[name] = value
            if recall(chosen) >= enough:
                break
    return chosen


def _of_others(similarity: np.ndarray, found: np.ndarray, rows: np.ndarray, k: int) -> np.ndarray:
    """The k largest similarities ``(Q, k)`` of clips that are not the one asked for."""
    similarity = np.where(found == rows[:, None], -np.inf, similarity)
    return -np.sort(-similarity, axis=1)[:, :k]

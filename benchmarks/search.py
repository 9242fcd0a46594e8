"""Exact search against the matrix product, and approximate search against FAISS's exact index as it comes, on one core.

    python -m benchmarks.search runs/contrastive_20260101-120000/embeddings/gm
    python -m benchmarks.search EMBEDDINGS --full
    python -m benchmarks.search --quick

Exact: 300,000 random unit vectors of 384 numbers. The floor is the fp32 product of queries and vectors alone, in the
tiles that `audit.exact` makes; against it stand a search of two thousand queries, and, over fewer vectors, the nearest
others of every one, with and without its own group (which are two searches in one product).

Approximate: real embeddings, those of a folder that audit.embed wrote, enlarged to 300,000. What is added are mixtures
of a clip and its ten nearest, with weights drawn evenly from the simplex, and noise of a tenth of the distance to the
nearest: clips of their own among their neighbours, neither copies nor strangers. Every kind of index is made and
searched as by audit.index, its search parameters being the fastest with a recall at 10 of 0.98 on a thousand clips; the
table tells the recall of a thousand others. Without a folder the embeddings are random clusters, to see that it runs.

Prints queries per CPU second (medians over interleaved rounds) and ratios paired within rounds; with --full also the
wall time and the memory of the nearest others of 300,000 vectors on all cores.
"""

import multiprocessing
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import faiss
import numpy as np
import psutil
import torch

from audit import exact
from audit.embeddings import Embeddings
from audit.exact import nearest, nearest_others
from audit.kinds import KINDS, parameters_of
from audit.recall import CLIPS, K, Sample, choose_parameters, samples_of
from audit.shards import read_shards, search_shards, write_shards
from benchmarks.timing import goal, parse, parser, ratio, rounds_of, table

COUNT, WIDTH, NUM_ALL, GROUP = 300_000, 384, 32_768, 30
QUICK = 20_000
RECALL = 0.98
OF_FLOOR, TIMES_STOCK, MINUTES, MOST_GIB = 0.8, 200.0, 10.0, 4.0
STOCK_THRESHOLD = 128_000
STOCK_QUERIES = 64
FLOOR, OURS, FAISS = "floor: fp32 product", "audit.exact", "IndexFlatIP with BLAS"
FLOOR_ALL, ALL, BOTH = "floor of all pairs", "nearest others of all", "the same, and without the own group"
STOCK = "IndexFlatIP as it comes"


@dataclass(frozen=True)
class UnitVectors:
    """As `audit.shards.Vectors`."""

    all: np.ndarray

    def __len__(self) -> int:
        return len(self.all)

    def unit(self, rows: np.ndarray | slice) -> np.ndarray:
        """Some of them."""
        return self.all[rows]


def normalised(vectors: np.ndarray) -> np.ndarray:
    """float32 ``(N, E)``, L2-normalised."""
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def clusters(count: int, width: int, seed: int = 0) -> np.ndarray:
    """Unit vectors ``(N, E)`` around a few hundred centres."""
    generator = np.random.default_rng(seed)
    centres = generator.standard_normal((200, width), dtype=np.float32)
    vectors = np.empty((count, width), np.float32)
    for begin in range(0, count, 10_000):  # so that what is measured afterwards takes more memory than this
        part = vectors[begin : begin + 10_000]
        generator.standard_normal(out=part, dtype=np.float32)
        part[:] = normalised(part + 2 * centres[generator.integers(0, 200, len(part))])
    return vectors


def enlarged(unit: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """Unit vectors and mixtures of them and their nearest, ``(count, E)``, as the docstring above says."""
    generator = np.random.default_rng(seed)
    ((similarity, rows),) = nearest_others(unit, np.arange(len(unit)), min(K, len(unit) - 1), (False,))
    distance = np.sqrt(np.maximum(2 - 2 * similarity[:, 0], 0))
    made = [unit]
    for begin in range(len(unit), count, 10_000):
        chosen = generator.integers(0, len(unit), min(10_000, count - begin))
        mixed = np.concatenate([chosen[:, None], rows[chosen]], axis=1)  # (M, 1 + k)
        weights = generator.dirichlet(np.ones(mixed.shape[1]), len(chosen)).astype(np.float32)
        noise = generator.standard_normal((len(chosen), unit.shape[1]), dtype=np.float32) / unit.shape[1] ** 0.5
        vectors = np.einsum("mk,mke->me", weights, unit[mixed]) + 0.1 * distance[chosen, None] * noise
        made.append(normalised(vectors))
    return np.concatenate(made)[:count]


def stock(index: faiss.IndexFlatIP, queries: np.ndarray) -> None:
    """Searches with FAISS's own settings."""
    ours = faiss.cvar.distance_compute_blas_threshold
    faiss.cvar.distance_compute_blas_threshold = STOCK_THRESHOLD
    try:
        index.search(queries, K)
    finally:
        faiss.cvar.distance_compute_blas_threshold = ours


def products(queries: torch.Tensor, vectors: torch.Tensor, out: torch.Tensor) -> None:
    """All similarities, a tile at a time, which nobody looks at."""
    for block in queries.split(exact.QUERIES):
        for columns in vectors.split(exact.COLUMNS):
            tile = out[: len(block) * len(columns)].view(len(block), len(columns))
            torch.mm(block, columns.T, out=tile)


def exact_candidates(count: int, num_all: int) -> tuple[dict[str, Callable[[], object]], dict[str, int]]:
    """What is timed, and how many queries each answers."""
    vectors = clusters(count, WIDTH)
    queries, few = vectors[: 2 * exact.QUERIES], vectors[:num_all].copy()
    out = torch.empty(exact.QUERIES * exact.COLUMNS)
    flat = faiss.IndexFlatIP(WIDTH)
    flat.add(vectors)
    group = np.arange(len(few)) // GROUP
    tensors = [torch.from_numpy(one) for one in (queries, vectors, few)]
    calls = {
        FLOOR: lambda: products(tensors[0], tensors[1], out),
        OURS: lambda: nearest(queries, [vectors], K),
        FAISS: lambda: flat.search(queries, K),
        FLOOR_ALL: lambda: products(tensors[2], tensors[2], out),
        ALL: lambda: nearest_others(few, group, K, (False,)),
        BOTH: lambda: nearest_others(few, group, K, (False, True)),
    }
    return calls, {name: len(few) if name in (FLOOR_ALL, ALL, BOTH) else len(queries) for name in calls}


def approximate_candidates(
    unit: np.ndarray, folder: Path
) -> tuple[dict[str, Callable[[], object]], dict[str, tuple[dict[str, int], float, float]]]:
    """Searches of every kind of index; and their parameters, their recall, and the seconds it took to make them."""
    vectors = UnitVectors(unit)
    to_choose, to_measure = samples_of(vectors)
    flat = faiss.IndexFlatIP(unit.shape[1])
    flat.add(unit)
    calls: dict[str, Callable[[], object]] = {STOCK: lambda: stock(flat, to_measure.unit[:STOCK_QUERIES])}
    about = {}
    for kind in KINDS:
        target = folder / kind
        target.mkdir()
        parameters, start = parameters_of(kind, *unit.shape, {}), time.process_time()
        files = write_shards(vectors, target, kind, parameters, 1)
        seconds, shards = time.process_time() - start, read_shards(target, files)
        parameters, recall = chosen_on(shards, kind, parameters, to_choose, to_measure)
        about[kind] = parameters, recall, seconds
        calls[kind] = lambda shards=shards, kind=kind, parameters=parameters: search_shards(
            shards, kind, parameters, to_measure.unit, K
        )
    return calls, about


def chosen_on(
    shards: list[faiss.Index], kind: str, parameters: dict[str, int], to_choose: Sample, to_measure: Sample
) -> tuple[dict[str, int], float]:
    """Search parameters, and the recall that they have on other clips."""

    def recall(sample: Sample, values: dict[str, int]) -> float:
        return sample.recall(lambda unit, k: search_shards(shards, kind, values, unit, k))

    chosen = choose_parameters(KINDS[kind], parameters, RECALL, lambda values: recall(to_choose, values))
    return chosen, recall(to_measure, chosen)


def all_pairs(count: int) -> tuple[float, float]:
    """Seconds and GiB beside the vectors that the nearest others of all take, on all cores."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_all_pairs, (count,))


def _all_pairs(count: int) -> tuple[float, float]:
    torch.set_num_threads(psutil.cpu_count(logical=False) or 1)
    vectors = clusters(count, WIDTH)
    nearest(vectors[:64], [vectors[:4096]], K)  # what libraries take once is not the search's
    before = psutil.Process().memory_info().rss
    start = time.perf_counter()
    nearest_others(vectors, np.arange(count) // GROUP, K, (False, True))
    seconds = time.perf_counter() - start
    return seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before) / 2**30


def main() -> None:
    """The command line."""
    built = parser(__doc__)
    built.add_argument("embeddings", type=Path, nargs="?", help="folder that audit.embed wrote")
    built.add_argument("--full", action="store_true", help="also the nearest others of all, in wall time")
    options = parse(built)
    faiss.omp_set_num_threads(1)
    count = QUICK if options.quick else COUNT

    calls, answered = exact_candidates(count, NUM_ALL // 8 if options.quick else NUM_ALL)
    taken = rounds_of(calls, options.rounds, options.seconds)
    floors = {name: FLOOR_ALL if name in (FLOOR_ALL, ALL, BOTH) else FLOOR for name in calls}
    print(f"exact: {count} x {WIDTH}; all pairs of {answered[ALL]}, where looking for the best weighs more\n")
    rows = [
        [
            name,
            f"{answered[name] / statistics.median(taken[name]):.0f}",
            f"{ratio(taken[floors[name]], taken[name]):.2f}",
        ]
        for name in calls
    ]
    print(table(["", "queries/core-s", "of the floor"], rows) + "\n")
    print(goal("exact search, of the floor", ratio(taken[FLOOR], taken[OURS]), OF_FLOOR) + "\n")
    del calls

    if options.embeddings is None:
        unit, origin = clusters(count, WIDTH), "random clusters"
    else:
        real = Embeddings.open(options.embeddings).unit()
        unit, origin = enlarged(real, count), f"{len(real)} of {options.embeddings} and mixtures of them"
    with tempfile.TemporaryDirectory() as folder:
        calls, about = approximate_candidates(unit, Path(folder))
        taken = rounds_of(calls, options.rounds, options.seconds)
    speed = STOCK_QUERIES / statistics.median(taken[STOCK])
    rows, times = [[STOCK, f"{speed:.1f}", "1", "1.000", "", ""]], {}
    for kind, (parameters, recall, seconds) in about.items():
        times[kind] = ratio(taken[STOCK], taken[kind]) * CLIPS / STOCK_QUERIES
        settings = ", ".join(f"{name} {value}" for name, value in parameters.items())
        speed = CLIPS / statistics.median(taken[kind])
        rows.append([kind, f"{speed:.0f}", f"{times[kind]:.0f}", f"{recall:.3f}", f"{seconds:.1f}", settings])
    print(f"approximate: {unit.shape[0]} x {unit.shape[1]}, {origin}\n")
    print(table(["", "queries/core-s", "times", f"recall@{K}", "CPU s to make", "parameters"], rows) + "\n")
    best = max((times[kind] for kind, (_, recall, _) in about.items() if recall >= RECALL), default=0.0)
    print(goal(f"times {STOCK}, at a recall of {RECALL} or more", best, TIMES_STOCK))

    if options.full:
        seconds, gib = all_pairs(count)
        print(f"\nnearest others of all {count}, with and without the own group, on all cores: {seconds:.0f} s\n")
        print(goal("minutes of it", seconds / 60, MINUTES, at_most=True))
        print(goal("GiB of it beside the vectors", gib, MOST_GIB, at_most=True))


if __name__ == "__main__":
    main()

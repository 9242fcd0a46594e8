"""Kinds of index: what FAISS builds, what it is built and searched with, and what is sensible for a pack's size.

Shapes: N clips, E embedding size.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import faiss

from audit.errors import AuditError

# FAISS 1.15 keeps fewer than 128,000 queries from BLAS, which makes k-means and the choice of lists 25 times slower.
faiss.cvar.distance_compute_blas_threshold = 20

PARAMETERS = {
    "nlist": "lists that the clips are sorted into (about 2 sqrt(N))",
    "nprobe": "lists that are searched",
    "hnsw_m": "links of a clip",
    "ef_construction": "clips that are looked at to link one",
    "ef_search": "clips that are looked at to answer a query",
    "subspaces": "numbers of 4 bits that stand for an embedding (a quarter of its size)",
    "refine": "times k clips that are compared exactly",
}
"""Names and explanations; each is a flag."""


@dataclass(frozen=True)
class Kind:
    """A kind of index."""

    summary: str
    recipe: str
    """Of `faiss.index_factory`, with the names of parameters in it."""
    building: Callable[[int, int], dict[str, int]]
    """Parameters that it is built with, from N and E."""
    searching: tuple[str, ...]
    """Parameters that may be changed at any time: the more, the slower, the more is found. The last is the finest."""
    least: int = 1
    """Clips that it needs to learn from."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of all its parameters."""
        return (*self.building(1, 1), *self.searching)

    def empty(self, width: int, parameters: Mapping[str, int]) -> faiss.Index:
        """An index of no clips that has learned nothing yet: by inner product if it is exact, else by distance."""
        # Unit vectors are as near by distance as by cosine; but embeddings lie in a narrow cone, and what makes them
        # differ is lost in codes of products (a recall of 0.46 at most, where codes of distances have 0.99).
        metric = faiss.METRIC_L2 if self.searching else faiss.METRIC_INNER_PRODUCT
        index = faiss.index_factory(width, self.recipe.format(**parameters), metric)
        if "ef_construction" in parameters:
            index.hnsw.efConstruction = parameters["ef_construction"]
        return index

    def search_parameters(self, parameters: Mapping[str, int]) -> faiss.SearchParameters | None:
        """What FAISS wants to be told with a search."""
        found = None
        if "nprobe" in self.searching:
            found = faiss.SearchParametersIVF(nprobe=parameters["nprobe"])
        if "ef_search" in self.searching:
            found = faiss.SearchParametersHNSW(efSearch=parameters["ef_search"])
        if "refine" in self.searching:
            found = faiss.IndexRefineSearchParameters(k_factor=parameters["refine"], base_index_params=found)
        return found

    def steps(self, name: str, parameters: Mapping[str, int]) -> list[int]:
        """Values of a search parameter from fast to thorough."""
        lowest, highest = {"nprobe": (1, parameters.get("nlist", 1)), "ef_search": (16, 1024), "refine": (2, 64)}[name]
        return [*(2**power for power in range(10) if lowest <= 2**power < highest), highest]


def _lists(count: int, width: int) -> dict[str, int]:
    """A power of two near 2 sqrt(N), of lists that get the 39 clips each that FAISS asks for to learn from."""
    return {"nlist": max(1, min(2 ** round(math.log2(2 * math.sqrt(count))), count // 39))}


def _lists_and_codes(count: int, width: int) -> dict[str, int]:
    return _lists(count, width) | {"subspaces": next(width // size for size in (4, 3, 2, 1) if width % size == 0)}


KINDS = {
    "exact": Kind("every clip is compared", "Flat", lambda count, width: {}, ()),
    "hnsw": Kind(
        "a graph of clips that are near to each other",
        "HNSW{hnsw_m}",
        lambda count, width: {"hnsw_m": 16, "ef_construction": 64},
        ("ef_search",),
    ),
    "ivf": Kind("clips sorted into lists, a few of which are searched", "IVF{nlist},Flat", _lists, ("nprobe",)),
    "ivfpq": Kind(
        "such lists of codes of 4 bits, the best compared exactly: the fastest",
        "IVF{nlist},PQ{subspaces}x4fs,Refine(Flat)",
        _lists_and_codes,
        ("refine", "nprobe"),
        least=624,
    ),
    "sq8": Kind(
        "a byte for each number in a fourth of the memory, the best compared exactly",
        "SQ8,Refine(Flat)",
        lambda count, width: {},
        ("refine",),
    ),
}


def parameters_of(kind: str, count: int, width: int, given: Mapping[str, int]) -> dict[str, int]:
    """What an index is built with: what was given, and what is sensible for N clips of size E otherwise.

    Search parameters are among them only if they were given.

    Raises:
        AuditError: too few clips, a parameter that the kind does not have, or a value that cannot be.
    """
    chosen = KINDS[kind]
    if count < chosen.least:
        raise AuditError(f"--kind {kind} learns from {chosen.least} clips or more, {count} found; take --kind exact")
    parameters = chosen.building(count, width)
    for name, value in given.items():
        if name not in chosen.names:
            has = ", ".join(f"--{one}" for one in chosen.names) or "no parameters"
            raise AuditError(f"--{name} is nothing that --kind {kind} knows, it has {has}; leave it out")
        least = 2 if name == "hnsw_m" else 1
        if value < least:
            raise AuditError(f"--{name} should be {least} or more, {value} found")
        parameters[name] = value
    if parameters.get("nlist", 1) > count:
        raise AuditError(f"--nlist should be at most the number of clips, {count}, {parameters['nlist']} found")
    if parameters.get("nprobe", 1) > parameters.get("nlist", 1):
        raise AuditError(f"--nprobe should be at most --nlist, {parameters['nlist']}, {parameters['nprobe']} found")
    if width % parameters.get("subspaces", 1):
        raise AuditError(f"--subspaces should divide the size of embeddings, {width}, {parameters['subspaces']} found")
    return parameters

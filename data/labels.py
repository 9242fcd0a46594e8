"""A pack's labels as integer tensors that a batch indexes: 1 present, 0 absent, -1 unknown.

Shapes: N clips of the pack, B rows of a batch, C labels of a level.
"""

from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from data.pack import Pack
from data.taxonomy import FAMILIES, FAMILY_OF_INSTRUMENT, GENRES

INSTRUMENTS = tuple(FAMILY_OF_INSTRUMENT)


class LabelTable:
    """Every label of a pack, decoded once; small enough to copy into each worker."""

    def __init__(self, pack: Pack):
        manifest = pack.manifest
        self.timbre_names, timbre = _codes(manifest["timbre"])
        self.columns: dict[str, np.ndarray] = {
            "is_instrument": _numbers(manifest["is_instrument"]),  # (N,)
            "family": _sets(manifest, "family", FAMILIES),  # (N, 12)
            "instrument": _sets(manifest, "instrument", INSTRUMENTS),  # (N, C)
            "timbre": timbre,  # (N,)
            "genre": _sets(manifest, "genre", GENRES),  # (N, genres)
            "drums": _numbers(manifest["drums"]),  # (N,)
            "pitch": _numbers(manifest["pitch"]),  # (N,)
            "velocity": _numbers(manifest["velocity"]),  # (N,)
        }

    def take(self, rows: np.ndarray) -> dict[str, Tensor]:
        """The labels of some clips: int64 ``(B,)`` or, for levels that are sets, int8 ``(B, C)``."""
        return {name: torch.from_numpy(column[rows]) for name, column in self.columns.items()}

    @cached_property
    def single_family(self) -> np.ndarray:
        """int64 ``(N,)``: the family of clips that are known to hold exactly one, -1 for the rest."""
        family = self.columns["family"]
        is_one = ((family == 1).sum(axis=1) == 1) & ((family == 0).sum(axis=1) == len(FAMILIES) - 1)
        return np.where(is_one, family.argmax(axis=1), -1)


def _numbers(column: pa.ChunkedArray) -> np.ndarray:
    return column.cast(pa.int64()).fill_null(-1).to_numpy().astype(np.int64)


def _codes(column: pa.ChunkedArray, names: tuple[str, ...] | None = None) -> tuple[tuple[str, ...], np.ndarray]:
    """Numbers the values of a column by their place in `names`, or in their own sorted order; -1 for unknown."""
    if names is None:
        names = tuple(sorted(value for value in column.unique().to_pylist() if value is not None))
    indices = pc.index_in(column, pa.array(names, type=pa.string()))
    return names, indices.fill_null(-1).to_numpy().astype(np.int64)


def _sets(manifest: pa.Table, level: str, names: tuple[str, ...]) -> np.ndarray:
    """int8 ``(N, C)`` from the three columns of a level."""
    complete = manifest[f"{level}_complete"].to_numpy()
    table = np.where(complete[:, None], np.int8(0), np.int8(-1)) * np.ones(len(names), dtype=np.int8)
    for column, value in ((f"{level}_absent", 0), (f"{level}_present", 1)):
        lists = manifest[column].combine_chunks()
        labels = pc.index_in(lists.flatten(), pa.array(names, type=pa.string())).fill_null(-1).to_numpy()
        clip = pc.list_parent_indices(lists).to_numpy()
        table[clip[labels >= 0], labels[labels >= 0]] = value
    return table

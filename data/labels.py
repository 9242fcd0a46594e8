"""A pack's labels as integer tensors that a batch indexes: 1 present, 0 absent, -1 unknown.

Shapes: N clips of the pack, B rows of a batch, C labels of a level.
"""

from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from data.codes import INSTRUMENTS, SETS, Codes
from data.pack import Pack
from data.taxonomy import FAMILIES

NUMBERS = ("is_instrument", "timbre", "drums", "pitch", "velocity", "is_weak")
"""Labels of which a clip has one."""


class LabelTable:
    """Every label of a pack. It holds nothing itself, so that one may be made wherever it is needed."""

    def __init__(self, pack: Pack):
        self._pack = pack

    @property
    def _codes(self) -> Codes:
        return self._pack.codes

    @property
    def names(self) -> dict[str, tuple[str, ...]]:
        """The C labels of each level that is a set, in order: ``family``, ``instrument`` and ``genre``.

        Genres are the taxonomy's, and then what else the pack has, sorted.
        """
        return {level: self._codes.names[level] for level in SETS}

    @property
    def timbre_names(self) -> tuple[str, ...]:
        """The timbres of the pack, sorted."""
        return self._codes.timbre_names

    def take(self, rows: np.ndarray) -> dict[str, Tensor]:
        """The labels of some clips.

        Returns:
            int64 ``(B,)`` for each of `NUMBERS`, int8 ``(B, C)`` for each level that is a set. Where a pack has any,
            also ``relevance``: float32 ``(B, C)`` over the instruments, from 0 to 1, NaN where nobody said.
        """
        codes = self._codes
        labels = {name: codes.columns[name][rows].astype(np.int64) for name in NUMBERS}
        labels |= {level: codes.sets[level][codes.columns[level][rows]] for level in SETS}
        if "relevance" in codes.sets:
            relevance = np.full((len(rows), len(INSTRUMENTS)), np.nan, np.float32)
            relevance[:, self._relevant] = codes.sets["relevance"][codes.columns["relevance"][rows]]
            labels["relevance"] = relevance
        return {name: torch.from_numpy(values) for name, values in labels.items()}

    def column(self, name: str, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """One label of some clips, or of all: integers ``(N,)`` or, for a level that is a set, int8 ``(N, C)``."""
        values = self._codes.columns[name][rows]
        return self._codes.sets[name][values] if name in SETS else values

    def non_instruments(self, rows: np.ndarray) -> np.ndarray:
        """Those of some row numbers whose clips are known to hold no instrument."""
        return rows[self.column("is_instrument", rows) == 0]

    @cached_property
    def _relevant(self) -> list[int]:
        """The instruments that have a relevance in this pack."""
        return [INSTRUMENTS.index(name) for name in self._codes.names["relevance"]]

    @cached_property
    def single_family(self) -> np.ndarray:
        """int64 ``(N,)``: the family of clips that are known to hold exactly one, -1 for the rest."""
        sets = self._codes.sets["family"]  # (K, C)
        is_one = ((sets == 1).sum(axis=1) == 1) & ((sets == 0).sum(axis=1) == len(FAMILIES) - 1)
        return np.where(is_one, sets.argmax(axis=1), -1)[self._codes.columns["family"]]

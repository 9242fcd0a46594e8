"""Batches for metric learning: some clips of each of some timbres, balanced over data sets and families.

A batch drawn blindly from a big pack hardly ever holds two clips of one timbre, and no loss can pull together what is
not there. Like `data.sampler.GlobalOrder` this has no state: a batch is a function of the seed and its step.

Shapes: B clips of a batch, N clips of a split, K clips of a class.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from data.errors import DataError
from data.labels import LabelTable
from data.pack import Pack


@dataclass(frozen=True)
class _Class:
    """Clips that are positives of each other, as positions in the split."""

    source: str
    family: int
    """Place in `data.taxonomy.FAMILIES`; -1 where it is unknown or there are several."""
    members: np.ndarray


class BalancedOrder:
    """Which clips each global batch holds: K of each of many classes, and a share that is no instrument.

    A class is a timbre where it is known, an instrument of a data set where a clip is known to hold one, and else the
    clip itself, whose views are then its only positives. A class is drawn by turns: a data set, one of its families, a
    class of that family, as long as each has one that the batch does not hold yet; then all begin anew. A class of
    fewer than K clips gives some of them again, as other crops.

    Args:
        rows: row numbers of the split, in the pack's order; a batch holds positions in them.
        batch_size: B, of the global batch.
        clips_per_class: K.
        non_instrument_share: of the batch, rounded to whole clips; 0 where the split has none.
        seed: of the order.

    Raises:
        DataError: the batch cannot be made of whole classes, or the split is empty.
    """

    def __init__(
        self,
        pack: Pack,
        rows: np.ndarray,
        batch_size: int,
        clips_per_class: int,
        non_instrument_share: float,
        seed: int,
    ):
        if len(rows) == 0:
            raise DataError(f"{pack.place} should have a training split, found none; prepare one")
        table = LabelTable(pack)
        labels = {name: table.column(name, rows) for name in ("is_instrument", "family", "instrument", "timbre")}
        is_none = labels["is_instrument"] == 0
        self.batch_size, self.seed, self.num_clips, self.clips_per_class = batch_size, seed, len(rows), clips_per_class
        self.non_instruments = np.flatnonzero(is_none)
        self.classes = _classes(pack.column("source")[rows], labels, ~is_none)
        wanted = round(non_instrument_share * batch_size) if len(self.non_instruments) else 0
        if not self.classes:
            wanted = batch_size
        rest = (batch_size - wanted) % clips_per_class
        self.num_non_instruments = wanted + (rest if len(self.non_instruments) else 0)
        if (batch_size - self.num_non_instruments) % clips_per_class:
            raise DataError(
                f"a batch of {batch_size} clips cannot be made of classes of {clips_per_class}; choose a --batch_size "
                "that --clips_per_class divides"
            )

    @property
    def steps_per_epoch(self) -> int:
        """Batches that hold as many clips as the split; clips are drawn, so an epoch does not hold each of them."""
        return max(1, self.num_clips // self.batch_size)

    def epoch_of(self, step: int) -> int:
        """What crops are drawn by beside seed and clip: the step, for a clip may come again before an epoch ends."""
        return step

    def batch(self, step: int) -> np.ndarray:
        """Positions in the split, int64 ``(B,)``, shuffled; clips of a small class may occur several times."""
        generator = np.random.Generator(np.random.PCG64([self.seed, step]))
        chosen = [self._some(self.non_instruments, self.num_non_instruments, generator)]
        for one in self._drawn(generator, (self.batch_size - self.num_non_instruments) // self.clips_per_class):
            chosen.append(self._some(one.members, self.clips_per_class, generator))
        # Shuffled, so that the shares of several processes are alike.
        return generator.permutation(np.concatenate(chosen)).astype(np.int64)

    @cached_property
    def _tree(self) -> list[list[list[_Class]]]:
        """The classes by data set and family."""
        tree: dict[str, dict[int, list[_Class]]] = {}
        for one in self.classes:
            tree.setdefault(one.source, {}).setdefault(one.family, []).append(one)
        return [list(families.values()) for families in tree.values()]

    def _drawn(self, generator: np.random.Generator, count: int) -> list[_Class]:
        """Classes by turns of data sets and their families; all begin anew when every class has been drawn."""
        chosen: list[_Class] = []
        while len(chosen) < count:
            left = [[list(generator.permutation(len(family))) for family in source] for source in self._tree]
            # Of each data set the families, in the order in which they take their turns.
            turns = {source: generator.permutation(len(left[source])).tolist() for source in range(len(left))}
            sources = generator.permutation(len(left)).tolist()
            while sources and len(chosen) < count:
                source = sources.pop(0)
                family = turns[source].pop(0)
                chosen.append(self._tree[source][family][left[source][family].pop()])
                if left[source][family]:
                    turns[source].append(family)
                if turns[source]:
                    sources.append(source)
        return chosen

    @staticmethod
    def _some(members: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
        """So many members, each once before any comes again."""
        rounds = -(-count // len(members)) if count else 0
        return np.concatenate([members[:0], *(generator.permutation(members) for _ in range(rounds))])[:count]

    def describe(self) -> str:
        """What the batches are made of, in words."""
        sizes = np.array([len(one.members) for one in self.classes] or [0])
        families = {(one.source, one.family) for one in self.classes}
        return (
            f"{len(self.classes)} classes of {len(families)} families and data sets, {np.median(sizes):g} clips each "
            f"in the middle; {self.num_non_instruments} of {self.batch_size} clips are no instruments"
        )


def _classes(source: np.ndarray, labels: dict[str, np.ndarray], is_used: np.ndarray) -> list[_Class]:
    family, instrument, timbre = labels["family"], labels["instrument"], labels["timbre"]
    one_family = np.where((family == 1).sum(axis=1) == 1, family.argmax(axis=1), -1)
    one_instrument = np.where((instrument == 1).sum(axis=1) == 1, instrument.argmax(axis=1), -1)
    places: dict[tuple, list[int]] = {}
    for position in np.flatnonzero(is_used).tolist():
        if timbre[position] >= 0:
            key = ("timbre", source[position], int(timbre[position]))
        elif one_instrument[position] >= 0:
            key = ("instrument", source[position], int(one_instrument[position]))
        else:
            key = ("clip", source[position], position)
        places.setdefault(key, []).append(position)
    return [
        _Class(key[1], int(one_family[members[0]]), np.array(members, dtype=np.int64))
        for key, members in places.items()
    ]

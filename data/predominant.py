"""Labels as IRMAS's training set has them: of everything that sounds in a clip, the predominant instrument alone.

Shapes: N clips of the pack, B rows of a batch, I instruments, F families.
"""

from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from data.codes import INSTRUMENTS
from data.labels import LabelTable
from data.taxonomy import FAMILIES, FAMILY_OF_INSTRUMENT

_FAMILY_OF = torch.tensor([FAMILIES.index(FAMILY_OF_INSTRUMENT[name]) for name in INSTRUMENTS])


class PredominantTable(LabelTable):
    """A pack's labels with the predominant instrument and its family as all that is known of what sounds.

    It is the first that a clip names: the sources that know which one is predominant name it first. Clips that name no
    instrument, as those that are none, keep their labels.
    """

    def take(self, rows: np.ndarray) -> dict[str, Tensor]:
        """As `LabelTable.take`."""
        labels = super().take(rows)
        own = self._predominant[torch.from_numpy(np.asarray(rows))]

        def only(places: Tensor, values: Tensor) -> Tensor:
            named = torch.full_like(values, -1).scatter_(1, places[:, None], 1)
            return torch.where((own >= 0)[:, None], named, values)

        instrument, family = labels["instrument"], labels["family"]  # (B, I), (B, F)
        places = own.clamp(min=0)
        return {**labels, "instrument": only(places, instrument), "family": only(_FAMILY_OF[places], family)}

    def column(self, name: str, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """As `LabelTable.column`."""
        if name not in ("instrument", "family"):
            return super().column(name, rows)
        return self.take(np.arange(len(self._pack))[rows])[name].numpy()

    @cached_property
    def _predominant(self) -> Tensor:
        """int64 ``(N,)``: places in `data.labels.INSTRUMENTS`; -1 where none is named."""
        place = {name: number for number, name in enumerate(INSTRUMENTS)}
        named = self._pack.column("instrument_present")
        return torch.tensor([place[names[0]] if names else -1 for names in named])

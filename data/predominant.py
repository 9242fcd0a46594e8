"""Labels as IRMAS's training set has them: of everything that sounds in a clip, the predominant instrument alone.

Shapes: N clips of the pack, B rows of a batch, I instruments, F families.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from data.codes import INSTRUMENTS
from data.pack import Pack
from data.taxonomy import FAMILIES, FAMILY_OF_INSTRUMENT

_FAMILY_OF = torch.tensor([FAMILIES.index(FAMILY_OF_INSTRUMENT[name]) for name in INSTRUMENTS])


def predominant_instruments(pack: Pack) -> Tensor:
    """The first instrument that each clip names, int64 ``(N,)`` as places in `data.labels.INSTRUMENTS`; -1 without one.

    The sources that know which instrument is predominant name it first.
    """
    place = {name: number for number, name in enumerate(INSTRUMENTS)}
    return torch.tensor([place[names[0]] if names else -1 for names in pack.column("instrument_present")])


def predominant_only(labels: Mapping[str, Tensor], rows: Tensor | np.ndarray, predominant: Tensor) -> dict[str, Tensor]:
    """The labels of a batch with the predominant instrument and its family as all that is known of what sounds.

    Clips that name no instrument, as those that are none, keep their labels.

    Args:
        labels: as `data.labels.LabelTable.take` gives them.
        rows: int64 ``(B,)``, row numbers in the pack.
        predominant: see `predominant_instruments`.
    """
    instrument, family = labels["instrument"], labels["family"]  # (B, I), (B, F)
    own = predominant.to(instrument.device)[torch.as_tensor(rows, device=instrument.device)]
    is_named = (own >= 0)[:, None]

    def only(places: Tensor, values: Tensor) -> Tensor:
        named = torch.full_like(values, -1).scatter_(1, places[:, None], 1)
        return torch.where(is_named, named, values)

    families = _FAMILY_OF.to(own.device)[own.clamp(min=0)]
    return {**labels, "instrument": only(own.clamp(min=0), instrument), "family": only(families, family)}

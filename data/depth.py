"""How deep in the label tree two clips part, as far as it is known.

Depth 0: the same timbre; 1: the same instrument; 2: the same family; 3: another family; 4: one is no instrument.

Shapes: A and B clips.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from data.relation import DIFFERENT, SAME

SAME_TIMBRE, SAME_INSTRUMENT, SAME_FAMILY, OTHER_FAMILY, NO_INSTRUMENT = range(5)
_PARTED = (("timbre", SAME_TIMBRE), ("instrument", SAME_INSTRUMENT), ("family", SAME_FAMILY))


def depths(relations: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """The bounds between which the depth of each pair lies; equal where it is known.

    Two clips are at least as deep apart as the finest level at which they are known to be different asks for, and no
    deeper than the finest at which they are known to be the same. So two notes of NSynth's guitars, whose instrument
    nobody named, part at depth 1 or 2 if their timbres differ; two clips of which nothing is known, anywhere from 0 to
    4. Two clips that are no instruments part nowhere in the tree: nothing is known of them either.

    Args:
        relations: of each level, int8 ``(A, B)``, as `data.relation.relation` gives them.

    Returns:
        ``low`` and ``high``, int8 ``(A, B)``.
    """
    timbre, instrument, family, kind = (
        relations[level] for level in ("timbre", "instrument", "family", "is_instrument")
    )
    low, high = torch.zeros_like(timbre), torch.full_like(timbre, NO_INSTRUMENT)
    # From coarse to fine for what is the same, from fine to coarse for what differs: the last word is the sharpest.
    high = high.masked_fill(kind == SAME, OTHER_FAMILY)
    for level, depth in reversed(_PARTED):
        high = high.masked_fill(relations[level] == SAME, depth)
    for level, depth in ((timbre, SAME_INSTRUMENT), (instrument, SAME_FAMILY), (family, OTHER_FAMILY)):
        low = low.masked_fill(level == DIFFERENT, depth)
    is_parted = kind == DIFFERENT
    low = low.masked_fill(is_parted, NO_INSTRUMENT)
    high = high.masked_fill(is_parted, NO_INSTRUMENT)
    # A clip of several instruments may share one family with another and still hold what the other does not.
    return torch.minimum(low, high), high

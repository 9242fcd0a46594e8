"""Which triplets of a batch a loss looks at; no gradient flows through the choice.

Every miner works for each pair of classes of `losses.triplet.Classes` apart, so that the near negatives of the anchor's
own family do not hide all others.

Shapes: A anchors, B others, P and N classes of positives and negatives, T mined triplets.
"""

import torch
from torch import Tensor

from losses.triplet import NO_CLASS, Classes, Triplets


@torch.no_grad()
def batch_hard(distance: Tensor, classes: Classes) -> Triplets:
    """For each anchor and pair of classes the farthest positive and the nearest negative.

    Hermans et al. 2017, arXiv 1703.07737, equation 5.
    """
    farthest = _extreme(distance, classes.as_positive, len(classes.margins), is_largest=True)  # (A, P)
    nearest = _extreme(distance, classes.as_negative, classes.margins.shape[1], is_largest=False)  # (A, N)
    is_triplet = ~classes.margins.isnan() & (farthest >= 0)[:, :, None] & (nearest >= 0)[:, None, :]  # (A, P, N)
    anchor, row, column = is_triplet.nonzero(as_tuple=True)
    return Triplets(anchor, farthest[anchor, row], nearest[anchor, column])


def _extreme(distance: Tensor, codes: Tensor, num: int, is_largest: bool) -> Tensor:
    """Of each anchor and class the farthest or nearest other, int64 ``(A, classes)``; `NO_CLASS` where it has none."""
    places = []
    for code in range(num):
        is_member = codes == code
        values = distance.masked_fill(~is_member, float("-inf") if is_largest else float("inf"))
        place = values.argmax(dim=1) if is_largest else values.argmin(dim=1)
        places.append(torch.where(is_member.any(dim=1), place, NO_CLASS))
    return torch.stack(places, dim=1)


@torch.no_grad()
def semi_hard(distance: Tensor, classes: Classes) -> Triplets:
    """For each positive and class of negatives the nearest negative that is farther than the positive.

    Schroff et al. 2015, arXiv 1503.03832, section 3.2; positives with no farther negative are left out, and so are
    triplets that cost nothing because the negative lies beyond the margin.
    """
    found = []
    for column in range(classes.margins.shape[1]):
        is_negative = classes.as_negative == column
        rows = (~classes.margins[:, column].isnan()).nonzero().flatten()
        if not len(rows) or not is_negative.any():
            continue
        near, order = distance.masked_fill(~is_negative, float("inf")).sort(dim=1)
        place = torch.searchsorted(near, distance.contiguous(), right=True).clamp(max=distance.shape[1] - 1)
        margin = classes.margins[classes.as_positive.clamp(min=0).long(), column]
        is_triplet = (
            torch.isin(classes.as_positive, rows)
            & (near.gather(1, place) > distance)
            & (near.gather(1, place) < distance + margin)
        )
        anchor, positive = is_triplet.nonzero(as_tuple=True)
        found.append(torch.stack([anchor, positive, order[anchor, place[anchor, positive]]]))
    return _together(found, distance)


@torch.no_grad()
def family_balanced(classes: Classes, is_own_family: Tensor, uniform: Tensor, own_family_share: float) -> Triplets:
    """For each positive one drawn negative, from the anchor's own family with a set probability.

    Drawn evenly from a batch, few negatives come from the anchor's family, though these are the ones that teach the
    difference between a cello and a violin.

    Args:
        classes: see `losses.triplet.tree_classes`.
        is_own_family: bool ``(A, B)``, where the two are known to share a family.
        uniform: float ``(A, B)`` in [0, 1), a random number for each possible positive.
        own_family_share: probability of a negative from the anchor's own family; where there is none of the drawn
            kind, one of the other.
    """
    found = []
    for row in range(len(classes.margins)):
        columns = (~classes.margins[row].isnan()).nonzero().flatten()
        is_positive = classes.as_positive == row
        if not len(columns) or not is_positive.any():
            continue
        is_negative = torch.isin(classes.as_negative, columns)
        own, other = is_negative & is_own_family, is_negative & ~is_own_family
        has_own, has_other = own.any(dim=1, keepdim=True), other.any(dim=1, keepdim=True)
        wants_own = uniform < own_family_share
        # What is left of the number after the choice of the kind is uniform again and picks the negative.
        left = torch.where(
            wants_own,
            uniform / max(own_family_share, 1e-12),
            (uniform - own_family_share) / (1 - own_family_share + 1e-12),
        )
        takes_own = (wants_own & has_own) | ~has_other
        negative = torch.where(takes_own, _pick(own, left), _pick(other, left))
        anchor, positive = (is_positive & (has_own | has_other)).nonzero(as_tuple=True)
        found.append(torch.stack([anchor, positive, negative[anchor, positive]]))
    return _together(found, uniform)


def _pick(is_member: Tensor, uniform: Tensor) -> Tensor:
    """For each number in [0, 1) of a row a member of the row, each equally likely; int64 ``(A, B)``."""
    order = is_member.to(torch.int8).argsort(dim=1, descending=True, stable=True)  # members first
    count = is_member.sum(dim=1, keepdim=True)
    return order.gather(1, (uniform * count).long().clamp(min=0).minimum((count - 1).clamp(min=0)))


def _together(found: list[Tensor], like: Tensor) -> Triplets:
    empty = torch.empty(3, 0, dtype=torch.long, device=like.device)
    return Triplets(*torch.cat([empty, *found], dim=1))

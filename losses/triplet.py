"""Triplet losses whose margins grow with the label tree: negative and positive part from the anchor at some depth each.

A pair of clips stands in one of a few classes, by how deep the two part and whether their genres agree. A table says
for each class as a positive and each class as a negative whether the two make a triplet, and with what margin. So one
loss serves the tree with and without genre, plain labels, and anything else that can be put into a table.

Shapes: A anchors, B others, P and N classes of positives and negatives, T mined triplets.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from losses.reduction import LossSum, sum_of

NUM_DEPTHS = 5
"""Same timbre 0, same instrument 1, same family 2, other family 3, not an instrument 4."""
NO_CLASS = -1
_ANCHORS = 256  # whose distances are sorted at a time
_GENRES = 3  # unknown, different, same: a relation's -1, 0 and 1, counted from 0


class Classes(NamedTuple):
    """Which pairs are positives and negatives, and the margins between them."""

    as_positive: Tensor
    """int8 ``(A, B)``: a row of the table, or `NO_CLASS`."""
    as_negative: Tensor
    """int8 ``(A, B)``: a column of the table, or `NO_CLASS`."""
    margins: Tensor
    """float32 ``(P, N)``; NaN where the two classes make no triplet."""


def tree_classes(
    low: Tensor, high: Tensor, is_self: Tensor, margin: float, genre: Tensor | None = None, genre_margin: float = 0.0
) -> Classes:
    """Positives and negatives by the label tree.

    A triplet is one whose negative certainly parts from the anchor higher up in the tree than its positive:
    ``low(a, n) > high(a, p)``. Its margin is ``margin * (low(a, n) - high(a, p))``, so that a cello is pushed less far
    from a violin than from a trumpet. Where the genres of all three are known, ``genre_margin`` is added if the
    positive shares the anchor's and the negative does not, taken off the other way round; and if positive and negative
    part from the anchor at the same known depth, the shared genre alone makes the triplet.

    Args:
        low, high: int8 ``(A, B)``, bounds of the depth at which the two clips part; equal where it is known.
        is_self: bool ``(A, B)``, where an other is the anchor itself.
        margin: of one level of the tree, in units of the distance.
        genre: int8 ``(A, B)``, 1 same, 0 different, -1 unknown; None leaves genre out.
        genre_margin: of a genre, in the same units; less than `margin`, for it is the weaker pull.
    """
    if not 0 <= genre_margin < max(margin, 1e-12):
        raise ValueError(f"the margin of a genre must lie between 0 and that of a level ({margin}), not {genre_margin}")
    # A code for each depth, whether it is exact (only such depths can be held equal) and genre, at most 29: a byte.
    state = (low == high).to(torch.int8) * _GENRES + (0 if genre is None else genre.to(torch.int8) + 1)
    positive, negative = (depth.to(torch.int8) * (2 * _GENRES) + state for depth in (high, low))
    code = torch.arange(NUM_DEPTHS * 2 * _GENRES, device=low.device)
    depth, exact, of_genre = code // (2 * _GENRES), code // _GENRES % 2, code % _GENRES
    deeper = (depth[None, :] - depth[:, None]).float()
    is_known = (of_genre > 0)[:, None] & (of_genre > 0)[None, :]
    genre_step = torch.where(is_known, of_genre[:, None] - of_genre[None, :], 0).float()
    margins = margin * deeper + genre_margin * genre_step
    is_equal = (deeper == 0) & (exact[:, None] == 1) & (exact[None, :] == 1)
    is_triplet = (deeper > 0) | (is_equal & (genre_step > 0) & (genre_margin > 0))
    return Classes(
        positive.masked_fill_(is_self, NO_CLASS),
        negative.masked_fill_(is_self, NO_CLASS),
        margins.masked_fill(~is_triplet, float("nan")),
    )


def label_classes(same: Tensor, is_self: Tensor, margin: float) -> Classes:
    """Positives and negatives by one relation, int8 ``(A, B)`` with 1 same, 0 different, -1 neither; one margin."""
    same = same.masked_fill(is_self, -1)
    return Classes(
        (same == 1).to(torch.int8) - 1,
        (same == 0).to(torch.int8) - 1,
        torch.full((1, 1), margin, device=same.device),
    )


def euclidean(unit_anchors: Tensor, unit_others: Tensor) -> Tensor:
    """Distances of unit embeddings ``(A, E)`` and ``(B, E)`` on the sphere, float32 ``(A, B)``, between 0 and 2."""
    with torch.autocast(unit_anchors.device.type, enabled=False):
        similarity = unit_anchors.float() @ unit_others.float().T
    # The gradient of the root is infinite at 0; float32 cosines are not known to less than this anyway.
    return (2 - 2 * similarity).clamp(min=1e-6).sqrt()


def all_triplets(distance: Tensor, classes: Classes) -> LossSum:
    """The hinge over every triplet there is, without listing them.

        L = sum_{a, p, n} max(0, d(a, p) - d(a, n) + m(p, n))

    Hermans et al. 2017, arXiv 1703.07737, equation 6 ("batch all"), with a margin of its own for each pair of classes.
    An anchor's distances are sorted once; each positive then finds by bisection how many negatives of a class lie in
    its reach, and a prefix sum says what they cost: O(A B log B) time where a list takes A B^2. Anchors are taken some
    at a time, so that memory is little more than that of the distances and their gradient.

    Args:
        distance: float ``(A, B)``; others are the gathered rows of all processes.
        classes: see `tree_classes`.

    Returns:
        Summed over the triplets that cost something, and their number ("mean of non-zero" in the paper's section 2).
    """
    total, count = _AllTriplets.apply(distance, classes.as_positive, classes.as_negative, classes.margins)
    return LossSum(total, count)


class _AllTriplets(torch.autograd.Function):
    @staticmethod
    def forward(
        context, distance: Tensor, as_positive: Tensor, as_negative: Tensor, margins: Tensor
    ) -> tuple[Tensor, Tensor]:
        gradient = torch.zeros_like(distance)
        total, count = (torch.zeros((), dtype=torch.float64, device=distance.device) for _ in range(2))
        rows, columns = _present(as_positive, len(margins)), _present(as_negative, margins.shape[1])
        partners = {
            column: [(row, margins[row, column]) for row in rows if not margins[row, column].isnan()]
            for column in columns
        }
        for parts in zip(*(tensor.split(_ANCHORS) for tensor in (distance, as_positive, as_negative, gradient)),
                         strict=True):  # fmt: skip
            of_part = _sum_of_anchors(*parts, {column: found for column, found in partners.items() if found})
            total, count = total + of_part[0], count + of_part[1]
        total, count = total.to(distance.dtype), count.to(distance.dtype)
        context.save_for_backward(gradient)
        context.mark_non_differentiable(count)
        return total, count

    @staticmethod
    def backward(context, of_total: Tensor, _: Tensor) -> tuple[Tensor, None, None, None]:
        return context.saved_tensors[0] * of_total, None, None, None


def _sum_of_anchors(
    distance: Tensor, as_positive: Tensor, as_negative: Tensor, gradient: Tensor,
    partners: dict[int, list[tuple[int, Tensor]]],
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The sum over the triplets of some anchors, and their number, float64; adds to their gradient.

    Args:
        partners: of each class of negatives, the classes of positives it makes triplets with, and the margins.
    """
    total, count = (torch.zeros((), dtype=torch.float64, device=distance.device) for _ in range(2))
    near, order = distance.sort(dim=1)  # (A, B)
    for column, positives in partners.items():
        is_negative = (as_negative == column).gather(1, order).to(distance.dtype)
        counts = F.pad(is_negative.cumsum(dim=1), (1, 0))  # (A, B + 1): negatives among the nearest so many
        sums = F.pad((is_negative * near).cumsum(dim=1), (1, 0))
        reach = distance.new_full(distance.shape, float("-inf"))
        for row, margin in positives:
            reach = torch.where(as_positive == row, distance + margin, reach)
        rank = torch.searchsorted(near, reach)  # (A, B): how many of all lie within the reach
        found = counts.gather(1, rank)
        total += torch.where(found > 0, found * reach - sums.gather(1, rank), 0.0).sum(dtype=torch.float64)
        count += found.sum(dtype=torch.float64)
        gradient += found
        # What lies at rank r is reached by every positive whose rank is above r.
        by_rank = torch.zeros_like(sums).scatter_add_(1, rank, torch.ones_like(found))
        reached = by_rank.flip(1).cumsum(dim=1).flip(1)[:, 1:]
        gradient.scatter_add_(1, order, -reached * is_negative)
    return total, count


def _present(codes: Tensor, num: int) -> list[int]:
    """Which classes occur; with one look at the device."""
    return (torch.bincount(codes.flatten() + 1, minlength=num + 1)[1:] > 0).nonzero().flatten().tolist()


class Triplets(NamedTuple):
    """Mined triplets, int64 ``(T,)`` each."""

    anchor: Tensor
    positive: Tensor
    negative: Tensor


def mined_triplets(distance: Tensor, classes: Classes, triplets: Triplets, is_soft: bool = False) -> LossSum:
    """The hinge, or its soft form ``log(1 + exp(x))``, over triplets that a miner chose.

    Hermans et al. 2017, arXiv 1703.07737, equations 5 and 6 and, for the soft margin, section 2.

    Returns:
        Summed over the triplets that cost something, and their number; of the soft form over all.
    """
    anchor, positive, negative = triplets
    margin = classes.margins[classes.as_positive[anchor, positive].long(), classes.as_negative[anchor, negative].long()]
    excess = distance[anchor, positive] - distance[anchor, negative] + margin.to(distance.dtype)
    if is_soft:
        return sum_of(F.softplus(excess), torch.ones_like(excess, dtype=torch.bool))
    return sum_of(excess, excess > 0)

"""Contrastive losses: each anchor is told from all other clips of the batch by its positives.

Shapes: A anchors, B others, E embedding size, L levels of the label tree.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from losses.reduction import LossSum, sum_of


def scaled_similarity(unit_anchors: Tensor, unit_others: Tensor, temperature: float) -> Tensor:
    """Cosines over the temperature, float32 ``(A, B)`` whatever the type of the embeddings ``(A, E)`` and ``(B, E)``.

    In float16 a cosine of 1 over a temperature of 1e-5 is infinite, and its exponential far earlier.
    """
    with torch.autocast(unit_anchors.device.type, enabled=False):
        return unit_anchors.float() @ unit_others.float().T / temperature


def supervised_contrastive(similarity: Tensor, is_positive: Tensor, is_candidate: Tensor) -> LossSum:
    """The mean over an anchor's positives of minus the log-probability to pick that positive from all candidates.

        L_i = -1 / |P(i)| * sum_{p in P(i)} log( exp(s_ip / t) / sum_{a in A(i)} exp(s_ia / t) )

    Khosla et al. 2020, arXiv 2004.11362, equation 2. With the second view of a clip as its only positive and all other
    views as candidates it is NT-Xent (Chen et al. 2020, arXiv 2002.05709, equation 1).

    Args:
        similarity: s / t, ``(A, B)``, see `scaled_similarity`; others are the gathered rows of all processes.
        is_positive: bool ``(A, B)``, P; not the anchor itself.
        is_candidate: bool ``(A, B)``, A, positives and negatives; the anchor itself, and clips whose relation to it is
            unknown, are none.

    Returns:
        Summed over the anchors that have a positive, and their number; 0 of 0 if none has.
    """
    num_positives = is_positive.sum(dim=1)
    has_positive = num_positives > 0
    # Rows without a candidate would be minus infinity, and their gradient NaN.
    candidates = similarity.masked_fill(~is_candidate & has_positive[:, None], float("-inf"))
    picked = (similarity * is_positive).sum(dim=1) / num_positives.clamp(min=1)
    return sum_of(candidates.logsumexp(dim=1) - picked, has_positive)


def level_losses(similarity: Tensor, relations: Sequence[Tensor], is_self: Tensor) -> list[LossSum]:
    """One supervised contrastive loss for each level of the label tree, see `combine_levels`.

    Args:
        similarity: ``(A, B)``, see `scaled_similarity`.
        relations: of each level, finest first, int8 ``(A, B)``: 1 same, 0 different, -1 unknown. Unknown pairs are
            neither positives nor candidates.
        is_self: bool ``(A, B)``, where an other is the anchor itself.
    """
    return [
        supervised_contrastive(similarity, (relation == 1) & ~is_self, (relation >= 0) & ~is_self)
        for relation in relations
    ]


def combine_levels(means: Sequence[Tensor], weights: Sequence[float] | None = None) -> Tensor:
    """Adds the means of the levels, each no smaller than the finer one's, so that coarse terms never win at its cost.

        L = sum_l w_l * M_l,    M_1 = L_1,    M_l = max(L_l, M_{l-1})

    The hierarchical constraint of Zhang et al. 2022, arXiv 2204.13207, section 3.3, between the levels' means.

    Args:
        means: of each level, finest first, over all processes (`losses.gather.mean_over_processes`).
        weights: of each level; ``2^(1 / l)`` for l = 1, 2, ... from the finest by default, as published.
    """
    if weights is None:
        weights = [2.0 ** (1 / level) for level in range(1, len(means) + 1)]
    total, floor = torch.zeros_like(means[0]), means[0]
    for mean, weight in zip(means, weights, strict=True):
        floor = torch.maximum(mean, floor)
        total = total + weight * floor
    return total

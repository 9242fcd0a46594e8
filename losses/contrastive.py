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
        is_candidate: bool ``(A, B)``, A, all positives and the negatives; not the anchor itself, nor clips whose
            relation to it is unknown.

    Returns:
        Summed over the anchors that have a positive and a negative, and their number; 0 of 0 if none has. Without a
        negative nothing is to be told apart, and the formula would only make all positives equally near.
    """
    return _losses(similarity, [is_positive], [is_candidate])[0]


def level_losses(similarity: Tensor, relations: Sequence[Tensor], is_self: Tensor) -> list[LossSum]:
    """One supervised contrastive loss for each level of the label tree, see `combine_levels`.

    Args:
        similarity: ``(A, B)``, see `scaled_similarity`.
        relations: of each level, finest first, int8 ``(A, B)``: 1 same, 0 different, -1 unknown. Unknown pairs are
            neither positives nor candidates.
        is_self: bool ``(A, B)``, where an other is the anchor itself.
    """
    is_other = ~is_self
    positives = [(relation == 1) & is_other for relation in relations]
    candidates: list[Tensor] = []
    for relation in relations:
        is_candidate = (relation >= 0) & is_other
        # Where everything is known all levels have the same candidates, and one sum of exponentials serves them all.
        candidates.append(candidates[-1] if candidates and torch.equal(candidates[-1], is_candidate) else is_candidate)
    return _losses(similarity, positives, candidates)


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


def _losses(similarity: Tensor, positives: list[Tensor], candidates: list[Tensor]) -> list[LossSum]:
    counts = torch.stack([is_positive.sum(dim=1) for is_positive in positives])  # (L, A)
    of_anchors = _OfAnchors.apply(similarity, counts.clamp(min=1).to(similarity.dtype), positives, candidates)
    sizes: list[Tensor] = []
    for level, is_candidate in enumerate(candidates):
        is_as_before = level > 0 and is_candidate is candidates[level - 1]
        sizes.append(sizes[-1] if is_as_before else is_candidate.sum(dim=1))
    has_both = [(count > 0) & (size > count) for count, size in zip(counts, sizes, strict=True)]
    return [sum_of(values, is_counted) for values, is_counted in zip(of_anchors, has_both, strict=True)]


class _OfAnchors(torch.autograd.Function):
    """Equation 2 for each level and anchor, ``(L, A)``.

    The gradient by a similarity is what the anchor's choice puts on the candidate, less what it should put there:
    written down so, several levels share one pass over the matrix, where autograd takes four a level.
    """

    @staticmethod
    def forward(
        context, similarity: Tensor, counts: Tensor, positives: list[Tensor], candidates: list[Tensor]
    ) -> Tensor:
        choices: list[Tensor] = []
        values = []
        for level, (is_positive, is_candidate) in enumerate(zip(positives, candidates, strict=True)):
            if level == 0 or is_candidate is not candidates[level - 1]:
                log_sum, choice = _choice(similarity, is_candidate)
            choices.append(choice)
            picked = torch.where(is_positive, similarity, 0.0).sum(dim=1)
            values.append(log_sum - picked / counts[level])
        context.save_for_backward(counts)
        context.choices, context.positives = choices, positives
        return torch.stack(values)

    @staticmethod
    def backward(context, of_anchors: Tensor) -> tuple[Tensor, None, None, None]:
        (counts,) = context.saved_tensors
        choices, weights = context.choices, -of_anchors / counts  # (L, A)
        gradient = torch.zeros_like(choices[0])
        for level, (choice, is_positive) in enumerate(zip(choices, context.positives, strict=True)):
            if level == 0 or choice is not choices[level - 1]:
                of_choice = sum(of_anchors[other] for other, same in enumerate(choices) if same is choice)
                gradient.addcmul_(choice, of_choice[:, None])
            gradient.addcmul_(is_positive.to(gradient.dtype), weights[level][:, None])
        return gradient, None, None, None


def _choice(similarity: Tensor, is_candidate: Tensor) -> tuple[Tensor, Tensor]:
    """The logarithm of an anchor's sum of exponentials ``(A,)`` and each candidate's share of it ``(A, B)``."""
    masked = similarity.masked_fill(~is_candidate, float("-inf"))
    highest = masked.amax(dim=1, keepdim=True)
    highest = highest.masked_fill_(highest.isinf(), 0.0)  # an anchor without candidates
    share = masked.sub_(highest).exp_()
    total = share.sum(dim=1, keepdim=True).clamp_(min=torch.finfo(share.dtype).tiny)
    return (total.log() + highest)[:, 0], share.div_(total)

"""From which probability on a class counts as heard: what makes F1 largest on clips that were not trained on.

Shapes: N clips, C classes of a head.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from finetune.heads import HeadSpec
from finetune.scores import Predictions
from finetune.targets import Target

FEWEST = 3
"""Known positives of a class that may have a threshold of its own: the best one for one or two is an accident."""
_NONE = 0.5
_LEAST, _MOST = torch.finfo(torch.float32).tiny, 1 - torch.finfo(torch.float32).eps / 2


def choose_thresholds(predictions: Predictions, specs: Sequence[HeadSpec]) -> dict[str, Tensor]:
    """For every class of every binary head, the threshold that maximises its F1 on these clips.

    Classes with fewer than `FEWEST` known positives, or without a known negative, share one: that which maximises the
    micro-averaged F1 of their head. A head where nobody could tell keeps 0.5.

    F1 at these thresholds is optimistic on the clips that chose them; report it on others. A class that the network
    cannot hear at all gets a threshold under all its scores, for F1 rewards saying yes (Lipton, Elkan and Narayanaswamy
    2014, arXiv 1402.1892).

    Args:
        predictions: of validation clips.

    Returns:
        Head to float32 ``(C,)``, each in (0, 1), to be compared with ``>=``.
    """
    return {
        spec.name: _of_head(predictions.probabilities[spec.name], predictions.targets[spec.name])
        for spec in specs
        if spec.kind == "binary"
    }


def _of_head(probability: Tensor, target: Target) -> Tensor:
    probability, is_known = probability.double().clamp(0, 1).cpu(), target.is_known.cpu()
    is_present = (target.value.cpu() >= 0.5) & is_known
    shared = best_threshold(probability[is_known], is_present[is_known])
    thresholds = []
    for own, known, present in zip(probability.T, is_known.T, is_present.T, strict=True):
        threshold = best_threshold(own[known], present[known])
        thresholds.append(shared if threshold is None else threshold)
    return torch.tensor([_NONE if threshold is None else threshold for threshold in thresholds])


def best_threshold(score: Tensor, is_present: Tensor) -> float | None:
    """The threshold with the largest F1, 2 tp / (heard + present), midway between two neighbouring scores.

    Of equally good ones it is that with most room between its neighbours. Under the lowest score it lies midway to 0.

    Args:
        score: float64 in [0, 1], ``(N,)``.
        is_present: bool ``(N,)``.

    Returns:
        A value that float32 holds exactly, or None with fewer than `FEWEST` positives or no negative.
    """
    num_present = int(is_present.sum())
    if num_present < FEWEST or num_present == len(score):
        return None
    score, order = score.sort(descending=True)
    below = torch.cat([score[1:], score.new_zeros(1)])
    heard = torch.arange(1, len(score) + 1)
    f1 = 2 * is_present[order].cumsum(0).double() / (heard + num_present)  # with the first 1, 2, ... clips heard
    is_cut = (score > below) | (heard == len(score))  # equal scores are heard together
    best = is_cut & (f1 == f1[is_cut].max())
    place = int(torch.where(best, score - below, -1.0).argmax())
    threshold = ((score[place] + below[place]) / 2).float()
    if threshold <= below[place]:  # neighbours so close that rounding took it down to the lower
        threshold = score[place].float()
    return threshold.clamp(_LEAST, _MOST).item()

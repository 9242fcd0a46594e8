"""Late fusion: what two classifiers say of the same clips, made into one answer.

``mean`` is a mean of calibrated probabilities; each head has a weight of its own, chosen among eleven on the validation
clips. ``stacking`` is logistic regression on the logits of both, learned on the validation clips for each class.

Shapes: N clips, C classes of a head.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from finetune.calibration import Stack, fit_stack, logits_of, probabilities_of
from finetune.heads import HeadSpec
from finetune.scores import Predictions, score

FUSIONS = ("mean", "stacking")
WEIGHTS = (0.5, 0.4, 0.6, 0.3, 0.7, 0.2, 0.8, 0.1, 0.9, 0.0, 1.0)
"""Of the second classifier; of equally good ones the first here."""

Fuse = Callable[[Predictions, Predictions], Predictions]
"""From what two classifiers say of some clips to what both say together."""


def learn_fusion(first: Predictions, second: Predictions, specs: Sequence[HeadSpec], method: str) -> Fuse:
    """Learns how to fuse from clips that neither classifier has learned from.

    Args:
        first, second: of the validation clips, the same in both.
        method: one of `FUSIONS`.
    """
    learn = _mean if method == "mean" else _stacking
    of_head = {spec.name: learn(spec, first, second) for spec in specs}

    def fuse(first: Predictions, second: Predictions) -> Predictions:
        targets = {spec.name: first.targets[spec.name] for spec in specs}
        return Predictions({name: probability(first, second) for name, probability in of_head.items()}, targets)

    return fuse


def headline(spec: HeadSpec, predictions: Predictions) -> float:
    """What is chosen by: mAP of a binary head, else the accuracy; 0 where nothing can be told."""
    if not predictions.targets[spec.name].is_known.any():
        return 0.0
    values = score(predictions, [spec], {spec.name: torch.full((len(spec.classes),), 0.5)})
    return values.get(f"{spec.name}_{'map' if spec.kind == 'binary' else 'accuracy'}", 0.0)


def _stacking(spec: HeadSpec, *known: Predictions) -> Callable[..., Tensor]:
    """From what any number of classifiers say of some clips to the probabilities ``(N, C)`` of one head.

    Of one classifier, that is calibration.
    """

    def logits(parts: Sequence[Predictions]) -> Tensor:
        return torch.stack([logits_of(spec, part.probabilities[spec.name]) for part in parts])

    stack: Stack = fit_stack(spec, logits(known), known[0].targets[spec.name])
    return lambda *parts: probabilities_of(spec, stack(logits(parts)))


def _mean(spec: HeadSpec, *known: Predictions) -> Callable[..., Tensor]:
    """The same from two, by a weighted mean of their calibrated probabilities."""
    of_first, of_second = (_stacking(spec, one) for one in known)

    def mean(weight: float, first: Predictions, second: Predictions) -> Tensor:
        return torch.lerp(of_first(first), of_second(second), weight)

    def reached(weight: float) -> float:
        return headline(spec, Predictions({spec.name: mean(weight, *known)}, {spec.name: known[0].targets[spec.name]}))

    best = max(WEIGHTS, key=reached)
    return lambda *parts: mean(best, *parts)

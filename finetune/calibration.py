"""From what one or several classifiers say to probabilities that hold: logistic regression on their logits.

Of one classifier that is Platt's scaling (Platt 1999, "Probabilistic Outputs for Support Vector Machines"), of several
it is stacking (Wolpert 1992, "Stacked Generalization").

Shapes: K classifiers, N clips, C classes of a head.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

from finetune.heads import HeadSpec
from finetune.targets import Target
from losses.heads import binary_loss, class_loss

PROBABLE = 1e-6
"""The smallest probability that has a logit of its own, and one less the largest."""


class Stack(NamedTuple):
    """Weights of the logits of K classifiers."""

    weight: Tensor
    """``(K, C)``, positive; of a head that answers one class the same for all."""
    bias: Tensor
    """``(C,)``"""

    def __call__(self, logits: Tensor) -> Tensor:
        """``(K, N, C)`` to ``(N, C)``."""
        return (logits * self.weight[:, None]).sum(dim=0) + self.bias


def fit_stack(spec: HeadSpec, logits: Tensor, target: Target) -> Stack:
    """Learns weights on clips that the classifiers have not learned from.

    Every class has weights and a bias of its own, drawn to those that all classes of the head share, so that a class of
    few clips borrows from the others; the shared weights are drawn to 1 / K. As Platt has it, the N+ positives of a
    class are taken for ``(N+ + 1) / (N+ + 2)``, its N- negatives for ``1 / (N- + 2)``.

    Args:
        logits: ``(K, N, C)``, of yes or no, or over the classes of a head that answers one.
        target: ``(N, C)``, or ``(N,)`` of a head that answers one class.
    """
    parts, _, num_classes = logits.shape
    is_binary = spec.kind == "binary"
    value, is_known = target
    if is_binary:
        present = (value * is_known).sum(dim=0)
        absent = is_known.sum(dim=0) - present
        value = torch.where(value >= 0.5, (present + 1) / (present + 2), 1 / (absent + 2))
    start = torch.full((parts, 1), 1 / parts, dtype=torch.float64)
    shared = start.expm1().log().requires_grad_()  # softplus of it is the weight
    own = torch.zeros(parts, num_classes, dtype=torch.float64, requires_grad=is_binary)
    biases = [torch.zeros(size, dtype=torch.float64, requires_grad=is_binary) for size in (1, num_classes)]
    free = [part for part in (shared, own, *biases) if part.requires_grad]
    optimizer = torch.optim.LBFGS(free, max_iter=200, line_search_fn="strong_wolfe")
    logits = logits.double()

    def stack() -> Stack:
        return Stack(softplus(shared + own), sum(biases))

    def objective() -> Tensor:
        optimizer.zero_grad()
        loss = (binary_loss if is_binary else class_loss)(stack()(logits), value, is_known).total
        drawn = [0.1 * (softplus(shared) - start), stack().weight - softplus(shared), biases[1]]
        total = loss + sum(part.square().sum() for part in drawn) / 2
        total.backward()
        return total

    optimizer.step(objective)
    return Stack(*(part.detach().float() for part in stack()))


def logits_of(spec: HeadSpec, probability: Tensor) -> Tensor:
    """Logits whose sigmoid, or softmax, these probabilities ``(N, C)`` are."""
    probability = probability.clamp(PROBABLE, 1 - PROBABLE)
    return probability.logit() if spec.kind == "binary" else probability.log()


def probabilities_of(spec: HeadSpec, logits: Tensor) -> Tensor:
    """Probabilities of yes or no for each class ``(N, C)``, or over the classes of a head that answers one."""
    return logits.sigmoid() if spec.kind == "binary" else logits.softmax(dim=1)

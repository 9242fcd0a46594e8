"""What a fine-tuning step minimises: a weighted sum over heads, and what may stand beside them.

Shapes: B batch, C classes of a head, E embedding size, K terms.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data.labels import LabelTable
from data.relation import relation
from data.taxonomy import FAMILY_OF_INSTRUMENT
from finetune.heads import HeadSpec
from finetune.model import FineTuned
from finetune.targets import Target, targets_of
from losses.contrastive import combine_levels, level_losses, scaled_similarity
from losses.gather import gather, gather_with_gradient, is_self_of, mean_over_processes
from losses.heads import binary_loss, class_loss, family_consistency
from losses.uncertainty import uncertainty_weighted

LEVELS = ("timbre", "instrument", "family", "is_instrument")
MOST_WEIGHT = 10.0
"""Of a class that is hardly ever there, see `class_weights_of`."""


@dataclass(frozen=True)
class Terms:
    """Which terms there are and how they count."""

    weights: dict[str, float] = field(default_factory=dict)
    """Of each head; 1 where it is not named, 0 leaves the head untrained."""
    focal: frozenset[str] = frozenset()
    """Heads whose loss is focal."""
    gamma: float = 2.0
    """Of the focal loss."""
    consistency: float = 0.0
    """Weight of the term that asks an instrument's family to be at least as likely as the instrument."""
    metric: float = 0.0
    """Weight of supervised contrastive learning over the label tree, on the embedding."""
    temperature: float = 0.1
    """Of the latter."""
    is_uncertainty_weighted: bool = False
    """Whether the weights of the heads are learned, see `losses.uncertainty`."""


class Trained(nn.Module):
    """The network with what only its training needs: a log-variance for each term, where weights are learned."""

    def __init__(self, model: FineTuned, num_terms: int):
        super().__init__()
        self.model = model
        self.log_variance = nn.Parameter(torch.zeros(num_terms)) if num_terms else None

    def forward(
        self, waveform: Tensor, num_samples: Tensor | None, keys: Tensor, patchout: float
    ) -> tuple[dict[str, Tensor], Tensor, Tensor | None]:
        """Logits of every head, the embedding ``(B, E)``, and the log-variances ``(K,)``."""
        embedding, tokens = self.model.embed(waveform, num_samples, keys, patchout)
        logits = {name: values.float() for name, values in self.model.heads(embedding, tokens).items()}
        return logits, embedding, None if self.log_variance is None else self.log_variance.clone()


def trained_heads(specs: list[HeadSpec], terms: Terms) -> list[str]:
    """Names of the heads that have a weight."""
    return [spec.name for spec in specs if terms.weights.get(spec.name, 1.0) > 0]


def means_of(
    specs: list[HeadSpec], logits: Mapping[str, Tensor], targets: Mapping[str, Target],
    class_weights: Mapping[str, Tensor], terms: Terms,
) -> dict[str, Tensor]:  # fmt: skip
    """The mean loss of each trained head over what is known on all processes, and of the consistency of families."""
    means = {}
    for spec in specs:
        if spec.name in trained_heads(specs, terms):
            target, loss = targets[spec.name], binary_loss if spec.kind == "binary" else class_loss
            gamma = terms.gamma if spec.name in terms.focal else 0.0
            weight = class_weights.get(spec.name)
            means[spec.name] = mean_over_processes(
                loss(logits[spec.name], target.value, target.is_known, weight, gamma)
            )
    if terms.consistency:
        instrument, family = ({spec.name: spec for spec in specs}[name] for name in ("instrument", "family"))
        places = [
            family.classes.index(FAMILY_OF_INSTRUMENT[name]) if FAMILY_OF_INSTRUMENT[name] in family.classes else -1
            for name in instrument.classes
        ]
        family_of = torch.tensor(places, device=logits["family"].device)
        means["consistency"] = mean_over_processes(
            family_consistency(logits["instrument"], logits["family"], family_of)
        )
    return means


def metric_mean(embedding: Tensor, labels: Mapping[str, Tensor], temperature: float) -> Tensor:
    """Supervised contrastive learning over the label tree between the embeddings of all processes."""
    unit = F.normalize(embedding.float(), dim=1)
    own = {name: labels[name] for name in ("family", "instrument", "genre", "timbre", "is_instrument", "is_weak")}
    pairs = relation(own, {name: gather(values) for name, values in own.items()})
    similarity = scaled_similarity(unit, gather_with_gradient(unit), temperature)
    losses = level_losses(similarity, [pairs[level] for level in LEVELS], is_self_of(len(unit), unit.device))
    return combine_levels([mean_over_processes(loss) for loss in losses])


def weighted_sum(means: Mapping[str, Tensor], terms: Terms, log_variance: Tensor | None) -> Tensor:
    """The loss: heads by their weights, or by their learned uncertainty, and what stands beside them."""
    beside = {"consistency": terms.consistency, "metric": terms.metric}
    of_heads = {name: mean for name, mean in means.items() if name not in beside}
    values = torch.stack([terms.weights.get(name, 1.0) * mean for name, mean in of_heads.items()])
    total = values.sum() if log_variance is None else uncertainty_weighted(values, log_variance)
    return total + sum(beside[name] * mean for name, mean in means.items() if name in beside)


def class_weights_of(
    table: LabelTable, rows: np.ndarray, specs: list[HeadSpec], assume_complete: frozenset[str]
) -> dict[str, Tensor]:
    """What a positive of each class counts, so that the rare ones count as much as the frequent ones.

    Of yes or no, the number of clips that lack the class over that of those that have it; of one class of many, the
    mean number of clips of a class over that of this one. Between 1 / `MOST_WEIGHT` and `MOST_WEIGHT`.
    """
    targets = targets_of(table.take(rows), specs, assume_complete)
    weights = {}
    for spec in specs:
        value, is_known = targets[spec.name]
        if spec.kind == "binary":
            present = (value * is_known).sum(0)
            weight = (is_known.sum(0) - present) / present.clamp(min=1)
        else:
            count = torch.bincount(value[is_known], minlength=len(spec.classes)).float()
            weight = count[count > 0].mean() / count.clamp(min=1)
        weights[spec.name] = weight.clamp(1 / MOST_WEIGHT, MOST_WEIGHT)
    return weights

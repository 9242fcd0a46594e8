"""Which setting of a classifier to take: the one that does best on clips that it has not learned from."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from finetune.attentive import fit_attentive
from finetune.calibration import Stack, fit_stack, probabilities_of
from finetune.classifiers import (
    Clips,
    Fitted,
    each_head,
    fit_gradient_boosting,
    fit_knn,
    fit_logistic,
    fit_svm,
)
from finetune.ensemble import headline
from finetune.heads import HeadSpec
from finetune.scores import Predictions


class Classifier(NamedTuple):
    """A way to learn."""

    fit: Callable[..., Fitted]
    """``fit(clips, specs, seed, device, **setting)``."""
    settings: tuple[dict[str, Any], ...]
    """Among which the validation clips choose."""
    is_calibrated: bool
    """Whether what it says are logits of probabilities as it comes."""


CLASSIFIERS = {
    "logistic": Classifier(fit_logistic, tuple({"c": c} for c in (1e-3, 1e-2, 0.1, 1.0, 10.0)), True),
    "svm": Classifier(
        each_head(fit_svm), tuple({"c": c, "width": width} for c in (1.0, 10.0) for width in (0.25, 1.0)), False
    ),
    "gradient_boosting": Classifier(
        each_head(fit_gradient_boosting), ({"leaves": 8, "smallest": 3}, {"leaves": 31, "smallest": 20}), True
    ),
    "knn": Classifier(each_head(fit_knn), tuple({"neighbours": number} for number in (5, 10, 20, 40)), True),
    "attentive": Classifier(fit_attentive, ({"epochs": 10}, {"epochs": 40}), True),
}
"""The classifiers by their names."""


class _Chosen(NamedTuple):
    """What answers for a head."""

    value: float
    """What it reached on the validation clips."""
    fitted: Fitted
    stack: Stack | None
    """Calibrates it; None where that is not needed."""

    def probabilities(self, spec: HeadSpec, logits: Tensor) -> Tensor:
        """``(N, C)`` from the logits that `fitted` gives."""
        return probabilities_of(spec, logits if self.stack is None else self.stack(logits[None]))


Probe = Callable[[Clips], Predictions]
"""What chosen classifiers say of clips."""


def choose(
    name: str, train: Clips, validation: Clips, specs: Sequence[HeadSpec], seed: int, device: torch.device,
    note: Callable[[dict[str, Any]], None],
) -> Probe:  # fmt: skip
    """Learns with every setting and keeps, for each head, the one that does best on the validation clips.

    Args:
        name: one of `CLASSIFIERS`.
        note: is told of every setting what each head reached with it.
    """
    classifier = CLASSIFIERS[name]
    best: dict[str, _Chosen] = {}
    for setting in classifier.settings:
        fitted = classifier.fit(train, specs, seed, device, **setting)
        logits = fitted(validation.features)
        reached = {}
        for spec in specs:
            own, target = logits[spec.name], validation.targets[spec.name]
            chosen = _Chosen(0.0, fitted, None if classifier.is_calibrated else fit_stack(spec, own[None], target))
            found = Predictions({spec.name: chosen.probabilities(spec, own)}, {spec.name: target})
            reached[spec.name] = value = headline(spec, found)
            if spec.name not in best or value > best[spec.name].value:
                best[spec.name] = chosen._replace(value=value)
        note({**setting, **{f"{head}_validation": value for head, value in reached.items()}})

    def probe(clips: Clips) -> Predictions:
        logits = {chosen.fitted: chosen.fitted(clips.features) for chosen in best.values()}
        return Predictions(
            {
                spec.name: best[spec.name].probabilities(spec, logits[best[spec.name].fitted][spec.name])
                for spec in specs
            },
            {spec.name: clips.targets[spec.name] for spec in specs},
        )

    return probe

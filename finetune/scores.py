"""How well heads do on clips whose labels are known, in part or wholly; what nobody knows counts nowhere.

torchmetrics does the arithmetic, one class at a time, with the unknown as its ``ignore_index``. Scores of a binary
head, each under ``HEAD_KEY``:

* ``map``, ``auc``, ``f1_macro``: means over the classes that have a known positive and a known negative, whose number
  is ``classes``. The others can be neither found nor missed; a mean with them in it says how many they are.
* ``f1_micro``: F1 of all known labels of all classes together.
* ``hamming``: share of the known labels that are right, which is 1 - the Hamming distance.
* ``lrap``: label ranking average precision (Tsoumakas, Katakis and Vlahavas 2010, "Mining Multi-label Data"), see
  `ranking_precision`.
* ``known``: how many labels are known.

Of a head that answers one class: ``accuracy``; ``accuracy_balanced``, the mean recall of the classes that occur; for
pitch also ``accuracy_chroma``, right but for the octave; ``classes`` that occur and ``known`` clips. What cannot be
told, as a mean over no class, is left out.

Shapes: N clips, C classes of a head.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics.functional.classification import (
    binary_auroc,
    binary_average_precision,
    binary_f1_score,
    binary_hamming_distance,
    binary_precision,
    binary_recall,
    multiclass_accuracy,
    multiclass_recall,
    multilabel_ranking_average_precision,
)

from finetune.heads import HeadSpec
from finetune.targets import Target

UNKNOWN = -1
"""What torchmetrics is told to pass over."""
_COUNTS = ("classes", "known")


@dataclass(frozen=True)
class Predictions:
    """What heads say of some clips, beside what is known of them.

    Raises:
        ValueError: the two do not fit each other, or a probability is none.
    """

    probabilities: dict[str, Tensor]
    """Head to float ``(N, C)``."""
    targets: dict[str, Target]
    """Head to its target: value and is_known, ``(N, C)`` of a binary head, ``(N,)`` of one that answers one class."""

    def __post_init__(self):
        for name, values in self.probabilities.items():
            if name not in self.targets:
                raise ValueError(f"targets were expected for the head {name}, there are {', '.join(self.targets)}")
            shape = tuple(self.targets[name].value.shape)
            if shape not in (tuple(values.shape), tuple(values.shape[:1])):
                raise ValueError(f"the head {name} gives {tuple(values.shape)}, its targets are {shape}; pair them up")
            # torchmetrics takes whatever leaves [0, 1] for logits, and says nothing; a mean of floats may by a hair.
            if not bool(((values > -1e-4) & (values < 1 + 1e-4)).all()):
                raise ValueError(
                    f"the head {name} should give probabilities from 0 to 1, found {_first_bad(values):.4g}; its "
                    "weights may have diverged, train again with a lower --lr"
                )

    def __len__(self) -> int:
        return len(next(iter(self.probabilities.values()), ()))

    def select(self, rows: Tensor) -> "Predictions":
        """Some of the clips, by numbers or by a mask."""
        return Predictions(
            {name: values[rows] for name, values in self.probabilities.items()},
            {name: Target(target.value[rows], target.is_known[rows]) for name, target in self.targets.items()},
        )

    @classmethod
    def concatenate(cls, parts: Sequence["Predictions"]) -> "Predictions":
        """The clips of all parts, which have the same heads."""
        targets = {
            name: Target(
                torch.cat([part.targets[name].value for part in parts]),
                torch.cat([part.targets[name].is_known for part in parts]),
            )
            for name in parts[0].targets
        }
        names = parts[0].probabilities
        return cls({name: torch.cat([part.probabilities[name] for part in parts]) for name in names}, targets)


def _first_bad(values: Tensor) -> float:
    return values[~((values > -1e-4) & (values < 1 + 1e-4))][0].item()


class ClassScores(NamedTuple):
    """Scores of each class of a binary head, ``(C,)`` each; NaN where the class is not scored."""

    positives: Tensor
    """Clips in which it is known to sound."""
    known: Tensor
    """Clips of which it is known whether it sounds."""
    average_precision: Tensor
    auc: Tensor
    f1: Tensor
    precision: Tensor
    recall: Tensor

    @property
    def is_scored(self) -> Tensor:
        """Whether a class has a known positive and a known negative."""
        return (self.positives > 0) & (self.positives < self.known)


def class_scores(probability: Tensor, target: Target, threshold: Tensor) -> ClassScores:
    """Scores each class of a binary head by itself.

    Args:
        probability: float ``(N, C)``.
        target: value and is_known, ``(N, C)``.
        threshold: ``(C,)``; a class is heard where its probability reaches it.
    """
    probability, heard, said = _formatted(probability, target, threshold)
    positives, known = (said == 1).sum(0), (said != UNKNOWN).sum(0)
    of_probability = (binary_average_precision, binary_auroc)
    of_decision = (binary_f1_score, binary_precision, binary_recall)
    values = torch.full((5, probability.shape[1]), float("nan"))
    for place in torch.nonzero((positives > 0) & (positives < known)).flatten().tolist():
        for row, metric in enumerate((*of_probability, *of_decision)):
            guess = (probability if metric in of_probability else heard)[:, place]
            values[row, place] = metric(guess, said[:, place], ignore_index=UNKNOWN)
    return ClassScores(positives, known, *values)


def _formatted(probability: Tensor, target: Target, threshold: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Probabilities in [0, 1], decisions, and what is known as 1, 0 or -1; float32 and int64 ``(N, C)``.

    Decisions are made here because torchmetrics knows one threshold for all classes, and does not count what equals it.
    """
    probability = probability.float().clamp(0, 1)
    said = torch.where(target.is_known, (target.value >= 0.5).long(), UNKNOWN)
    return probability, (probability >= threshold).long(), said


def ranking_precision(probability: Tensor, target: Target) -> Tensor:
    """Label ranking average precision: the mean, over the classes that sound, of the share of those at least as likely
    that sound too, averaged over clips.

    Ranked are the classes of a clip that are known. A clip without a known positive or without a known negative ranks
    nothing and does not count; torchmetrics and scikit-learn give it 1.

    Returns:
        float32 scalar, NaN where no clip counts.
    """
    said = torch.where(target.is_known, (target.value >= 0.5).long(), UNKNOWN)
    rows = (said == 1).any(1) & (said == 0).any(1)
    if not rows.any():
        return torch.tensor(float("nan"))
    probability = probability.float().clamp(0, 1)[rows]
    return multilabel_ranking_average_precision(probability, said[rows], said.shape[1], ignore_index=UNKNOWN)


def score(predictions: Predictions, specs: Sequence[HeadSpec], thresholds: Mapping[str, Tensor]) -> dict[str, float]:
    """Scores every head, in [0, 1], and says how many ``classes`` and ``known`` labels that was from.

    Args:
        thresholds: of every binary head, ``(C,)``.

    Raises:
        ValueError: no head has a known label.
    """
    values: dict[str, float] = {}
    for spec in specs:
        probability, target = predictions.probabilities[spec.name], predictions.targets[spec.name]
        if spec.kind == "binary":
            own = _binary_scores(probability, target, thresholds[spec.name])
        else:
            own = _one_class_scores(probability, target, spec)
        values |= {f"{spec.name}_{key}": value for key, value in own.items()}
    if not any(values[f"{spec.name}_known"] for spec in specs):
        raise ValueError(
            f"labels of {' or '.join(spec.name for spec in specs)} were expected to score by, none of "
            f"{len(predictions)} clips has one; score clips that are labelled"
        )
    return values


def _binary_scores(probability: Tensor, target: Target, threshold: Tensor) -> dict[str, float]:
    of_class = class_scores(probability, target, threshold)
    _, heard, said = (values.flatten() for values in _formatted(probability, target, threshold))
    values = {}
    if of_class.is_scored.any():
        values = {
            "map": of_class.average_precision.nanmean(),
            "auc": of_class.auc.nanmean(),
            "f1_macro": of_class.f1.nanmean(),
            "f1_micro": binary_f1_score(heard, said, ignore_index=UNKNOWN),
            "lrap": ranking_precision(probability, target),
        }
    if target.is_known.any():
        values["hamming"] = 1 - binary_hamming_distance(heard, said, ignore_index=UNKNOWN)
    values |= {"classes": of_class.is_scored.sum(), "known": of_class.known.sum()}
    return {key: value.item() for key, value in values.items() if not value.isnan()}


def _one_class_scores(probability: Tensor, target: Target, spec: HeadSpec) -> dict[str, float]:
    guess, truth = probability.argmax(1)[target.is_known], target.value[target.is_known]
    values = {"classes": float(len(truth.unique())), "known": float(len(truth))}
    if not len(truth):
        return values
    num_classes = len(spec.classes)
    # The macro mean of torchmetrics has classes in it that were guessed and never occur.
    recall = multiclass_recall(guess, truth, num_classes, average="none")[truth.unique()]
    found = {
        "accuracy": multiclass_accuracy(guess, truth, num_classes, average="micro"),
        "accuracy_balanced": recall.mean(),
    }
    if spec.name == "pitch":
        chroma = torch.tensor([int(name) % 12 for name in spec.classes], device=truth.device)
        found["accuracy_chroma"] = multiclass_accuracy(chroma[guess], chroma[truth], 12, average="micro")
    return {key: value.item() for key, value in found.items()} | values


def describe(values: Mapping[str, float]) -> str:
    """The scores of an evaluation in words, for a line of progress."""
    parts = []
    for key, value in values.items():
        head = key.rpartition("_")[0]
        name = head.replace("_", " ")
        if key.endswith("_map"):
            metric = "AP" if values.get(f"{head}_classes") == 1 else "mAP"
            parts.append(f"{name} {metric} {value:.3f} F1 {values[f'{head}_f1_macro']:.3f}")
        elif key.endswith("_accuracy"):
            parts.append(f"{name} accuracy {value:.3f}")
    return "; ".join(parts)


def score_table(predictions: Predictions, specs: Sequence[HeadSpec], thresholds: Mapping[str, Tensor]) -> str:
    """A table with a line for each class of every binary head, and under it a line for each head.

    It is Markdown, padded so that it reads as plain text too; a dash stands for what cannot be told.
    """
    columns = ("head", "class", "positives", "known", "AP", "AUC", "F1", "precision", "recall", "threshold")
    lines = []
    for spec in specs:
        if spec.kind == "binary":
            own = class_scores(predictions.probabilities[spec.name], predictions.targets[spec.name],
                               thresholds[spec.name])  # fmt: skip
            scores = (*own[2:], thresholds[spec.name])
            for place, name in enumerate(spec.classes):
                cells = [_cell(values[place].item()) for values in scores]
                lines.append((spec.name, name, str(own.positives[place].item()), str(own.known[place].item()), *cells))
    values = score(predictions, specs, thresholds)
    return "\n".join([*(_markdown(columns, lines) if lines else ()), "", *(_summary(spec, values) for spec in specs)])


def _cell(value: float) -> str:
    return "-" if value != value else f"{value:.3f}"


def _markdown(columns: Sequence[str], lines: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(columns, *lines, strict=True)]
    aligned = ["<", "<"] + [">"] * (len(columns) - 2)
    rule = [
        ("-" * width if side == "<" else "-" * (width - 1) + ":") for width, side in zip(widths, aligned, strict=True)
    ]
    padded = [
        [f"{cell:{side}{width}}" for cell, side, width in zip(line, aligned, widths, strict=True)]
        for line in (columns, *lines)
    ]
    return [f"| {' | '.join(line)} |" for line in (padded[0], rule, *padded[1:])]


_NAMES = {
    "map": "mAP", "auc": "AUC", "f1_macro": "F1 macro", "f1_micro": "F1 micro", "lrap": "LRAP",
    "hamming": "Hamming accuracy", "accuracy": "accuracy", "accuracy_balanced": "balanced",
    "accuracy_chroma": "but for the octave",
}  # fmt: skip


def _summary(spec: HeadSpec, values: Mapping[str, float]) -> str:
    own = {key: values[f"{spec.name}_{key}"] for key in (*_NAMES, *_COUNTS) if f"{spec.name}_{key}" in values}
    scores = ", ".join(f"{_NAMES[key]} {value:.3f}" for key, value in own.items() if key in _NAMES)
    of = f"{own['classes']:.0f} of {len(spec.classes)} classes, {own['known']:,.0f} known labels"
    return f"{spec.name}: {scores or 'nothing to score'} ({of})"

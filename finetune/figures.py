"""Pictures of what heads hear: which classes are taken for which, and how well each is found.

Shapes: N clips, C classes of a head, K of them drawn.
"""

from collections.abc import Sequence

import matplotlib
import numpy as np
import torch
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from torch import Tensor
from torchmetrics.functional.classification import multiclass_confusion_matrix

from checkpoints.figures import ACCENT, INK, MUTED, SECOND
from finetune.heads import HeadSpec
from finetune.scores import Predictions, class_scores
from finetune.targets import Target

MOST_NUMBERS = 24
"""Classes up to which a matrix has all its numbers written in; of larger ones those from 0.1 on."""
MOST_NAMES = 64
"""Classes up to which each has its name at the side, and its numbers."""


def figures_of(predictions: Predictions, specs: Sequence[HeadSpec]) -> dict[str, Figure]:
    """Name to figure: ``confusion_HEAD`` of every head with several classes, ``classes_HEAD`` of those that are binary.

    Heads of which nothing is known are passed over.
    """
    figures = {}
    for spec in specs:
        if len(spec.classes) > 1 and predictions.targets[spec.name].is_known.any():
            figures[f"confusion_{spec.name}"] = confusion(predictions, spec)
            if spec.kind == "binary":
                figures[f"classes_{spec.name}"] = class_bars(predictions, spec)
    return figures


def confusion(predictions: Predictions, spec: HeadSpec) -> Figure:
    """What is heard where a class sounds; a row for each class that is known to.

    Of a head that answers one class: the share of the row's clips that are taken for each class. Of a binary head: the
    mean probability of each class over the row's clips, and off the diagonal only over those of them in which that
    class is not known to sound as well, so that what is often heard together does not pass for confused.
    """
    probability, target = predictions.probabilities[spec.name].float().cpu(), predictions.targets[spec.name]
    if spec.kind == "binary":
        table, clips = _mean_heard(probability, target)
        title = f"{spec.name}: mean probability where a class sounds, and the others are not said to"
    else:
        table, clips = _shares_taken(probability, target)
        title = f"{spec.name}: what clips of a class are taken for"
    rows = np.flatnonzero(clips > 0)
    columns = rows if spec.kind == "binary" else np.flatnonzero((clips > 0) | (np.nan_to_num(table).sum(0) > 0))
    return _matrix(
        table[np.ix_(rows, columns)],
        [f"{_words(spec.classes[row])} ({clips[row]:,})" for row in rows],
        [_words(spec.classes[column]) for column in columns],
        title,
    )


def _mean_heard(probability: Tensor, target: Target) -> tuple[np.ndarray, np.ndarray]:
    """Mean probability ``(C, C)``, NaN over no clip, and the clips ``(C,)`` in which each class is known to sound."""
    sounds = (target.is_known & (target.value >= 0.5)).cpu().double()  # (N, C)
    others, probability = 1 - sounds, probability.double()
    table = (sounds.T @ (probability * others)) / (sounds.T @ others)
    clips = sounds.sum(0)
    table.fill_diagonal_(0)
    table += torch.diag((probability * sounds).sum(0) / clips.clamp(min=1))
    table[clips == 0] = float("nan")
    return table.numpy(), clips.long().numpy()


def _shares_taken(probability: Tensor, target: Target) -> tuple[np.ndarray, np.ndarray]:
    """Shares ``(C, C)`` and the clips ``(C,)`` of each class."""
    is_known, truth = target.is_known.cpu(), target.value.cpu()
    counts = multiclass_confusion_matrix(probability.argmax(1)[is_known], truth[is_known], probability.shape[1])
    clips = counts.sum(1)
    return (counts / clips[:, None]).numpy(), clips.numpy()


def _matrix(table: np.ndarray, rows: list[str], columns: list[str], title: str) -> Figure:
    most, longest = max(len(rows), len(columns)), max(map(len, (*rows, *columns)), default=0)
    cell = float(np.clip(13 / max(most, 1), 0.14, 0.42))  # inches
    size = [cell * max(count, 6) + 0.075 * longest for count in (len(columns), len(rows))]
    figure = Figure(figsize=(size[0] + 1.4, size[1] + 0.7), layout="constrained")
    axis = figure.subplots()
    figure.suptitle(title, fontsize=10, color=INK)
    if not table.size:
        axis.set_axis_off()
        return figure
    palette = matplotlib.colormaps["Blues"].with_extremes(bad="#f4f4f4")
    # Bent, so that what is confused a little can be told from what is not.
    picture = axis.imshow(table, cmap=palette, norm=PowerNorm(0.7, 0, 1), interpolation="nearest")
    least = 0.005 if most <= MOST_NUMBERS else 0.1
    for (row, column), value in np.ndenumerate(table) if most <= MOST_NAMES else ():
        if value >= least:  # NaN is not
            text = f"{value:.2f}"[1:] if value < 0.995 else "1"
            colour = "white" if picture.norm(value) > 0.6 else INK
            axis.text(column, row, text, ha="center", va="center", fontsize=16 * cell + 1, color=colour)
    for ticks, names, turn in ((axis.set_xticks, columns, 90), (axis.set_yticks, rows, 0)):
        every = -(-len(names) // MOST_NAMES)
        ticks(range(0, len(names), every), names[::every], fontsize=8, color=INK, rotation=turn)
    axis.set_ylabel("sounds (in so many clips)", fontsize=9, color=MUTED)
    axis.set_xlabel("heard", fontsize=9, color=MUTED)
    axis.tick_params(length=0)
    axis.spines[:].set_color("#dddddd")
    bar = figure.colorbar(picture, ax=axis, shrink=0.6, aspect=30, pad=0.02, format="%g")
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)
    return figure


def class_bars(predictions: Predictions, spec: HeadSpec) -> Figure:
    """Average precision of each class, best first, with what guessing gives, and its ROC AUC.

    Classes without a known positive or a known negative are named below, not drawn.
    """
    target = predictions.targets[spec.name]
    own = class_scores(predictions.probabilities[spec.name], target, torch.full((len(spec.classes),), 0.5))
    scored = own.is_scored.nonzero().flatten()
    order = scored[own.average_precision[scored].argsort(descending=True, stable=True)].tolist()
    left = [_words(name) for name, is_scored in zip(spec.classes, own.is_scored, strict=True) if not is_scored]
    figure = Figure(figsize=(7.6, 1.5 + 0.24 * max(len(order), 2) + 0.16 * bool(left)), layout="constrained")
    axis = figure.subplots()
    places = np.arange(len(order))
    precision, auc = own.average_precision[order].numpy(), own.auc[order].numpy()
    chance = (own.positives[order] / own.known[order]).numpy()
    mean = f", mean {precision.mean():.3f}" if order else ": no class can be scored"
    axis.set_title(f"{spec.name}: average precision of each class{mean}", fontsize=10, color=INK, loc="left")
    axis.barh(places, precision, height=0.68, color=ACCENT, alpha=0.85, lw=0, label="average precision")
    axis.scatter(chance, places, marker="|", s=70, color=INK, lw=1.4, label="by chance", zorder=3, clip_on=False)
    axis.scatter(auc, places, marker="D", s=16, color=SECOND, lw=0, label="ROC AUC", zorder=3, clip_on=False)
    for place, index in enumerate(order):
        text = f"{own.positives[index]:,} of {own.known[index]:,}"
        axis.text(1.015, place, text, va="center", fontsize=7.5, color=MUTED, clip_on=False)
    axis.text(1.015, -0.95, "clips with it", va="center", fontsize=7.5, color=MUTED, clip_on=False)
    axis.set_yticks(places, [_words(spec.classes[index]) for index in order], fontsize=8.5, color=INK)
    axis.set_ylim(max(len(order), 1) - 0.4, -0.6)
    axis.set_xlim(0, 1)
    axis.tick_params(axis="y", length=0)
    axis.tick_params(axis="x", labelsize=8, colors=MUTED)
    axis.grid(axis="x", color="#e4e4e4", lw=0.8)
    axis.set_axisbelow(True)
    axis.spines[:].set_visible(False)
    if order:
        figure.legend(fontsize=8, frameon=False, ncols=3, loc="outside lower center")
    if left:
        named = f"{', '.join(left[:6])}{f' and {len(left) - 6} more' if len(left) > 6 else ''}"
        axis.set_xlabel(f"not scored, for want of clips with or without: {named}", fontsize=7.5, color=MUTED)
    return figure


def _words(name: str) -> str:
    return name.replace("_", " ")

"""Pictures of a run: how they are written, and the curves that every recipe draws."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from checkpoints.files import replacing

matplotlib.use("Agg")

INK, MUTED, ACCENT, SECOND = "#222222", "#8a8a8a", "#1f5fa8", "#c2571a"


def save(figure: Figure, file: Path) -> Path:
    """Writes a figure as PNG, whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as temporary:
        figure.savefig(temporary, dpi=120, format="png")
    return file


def curves(log: Sequence[dict[str, Any]]) -> Figure:
    """Training loss and what evaluations found.

    That is masked error or retrieval, and probes, each beside lines that do not learn; or the scores of heads.
    """
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    loss, error, probes = figure.subplots(1, 3)
    steps = [line for line in log if "loss" in line]
    loss.plot([line["clips"] for line in steps], [line["loss"] for line in steps], color=ACCENT, lw=1.2)
    loss.set_title("training loss", fontsize=10)
    checks = [line for line in log if "masked_error" in line]
    if checks:
        seen = [line["clips"] for line in checks]
        error.plot(seen, [line["masked_error"] for line in checks], color=ACCENT, marker="o", ms=3, label="this run")
        for name, style, label in (
            ("mean_error", ":", "mean of the visible"),
            ("nearest_error", "--", "nearest visible"),
        ):
            error.axhline(checks[-1][name], color=MUTED, ls=style, lw=1, label=label)
        error.set_title("error on masked patches, unseen timbres", fontsize=10)
        error.set_ylim(bottom=0)
    retrieved = [line for line in log if "family_map_at_r" in line]
    if retrieved:
        _against_fixed_lines(error, retrieved, "family_map_at_r", "family mAP@R", ACCENT)
        error.set_title("retrieval of families, other timbres", fontsize=10)
    probed = [line for line in log if "knn" in line]
    for name, color in (("knn", ACCENT), ("linear", SECOND)) if probed else ():
        _against_fixed_lines(probes, probed, name, name, color)
    if probed:
        probes.set_title("family accuracy, unseen timbres", fontsize=10)
    scored = [line for line in log if "validation_score" in line]
    if scored:
        seen = [line["clips"] for line in scored]
        error.plot(seen, [line["validation_score"] for line in scored], color=ACCENT, marker="o", ms=3, label="mean")
        error.set_title("mean score of the heads, validation clips", fontsize=10)
        names = [name for name in scored[-1] if name.endswith(("_map", "_accuracy"))]
        for colour, name in zip(colormaps["tab10"].colors, names, strict=False):
            head, _, metric = name.rpartition("_")
            label = f"{head.replace('_', ' ')} {metric.replace('map', 'mAP')}"
            probes.plot(seen, [line.get(name) for line in scored], color=colour, marker="o", ms=3, label=label)
        probes.set_title("each head, validation clips", fontsize=10)
    for axis in (loss, error, probes):
        axis.set_xlabel("clips seen", fontsize=8)
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
        axis.set_visible(bool(axis.lines))
    for axis in (error, probes):
        if axis.lines:
            axis.legend(fontsize=7, frameon=False, ncols=1 + (len(axis.lines) > 4))
    return figure


def _against_fixed_lines(axis: Axes, lines: Sequence[dict[str, Any]], key: str, name: str, colour: str) -> None:
    """A score over clips seen, and what log-mel statistics and the network before training reach."""
    seen = [line["clips"] for line in lines]
    axis.plot(seen, [line[key] for line in lines], color=colour, marker="o", ms=3, label=f"{name}, this run")
    for prefix, style, of in (("log_mel", "--", "log-mel"), ("untrained", ":", "untrained"), ("start", ":", "start")):
        if f"{prefix}_{key}" in lines[-1]:
            axis.axhline(lines[-1][f"{prefix}_{key}"], color=colour, ls=style, lw=1, label=f"{name}, {of}")

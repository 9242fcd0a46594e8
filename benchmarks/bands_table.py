"""What fine-tuning reached on bands, method by method: tables, goals and a figure."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.embeddings import mean_and_spread
from benchmarks.timing import goal, table
from checkpoints.figures import INK, MUTED

SCORES = {"instrument_f1_macro": "macro F1", "instrument_f1_micro": "micro F1", "instrument_map": "mAP"}
"""Scores of a run that make columns."""
HEADLINES = ("instrument_f1_macro", "instrument_map")
"""Those of them that goals and figure are about."""
NAMES = {
    "log_mel": "log-mel, linear probe",
    "mfcc_svm": "MFCC + SVM",
    "classic_svm": "classic features + SVM",
    "recurrent": "LSTM with attention",
    "mobilenets": "MobileNets",
    "linear_probe": "linear probe",
    "head": "head only",
    "lora": "LoRA",
    "bottleneck": "bottleneck",
    "full": "full fine-tuning",
}
"""What a row's method is called, by its key."""
PRETRAINED, UNTRAINED = "pretrained", "untrained"
ADAPTERS, PROBES = ("lora", "bottleneck"), ("log_mel", "mfcc_svm", "classic_svm", "linear_probe")
CLEARLY = 0.02
"""By how much an adapter's score lies over another's where it beats it clearly."""
COLOURS = {"log_mel": "#7f7f7f", "mfcc_svm": MUTED, "classic_svm": "#b5b5b5", "recurrent": "#b03a5b",
           "mobilenets": "#d78fa2", "linear_probe": "#6b6b28", "head": "#8b4aa0", "lora": "#1f5fa8",
           "bottleneck": "#3b8c4f", "full": "#c2571a"}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One setting, over its seeds."""

    method: str
    """A key of `NAMES`."""
    start: str
    """Of what weights: `PRETRAINED`, `UNTRAINED`, or nothing where the backbone takes no part."""
    share: float
    """Of the training clips, in (0, 1]."""
    runs: dict[int, dict[str, Any]]
    """What the ``scores.json`` of each finished run holds, by seed."""

    def values(self, score: str) -> list[float]:
        """One a seed, on the test."""
        return [run["test"][score] for run in self.runs.values()]

    def mean(self, score: str) -> float:
        """Over seeds."""
        return statistics.mean(self.values(score))

    def cell(self, score: str) -> str:
        """Mean and spread; nothing where no run is finished."""
        return mean_and_spread(self.values(score)) if self.runs else ""

    def size(self) -> str:
        """Thousands of the backbone's parameters that are trained, and their share; nothing where none are counted."""
        run = next(iter(self.runs.values()), {})
        trained, total = run.get("trainable"), run.get("parameters")
        return f"{trained / 1e3:,.1f} ({trained / total:.2%})" if total else ""

    def seconds(self) -> str:
        """Of training, the mean over seeds."""
        return f"{statistics.mean(run['seconds'] for run in self.runs.values()):,.0f}" if self.runs else ""


def percent(share: float) -> str:
    """A share of the labels in words, as ``10 %``."""
    return f"{100 * share:g} %"


def score_table(rows: Sequence[Row]) -> str:
    """Mean and standard deviation over seeds of every score, of rows with equally many labels."""
    header = ["method", "start", *SCORES.values(), "thousands trained", "runs", "train s"]
    cells = [
        [NAMES[row.method], row.start, *map(row.cell, SCORES), row.size(), str(len(row.runs)), row.seconds()]
        for row in rows
    ]
    return table(header, cells)


def efficiency_table(rows: Sequence[Row], score: str) -> str:
    """One score by the share of the labels."""
    shares = sorted({row.share for row in rows})
    cells: dict[tuple[str, str], dict[float, str]] = {}
    for row in rows:
        cells.setdefault((row.method, row.start), {})[row.share] = row.cell(score)
    lines = [
        [NAMES[method], start, *(own.get(share, "") for share in shares)] for (method, start), own in cells.items()
    ]
    return table(["method", "start", *map(percent, shares)], lines)


def goals(rows: Sequence[Row]) -> list[str]:
    """What the mission asks of adapters where all labels are there, a line each for whatever is finished."""
    found = {(row.method, row.start): row for row in rows if row.runs and row.share == max(row.share for row in rows)}
    lines = []
    for method in ADAPTERS:
        own = found.get((method, PRETRAINED))
        probes = [found[key] for name in PROBES for key in ((name, ""), (name, PRETRAINED)) if key in found]
        for score in HEADLINES if own else ():
            what = f"{NAMES[method]}, {SCORES[score]}"
            if probes:
                best = max(probes, key=lambda row: row.mean(score))
                over = own.mean(score) - best.mean(score)
                lines.append(goal(f"{what} over the best of probes and SVM ({NAMES[best.method]})", over, CLEARLY))
            if (method, UNTRAINED) in found:
                over = own.mean(score) - found[method, UNTRAINED].mean(score)
                lines.append(goal(f"{what} over the same from an untrained backbone", over, CLEARLY))
            if ("full", PRETRAINED) in found:
                over = own.mean(score) - found["full", PRETRAINED].mean(score)
                lines.append(goal(f"{what} over full fine-tuning", over, 0.0))
    return lines


def classes_line(rows: Sequence[Row]) -> str:
    """Over how many instruments scores are means; those that differ in it do not compare."""
    found = sorted({run["test"]["instrument_classes"] for row in rows for run in row.runs.values()})
    if len(found) == 1:
        return f"Macro F1 and mAP are means over {found[0]} instruments."
    counts = ", ".join(map(str, found))
    return f"Warning: macro F1 and mAP are means over different instruments ({counts} of them) and do not compare."


def report(rows: Sequence[Row]) -> str:
    """Tables, the most labels first, and goals."""
    parts = [classes_line(rows)]
    shares = sorted({row.share for row in rows}, reverse=True)
    for share in shares:
        parts += [f"## {percent(share)} of the labels", score_table([row for row in rows if row.share == share])]
    if len(shares) > 1:
        parts += [f"## {SCORES[HEADLINES[-1]]} by labels", efficiency_table(rows, HEADLINES[-1])]
    lines = [f"- {line}" for line in goals(rows)]
    return "\n\n".join([*parts, "\n".join(lines)] if lines else parts)


def as_values(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The rows as JSON holds them."""
    return [{"method": row.method, "start": row.start, "label_share": row.share, "runs": row.runs} for row in rows]


def figure_of(rows: Sequence[Row]) -> Figure:
    """Two scores: with all labels by method and start, a dot a seed; and by the share of the labels, if it varies."""
    rows = [row for row in rows if row.runs]
    most, columns = max(row.share for row in rows), min(2, len({row.share for row in rows}))
    methods = [name for name in NAMES if any(row.method == name for row in rows)]
    figure = Figure(figsize=(7 if columns == 1 else 12.5, 2 * (1.3 + 0.42 * len(methods))), layout="constrained")
    for score, axes in zip(HEADLINES, figure.subplots(len(HEADLINES), columns, squeeze=False), strict=True):
        _draw_methods(axes[0], [row for row in rows if row.share == most], methods, score)
        axes[0].set_title(f"{SCORES[score]}, {percent(most)} of the labels", fontsize=10, color=INK)
        if columns == 2:
            _draw_shares(axes[1], rows, score)
            axes[1].set_title(f"{SCORES[score]} by labels", fontsize=10, color=INK)
    if columns == 2:
        place = {"loc": "center left", "bbox_to_anchor": (1.0, 0.5)}
        figure.axes[1].legend(fontsize=8, frameon=False, handlelength=3, **place)
    return figure


def _draw_methods(axis: Axes, rows: Sequence[Row], methods: Sequence[str], score: str) -> None:
    of_method = {method: [row for row in rows if row.method == method] for method in methods}
    for row in rows:
        own = of_method[row.method]
        height = 0.76 / len(own)
        place = methods.index(row.method) + height * (own.index(row) - (len(own) - 1) / 2)
        style = {"fill": False, "edgecolor": COLOURS[row.method], "hatch": "////", "lw": 1}
        style = style if row.start == UNTRAINED else {"color": COLOURS[row.method]}
        axis.barh(place, row.mean(score), height=0.92 * height, **style)
        values = row.values(score)
        axis.plot(values, [place] * len(values), "o", ms=3.5, color=INK, mec="white", mew=0.5)
        axis.annotate(f"{row.mean(score):.3f}", (max(values), place), xytext=(6, 0), textcoords="offset points",
                      va="center", fontsize=7.5, color=INK)  # fmt: skip
    axis.set_yticks(range(len(methods)), [NAMES[method] for method in methods], fontsize=8)
    axis.invert_yaxis()
    axis.margins(x=0.12)
    axis.set_xlim(left=0)
    axis.tick_params(axis="x", labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)
    if any(row.start == UNTRAINED for row in rows):
        axis.set_xlabel("hatched: from an untrained backbone", fontsize=8, color=INK)


def _draw_shares(axis: Axes, rows: Sequence[Row], score: str) -> None:
    lines: dict[tuple[str, str], list[Row]] = {}
    for row in sorted(rows, key=lambda row: row.share):
        lines.setdefault((row.method, row.start), []).append(row)
    for number, ((method, start), own) in enumerate(lines.items()):
        aside = 1.015 ** (number - len(lines) / 2)  # or spreads would lie on each other
        spread = [statistics.stdev(row.values(score)) if len(row.runs) > 1 else 0.0 for row in own]
        style = {PRETRAINED: "-", UNTRAINED: "--"}.get(start, ":")
        label = f"{NAMES[method]}, {start}" if start else NAMES[method]
        axis.errorbar([row.share * aside for row in own], [row.mean(score) for row in own], yerr=spread, fmt=style,
                      color=COLOURS[method], marker="o", ms=3.5, lw=1.3, elinewidth=0.8, label=label)  # fmt: skip
    shares = sorted({row.share for row in rows})
    axis.set_xscale("log")
    axis.set_xticks(shares, [percent(share) for share in shares], fontsize=8)
    axis.set_xticks([], minor=True)
    axis.set_xlabel("labelled training clips", fontsize=8, color=INK)
    axis.tick_params(axis="y", labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)

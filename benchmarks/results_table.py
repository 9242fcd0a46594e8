"""The results table: cells, goals, published numbers beside, a figure."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.embeddings import mean_and_spread
from benchmarks.published import PUBLISHED
from benchmarks.results_real import COLUMNS as REAL_COLUMNS
from benchmarks.results_rows import BASELINES, SHIPPED_ROW
from benchmarks.timing import goal, table
from checkpoints.figures import INK, MUTED

SCORES = {
    "seen_knn": "family kNN, unseen timbres",
    "seen_linear": "family linear, unseen timbres",
    "unseen_knn": "family kNN, unseen font",
    "unseen_linear": "family linear, unseen font",
    "instrument_map": "instrument mAP, bands",
    "instrument_f1_macro": "instrument F1, bands",
    "instrument_auc": "instrument or none, AUC",
    "pitch_accuracy": "pitch",
}
"""Scores that make columns, all of the unseen font but for the first two."""
FAMILY, INSTRUMENT = ("unseen_linear", "unseen_knn"), "instrument_map"
LEAST_POINTS, AIMED_POINTS = 15.0, 25.0
OURS = "#1f5fa8"
NOTES = (
    "Means over seeds and their standard deviation. An SVM takes the place of the linear probe in the row that names "
    "one. F1 is macro. Training seconds are those of pretraining and of learning instruments as far as this table ran "
    "them; those of weights that ship are told by their card."
)


@dataclass(frozen=True)
class Row:
    """A line of the table, over its seeds."""

    name: str
    label: str
    scores: list[dict[str, float]]
    """One a seed: keys of `SCORES`, ``parameters``, ``seconds``; what could not be told is not there."""

    def values(self, score: str) -> list[float]:
        """One a seed that has it."""
        return [scores[score] for scores in self.scores if score in scores]

    def mean(self, score: str) -> float | None:
        """Over seeds; None where no seed has it."""
        values = self.values(score)
        return statistics.mean(values) if values else None

    def cell(self, score: str) -> str:
        """Mean and spread; nothing where no seed has it."""
        values = self.values(score)
        return mean_and_spread(values) if values else ""

    def best(self, scores: Sequence[str]) -> float | None:
        """The better mean of several scores."""
        return max((mean for mean in map(self.mean, scores) if mean is not None), default=None)


def score_table(rows: Sequence[Row]) -> str:
    """Every score of every row."""
    header = ["", *SCORES.values(), "M parameters", "train s", "runs"]
    lines = []
    for row in rows:
        size, seconds = row.mean("parameters"), row.mean("seconds")
        lines.append([
            row.label, *map(row.cell, SCORES), f"{size / 1e6:.2f}" if size else "",
            "" if seconds is None else f"{seconds:,.0f}", str(len(row.scores)),
        ])  # fmt: skip
    return table(header, lines)


def goals(rows: Sequence[Row]) -> list[str]:
    """The weights that ship against every baseline, by the better probe of each; a line each for whatever is there."""
    by_name = {row.name: row for row in rows}
    ours = by_name.get(SHIPPED_ROW)
    lines = []
    for name in BASELINES if ours else ():
        other = by_name.get(name)
        for what, scores in (("family accuracy", FAMILY), ("instrument mAP", (INSTRUMENT,))):
            reached, beside = ours.best(scores), other.best(scores) if other else None
            if reached is None or beside is None:
                continue
            points = 100 * (reached - beside)
            is_headline = name == "mfcc_svm" and scores == FAMILY
            text = f"points of {what} on an unseen font over {other.label}"
            lines.append(goal(text, points, LEAST_POINTS if is_headline else 0.0))
            if is_headline:
                lines.append(goal(f"{text}, aim", points, AIMED_POINTS))
    return lines


def report(rows: Sequence[Row]) -> str:
    """Table and goals."""
    lines = "\n".join(f"- {line}" for line in goals(rows))
    return "\n\n".join(part for part in (score_table(rows), NOTES, lines) if part)


def real_table(name: str, rows: Sequence[Row]) -> str:
    """Ours on a data set, and what others published beside."""
    columns = REAL_COLUMNS[name]
    lines = [[row.label, *map(row.cell, columns), "here", ""] for row in rows if row.scores]
    for one in PUBLISHED[name]:
        cells = [f"{one.values[key]:.3f}" if key in one.values else "" for key in columns]
        lines.append([one.system, *cells, one.how, one.source])
    return table(["", *columns.values(), "how", "source"], lines)


def as_values(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The rows as JSON holds them."""
    return [{"name": row.name, "label": row.label, "scores": row.scores} for row in rows]


def figure_of(rows: Sequence[Row]) -> Figure:
    """Families and instruments on an unseen font, a dot a seed."""
    figure = Figure(figsize=(12, 1.4 + 0.34 * len(rows)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    _draw(left, rows, FAMILY[0])
    left.set_title("family accuracy, linear probe (o) and kNN (x), unseen font", fontsize=10, color=INK)
    for place, row in enumerate(rows):
        values = row.values(FAMILY[1])
        left.plot(values, [place] * len(values), "x", ms=4, color=INK)
    _draw(right, rows, INSTRUMENT)
    right.set_title("instrument mAP, bands of an unseen font", fontsize=10, color=INK)
    left.set_yticks(range(len(rows)), [row.label for row in rows], fontsize=8)
    left.invert_yaxis()
    return figure


def _draw(axis: Axes, rows: Sequence[Row], score: str) -> None:
    for place, row in enumerate(rows):
        values = row.values(score)
        if values:
            axis.barh(place, row.mean(score), height=0.62, color=MUTED if row.name in BASELINES else OURS, alpha=0.85)
            axis.plot(values, [place] * len(values), "o", ms=3.5, color=INK, mec="white", mew=0.5)
    axis.set_xlim(left=0)
    axis.tick_params(axis="x", labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)

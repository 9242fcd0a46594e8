"""What an ablation over objectives and seeds found: tables, goals and a figure."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.embeddings import mean_and_spread
from benchmarks.timing import goal, table
from checkpoints.figures import INK, MUTED
from pretrain.embedding_scores import DEPTH_NAMES

SCORES = {
    "family_map_at_r": "family mAP@R",
    "family_precision_at_1": "precision@1",
    "knn": "kNN",
    "linear": "linear",
    "wrong_neighbour_depth": "depth of wrong neighbours",
    "instrument_auc": "instrument AUC",
    "pitch_accuracy": "pitch",
}
"""Scores of `EmbeddingEvaluation` that make columns."""
HEADLINE = "family_map_at_r"
OBJECTIVES = {
    "log_mel": "log-mel statistics",
    "untrained": "untrained",
    "mae": "MAE",
    "ntxent": "NT-Xent",
    "supcon": "supcon",
    "triplet_one": "triplet, one margin",
    "triplet": "triplet, tree margins",
}
"""What a row's objective is called."""
UNTRAINED, AFTER_MAE = "untrained", "MAE"
WITHOUT_LEARNING = ("log_mel", "untrained")
COLOURS = {"log_mel": MUTED, "untrained": "#b5b5b5", "mae": "#6b6b28", "ntxent": "#8b4aa0", "supcon": "#3b8c4f",
           "triplet_one": "#c2571a", "triplet": "#1f5fa8"}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One setting, over its seeds."""

    objective: str
    """One of `OBJECTIVES`."""
    start: str
    """Of what weights: `UNTRAINED`, `AFTER_MAE`, or nothing."""
    scores: list[dict[str, float]]
    """What `EmbeddingEvaluation.scores` found, a dict a seed."""
    clips: int = 0
    """Seen in training, those of the masked autoencoder included."""
    seconds: float = 0.0
    """Of training, likewise; the mean over seeds."""
    num_collapsed: int = 0
    """Runs that collapsed, and have no scores."""

    @property
    def label(self) -> str:
        """Name and start."""
        name = OBJECTIVES[self.objective]
        return name if self.objective in (*WITHOUT_LEARNING, "mae") else f"{name}, from {self.start}"

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

    def num_ordered(self) -> int:
        """In how many seeds the mean distance grows with the depth at which two clips part."""
        return sum(map(is_ordered, self.scores))


def is_ordered(scores: dict[str, float]) -> bool:
    """Whether timbre < instrument < family < other family < no instrument holds of the mean distances there are."""
    found = [scores[f"distance_{name}"] for name in DEPTH_NAMES if f"distance_{name}" in scores]
    return all(near < far for near, far in pairwise(found))


def score_table(rows: Sequence[Row]) -> str:
    """Mean and standard deviation over seeds of every score."""
    header = ["objective", "start", *SCORES.values(), "runs", "collapsed", "clips", "train s"]
    cells = [
        [OBJECTIVES[row.objective], row.start, *map(row.cell, SCORES), str(len(row.scores)), str(row.num_collapsed),
         f"{row.clips:,}", f"{row.seconds:.0f}"]
        for row in rows
    ]  # fmt: skip
    return table(header, cells)


def distance_table(rows: Sequence[Row]) -> str:
    """Mean distance of the clips that part at each depth, and in how many seeds it grows with depth."""
    header = ["objective", "start", *(name.replace("_", " ") for name in DEPTH_NAMES), "in order"]
    cells = [
        [OBJECTIVES[row.objective], row.start, *(row.cell(f"distance_{name}") for name in DEPTH_NAMES),
         f"{row.num_ordered()} of {len(row.scores)}"]
        for row in rows
    ]  # fmt: skip
    return table(header, cells)


def goals(rows: Sequence[Row]) -> list[str]:
    """What issue and mission ask of the rows that there are, a line each."""
    by_key = {(row.objective, row.start): row for row in rows if row.scores}
    lines = []
    rivals = [("mae", UNTRAINED), ("ntxent", UNTRAINED), ("log_mel", "")]
    best = max((by_key[key].mean(HEADLINE) for key in rivals if key in by_key), default=None)
    for objective in ("supcon", "triplet"):
        row = by_key.get((objective, AFTER_MAE))
        if row and best is not None:
            what = f"MAE then {objective}, family mAP@R over the best of MAE, NT-Xent and log-mel statistics"
            lines.append(goal(what, row.mean(HEADLINE) - best, 0.0))
    for start in (UNTRAINED, AFTER_MAE):
        tree, one = (by_key.get((objective, start)) for objective in ("triplet", "triplet_one"))
        if tree:
            what = f"tree margins from {start}, share of seeds whose distances are in order"
            lines.append(goal(what, tree.num_ordered() / len(tree.scores), 1.0))
        depths = [row.mean("wrong_neighbour_depth") for row in (tree, one) if row]
        if len(depths) == 2 and None not in depths:
            what = f"tree margins from {start}, depth of wrong neighbours less that with one margin"
            lines.append(goal(what, depths[0] - depths[1], 0.0, at_most=True))
    return lines


def figure_of(tests: dict[str, list[Row]]) -> Figure:
    """Family retrieval, a dot a seed, and mean distances by depth; a line of pictures for each test."""
    most = max(map(len, tests.values()))
    figure = Figure(figsize=(13, len(tests) * (1.2 + 0.36 * most)), layout="constrained")
    for (name, rows), (left, right) in zip(tests.items(), figure.subplots(len(tests), 2, squeeze=False), strict=True):
        _draw_retrieval(left, rows)
        left.set_title(f"family mAP@R, {name}", fontsize=10, color=INK)
        _draw_distances(right, rows)
        right.set_title(f"mean distance by where clips part in the tree, {name}", fontsize=10, color=INK)
    return figure


def _draw_retrieval(axis: Axes, rows: Sequence[Row]) -> None:
    for place, row in enumerate(rows):
        values = row.values(HEADLINE)
        if values:
            axis.barh(place, row.mean(HEADLINE), height=0.62, color=COLOURS[row.objective], alpha=_opacity(row))
            axis.plot(values, [place] * len(values), "o", ms=3.5, color=INK, alpha=0.8)
    axis.set_yticks(range(len(rows)), [row.label for row in rows], fontsize=8)
    axis.invert_yaxis()
    axis.tick_params(axis="x", labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)


def _draw_distances(axis: Axes, rows: Sequence[Row]) -> None:
    for row in rows:
        found = [(place, row.mean(f"distance_{name}")) for place, name in enumerate(DEPTH_NAMES)]
        found = [(place, value) for place, value in found if value is not None]
        if found:
            style = ":" if row.objective in WITHOUT_LEARNING else "-" if row.start == AFTER_MAE else "--"
            axis.plot(*zip(*found, strict=True), style, color=COLOURS[row.objective], marker="o", ms=3, label=row.label)
    axis.set_xticks(range(len(DEPTH_NAMES)), [name.replace("_", " ") for name in DEPTH_NAMES], fontsize=8)
    axis.tick_params(axis="y", labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5), handlelength=3.5)


def _opacity(row: Row) -> float:
    return 1.0 if row.start == AFTER_MAE or row.objective in (*WITHOUT_LEARNING, "mae") else 0.55

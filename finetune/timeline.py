"""The picture of a prediction: what is heard when, and under it what it looks like.

Shapes: T chunks, C classes of a head, F mel bins, X columns.
"""

import math

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MultipleLocator

from backbones.log_mel import LOW_HZ, RATE
from checkpoints.figures import ACCENT, INK, MUTED, SECOND
from data.readable import clock, printable
from finetune.outputs import told_of
from finetune.prediction import HeadPrediction, Prediction

MOST_ROWS = 16
"""Of a head, unless more are asked for."""
FEWEST_ROWS = 3
"""Of a head that hears less."""
STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200)
"""Seconds between marks of the time axis."""
MOST_MARKS = 12
MARKS_HZ = (100, 250, 500, 1000, 2000, 4000)
LONGEST_TITLE = 90
LEGEND = "orange: at or above the threshold · grey: silence · numbers: all of the recording"
SILENCE = "#e3e3e3"
PROBABILITIES = LinearSegmentedColormap.from_list("probabilities", ["#ffffff", "#bcd4ec", ACCENT, "#0b2545"])


def timeline(prediction: Prediction, top: int | None = None) -> Figure:
    """Draws time by class for every head, and the spectrogram below if the prediction has one.

    Rows are ordered by how likely a class is in the recording, which is written beside them. Cells are coloured by
    probability; a line under them marks the spans, silence is grey.

    Args:
        top: rows of a head, the likeliest classes; None draws what is heard anywhere, `MOST_ROWS` of it at most.
    """
    rows = {name: _rows(head, top) for name, head in prediction.heads.items()}
    has_picture = prediction.spectrogram is not None
    heights = [0.26 * len(own) for own in rows.values()] + [1.9] * has_picture
    figure = Figure(figsize=(12, sum(heights) + 0.28 * len(heights) + 1.1), layout="constrained")
    axes = figure.subplots(len(heights), 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": heights})[:, 0]
    mesh = None
    for axis, (name, places) in zip(axes, rows.items(), strict=False):
        mesh = _cells(axis, prediction, prediction.heads[name], places)
    if has_picture:
        _spectrogram(axes[-1], prediction.spectrogram, prediction.seconds)
    _time_axis(axes[-1], prediction.seconds)
    axes[-1].set_xlabel(LEGEND, fontsize=8, color=MUTED)
    if mesh is not None:
        bar = figure.colorbar(mesh, ax=axes[: len(rows)].tolist(), pad=0.075, fraction=0.025, aspect=18, shrink=0.9)
        bar.set_label("probability", fontsize=8, color=MUTED)
        bar.ax.tick_params(labelsize=7, colors=MUTED)
        bar.outline.set_visible(False)
    title = printable(prediction.path)
    if len(title) > LONGEST_TITLE:
        title = f"…{title[-LONGEST_TITLE:]}"
    figure.suptitle(title, fontsize=11, color=INK, parse_math=False)  # a name may hold dollars
    return figure


def _rows(head: HeadPrediction, top: int | None) -> list[int]:
    """Places of the classes that are drawn, the likeliest first."""
    if top is not None:
        return told_of(head, top)
    is_heard = head.is_heard(head.probabilities).any(axis=0) | head.is_heard(head.pooled)
    found = [place for place in head.ranked if is_heard[place]]
    others = [place for place in head.ranked if not is_heard[place]]
    return (found + others[: max(0, FEWEST_ROWS - len(found))])[:MOST_ROWS]


def _cells(axis: Axes, prediction: Prediction, head: HeadPrediction, places: list[int]) -> matplotlib.cm.ScalarMappable:
    edges, num = prediction.edges, len(places)
    mesh = axis.pcolormesh(
        edges, np.arange(num + 1) - 0.5, head.probabilities[:, places].T, cmap=PROBABILITIES, vmin=0, vmax=1,
        rasterized=True,
    )  # fmt: skip
    change = np.flatnonzero(np.diff(prediction.is_silent, prepend=False, append=False)).reshape(-1, 2)
    for start, stop in change:
        axis.axvspan(edges[start], edges[stop], color=SILENCE, lw=0)
    row_of = {head.classes[place]: row for row, place in enumerate(places)}
    spans = [span for span in prediction.spans(head.name) if span.name in row_of]
    axis.hlines(
        [row_of[span.name] + 0.42 for span in spans], [span.start_s for span in spans], [span.end_s for span in spans],
        color=SECOND, lw=1.8,
    )  # fmt: skip
    is_heard = head.is_heard(head.pooled)
    axis.set_yticks(range(num), [head.classes[place].replace("_", " ") for place in places], fontsize=9)
    for row, (label, place) in enumerate(zip(axis.get_yticklabels(), places, strict=True)):
        label.set_color(INK if is_heard[place] else MUTED)
        weight = {"color": INK, "weight": "bold"} if is_heard[place] else {"color": MUTED}
        axis.text(1.006, row, f"{head.pooled[place]:.2f}", transform=axis.get_yaxis_transform(), va="center",
                  fontsize=8, **weight)  # fmt: skip
    axis.set_ylim(num - 0.5, -0.5)
    axis.hlines(np.arange(1, num) - 0.5, 0, prediction.seconds, color="#ececec", lw=0.6)
    how = "mean" if head.kind == "classes" else prediction.pooling.replace("_", "-")
    axis.text(1.006, 1.04, how, transform=axis.transAxes, va="bottom", fontsize=7, color=MUTED)
    if head.classes != (head.name,):  # the row would only repeat it
        axis.set_title(head.name.replace("_", " "), fontsize=9, loc="left", color=INK)
    axis.spines[:].set_visible(False)
    axis.tick_params(axis="both", length=0)
    return mesh


def _spectrogram(axis: Axes, log_mel: np.ndarray, seconds: float) -> None:
    num_bins = len(log_mel)
    low, high = np.percentile(log_mel, (2, 99.8))
    axis.imshow(
        log_mel, origin="lower", aspect="auto", cmap="magma", vmin=low, vmax=max(high, low + 1),
        extent=(0, seconds, 0, num_bins), interpolation="nearest",
    )  # fmt: skip
    axis.set_yticks([_bin_of(hz, num_bins) for hz in MARKS_HZ], [_hertz(hz) for hz in MARKS_HZ], fontsize=8)
    axis.set_title("log-mel", fontsize=9, loc="left", color=INK)
    axis.spines[:].set_visible(False)


def _bin_of(hz: float, num_bins: int) -> float:
    """Where a frequency lies among triangles that are spread evenly over the mel scale."""

    def mel(hz: float) -> float:
        return 1127.0 * math.log1p(hz / 700.0)

    return (mel(hz) - mel(LOW_HZ)) / (mel(RATE / 2) - mel(LOW_HZ)) * (num_bins + 1) - 0.5


def _hertz(hz: int) -> str:
    return f"{hz // 1000} kHz" if hz >= 1000 else f"{hz} Hz"


def _time_axis(axis: Axes, seconds: float) -> None:
    axis.set_xlim(0, seconds)
    if seconds < MOST_MARKS * STEPS[0] / 4:  # so short that whole seconds make no axis
        axis.xaxis.set_major_formatter(FuncFormatter(lambda at, _: f"{at:g} s"))
    else:
        step = next((step for step in STEPS if seconds / step <= MOST_MARKS), STEPS[-1] * 12)
        axis.xaxis.set_major_locator(MultipleLocator(step))
        axis.xaxis.set_major_formatter(FuncFormatter(lambda at, _: clock(max(at, 0.0), digits=0)))
    axis.tick_params(axis="x", length=3, labelsize=8, labelbottom=True)

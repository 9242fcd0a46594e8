"""Pictures of an embedding: its map, how far families lie apart, and how distance grows with the depth of the tree.

Shapes: N clips, E embedding size.
"""

from collections.abc import Mapping

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.manifold import TSNE
from torch import Tensor

from checkpoints.figures import INK, MUTED
from data.taxonomy import FAMILIES, GENRES

COLOURS = (
    "#1f5fa8", "#e08a00", "#5ab4e8", "#c1272d", "#7b3fa0", "#7a4a21", "#ec7fc0", "#00785a", "#b3a800", "#23c9b0",
    "#23235b", "#79c143",
)  # fmt: skip
MARKERS = ("o", "s", "^", "D")
"""A colour and its marker together name a label, also for eyes that take two of the colours for one."""
NO_INSTRUMENT, OTHER_GENRE = "not an instrument", "another genre"
UNKNOWN_COLOUR = "#d5d5d5"
DEPTHS = ("same timbre", "same instrument", "same family", "other family", "not an instrument")
DEPTH_COLOURS = ("#1f5fa8", "#23a3a8", "#3b8c4f", "#e08a00", "#8b4aa0")
NUM_BINS = 48
FEWEST = 5
"""Clips that a map is drawn of."""


def embedding_map(unit: np.ndarray, labels: Mapping[str, Tensor], step: int) -> Figure:
    """Clips in the plane, neighbours kept together by t-SNE: all coloured by family, those of a known genre by genre.

    Args:
        unit: unit embeddings ``(N, E)``.
        labels: of the clips, see `LabelTable.take`.
        step: of the run, for the title.
    """
    family = _single(labels["family"].numpy())
    family[labels["is_instrument"].numpy() == 0] = len(FAMILIES)
    genre = np.minimum(_single(labels["genre"].numpy()), len(GENRES))  # a pack may have more than the taxonomy's
    maps = [(np.arange(len(unit)), family, (*FAMILIES, NO_INSTRUMENT), f"{len(unit)} clips by family")]
    has_genre = np.flatnonzero(genre >= 0)
    if len(has_genre) >= FEWEST:  # apart, for clips of a known genre, as excerpts of bands, may all lie in one corner
        title = f"the {len(has_genre)} clips of one known genre, by genre"
        maps.append((has_genre, genre, (*GENRES, OTHER_GENRE), title))
    figure = Figure(figsize=(6.6 * len(maps) + 0.4, 5.4), layout="constrained")
    for axis, (rows, label, names, title) in zip(figure.subplots(1, len(maps), squeeze=False)[0], maps, strict=True):
        _scatter(axis, _flat(unit[rows]), label[rows], names)
        axis.set_title(title, fontsize=9, color=INK)
    note = f"map (t-SNE) of timbres never trained on, after {step} steps"
    figure.suptitle(note, fontsize=10, color=INK)
    return figure


def _single(levels: np.ndarray) -> np.ndarray:
    """The label of clips that are known to have one, -1 of the others; ``(N,)`` from ``(N, C)``."""
    return np.where((levels == 1).sum(axis=1) == 1, levels.argmax(axis=1), -1)


def _flat(unit: np.ndarray) -> np.ndarray:
    """Places in the plane, ``(N, 2)``; all in the middle where there are too few clips for a map."""
    if len(unit) < FEWEST:
        return np.zeros((len(unit), 2))
    # scikit-learn's t-SNE and not UMAP: it is installed anyway, and a map of a thousand points takes seconds.
    perplexity = min(30.0, (len(unit) - 1) / 3)
    return TSNE(perplexity=perplexity, metric="cosine", init="random", random_state=0).fit_transform(unit)


def _scatter(axis: Axes, flat: np.ndarray, label: np.ndarray, names: tuple[str, ...]) -> None:
    size = float(np.clip(5000 / len(flat), 14, 45))
    for value in np.unique(label[label >= 0]):
        style = {"color": COLOURS[value % len(COLOURS)], "marker": MARKERS[value % len(MARKERS)], "s": size, "lw": 0}
        if names[value] == NO_INSTRUMENT:
            style |= {"color": INK, "marker": "x", "lw": 0.9}
        elif names[value] == OTHER_GENRE:
            style |= {"color": MUTED, "marker": "o"}
        axis.scatter(*flat[label == value].T, label=names[value].replace("_", " "), alpha=0.9, **style)
    if (label < 0).any():
        axis.scatter(*flat[label < 0].T, s=size / 2, color=UNKNOWN_COLOUR, lw=0, zorder=0, label="unknown or several")
    axis.set_xticks([])
    axis.set_yticks([])
    axis.margins(0.04)
    axis.spines[:].set_color("#dddddd")
    axis.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5), handletextpad=0.2)


def family_distances(unit: np.ndarray, family: np.ndarray, group: np.ndarray, step: int) -> Figure:
    """Mean distance between the clips of each two families, and within each between those of its groups.

    Args:
        unit: unit embeddings ``(N, E)``.
        family: int64 ``(N,)``, place in `data.taxonomy.FAMILIES`; -1 is left out.
        group: int64 ``(N,)``, a number for each timbre or recording; two clips of one do not count.
        step: of the run, for the title.
    """
    found = np.unique(family[family >= 0])
    distance = np.sqrt(np.clip(2 - 2 * unit @ unit.T, 0, None))
    distance[group == group[:, None]] = np.nan
    table = np.array([[_mean(distance[np.ix_(family == a, family == b)]) for b in found] for a in found])
    figure = Figure(figsize=(8.2, 7), layout="constrained")
    axis = figure.subplots()
    axis.set_title(f"distance of families, timbres never trained on, after {step} steps", fontsize=10, color=INK)
    if not np.isfinite(table).any():
        axis.set_axis_off()
        return figure
    palette = matplotlib.colormaps["viridis_r"].with_extremes(bad="white")
    picture = axis.imshow(table, cmap=palette)
    figure.colorbar(picture, ax=axis, shrink=0.8).set_label("mean distance", fontsize=9, color=MUTED)
    for (row, column), value in np.ndenumerate(table):
        if np.isfinite(value):
            colour = "white" if picture.norm(value) > 0.45 else INK
            axis.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=8, color=colour)
    names = [FAMILIES[value].replace("_", " ") for value in found]
    axis.set_xticks(range(len(found)), names, rotation=45, ha="right", fontsize=8)
    axis.set_yticks(range(len(found)), names, fontsize=8)
    return figure


def _mean(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else float("nan")


def distance_histogram(unit: Tensor, depth: Tensor, step: int) -> Figure:
    """How far apart pairs of clips lie, a curve for each depth of the tree at which they part.

    Args:
        unit: unit embeddings ``(N, E)``.
        depth: int8 ``(N, N)``, 0 to 4, -1 for pairs that do not count.
        step: of the run, for the title.
    """
    distance = (2 - 2 * unit @ unit.T).clamp(min=0).sqrt()
    farthest = max(distance[depth >= 0].max().item() if (depth >= 0).any() else 2.0, 1e-3)
    bins = np.linspace(0, farthest, NUM_BINS + 1)
    figure = Figure(figsize=(10.5, 4.2), layout="constrained")
    axis = figure.subplots()
    for value, (name, colour) in enumerate(zip(DEPTHS, DEPTH_COLOURS, strict=True)):
        pairs = distance[depth == value].numpy()
        if not len(pairs):
            continue
        shares, _ = np.histogram(pairs, bins, density=True)
        label = f"{name}\nmean {pairs.mean():.2f}, {len(pairs) // 2:,} pairs"
        axis.stairs(shares, bins, color=colour, lw=1.6, label=label)
        axis.axvline(pairs.mean(), color=colour, lw=1.0, ls=(value, (1, 4)))  # shifted, so that equal means both show
    axis.set_xlabel("distance of unit embeddings; dotted: the mean", fontsize=9, color=MUTED)
    axis.set_ylabel("density", fontsize=9, color=MUTED)
    axis.set_xlim(0, farthest)
    axis.set_ylim(bottom=0)
    axis.tick_params(labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)
    if (depth >= 0).any():
        axis.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5), labelspacing=0.9)
    axis.set_title(f"pairs of clips by where they part in the tree, after {step} steps", fontsize=10, color=INK)
    return figure

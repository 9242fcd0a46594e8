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

from data.taxonomy import FAMILIES, GENRES
from pretrain.figures import INK, MUTED

COLOURS = (*matplotlib.colormaps["tab20"].colors[::2], *matplotlib.colormaps["tab20b"].colors[::4])
UNKNOWN_COLOUR = "#d5d5d5"
DEPTHS = ("same timbre", "same instrument", "same family", "other family", "not an instrument")
DEPTH_COLOURS = ("#1f5fa8", "#2b8a96", "#3b8c4f", "#c2571a", "#8b4aa0")
BINS = np.linspace(0, 2, 61)


def embedding_map(unit: np.ndarray, labels: Mapping[str, Tensor], step: int) -> Figure:
    """Every clip in the plane, neighbours kept together by t-SNE, coloured by family and by genre.

    Args:
        unit: unit embeddings ``(N, E)``.
        labels: of the clips, see `LabelTable.take`.
        step: of the run, for the title.
    """
    perplexity = float(min(30, max(1, (len(unit) - 1) // 3)))
    # scikit-learn's t-SNE and not UMAP: it is installed anyway, and a map of a thousand points takes seconds.
    flat = TSNE(perplexity=perplexity, metric="cosine", init="random", random_state=0).fit_transform(unit)
    figure = Figure(figsize=(13, 5.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    is_none = labels["is_instrument"].numpy() == 0
    family = _single(labels["family"].numpy())
    family[is_none] = len(FAMILIES)
    _scatter(left, flat, family, (*FAMILIES, "not an instrument"), "family")
    genres = labels["genre"].numpy()
    _scatter(right, flat, _single(genres), GENRES[: genres.shape[1]], "genre")
    figure.suptitle(f"map of {len(unit)} clips of timbres never trained on, after {step} steps", fontsize=10, color=INK)
    return figure


def _single(levels: np.ndarray) -> np.ndarray:
    """The label of clips that are known to have one, -1 of the others; ``(N,)`` from ``(N, C)``."""
    return np.where((levels == 1).sum(axis=1) == 1, levels.argmax(axis=1), -1)


def _scatter(axis: Axes, flat: np.ndarray, label: np.ndarray, names: tuple[str, ...], title: str) -> None:
    axis.scatter(*flat[label < 0].T, s=6, color=UNKNOWN_COLOUR, lw=0)
    for value in np.unique(label[label >= 0]):
        name = names[value].replace("_", " ") if value < len(names) else "other"
        colour = INK if name == "not an instrument" else COLOURS[value % len(COLOURS)]
        marker = "x" if name == "not an instrument" else "o"
        size = {"s": 14, "lw": 0.8} if marker == "x" else {"s": 14, "lw": 0}
        axis.scatter(*flat[label == value].T, color=[colour], marker=marker, label=name, alpha=0.85, **size)
    if (label < 0).any():
        axis.scatter([], [], s=14, color=UNKNOWN_COLOUR, label="unknown or several")
    axis.set_title(f"by {title}", fontsize=10, color=INK)
    axis.set_xticks([])
    axis.set_yticks([])
    axis.spines[:].set_color("#dddddd")
    axis.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5), handletextpad=0.2)


def family_distances(unit: np.ndarray, family: np.ndarray, step: int) -> Figure:
    """Mean distance between the clips of each two families, and within each.

    Args:
        unit: unit embeddings ``(N, E)``.
        family: int64 ``(N,)``, place in `data.taxonomy.FAMILIES`; -1 is left out.
        step: of the run, for the title.
    """
    found = np.unique(family[family >= 0])
    distance = np.sqrt(np.clip(2 - 2 * unit @ unit.T, 0, None))
    np.fill_diagonal(distance, np.nan)
    table = np.array([[_mean(distance[np.ix_(family == a, family == b)]) for b in found] for a in found])
    figure = Figure(figsize=(8.2, 7), layout="constrained")
    axis = figure.subplots()
    if len(found):
        picture = axis.imshow(table, cmap="viridis_r", vmin=0, vmax=max(1.5, float(np.nanmax(table))))
        figure.colorbar(picture, ax=axis, label="mean distance", shrink=0.8)
        middle = 0.5 * max(1.5, float(np.nanmax(table)))
        for row, values in enumerate(table):
            for column, value in enumerate(values):
                if np.isfinite(value):
                    colour = "white" if value > middle else INK
                    axis.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=7, color=colour)
    names = [FAMILIES[value].replace("_", " ") for value in found]
    axis.set_xticks(range(len(found)), names, rotation=45, ha="right", fontsize=8)
    axis.set_yticks(range(len(found)), names, fontsize=8)
    axis.set_title(f"distance of families, timbres never trained on, after {step} steps", fontsize=10, color=INK)
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
    distance = (2 - 2 * unit @ unit.T).clamp(min=0).sqrt().numpy()
    figure = Figure(figsize=(9, 4.4), layout="constrained")
    axis = figure.subplots()
    for value, (name, colour) in enumerate(zip(DEPTHS, DEPTH_COLOURS, strict=True)):
        pairs = distance[depth.numpy() == value]
        if not len(pairs):
            continue
        shares, _ = np.histogram(pairs, BINS, density=True)
        label = f"{name}: mean {pairs.mean():.2f}, {len(pairs) // 2:,} pairs"
        axis.stairs(shares, BINS, color=colour, lw=1.6, label=label)
        axis.axvline(pairs.mean(), color=colour, lw=0.8, ls=":")
    axis.set_xlabel("distance of unit embeddings", fontsize=9, color=MUTED)
    axis.set_ylabel("density", fontsize=9, color=MUTED)
    axis.set_xlim(0, 2)
    axis.spines[["top", "right"]].set_visible(False)
    if (depth >= 0).any():
        axis.legend(fontsize=8, frameon=False)
    axis.set_title(f"pairs of clips by where they part in the tree, after {step} steps", fontsize=10, color=INK)
    return figure

"""Clips that lie where few or too many others do: hubs and outliers.

Shapes: N clips of the pack, k neighbours.
"""

from typing import NamedTuple

import numpy as np

from audit.findings import Neighbour, Place
from audit.neighbours import Neighbours
from data.pack import Pack

HUB = 2.0
"""Standard deviations above the mean from which on a clip is a hub."""
FENCE = 1.5
"""Interquartile ranges below the lower quartile from which on a clip is an outlier (Tukey 1977)."""
SHOWN = 10
"""Neighbours that are named with a clip, at most."""


class Places(NamedTuple):
    """Where clips lie."""

    hubs: tuple[Place, ...]
    hubness: float
    outliers: tuple[Place, ...]


def places(pack: Pack, neighbours: Neighbours, most: int = 20) -> Places:
    """Finds hubs, which are among the nearest of many, and outliers, which are far from their own nearest.

    Hubness is the skewness of the number of clips that have a clip among their k nearest (Radovanovic, Nanopoulos and
    Ivanovic 2010, JMLR 11, section 2.2); hubs are those whose number is two standard deviations above the mean, which
    is about k.

    Args:
        neighbours: of every clip.
        most: hubs, and outliers, that are named, the farthest out first.
    """
    ids = pack.column("id")
    count = occurrences(neighbours)
    is_hub = count > count.mean() + HUB * count.std()
    nearness = mean_similarity(neighbours)
    known = nearness[~np.isnan(nearness)]
    low, high = np.percentile(known, (25, 75)) if len(known) else (np.nan, np.nan)
    is_outlier = nearness < low - FENCE * (high - low)  # never where it is NaN

    def named(rows: np.ndarray, values: np.ndarray) -> tuple[Place, ...]:
        return tuple(Place(ids[row], float(values[row]), named_neighbours(ids, neighbours, row)) for row in rows)

    hubs = np.flatnonzero(is_hub)
    outliers = np.flatnonzero(is_outlier)
    return Places(
        hubs=named(hubs[np.argsort(-count[hubs], kind="stable")[:most]], count),
        hubness=skewness(count),
        outliers=named(outliers[np.argsort(nearness[outliers], kind="stable")[:most]], nearness),
    )


def occurrences(neighbours: Neighbours) -> np.ndarray:
    """How many clips have each among their nearest, int64 ``(N,)``."""
    return np.bincount(neighbours.rows[neighbours.rows >= 0], minlength=len(neighbours.rows))


def mean_similarity(neighbours: Neighbours) -> np.ndarray:
    """Of every clip to its nearest, float64 ``(N,)``; NaN where it has none."""
    is_there = neighbours.rows >= 0
    number = is_there.sum(axis=1)
    total = np.where(is_there, neighbours.similarity, 0.0).sum(axis=1)
    return np.divide(total, number, out=np.full(len(number), np.nan), where=number > 0)


def skewness(count: np.ndarray) -> float:
    """``mean((x - mean)^3) / std^3``; 0 where all are equal."""
    off = count - count.mean()
    spread = off.std()
    return float((off**3).mean() / spread**3) if spread else 0.0


def named_neighbours(ids: np.ndarray, neighbours: Neighbours, row: int, most: int = SHOWN) -> tuple[Neighbour, ...]:
    """The nearest of a clip by their ids.

    Args:
        ids: of all clips, ``(N,)``.
    """
    pairs = zip(neighbours.rows[row, :most].tolist(), neighbours.similarity[row, :most].tolist(), strict=True)
    return tuple(Neighbour(ids[other], similarity) for other, similarity in pairs if other >= 0)

"""What an audit finds, as plain data: what report.json holds and the page shows.

Clips are named by their ids, shares lie in [0, 1], similarities are cosines. Everything here is JSON as it stands
(`as_json`).
"""

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Score:
    """A number with what chance would give and how sure it is."""

    level: str
    """What neighbours have in common: family, instrument, genre, or source, the data set."""
    measure: str
    """purity@K, map_at_r, knn, v_measure and so on."""
    value: float
    low: float
    """95 % confidence interval, from a bootstrap over groups."""
    high: float
    chance: float | None
    """The value expected of neighbours drawn at random."""
    clips: int
    """How many were asked."""


@dataclass(frozen=True)
class Confusion:
    """Whose neighbours are of which family."""

    names: tuple[str, ...]
    share: tuple[tuple[float, ...], ...]
    """A row a family of the clip asked, a column a family of its neighbours; rows sum to 1, or 0 if none was asked."""
    clips: tuple[int, ...]
    """How many were asked of each."""


@dataclass(frozen=True)
class Neighbour:
    """A clip near another."""

    clip: str
    similarity: float


@dataclass(frozen=True)
class Place:
    """A clip that lies where few or too many others do."""

    clip: str
    value: float
    """Of a hub: how many clips have it among their nearest; of an outlier: its mean similarity to its own nearest."""
    neighbours: tuple[Neighbour, ...]


@dataclass(frozen=True)
class Pair:
    """Two clips that sound alike."""

    first: str
    second: str
    similarity: float
    correlation: float
    """Of their waveforms, aligned; 1 where they are equal but for loudness."""
    is_exact: bool
    """Whether their samples are equal, but for loudness."""
    splits: tuple[str, str]
    groups: tuple[str, str]


@dataclass(frozen=True)
class Duplicates:
    """Clips that are too near to be two."""

    threshold: float
    """Correlation of the waveforms, aligned, from which on two clips are taken for one."""
    reason: str
    """A sentence: how the threshold was found."""
    num_pairs: int
    """Within one group and split."""
    pairs: tuple[Pair, ...]
    """The most alike of them; so for the others below."""
    num_leaks: int
    leaks: tuple[Pair, ...]
    """Those that lie in two splits."""
    num_touching: int
    touching: tuple[Pair, ...]
    """Those of one split whose groups differ: groups that should not touch."""


@dataclass(frozen=True)
class Suspect:
    """A label that is probably wrong."""

    clip: str
    level: str
    """family, instrument or genre."""
    given: str
    suggested: str
    rank: float
    """0 surely wrong, 1 surely right: what suspects are sorted by."""
    self_confidence: float
    """The out-of-sample probability of the given label."""
    neighbour_share: float
    """Share of the neighbours whose label is known that bear the given one."""
    neighbours: tuple[Neighbour, ...]


@dataclass(frozen=True)
class Shortcut:
    """What the embedding carries besides instruments."""

    name: str
    """pitch, loudness, source or recording."""
    measure: str
    """r2, balanced_accuracy or accuracy."""
    value: float
    chance: float
    clips: int
    explanation: str
    """A sentence: what the number means, and on what it was learned and tested."""


@dataclass(frozen=True)
class Change:
    """A clip whose neighbours another run sees otherwise."""

    clip: str
    overlap: float
    """Share of its neighbours that both have in common."""
    before: tuple[Neighbour, ...]
    after: tuple[Neighbour, ...]


@dataclass(frozen=True)
class Comparison:
    """The other run, which came before, beside this one."""

    run: str
    scores: tuple[Score, ...]
    """Of the other run; the same levels and measures as of this one."""
    overlap: float
    """Share of neighbours in common, mean over clips."""
    changes: tuple[Change, ...]
    """The clips whose neighbours changed most."""


@dataclass(frozen=True)
class Query:
    """A clip or a file that was asked for, and its neighbours."""

    name: str
    clip: str | None
    """None if it is a file."""
    neighbours: tuple[Neighbour, ...]


@dataclass(frozen=True)
class Findings:
    """A whole audit."""

    about: dict[str, Any]
    """run, backbone, pooling, pack, clips, hours, index, k: what was audited, for the head of the page."""
    scores: tuple[Score, ...]
    tree_distance: dict[str, float]
    """Mean depth of the label tree at which clips part from their neighbours, by whose they are: ``nearest``, ``10
    nearest`` (or however many k is) and ``chance``."""
    confusion: Confusion | None
    hubs: tuple[Place, ...]
    hubness: float
    """Skewness of how often clips are among the nearest of others; 0 is even, above 1 there are hubs."""
    outliers: tuple[Place, ...]
    duplicates: Duplicates
    suspects: tuple[Suspect, ...]
    shortcuts: tuple[Shortcut, ...]
    queries: tuple[Query, ...]
    comparison: Comparison | None
    notes: tuple[str, ...]
    """What could not be said, and why: a sentence each."""


def as_json(findings: Findings) -> dict[str, Any]:
    """Dicts, lists, strings and numbers alone; a number that is none is null."""
    return _plain(dataclasses.asdict(findings))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, str | int) or value is None:
        return value
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Iterable):
        return [_plain(one) for one in value]
    return str(value)

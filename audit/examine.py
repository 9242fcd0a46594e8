"""Everything that an audit asks of an embedding, put together.

N clips of the pack.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from audit.clustering import v_measures
from audit.columns import numbered
from audit.compare import check_same_pack, compare
from audit.duplicates import find_duplicates
from audit.embeddings import Embeddings
from audit.findings import Comparison, Findings, Score
from audit.index import Index
from audit.neighbours import Neighbours, both_neighbours
from audit.places import places
from audit.purity import confusion, purity, tree_distance
from audit.ranking import map_at_r
from audit.shortcuts import find_shortcuts
from audit.suspects import find_suspects
from audit.tables import Answer, Clips

FEWEST_CLIPS = 3
"""Of fewer nothing can be said."""
AT = (1, 10)
"""Values of k for purity@k."""


@dataclass(frozen=True)
class Settings:
    """What is asked."""

    k: int = 40
    """Neighbours of every clip that are looked at."""
    suspects: int = 1000
    """Of each level that are told, at most."""
    listed: int = 50
    """Hubs, outliers, pairs of a kind and changed clips that are told, at most."""
    seed: int = 0
    """Of draws: bootstrap, clusters, clips asked for mAP@R."""

    def __post_init__(self):
        for name in ("k", "suspects", "listed"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name} should be 1 or more, {getattr(self, name)} found")


class Audit(NamedTuple):
    """What was found, and on what it rests."""

    findings: Findings
    nearest: Neighbours
    """Of every clip."""


def examine(
    index: Index, settings: Settings, answers: Sequence[Answer] = (), before: Index | None = None
) -> Audit:  # fmt: skip
    """Asks everything of an embedding.

    Args:
        index: of the embeddings of a pack; where it is approximate, so are the neighbours.
        answers: to queries, see `audit.query.ask`.
        before: index of another run over the same pack, to compare with.

    Raises:
        AuditError: vectors without a direction, fewer clips than neighbours, or two runs over different packs.
    """
    embeddings, pack = index.embeddings, index.embeddings.pack
    if before is not None:
        check_same_pack(embeddings, before.embeddings)
    embeddings.check_finite()
    k = min(settings.k, len(pack) - 1)
    group, _ = numbered(pack, "group")
    nearest, others = both_neighbours(index, k, group)
    scores = tuple(_scores(embeddings, others, settings.seed))
    comparison = None if before is None else _comparison(embeddings, nearest, before, k, group, settings)
    suspects, of_suspects = find_suspects(embeddings, nearest, most=settings.suspects)
    shortcuts, of_shortcuts = find_shortcuts(embeddings, nearest)
    hubs, hubness, outliers = places(pack, nearest, settings.listed)
    clips = Clips(pack)
    findings = Findings(
        about=_about(index, k),
        scores=scores,
        tree_distance=tree_distance(pack, _first(others, AT[-1]), settings.seed),
        confusion=confusion(pack, _first(others, AT[-1])),
        hubs=hubs,
        hubness=hubness,
        outliers=outliers,
        duplicates=find_duplicates(embeddings, nearest, others, settings.listed),
        suspects=tuple(suspects),
        shortcuts=tuple(shortcuts),
        queries=tuple(answer.as_query(clips) for answer in answers),
        comparison=comparison,
        notes=(*_notes(scores), *of_suspects, *of_shortcuts),
    )
    return Audit(findings, nearest)


def _scores(embeddings: Embeddings, others: Neighbours, seed: int) -> Iterable[Score]:
    yield from purity(embeddings.pack, others, AT, seed)
    yield from map_at_r(embeddings, seed)
    yield from v_measures(embeddings, seed)


def _comparison(
    embeddings: Embeddings, nearest: Neighbours, before: Index, k: int, group: np.ndarray, settings: Settings
) -> Comparison:
    before.embeddings.check_finite()
    nearest_before, others_before = both_neighbours(before, k, group)
    scores = list(_scores(before.embeddings, others_before, settings.seed))
    return compare(embeddings, nearest, before.embeddings, nearest_before, scores, settings.listed)


def _first(neighbours: Neighbours, k: int) -> Neighbours:
    return Neighbours(neighbours.similarity[:, :k], neighbours.rows[:, :k])


def _about(index: Index, k: int) -> dict[str, str]:
    embeddings, pack = index.embeddings, index.embeddings.pack
    made, info, sources = embeddings.info, index.info, pack.info.sources
    layers = f" of layers {', '.join(map(str, made.layers))}" if made.layers else ""
    recall = "" if info.kind == "exact" else f", which finds {info.recall_at_10:.1%} of the 10 nearest"
    return {
        "run": embeddings.run or str(embeddings.folder),
        "embedding": f"{made.backbone or 'of unknown make'}, {made.pooling}{layers}, {made.width} numbers {made.dtype}",
        "pack": pack.place,
        "clips": f"{len(pack):,} ({pack.info.hours:.2f} h): {pack.info.describe_splits()}",
        "data sets": ", ".join(f"{name} ({of.get('licence') or 'licence unknown'})" for name, of in sources.items()),
        "index": f"{info.kind}{recall}",
        "neighbours": f"{k} of every clip, by cosine",
    }  # fmt: skip


def _notes(scores: Sequence[Score]) -> list[str]:
    missing = {"family", "instrument", "genre"} - {score.level for score in scores}
    return [f"{level}: no two clips of different groups are known to be the same" for level in sorted(missing)]

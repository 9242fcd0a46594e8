"""What clips have in common with their neighbours: purity, whose family the neighbours are of, and the tree distance.

Neighbours are of other groups. Clips of one player or recording are near to each other whatever the embedding knows of
instruments, so a search among them measures memory. What nobody knows counts neither for nor against: a neighbour whose
relation to a clip is unknown (`data.relation`) is passed over.

Shapes: N clips of the pack, Q of them, k neighbours.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from audit.bootstrap import intervals
from audit.columns import numbered
from audit.findings import Confusion, Score
from audit.neighbours import Neighbours
from data.depth import depths
from data.labels import LabelTable
from data.pack import Pack
from data.relation import LEVELS as RELATED
from data.relation import UNKNOWN, positives, relation_of_pairs
from data.taxonomy import FAMILIES

LEVELS = ("family", "instrument", "genre", "source")
"""What neighbours may have in common; of a good embedding the source, the data set, is near chance."""
NO_INSTRUMENT = "no instrument"
_RANDOM_PAIRS = 1_000_000  # at least, for what chance gives: its standard error is below 0.001
_MOST_REDRAWS = 32


def agreement(table: LabelTable, queries: np.ndarray, neighbours: np.ndarray) -> dict[str, np.ndarray]:
    """How clips relate to their neighbours at each of `data.relation.LEVELS`.

    Args:
        queries: int64 ``(Q,)``, rows.
        neighbours: int64 ``(Q, k)``, rows, -1 where there is none.

    Returns:
        int8 ``(Q, k)``: 1 the same, 0 different, -1 unknown or no neighbour.
    """
    is_there = neighbours >= 0
    rows, place = np.unique(np.concatenate([queries, neighbours[is_there]]), return_inverse=True)
    first = np.broadcast_to(place[: len(queries), None], neighbours.shape)[is_there]
    found = relation_of_pairs(table.take(rows), torch.from_numpy(first), torch.from_numpy(place[len(queries) :]))
    result = {}
    for level in RELATED:
        result[level] = np.full(neighbours.shape, UNKNOWN, np.int8)
        result[level][is_there] = found[level].numpy()
    return result


def purity(pack: Pack, others: Neighbours, at: Sequence[int] = (1, 10), seed: int = 0) -> list[Score]:
    """purity@k: the share of a clip's k nearest that are the same as it, of those of which it is known.

    The mean over the clips that have the same anywhere in another group, with a 95 % interval over groups; chance is
    what neighbours drawn at random from other groups get. A level that nobody knows anything of has no scores, and
    neither has the source if there is one alone.

    Args:
        others: every clip's nearest of other groups.
        at: values of k; those that are larger than the neighbours there are become as many as there are.
    """
    group, _ = numbered(pack, "group")
    at = sorted({min(k, others.rows.shape[1]) for k in at})
    random = random_others(group, max(at[-1], -(-_RANDOM_PAIRS // len(pack))), seed)
    found, expected = _related(pack, others.rows), _related(pack, random)
    is_asked = answerable(pack, group)
    scores = []
    for level in LEVELS:
        shares = np.where(is_asked[level][:, None], _shares(found[level], at), np.nan)  # (N, K)
        by_chance = _shares(expected[level], [random.shape[1]])[:, 0]
        mean, low, high = intervals(shares, group, seed)
        for column, k in enumerate(at):
            counted = ~np.isnan(shares[:, column])
            if counted.any():
                chance = float(np.nanmean(by_chance[counted]))
                numbers = float(mean[column]), float(low[column]), float(high[column]), chance, int(counted.sum())
                scores.append(Score(level, f"purity@{k}", *numbers))
    return scores


def tree_distance(pack: Pack, others: Neighbours, seed: int = 0) -> dict[str, float]:
    """Mean depth of the label tree at which clips part from their neighbours, 0 to 4, see `data.depth`.

    Pairs count of which it is known whether their family is the same. Where the tree is known no finer, the middle of
    the depths that are possible is taken, or a pack without instruments would be judged by its mistakes alone.

    Args:
        others: every clip's nearest of other groups.

    Returns:
        ``nearest``, ``K nearest`` and ``chance``, that of clips of other groups drawn at random; empty if nothing is
        known.
    """
    group, _ = numbered(pack, "group")
    k = others.rows.shape[1]
    random = random_others(group, -(-_RANDOM_PAIRS // len(pack)), seed)
    table, queries = LabelTable(pack), np.arange(len(pack))
    found, expected = (agreement(table, queries, rows) for rows in (others.rows, random))
    nearest = {level: relation[:, :1] for level, relation in found.items()}
    parts = {"nearest": nearest, f"{k} nearest": found, "chance": expected}
    means = {name: _mean_depth(relations) for name, relations in parts.items()}
    return {name: mean for name, mean in means.items() if mean is not None}


def confusion(pack: Pack, others: Neighbours) -> Confusion | None:
    """Whose family the neighbours are of, for clips of one family.

    Clips and neighbours count that are known to hold exactly one family, or to be no instruments. A row is the mean
    over its clips, so that each has one vote however many of its neighbours count.

    Args:
        others: every clip's nearest of other groups.

    Returns:
        None if there are fewer than two families.
    """
    table = LabelTable(pack)
    name = np.where(table.column("is_instrument") == 0, len(FAMILIES), table.single_family)
    present = np.unique(name[name >= 0])
    if len(present) < 2:
        return None
    count = len(present)
    own = np.where(name >= 0, np.searchsorted(present, name), -1)
    theirs = np.where(others.rows >= 0, own[others.rows], -1)  # (N, k)
    known = (theirs >= 0).sum(axis=1)
    share, clips = np.zeros((count, count)), []
    for row in range(count):
        asked = np.flatnonzero((own == row) & (known > 0))
        clips.append(len(asked))
        clip, column = np.nonzero(theirs[asked] >= 0)
        votes = 1 / known[asked][clip] / max(len(asked), 1)
        share[row] = np.bincount(theirs[asked][clip, column], votes, count)
    names = tuple((*FAMILIES, NO_INSTRUMENT)[number] for number in present)
    return Confusion(names, tuple(tuple(row) for row in share.tolist()), tuple(clips))


def answerable(pack: Pack, group: np.ndarray) -> dict[str, np.ndarray]:
    """The clips that have the same in another group, bool ``(N,)`` for each of `LEVELS`; others cannot be right."""
    labels = LabelTable(pack).take(np.arange(len(pack)))
    found = {level: _has_others(positives(labels, level), group) for level in LEVELS[:3]}
    source, names = numbered(pack, "source")
    pairs = torch.arange(len(pack)), torch.from_numpy(source)
    return found | {"source": _has_others(pairs, group) & (len(names) > 1)}


def random_others(group: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Rows of other groups drawn at random for every clip, int64 ``(N, count)``; -1 where there are hardly any."""
    generator = np.random.default_rng(seed)
    rows = np.full((len(group), count), -1)
    for _ in range(_MOST_REDRAWS):
        clip, place = np.nonzero(rows < 0)
        if not len(clip):
            break
        drawn = generator.integers(len(group), size=len(clip))
        rows[clip, place] = np.where(group[drawn] != group[clip], drawn, -1)
    return rows


def related_by_source(pack: Pack, queries: np.ndarray, neighbours: np.ndarray) -> np.ndarray:
    """Whether clips come from one data set, as `agreement` says it."""
    source, _ = numbered(pack, "source")
    return np.where(neighbours >= 0, source[neighbours] == source[queries][:, None], UNKNOWN).astype(np.int8)


def _related(pack: Pack, neighbours: np.ndarray) -> dict[str, np.ndarray]:
    queries = np.arange(len(pack))
    found = agreement(LabelTable(pack), queries, neighbours)
    return found | {"source": related_by_source(pack, queries, neighbours)}


def _shares(relation: np.ndarray, at: Sequence[int]) -> np.ndarray:
    """Shares of the first k of int8 ``(N, k)`` that are the same, for each of some k; NaN where nothing is known."""
    columns = np.asarray(at) - 1
    same = (relation == 1).cumsum(axis=1)[:, columns]
    known = (relation >= 0).cumsum(axis=1)[:, columns]
    return np.divide(same, known, out=np.full(same.shape, np.nan), where=known > 0)


def _mean_depth(relations: Mapping[str, np.ndarray]) -> float | None:
    low, high = (bound.numpy() for bound in depths({level: torch.from_numpy(r) for level, r in relations.items()}))
    is_known = relations["family"] != UNKNOWN
    return float((low[is_known].mean() + high[is_known].mean()) / 2) if is_known.any() else None


def _has_others(pairs: tuple[torch.Tensor, torch.Tensor], group: np.ndarray) -> np.ndarray:
    """Of pairs of a clip and a positive: which clips have one that is in another group too, bool ``(N,)``."""
    clip, positive = (values.numpy() for values in pairs)
    total = np.bincount(positive)
    key = group[clip] * len(total) + positive
    _, place, own = np.unique(key, return_inverse=True, return_counts=True)
    result = np.zeros(len(group), bool)
    result[clip[total[positive] > own[place]]] = True
    return result

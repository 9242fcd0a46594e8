"""What a page tells of clips: where they lie, their labels, their neighbours, and what was found of them.

C clips that the page knows, M of them on its map, k neighbours of each.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from audit.findings import Findings, Neighbour
from audit.neighbours import Neighbours
from data.clip import SPLITS
from data.codes import SETS
from data.decode import RATE
from data.pack import Pack

NEIGHBOURS_SHOWN = 5
"""Of each point of the map."""


@dataclass(frozen=True)
class Level:
    """The labels of clips at one level; a clip may have several."""

    names: tuple[str, ...]
    """Those that occur."""
    sets: tuple[tuple[int, ...], ...]
    """Sets of labels that occur, as places in `names`; the empty one: known to have none."""
    codes: np.ndarray
    """int32 `(C,)`: each clip's place in `sets`, -1 unknown."""


@dataclass(frozen=True)
class Points:
    """Every clip that a page knows: those on its map first, then others that findings and neighbours name."""

    clips: tuple[str, ...]
    """Ids."""
    place: np.ndarray
    """float32 `(M, 2)`, of the first M clips."""
    levels: dict[str, Level]
    """family, instrument, genre, source, split, and finding: what was found of a clip."""
    numbers: dict[str, np.ndarray]
    """pitch (MIDI), loudness (dB below full scale, rms) and seconds, float32 `(C,)`, NaN unknown."""
    neighbours: np.ndarray
    """int32 `(M, k)`: places in `clips`, -1 where there is none."""
    similarity: np.ndarray
    """float32 `(M, k)`: cosines."""


def clips_named(findings: Findings) -> list[str]:
    """Ids of the clips that findings name, each once, the most important first: those asked for and each with its
    neighbours, suspects, leaks, other pairs, hubs, outliers, and those that changed."""
    return list(dict.fromkeys(clip for clip in _named(findings) if clip is not None))


def rows_of(pack: Pack, clips: Iterable[str]) -> np.ndarray:
    """int64 row numbers of some clips.

    Raises:
        ValueError: one is not in the pack.
    """
    clips = list(clips)
    wanted = set(clips)
    row_of = {name: row for row, name in enumerate(pack.column("id").tolist()) if name in wanted}
    missing = sorted(wanted - row_of.keys())
    if missing:
        raise ValueError(f"clips of {pack.place} were expected, {missing[0]!r} is none; audit the pack again")
    return np.array([row_of[clip] for clip in clips], np.int64)


def points_of(pack: Pack, findings: Findings, rows: np.ndarray, place: np.ndarray, neighbours: Neighbours) -> Points:
    """Gathers what a page tells of clips.

    Args:
        pack: that was audited.
        findings: of the audit.
        rows: int64 `(M,)`, the clips on the map, from `audit.map.rows_for_map`.
        place: float32 `(M, 2)`, from `audit.map.map_of`.
        neighbours: of every clip of the pack; the first `NEIGHBOURS_SHOWN` of each are shown.

    Raises:
        ValueError: findings name a clip that the pack has not.
    """
    nearest = neighbours.rows[rows, :NEIGHBOURS_SHOWN]
    found = found_of(findings)
    named = rows_of(pack, found)
    known = _distinct(rows, named, nearest[nearest >= 0])
    place_of = np.full(len(pack), -1, np.int32)
    place_of[known] = np.arange(len(known))
    ids = pack.column("id")
    codes = pack.codes
    levels = {level: _set_level(codes.sets[level], codes.names[level], codes.columns[level][known]) for level in SETS}
    levels["source"] = _level(pack.column("source")[known])
    levels["split"] = _level(np.array(SPLITS, object)[codes.columns["split"][known]])
    levels["finding"] = _finding_level(found, place_of[named], len(known))
    pitch = codes.columns["pitch"][known].astype(np.float32)
    return Points(
        clips=tuple(ids[known].tolist()),
        place=np.asarray(place, np.float32),
        levels=levels,
        numbers={
            "pitch": np.where(pitch < 0, np.float32(np.nan), pitch),
            "loudness": pack.column("rms_dbfs")[known].astype(np.float32),
            "seconds": (pack.num_samples[known] / RATE).astype(np.float32),
        },
        neighbours=np.where(nearest < 0, -1, place_of[nearest]).astype(np.int32),
        similarity=neighbours.similarity[rows, :NEIGHBOURS_SHOWN].astype(np.float32),
    )


def found_of(findings: Findings) -> dict[str, list[str]]:
    """What was found of each clip that findings name, if only that it is a neighbour: an empty list."""
    found: dict[str, list[str]] = {clip: [] for clip in clips_named(findings)}
    twins = findings.duplicates
    pairs = [(twins.leaks, "leak"), (twins.touching, "touching group"), (twins.pairs, "duplicate")]
    kinds = [
        ("query", [query.clip for query in findings.queries if query.clip is not None]),
        ("suspect label", [suspect.clip for suspect in findings.suspects]),
        *((kind, [clip for pair in some for clip in (pair.first, pair.second)]) for some, kind in pairs),
        ("hub", [hub.clip for hub in findings.hubs]),
        ("outlier", [outlier.clip for outlier in findings.outliers]),
        ("changed", [change.clip for change in findings.comparison.changes] if findings.comparison else []),
    ]
    for kind, clips in kinds:
        for clip in dict.fromkeys(clips):
            found[clip].append(kind)
    return found


def _named(findings: Findings) -> Iterator[str | None]:
    def near(neighbours: tuple[Neighbour, ...]) -> Iterator[str]:
        return (neighbour.clip for neighbour in neighbours)

    for query in findings.queries:
        yield query.clip
        yield from near(query.neighbours)
    for suspect in findings.suspects:
        yield suspect.clip
        yield from near(suspect.neighbours)
    twins = findings.duplicates
    for pair in (*twins.leaks, *twins.touching, *twins.pairs):
        yield pair.first
        yield pair.second
    for one in (*findings.hubs, *findings.outliers):
        yield one.clip
        yield from near(one.neighbours)
    for change in findings.comparison.changes if findings.comparison else ():
        yield change.clip
        yield from near(change.before)
        yield from near(change.after)


def _distinct(*rows: np.ndarray) -> np.ndarray:
    """Row numbers, each once, in the order in which they first come."""
    every = np.concatenate([part.ravel() for part in rows])
    values, first = np.unique(every, return_index=True)
    return values[np.argsort(first)]


def _set_level(sets: np.ndarray, names: tuple[str, ...], codes: np.ndarray) -> Level:
    """A level of which a clip has a set; `sets` is int8 `(K, names)`: 1 present, 0 absent, -1 unknown."""
    used, codes = np.unique(codes, return_inverse=True)
    is_present = sets[used] == 1  # (K', names)
    is_unknown = ~is_present.any(axis=1) & (sets[used] != 0).any(axis=1)
    kept = np.flatnonzero(is_present.any(axis=0))
    new = np.full(len(names), -1)
    new[kept] = np.arange(len(kept))
    found = [tuple(new[np.flatnonzero(row)].tolist()) for row in is_present]
    distinct = list(dict.fromkeys(one for one, unknown in zip(found, is_unknown, strict=True) if not unknown))
    of_used = np.array(
        [-1 if unknown else distinct.index(one) for one, unknown in zip(found, is_unknown, strict=True)], np.int32
    )
    return Level(tuple(names[place] for place in kept), tuple(distinct), of_used[codes.ravel()])


def _level(values: np.ndarray) -> Level:
    """A level of which every clip has exactly one."""
    names, codes = np.unique(values.astype(str), return_inverse=True)
    return Level(tuple(names.tolist()), tuple((place,) for place in range(len(names))), codes.astype(np.int32))


def _finding_level(found: dict[str, list[str]], places: np.ndarray, count: int) -> Level:
    names = tuple(dict.fromkeys(kind for kinds in found.values() for kind in kinds))
    sets = [tuple(sorted(names.index(kind) for kind in kinds)) for kinds in found.values()]
    distinct = list(dict.fromkeys([(), *sets]))
    codes = np.zeros(count, np.int32)
    codes[places] = [distinct.index(one) for one in sets]
    return Level(names, tuple(distinct), codes)

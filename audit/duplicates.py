"""Clips that are one sound: exact copies but for loudness, and copies that noise, a codec or a cut has changed.

Neighbours are candidates. An embedding may put a copy far away, though, so clips whose power is spread alike and those
whose extremes lie at the same places are, too (`audit.sketches`). Whether they are one sound is decided by the sound
(`audit.alignment`), never by the embedding, to which two notes of one player may be as near as a copy.

From which correlation on two clips are taken for one is found in the pack. Its steady tones of one pitch fit well,
whoever plays them, some packs' better than others'. They give themselves away twice: clips that are labelled as
different instruments, and clips that fit as well when one is played backwards. The threshold is so high that these are
few.

Shapes: N clips of the pack, P pairs.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from tqdm import tqdm

from audit.alignment import are_equal, correlation
from audit.columns import numbered
from audit.embeddings import Embeddings
from audit.findings import Duplicates, Pair
from audit.neighbours import Neighbours
from audit.sketches import Sketches, nearest_sketches, sketches_of
from data.labels import LabelTable
from data.pack import Pack
from data.relation import DIFFERENT, relation_of_pairs

LEAST_SKETCH = 0.95
"""Cosine of two sketches below which their clips are not compared: of copies with noise 20 dB below the sound, fewer
than one in twenty are that far apart, of copies through mp3 hardly any."""
SKETCHES = 10
"""Clips with the most alike sketches that are candidates, beside neighbours."""
LEAST_CORRELATION = 0.95
"""A tenth of the power may differ: noise 10 dB below the sound."""
MOST_IMPOSTORS = 0.05
"""Share of the pairs above the threshold, beside those that wrong labels explain."""
SURE, ENOUGH = 0.999, 20
"""Correlation of what is one sound beyond doubt, noise 27 dB below it, and how many such pairs say how often labels are
wrong."""
_PAIRS_AT_ONCE, _FITS_AT_ONCE = 65_536, 16


@dataclass(frozen=True)
class Compared:
    """Pairs of clips that were laid over each other."""

    first: np.ndarray
    """int64 ``(P,)``, and smaller than `second`."""
    second: np.ndarray
    correlation: np.ndarray
    backwards: np.ndarray
    """float64 ``(P,)``: with one of them played backwards. Both are 0 where they are below `LEAST_CORRELATION`."""
    is_exact: np.ndarray
    is_across: np.ndarray
    """bool ``(P,)``, the groups differ."""


def find_duplicates(embeddings: Embeddings, neighbours: Neighbours, others: Neighbours, most: int = 50) -> Duplicates:
    """Finds clips that are one sound, by listening to all clips once and to pairs of them.

    Args:
        neighbours: of every clip.
        others: of every clip, of other groups.
        most: pairs of a kind that are named, the most alike.
    """
    pack = embeddings.pack
    group, groups = numbered(pack, "group")
    split, splits = numbered(pack, "split")
    sketches = sketches_of(pack)
    first, second = candidates(sketches, neighbours.rows, others.rows, nearest_sketches(sketches, SKETCHES))
    likeness = _likeness(sketches, first, second)
    is_likely = likeness >= LEAST_SKETCH
    first, second, likeness = first[is_likely], second[is_likely], likeness[is_likely]
    is_across = group[first] != group[second]
    chosen = np.concatenate(
        [
            np.flatnonzero(kind)[np.argsort(-likeness[kind], kind="stable")[:number]]
            for kind, number in zip((is_across, ~is_across), most_compared(len(pack)), strict=True)
        ]
    )
    found = compared(pack, first[chosen], second[chosen], is_across[chosen])
    threshold = threshold_of(found, _are_different(pack, found))
    is_one = found.is_exact | (found.correlation >= threshold)
    is_leak = split[found.first] != split[found.second]
    ids = pack.column("id")

    def named(kind: np.ndarray) -> tuple[Pair, ...]:
        alike = np.flatnonzero(kind)
        alike = alike[np.lexsort((-found.correlation[alike], ~found.is_exact[alike]))[:most]]
        one, other = (embeddings.unit(rows[alike]) for rows in (found.first, found.second))
        similarity = (one * other).sum(axis=1)
        return tuple(
            Pair(
                first=ids[x], second=ids[y], similarity=float(similarity[number]),
                correlation=float(found.correlation[place]), is_exact=bool(found.is_exact[place]),
                splits=(splits[split[x]], splits[split[y]]), groups=(groups[group[x]], groups[group[y]]),
            )
            for number, (place, x, y) in enumerate(zip(alike, found.first[alike], found.second[alike], strict=True))
        )  # fmt: skip

    kinds = (~is_leak & ~found.is_across, is_leak, ~is_leak & found.is_across)
    counts = [int((is_one & kind).sum()) for kind in kinds]
    pairs, leaks, touching = (named(is_one & kind) for kind in kinds)
    return Duplicates(
        threshold=threshold, reason=_reason(found, threshold, int(is_likely.sum())),
        num_pairs=counts[0], pairs=pairs, num_leaks=counts[1], leaks=leaks, num_touching=counts[2], touching=touching,
    )  # fmt: skip


def most_compared(count: int) -> tuple[int, int]:
    """How many pairs across groups and within are compared in a pack, the most alike sketches first.

    A pair takes 2 to 4 ms on one core, so 300,000 clips take two to three minutes on two.
    """
    return 10_000 + count // 8, 10_000 + count // 40


def candidates(sketches: Sketches, *neighbours: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs that may be one sound: neighbours ``(N, k)``, and clips that share a key with the first clip that has it.

    Returns:
        The rows of each pair once, the smaller first, int64 ``(P,)`` each.
    """
    count = len(sketches.keys)
    parts = [(np.repeat(np.arange(count), rows.shape[1]), rows.reshape(-1)) for rows in neighbours]
    for keys in sketches.keys.T:
        own = np.flatnonzero(keys >= 0)
        _, place, number = np.unique(keys[own], return_index=True, return_inverse=True)
        parts.append((own[place[number]], own))
    first, second = (np.concatenate(side) for side in zip(*parts, strict=True))
    is_pair = (second >= 0) & (first != second)
    first, second = first[is_pair], second[is_pair]
    code = np.unique(np.minimum(first, second) * count + np.maximum(first, second))
    return code // count, code % count


def compared(pack: Pack, first: np.ndarray, second: np.ndarray, is_across: np.ndarray) -> Compared:
    """Lays the clips of each pair over each other, with a progress bar."""
    result = np.empty((len(first), 3))

    def listen(start: int) -> int:
        places = range(start, min(start + _FITS_AT_ONCE, len(first)))
        for place in places:
            one, other = pack.samples(int(first[place])), pack.samples(int(second[place]))
            result[place] = _listen(one, other)
        return len(places)

    with (
        ThreadPoolExecutor(torch.get_num_threads()) as pool,
        tqdm(total=len(first), desc="compare", unit="pair") as bar,
    ):
        for count in pool.map(listen, range(0, len(first), _FITS_AT_ONCE)):
            bar.update(count)
    return Compared(first, second, result[:, 0], result[:, 1], result[:, 2] == 1, is_across)


def _listen(one: np.ndarray, other: np.ndarray) -> tuple[float, float, bool]:
    """Correlation, that with one clip played backwards, and whether they are equal; as far as it matters."""
    forwards = correlation(one, other)
    if forwards < LEAST_CORRELATION:
        return 0.0, 0.0, False
    backwards = correlation(one, other[::-1])
    return forwards, backwards if backwards >= LEAST_CORRELATION else 0.0, are_equal(one, other)


def threshold_of(found: Compared, are_different: np.ndarray) -> float:
    """The least correlation, from `LEAST_CORRELATION` on, above which impostors are few; 1 if there is none.

    Impostors are, of the pairs of different groups, those of different instruments, and of all pairs those that fit as
    well backwards. Both may be `MOST_IMPOSTORS` of the pairs of different groups, and of all pairs, that reach the
    threshold. Labels may also be wrong: as many pairs more may be of different instruments as are of those that are one
    sound beyond doubt.

    Args:
        are_different: bool ``(P,)``, are known to be of different instruments.
    """
    across = found.correlation[found.is_across]
    is_wrong = are_different[found.is_across]
    is_sure = across >= SURE
    wrong_labels = is_wrong[is_sure].mean() if is_sure.sum() >= ENOUGH else 0.0
    backwards = found.backwards[~found.is_exact]
    steps = np.unique(np.append(found.correlation, LEAST_CORRELATION))
    steps = steps[steps >= LEAST_CORRELATION]

    def reaching(values: np.ndarray) -> np.ndarray:
        return len(values) - np.searchsorted(np.sort(values), steps)

    # One may be a wrong label where there are too few to tell.
    is_good = reaching(across[is_wrong]) <= 1 + (wrong_labels + MOST_IMPOSTORS) * reaching(across)
    is_good &= reaching(backwards) <= MOST_IMPOSTORS * reaching(found.correlation)
    return float(steps[is_good.argmax()]) if is_good.any() else 1.0


def _are_different(pack: Pack, found: Compared) -> np.ndarray:
    rows, place = np.unique(np.concatenate([found.first, found.second]), return_inverse=True)
    first, second = torch.from_numpy(place).split(len(found.first)) if len(place) else (torch.empty(0, dtype=int),) * 2
    related = relation_of_pairs(LabelTable(pack).take(rows), first, second)
    return related["instrument"].numpy() == DIFFERENT


def _likeness(sketches: Sketches, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Cosines of the sketches of pairs, float32 ``(P,)``."""
    parts = [np.empty(0, np.float32)]
    for start in range(0, len(first), _PAIRS_AT_ONCE):
        part = slice(start, start + _PAIRS_AT_ONCE)
        one, other = (sketches.unit[rows[part]].astype(np.float32) for rows in (first, second))
        parts.append(np.einsum("pd,pd->p", one, other))
    return np.concatenate(parts)


def _reason(found: Compared, threshold: float, num_likely: int) -> str:
    number = len(found.first)
    which = f"{number:,} pairs" if number == num_likely else f"the {number:,} likeliest of {num_likely:,} pairs"
    begin = f"Of clips that are near to each other or sketched alike, {which} were laid over each other"
    chance = "are of different instruments, beside wrong labels, or fit with one played backwards, as steady tones do"
    if threshold >= 1:
        return f"{begin}; however well they fit, more than {MOST_IMPOSTORS:.0%} {chance}, so exact copies alone count."
    if threshold > LEAST_CORRELATION:
        return f"{begin}; below {threshold:.4f} more than {MOST_IMPOSTORS:.0%} {chance}."
    return (
        f"{begin}; a tenth of the power may differ, noise 10 dB below the sound, and of those that fit so well at most "
        f"{MOST_IMPOSTORS:.0%} {chance}."
    )

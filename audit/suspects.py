"""Labels that are probably wrong: what a probe makes of clips that it did not learn from, joined with their neighbours.

There are two opinions on every label: the probability that a linear probe gives it, learned from other groups of clips,
and the share of the clip's neighbours that bear it. They fail in different ways (a probe mistakes what is unlike all
else of its name, neighbours out of one recording share its wrong label), so their mean, as in cleanlab's
`get_label_quality_ensemble_scores` (Kuan and Mueller 2022), ranks better than either.

How far down the ranking labels are suspect is not read off decisions of the classifiers, which are wrong far more often
than labels are. A label that is put in the place of a clip's own is wrong for certain, so such labels show how wrong
ones rank. If a share q of them lies below some quality, and a share p of the given ones, then at most p / q of all
labels are wrong. With w the least such bound, a share of w q / p of what lies below is wrong; suspects go down to where
it is half.

A clip of one instrument is judged among all instruments and *none*, which holds no instrument. What a clip of several
bears is judged name by name, among such clips. N clips of the pack, M clips of a question, k neighbours, C classes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from cleanlab.rank import get_label_quality_ensemble_scores
from sklearn.metrics import roc_auc_score

from audit.embeddings import Embeddings
from audit.findings import Neighbour, Suspect
from audit.held_out import class_probabilities, folds_of
from audit.neighbours import Neighbours
from data.correction import ALSO, LEVELS, NO, NONE
from data.pack import Pack

FEWEST_CLIPS = 10
"""Of a class that is judged: of fewer nothing can be learned."""
MOST = 1000
"""Suspects of a level that are told; the first are the surest."""
NEIGHBOURS_TOLD = 10
LIKELY = 0.5
"""Suspects go down the ranking as long as so many of them are probably wrong."""
LEAST_AUC = 0.8
"""Of names that are judged: how often a clip that was given a name gets more of it than one that was not, mean over
names. What tells all names apart reaches 0.9 with a fifth of the labels mixed up; below this it is the embedding that
is wrong and not the labels."""
LEAST_AUC_OF_SEVERAL = 0.9
"""The same where a clip bears several names: in a mixture one that is heard badly looks like one that is wrong."""
_SHARES = np.linspace(0.2, 0.95, 16)
_DRAWS = 50_000  # wrong labels that are looked at, at least; their quantiles need no more


@dataclass(frozen=True)
class _Question:
    """Which of some classes each of some clips is of."""

    level: str
    rows: np.ndarray
    """int64 ``(M,)``."""
    label: np.ndarray
    """int64 ``(M,)``, the class that was given."""
    given: tuple[str, ...]
    """C names of what was given."""
    suggested: tuple[str, ...]
    """And of what is suggested, as `data.correction` reads it."""


@dataclass(frozen=True)
class _Opinion:
    """What is thought of the labels of a question."""

    probe: np.ndarray
    """float32 ``(M, C)``, probabilities."""
    votes: np.ndarray
    """float32 ``(M, C)``, shares of the neighbours; the probe's opinion where none is known."""
    has_votes: np.ndarray
    """bool ``(M,)``."""
    quality: np.ndarray
    """float ``(M,)``, of the given labels: the mean of both."""
    of_wrong: np.ndarray
    """float, of labels that were put in the place of given ones."""
    auc: float
    """See `LEAST_AUC`."""


@dataclass(frozen=True)
class _Cut:
    """How far down the ranking labels are suspect."""

    quality: float
    """The greatest of a suspect."""
    wrong: float
    """Share of all labels that are probably wrong, at most."""
    precision: float
    """Share of the suspects that are probably wrong, at most."""
    recall: float
    """Share of wrong labels, drawn at random, that would be among the suspects."""


def find_suspects(
    embeddings: Embeddings, neighbours: Neighbours, levels: Sequence[str] = LEVELS, most: int = MOST
) -> tuple[list[Suspect], list[str]]:
    """Finds labels that are probably wrong.

    Args:
        embeddings: of a pack.
        neighbours: of all its clips, those of their own groups among them: a clip whose own recording says otherwise is
            the surest suspect. 20 to 50 serve best.
        levels: of `data.correction.LEVELS`.
        most: suspects of each level that are told.

    Returns:
        The suspects, the surest first, and a sentence for each level: how many of its labels seem wrong, or why
        nothing can be said.

    Raises:
        ValueError: there is no such level.
    """
    if unknown := set(levels) - set(LEVELS):
        raise ValueError(f"levels should be of {', '.join(LEVELS)}, found {', '.join(sorted(unknown))}")
    pack, unit = embeddings.pack, embeddings.unit()
    ids, group = pack.column("id"), np.unique(pack.column("group").astype(str), return_inverse=True)[1]

    def judged(questions: Sequence[_Question], name: str, least_auc: float) -> list[Suspect]:
        """The suspects of questions that have one ranking."""
        asked = [(question, _opinion(question, unit, group, neighbours)) for question in questions]
        told = [(question, opinion) for question, opinion in asked if opinion.auc >= least_auc]
        if len(told) < len(asked):
            notes.append(_untold(name, questions, len(told)))
        if not told:
            return []
        quality, of_wrong = (np.concatenate([getattr(one, x) for _, one in told]) for x in ("quality", "of_wrong"))
        cut = _cut(quality, of_wrong)
        suspects = [one for pair in told for one in _suspects(*pair, cut.quality, neighbours, ids)]
        notes.append(_told(name, len(quality), len(suspects), cut))
        return suspects

    found, notes = [], []
    for level in levels:
        single, several = _single(pack, level), list(_several(pack, level))
        if not single and not several:
            notes.append(f"{level}: two labels of {FEWEST_CLIPS} clips each are needed to find wrong ones")
        of_level = judged(single, level, LEAST_AUC)
        of_level += judged(several, f"{level} of clips with several", LEAST_AUC_OF_SEVERAL)
        if len(of_level) > most:
            notes.append(f"{level}: the surest {most:,} of {len(of_level):,} suspect labels are told")
        found += sorted(of_level, key=lambda suspect: suspect.rank)[:most]
    return sorted(found, key=lambda suspect: suspect.rank), notes


def _told(name: str, labels: int, suspects: int, cut: _Cut) -> str:
    told = f"{name}: no more than {cut.wrong:.1%} of {labels:,} labels seem wrong"
    if not suspects:
        return f"{told}, and none of them is suspect"
    return (
        f"{told}; suspects: {suspects:,}, of which at most about {cut.precision:.0%} are wrong; of labels mixed up at "
        f"random about {cut.recall:.0%} would be among them"
    )


def _untold(name: str, questions: Sequence[_Question], told: int) -> str:
    if len(questions) == 1:
        return f"{name}: the embedding tells the names too badly apart to judge {len(questions[0].rows):,} labels"
    return f"{name}: the embedding tells {told} of {len(questions)} names well enough to judge them"


def _single(pack: Pack, level: str) -> list[_Question]:
    """Which one of all names clips with one are of; nothing where there are not two that enough clips bear."""
    sets, names = pack.codes.sets[level], pack.codes.names[level]
    is_one, is_none = _is_one(sets), (sets == 0).all(axis=1)
    class_of = np.where(is_one, (sets == 1).argmax(axis=1), -1)  # of every set that occurs
    if level != "genre":
        class_of[is_none] = len(names)
        names = (*names, NONE)
    label = class_of[pack.codes.columns[level]]
    label = np.where(_may_be_silent(pack, level), -1, label)
    is_learned = np.bincount(label[label >= 0], minlength=len(names)) >= FEWEST_CLIPS
    rows = np.flatnonzero((label >= 0) & is_learned[label])
    own = tuple(name for name, learned in zip(names, is_learned, strict=True) if learned)
    if len(own) < 2:
        return []
    return [_Question(level, rows, (np.cumsum(is_learned) - 1)[label[rows]], own, own)]


def _several(pack: Pack, level: str) -> Iterator[_Question]:
    """Whether each name sounds, of clips with several, or of which only some names are known."""
    sets, code = pack.codes.sets[level], pack.codes.columns[level]
    is_asked = ~_is_one(sets) & (sets != 0).any(axis=1)
    rows = np.flatnonzero(is_asked[code] & ~_may_be_silent(pack, level))
    for place, name in enumerate(pack.codes.names[level]):
        label = sets[code[rows], place].astype(np.int64)
        known = label >= 0
        if np.bincount(label[known], minlength=2).min() >= FEWEST_CLIPS:
            yield _Question(level, rows[known], label[known], (NO + name, name), (NO + name, ALSO + name))


def _is_one(sets: np.ndarray) -> np.ndarray:
    """Whether a set ``(K, C)`` names one label, and either closes the list or says nothing else."""
    silent = (sets == 0).sum(axis=1)
    return ((sets == 1).sum(axis=1) == 1) & ((silent == 0) | (silent == sets.shape[1] - 1))


def _may_be_silent(pack: Pack, level: str) -> np.ndarray:
    """Clips whose labels are of a longer stretch; their genre is theirs all the same."""
    return (pack.codes.columns["is_weak"] == 1) & (level != "genre")


def _opinion(question: _Question, unit: np.ndarray, group: np.ndarray, neighbours: Neighbours) -> _Opinion:
    rows, label = question.rows, question.label
    probe = class_probabilities(unit[rows], label, folds_of(group[rows], label))
    votes, has_votes = _votes(question, neighbours, len(unit))
    votes = np.where(has_votes[:, None], votes, probe)
    quality = get_label_quality_ensemble_scores(
        label, [probe, votes], method="self_confidence", weight_ensemble_members_by="uniform", verbose=False
    )
    joint = (probe + votes) / 2
    auc = np.mean([roc_auc_score(label == number, joint[:, number]) for number in range(joint.shape[1])])
    return _Opinion(probe, votes, has_votes, quality, _quality_of_wrong(joint, label), float(auc))


def _suspects(
    question: _Question, opinion: _Opinion, most_quality: float, neighbours: Neighbours, ids: np.ndarray
) -> list[Suspect]:
    rows, label, every = question.rows, question.label, np.arange(len(question.rows))
    others = opinion.probe + opinion.votes
    others[every, label] = -1
    best = others.argmax(axis=1)
    # Where no neighbour's label is known there is one opinion only, and one is not enough.
    is_suspect = (opinion.quality <= most_quality) & opinion.has_votes & (others[every, best] > 2 * opinion.quality)
    return [
        Suspect(
            clip=ids[rows[place]],
            level=question.level,
            given=question.given[label[place]],
            suggested=question.suggested[best[place]],
            rank=float(opinion.quality[place]),
            self_confidence=float(opinion.probe[place, label[place]]),
            neighbour_share=float(opinion.votes[place, label[place]]),
            neighbours=_nearest(neighbours, rows[place], ids),
        )
        for place in np.flatnonzero(is_suspect).tolist()
    ]


def _votes(question: _Question, neighbours: Neighbours, clips: int) -> tuple[np.ndarray, np.ndarray]:
    """The share of each class among the neighbours whose class is known ``(M, C)``, and whether there are any."""
    class_of = np.full(clips + 1, -1)  # the last is for neighbours that there are not
    class_of[question.rows] = question.label
    count = np.zeros((len(question.rows), len(question.given) + 1), np.float32)
    every = np.arange(len(count))
    for place in range(neighbours.rows.shape[1]):
        count[every, class_of[neighbours.rows[question.rows, place]]] += 1
    known = count[:, :-1]
    number = known.sum(axis=1, keepdims=True)
    return known / np.maximum(number, 1), number[:, 0] > 0


def _quality_of_wrong(joint: np.ndarray, label: np.ndarray) -> np.ndarray:
    """The qualities of labels that are put in the place of the given ones, each as often as it is given."""
    generator, every = np.random.default_rng(0), np.arange(len(label))
    found = []
    for _ in range(max(1, _DRAWS // len(label))):
        other = label[generator.integers(len(label), size=len(label))]
        found.append(joint[every, other][other != label])
    return np.concatenate(found)


def _cut(quality: np.ndarray, of_wrong: np.ndarray) -> _Cut:
    cuts = np.quantile(of_wrong, _SHARES)
    below = np.searchsorted(np.sort(quality), cuts, side="right") + 1  # p of q, but for the number of labels
    # One and a standard deviation more than were counted: the least of several counts is too small by chance.
    wrong = ((below + np.sqrt(below)) / _SHARES).min() / (len(quality) + 1)
    precision = np.minimum(1, wrong * _SHARES * (len(quality) + 1) / below)
    last = np.flatnonzero(precision >= LIKELY)[-1]
    return _Cut(float(cuts[last]), float(wrong), float(precision[last]), float(_SHARES[last]))


def _nearest(neighbours: Neighbours, row: int, ids: np.ndarray) -> tuple[Neighbour, ...]:
    pairs = zip(neighbours.rows[row, :NEIGHBOURS_TOLD], neighbours.similarity[row, :NEIGHBOURS_TOLD], strict=True)
    return tuple(Neighbour(ids[other], float(similarity)) for other, similarity in pairs if other >= 0)

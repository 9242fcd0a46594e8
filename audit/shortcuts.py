"""What an embedding carries besides instruments: pitch, loudness, the data set and the recording.

A model that hears data sets instead of instruments does well wherever a data set has its own instruments, and fails on
the next one. So each of these is predicted from the embedding, by a probe that learned from other groups of clips, and
beside it stands what chance gives. Some of it follows from the labels alone (a bass is low, a data set of flutes is
told by its flutes): how much is said in the explanation, and only what is above that is a shortcut.

N clips of the pack, M clips of which the answer is known, E embedding size.
"""

from collections.abc import Iterator
from itertools import chain

import numpy as np
from sklearn.metrics import balanced_accuracy_score

from audit.embeddings import Embeddings
from audit.findings import Shortcut
from audit.held_out import class_probabilities, folds_of, ridge_predictions
from audit.neighbours import Neighbours
from data.pack import Pack

FEWEST_CLIPS = 50
"""Of which the answer is known; a probe of fewer says nothing."""
FEWEST_OF_A_SOURCE = 10


def find_shortcuts(embeddings: Embeddings, neighbours: Neighbours) -> tuple[list[Shortcut], list[str]]:
    """Measures how well pitch, loudness, data set and recording are predicted.

    Args:
        embeddings: of a pack.
        neighbours: of all its clips, those of their own groups among them; only the nearest is looked at.

    Returns:
        What could be measured, and a sentence for each that could not.
    """
    pack, unit = embeddings.pack, embeddings.unit()
    found = list(
        chain(
            _number("pitch", "MIDI note", pack.codes.columns["pitch"], pack.codes.columns["pitch"] >= 0, pack, unit),
            _number("loudness", "RMS level in dB", *_loudness(pack), pack, unit),
            _source(pack, unit),
            _recording(pack, neighbours),
        )
    )
    return [one for one in found if isinstance(one, Shortcut)], [one for one in found if isinstance(one, str)]


def _loudness(pack: Pack) -> tuple[np.ndarray, np.ndarray]:
    values = pack.column("rms_dbfs").astype(float)
    return values, np.isfinite(values)


def _number(
    name: str, unit_name: str, values: np.ndarray, is_known: np.ndarray, pack: Pack, unit: np.ndarray
) -> Iterator[Shortcut | str]:
    """How much of the variance of a number a ridge regression explains."""
    rows = np.flatnonzero(is_known)
    target = values[rows].astype(float)
    if len(rows) < FEWEST_CLIPS or target.std() == 0:
        yield f"{name}: {FEWEST_CLIPS} clips of various {name} are needed to measure it, {len(rows)} have any"
        return
    fold = _folds(pack, rows)
    if fold is None:
        yield f"{name}: clips of two groups are needed to measure it"
        return
    predicted = ridge_predictions(unit[rows], target, fold)
    by_labels = _means_of_labels(_labels(pack, rows), target, fold)
    error = np.abs(predicted - target).mean()
    yield Shortcut(
        name=name,
        measure="r2",
        value=_r2(predicted, target),
        chance=0.0,
        clips=len(rows),
        explanation=(
            f"Share of the variance of the {unit_name} that a ridge regression explains, learned from other groups of "
            f"clips than it is tested on; it is off by {error:.1f} on average, and the labels alone would explain "
            f"{max(0.0, _r2(by_labels, target)):.2f}."
        ),
    )


def _source(pack: Pack, unit: np.ndarray) -> Iterator[Shortcut | str]:
    """How well a linear discriminant tells the data sets apart."""
    names, source, clips = np.unique(pack.column("source").astype(str), return_inverse=True, return_counts=True)
    is_enough = clips >= FEWEST_OF_A_SOURCE
    if is_enough.sum() < 2:
        yield f"source: two data sets of {FEWEST_OF_A_SOURCE} clips each are needed, the pack has {is_enough.sum()}"
        return
    rows = np.flatnonzero(is_enough[source])
    label = (np.cumsum(is_enough) - 1)[source[rows]]
    fold = folds_of(_groups(pack, rows), label)
    probability = class_probabilities(unit[rows], label, fold)
    share = np.bincount(label) / len(label)
    # Each data set weighs the same, as in the measure.
    value = balanced_accuracy_score(label, (probability / share).argmax(axis=1))
    one_hot = np.eye(len(share))[label]
    by_labels = np.stack([_means_of_labels(_labels(pack, rows), column, fold) for column in one_hot.T], axis=1)
    alone = balanced_accuracy_score(label, (by_labels / share).argmax(axis=1))
    yield Shortcut(
        name="source",
        measure="balanced_accuracy",
        value=float(value),
        chance=1 / len(share),
        clips=len(rows),
        explanation=(
            f"How often a linear probe names the data set of a clip, mean over {', '.join(names[is_enough])}, learned "
            f"from other groups of clips than it is tested on; the labels alone would name {alone:.2f}."
        ),
    )


def _recording(pack: Pack, neighbours: Neighbours) -> Iterator[Shortcut | str]:
    """How often the nearest clip is of the same recording."""
    names = np.char.add(np.char.add(pack.column("source").astype(str), "/"), pack.column("recording").astype(str))
    recording = np.unique(names, return_inverse=True)[1]
    clips = np.bincount(recording)[recording]
    nearest = neighbours.rows[:, 0]
    rows = np.flatnonzero((clips > 1) & (nearest >= 0))
    if len(rows) < FEWEST_CLIPS:
        yield (
            f"recording: {FEWEST_CLIPS} clips of recordings with several are needed to measure it, "
            f"the pack has {len(rows)}"
        )
        return
    labels = _labels(pack, np.arange(len(pack)))
    alike = np.bincount(labels)[labels]
    pairs = np.unique(np.stack([recording, labels]), axis=1, return_inverse=True, return_counts=True)
    own_alike = pairs[2][pairs[1].ravel()]
    has_others = alike[rows] > 1
    of_alike = ((own_alike[rows] - 1) / np.maximum(alike[rows] - 1, 1))[has_others].mean() if has_others.any() else 0.0
    yield Shortcut(
        name="recording",
        measure="accuracy",
        value=float((recording[nearest[rows]] == recording[rows]).mean()),
        chance=float(((clips[rows] - 1) / (len(pack) - 1)).mean()),
        clips=len(rows),
        explanation=(
            "How often the nearest clip of all is of the same recording, of clips whose recording has several; a clip "
            f"drawn at random from those with the same labels would be in {of_alike:.2f}."
        ),
    )


def _folds(pack: Pack, rows: np.ndarray) -> np.ndarray | None:
    """Folds that keep groups whole; None if there is but one group."""
    group = _groups(pack, rows)
    if (group == group[0]).all():
        return None
    return folds_of(group)


def _groups(pack: Pack, rows: np.ndarray) -> np.ndarray:
    return np.unique(pack.column("group")[rows].astype(str), return_inverse=True)[1]


def _labels(pack: Pack, rows: np.ndarray) -> np.ndarray:
    """int64 ``(M,)``, equal for clips whose families and instruments are the same."""
    columns = pack.codes.columns
    pairs = np.stack([columns["family"][rows], columns["instrument"][rows]])
    return np.unique(pairs, axis=1, return_inverse=True)[1].ravel()


def _means_of_labels(labels: np.ndarray, target: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """The mean over the other folds' clips of the same labels, ``(M,)``; over all of them where there is none."""
    count, total = (np.zeros((fold.max() + 1, labels.max() + 1)) for _ in range(2))
    np.add.at(count, (fold, labels), 1)
    np.add.at(total, (fold, labels), target)
    known, others = count.sum(0) - count, total.sum(0) - total
    overall = others.sum(1, keepdims=True) / np.maximum(known.sum(1, keepdims=True), 1)
    return np.where(known > 0, others / np.maximum(known, 1), overall)[fold, labels]


def _r2(predicted: np.ndarray, target: np.ndarray) -> float:
    return float(1 - np.square(predicted - target).sum() / np.square(target - target.mean()).sum())

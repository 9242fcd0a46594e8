"""Whether k-means finds families and instruments by itself: the v-measure, as MTEB takes it.

The protocol is that of MTEB's clustering tasks, ``NSynthInstrumentFamilyClustering`` among them: mini-batch k-means
with as many clusters as there are classes, in batches of 512, on 16,384 clips drawn with replacement, ten times; the
mean of the ten v-measures. So the number of an NSynth test pack stands beside MTEB's. It does not know of groups: notes
of one player fall into one cluster, which flatters where classes have few players.

N clips of the pack, E embedding size.
"""

import numpy as np
from sklearn.cluster import MiniBatchKMeans
from sklearn.metrics import v_measure_score

from audit.embeddings import Embeddings
from audit.findings import Score
from data.labels import LabelTable
from data.pack import Pack

ROUNDS = 10
CLIPS = 16_384
BATCH = 512


def v_measures(embeddings: Embeddings, seed: int = 0) -> list[Score]:
    """The v-measure (Rosenberg and Hirschberg 2007, EMNLP) of k-means by family and by instrument.

    The harmonic mean of homogeneity, that a cluster holds one class, and completeness, that a class lies in one
    cluster. Embeddings are taken as the backbone gave them, not normalised, as MTEB takes them. What clusters drawn at
    random get is measured beside it; the interval holds 95 % of what the rounds would give.

    Returns:
        A score for each level with two classes or more, of clips that are known to hold exactly one.
    """
    scores = []
    for level, classes in classes_of(embeddings.pack).items():
        rows = np.flatnonzero(classes >= 0)
        number = len(np.unique(classes[rows]))
        if number < 2:
            continue
        found, chance = _rounds(embeddings, rows, classes[rows], number, seed)
        spread = 1.96 * found.std(ddof=1)
        low, high = max(0.0, found.mean() - spread), min(1.0, found.mean() + spread)
        scores.append(
            Score(level, "v_measure", float(found.mean()), float(low), float(high), float(chance.mean()), len(rows))
        )
    return scores


def classes_of(pack: Pack) -> dict[str, np.ndarray]:
    """The family and the instrument of clips that are known to hold exactly one, int64 ``(N,)``; -1 for the rest."""
    table = LabelTable(pack)
    family = table.single_family
    sounds = table.column("instrument") == 1
    is_one = (sounds.sum(axis=1) == 1) & (family >= 0)
    instrument = np.where(is_one, sounds.argmax(axis=1), -1)
    return {"family": family, "instrument": instrument}


def _rounds(
    embeddings: Embeddings, rows: np.ndarray, classes: np.ndarray, number: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """v-measures of every round, of k-means and of clusters drawn at random with the same sizes, ``(ROUNDS,)`` each."""
    generator = np.random.default_rng(seed)
    found, chance = np.empty(ROUNDS), np.empty(ROUNDS)
    for round_ in range(ROUNDS):
        drawn = generator.integers(len(rows), size=CLIPS)
        vectors = np.asarray(embeddings.vectors[rows[drawn]], np.float32)  # (CLIPS, E)
        means = MiniBatchKMeans(number, batch_size=BATCH, init="k-means++", n_init=1, random_state=seed)
        clusters = means.fit_predict(vectors)
        found[round_] = v_measure_score(classes[drawn], clusters)
        chance[round_] = v_measure_score(classes[drawn], generator.permutation(clusters))
    return found, chance

"""Families of notes of a SoundFont that training never heard, told by frozen embeddings and by classic features.

    python -m data.prepare gm --fonts OTHER.sf2 --out packs/other
    python -m benchmarks.fonts --probe_data packs/other --runs ast-tiny
    python -m benchmarks.fonts --probe_data packs/other --runs runs/triplet_0 runs/triplet_1 runs/triplet_2

Probes learn from the training split's notes of one font's pack and are tested on the notes of another's; dropped from
the test is what both fonts may have from one recording (benchmarks/renderings.py). Each run's embedding is probed by
kNN (k = 10, cosine) and by logistic regression; beside them stand 40 MFCC means and deviations with an RBF SVM, and
log-mel means with kNN. All hear the same seconds of each note, networks in windows of the length they were trained on,
whose embeddings are averaged. Prints accuracy and balanced accuracy, over runs that differ in their seed alone as mean
and standard deviation, and writes the same to OUT.md.
"""

import argparse
import shlex
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import librosa
import numpy as np
import torch
from accelerate import Accelerator
from sklearn.base import ClassifierMixin
from sklearn.metrics import accuracy_score, balanced_accuracy_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from torch import Tensor

from backbones.log_mel import RATE, LogMel, log_mel_statistics
from benchmarks.embeddings import embedding_of, in_windows, mean_and_spread, settings_of
from benchmarks.renderings import note_rows, unshared
from benchmarks.timing import goal, table
from checkpoints.config import run_command
from checkpoints.errors import CheckpointError
from data.errors import DataError
from data.labels import LabelTable
from data.loader import heads_of_clips
from data.pack import Pack
from data.spread import spread
from losses.probes import NEIGHBOURS, linear_probe
from pretrain.embedding_scores import Embed

GOAL_POINTS = 10.0
MFCCS = 40
BATCH = 32


@dataclass(frozen=True)
class Notes:
    """Notes of a pack with their families."""

    pack: Pack
    rows: np.ndarray
    family: np.ndarray
    """int64 ``(N,)``, place in `data.taxonomy.FAMILIES`."""

    @classmethod
    def choose(cls, pack: Pack, rows: np.ndarray, count: int) -> "Notes":
        """At most `count` of the notes among some rows, spread over families and their timbres."""
        family = LabelTable(pack).single_family
        chosen = spread(note_rows(pack, rows), family, pack.column("group"), count)
        if len(np.unique(family[chosen])) < 2:
            raise DataError(f"notes of two families or more were expected in {pack.folder}; prepare it by gm --notes")
        return cls(pack, chosen, family[chosen])

    def features(self, embed: Embed, seconds: float, device: torch.device) -> np.ndarray:
        """Float32 ``(N, E)`` of the beginning of every note."""
        parts = []
        with torch.no_grad():
            for batch in heads_of_clips(self.pack, self.rows, round(seconds * RATE), BATCH):
                batch = batch.to(device)
                parts.append(embed(batch.waveform, batch.num_samples).float().cpu().numpy())
        return np.concatenate(parts)


def mfcc_statistics(waveform: Tensor, num_samples: Tensor | None) -> Tensor:
    """Mean and standard deviation of librosa's MFCCs over a clip's frames, ``(B, 2 * MFCCS)``."""
    lengths = [waveform.shape[1]] * len(waveform) if num_samples is None else num_samples.tolist()
    found = []
    for clip, length in zip(waveform.cpu().numpy(), lengths, strict=True):
        mfccs = librosa.feature.mfcc(y=clip[:length], sr=RATE, n_mfcc=MFCCS)  # (MFCCS, T)
        found.append(np.concatenate([mfccs.mean(axis=1), mfccs.std(axis=1)]))
    return torch.from_numpy(np.stack(found))


def knn() -> ClassifierMixin:
    """What probes an embedding by its neighbours."""
    return KNeighborsClassifier(NEIGHBOURS, metric="cosine", weights="distance")


def svm() -> ClassifierMixin:
    """What learns from MFCCs; from C = 1 on the choice changes little."""
    return make_pipeline(StandardScaler(), SVC(C=10.0))


def probe_families(
    train: Notes, tests: Sequence[Notes], embed: Embed, seconds: float, device: torch.device, *models: ClassifierMixin
) -> list[list[tuple[float, float]]]:
    """Accuracy and balanced accuracy on each test of each classifier, which hear the same seconds of every note."""
    features = train.features(embed, seconds, device)
    fitted = [model.fit(features, train.family) for model in models]
    found = []
    for test in tests:
        features = test.features(embed, seconds, device)
        guesses = [model.predict(features) for model in fitted]
        found.append(
            [
                (float(accuracy_score(test.family, guess)), float(balanced_accuracy_score(test.family, guess)))
                for guess in guesses
            ]
        )
    return found


Scores = dict[str, list[tuple[float, float]]]
"""Accuracy and balanced accuracy of each row of the table, one pair a seed."""


class Protocol:
    """Who learns from what, and is tested on what."""

    def __init__(self, train: Notes, test: Notes, seconds: float):
        self.train, self.test, self.seconds = train, test, seconds
        self.device = Accelerator().device

    def score(self, embed: Embed, *models: ClassifierMixin) -> list[tuple[float, float]]:
        """Accuracy and balanced accuracy of each classifier."""
        return probe_families(self.train, [self.test], embed, self.seconds, self.device, *models)[0]

    def baselines(self) -> Scores:
        """Of the classic features."""
        info = self.train.pack.info
        log_mel = LogMel(info.log_mel_mean, info.log_mel_std).to(self.device)

        def log_mel_means(waveform: Tensor, num_samples: Tensor | None) -> Tensor:
            return log_mel_statistics(log_mel, waveform, num_samples).chunk(2, dim=1)[0]

        return {
            f"{MFCCS} MFCC means and deviations, RBF SVM": self.score(mfcc_statistics, svm()),
            "log-mel means, kNN": self.score(log_mel_means, knn()),
        }

    def of_runs(self, paths: Sequence[Path]) -> Scores:
        """Of the embeddings of runs, those of one setting together."""
        scores: Scores = {}
        for name, runs in settings_of(paths).items():
            for run in runs:
                embed, size = embedding_of(run, self.device)
                found = self.score(in_windows(embed, size), knn(), linear_probe())
                for probe, pair in zip(("kNN", "linear"), found, strict=True):
                    scores.setdefault(f"{name}, {probe}", []).append(pair)
                print(f"{run.path}: accuracy kNN {found[0][0]:.3f}, linear {found[1][0]:.3f}", flush=True)
        return scores

    def describe(self) -> str:
        """Who learns from what, in words."""
        largest = np.bincount(self.test.family).max() / len(self.test.family)
        return (
            f"Families of {len(self.test.rows)} notes in {self.test.pack.folder}, learned from {len(self.train.rows)} "
            f"in {self.train.pack.folder}, the first {self.seconds:g} s of each; always guessing the largest family "
            f"scores {largest:.3f}."
        )


def report(baselines: Scores, probed: Scores) -> str:
    """The table, and whether the goal is met."""
    means = {name: statistics.mean(accuracy for accuracy, _ in found) for name, found in (baselines | probed).items()}
    best = max(means[name] for name in baselines)
    rows = []
    for name, found in (baselines | probed).items():
        cells = [mean_and_spread(values) for values in zip(*found, strict=True)]
        of_runs = [str(len(found)), f"{100 * (means[name] - best):+.1f}"] if name in probed else ["", ""]
        rows.append([name, *cells, *of_runs])
    header = ["features and classifier", "accuracy", "balanced accuracy", "runs", "points over the better baseline"]
    goals = [
        f"- {goal(f'{name}, points over the better baseline', 100 * (means[name] - best), GOAL_POINTS)}"
        for name in probed
    ]
    return "\n".join([table(header, rows), "", *goals])


def main() -> None:
    """Scores, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("packs/gm"), help="pack to learn from (default: packs/gm)")
    parser.add_argument("--probe_data", type=Path, required=True, help="pack of the other font, to be tested on")
    parser.add_argument(
        "--fonts", type=Path, nargs="+", default=[], help="SoundFonts of --data (default: the offline pack's)"
    )
    parser.add_argument("--runs", type=Path, nargs="+", default=[], help="run folders of pretrain/, or ast-tiny")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each note (default: 4, all of it)")
    parser.add_argument("--notes", type=int, default=5000, help="at most, of each pack (default: 5000)")
    parser.add_argument("--out", type=Path, default=Path("docs/fonts"), help="name of the .md (default: docs/fonts)")
    options = parser.parse_args()
    pack, other = Pack.open(options.data), Pack.open(options.probe_data)
    rest = unshared(pack, other, options.fonts)
    train = Notes.choose(pack, pack.rows("train"), options.notes)
    test = Notes.choose(other, rest.rows, options.notes)
    protocol = Protocol(train, test, options.seconds)
    words = f"{protocol.describe()} {rest.describe()}."
    print(words, flush=True)
    text = report(protocol.baselines(), protocol.of_runs(options.runs))
    file = options.out.with_suffix(".md")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"`python -m benchmarks.fonts {shlex.join(sys.argv[1:])}`\n\n{words}\n\n{text}\n")
    print(f"\n{text}\n\n{file}")


if __name__ == "__main__":
    run_command(main, (CheckpointError, DataError))

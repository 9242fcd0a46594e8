"""The rows of the results table on NSynth, OpenMIC-2018 and IRMAS, by the protocols of the published numbers.

**nsynth**: a linear probe of the frozen embedding tells the family and another the pitch of the test split's notes,
learned from the whole training split. **openmic**, **irmas**: finetune/protocols.py, by probe or adapter as the row
says. Packs are prepared with ``--duplicates keep``, as others report on all test clips.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import RidgeClassifier
from sklearn.metrics import accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks import bands
from benchmarks.fonts import Notes, svm
from benchmarks.results_rows import Entry, Pretrained, instrument_plans
from benchmarks.results_scores import Heard
from checkpoints.errors import CheckpointError
from data.errors import DataError
from data.labels import LabelTable
from data.pack import INFO_NAME, Pack
from data.prepare import main as prepare
from finetune.classifiers import MOST_SVM_CLIPS
from losses.probes import linear_probe

COLUMNS = {
    "nsynth": {"family": "family accuracy", "pitch": "pitch accuracy"},
    "openmic": {"openmic_map": "mAP of 18 classes", "openmic_f1_two_class": "F1 of present and absent"},
    "irmas": {"irmas_f1_micro": "F1 micro", "irmas_f1_macro": "F1 macro", "irmas_lrap": "LRAP"},
}
"""Scores of each data set that make columns."""
LABELS = {"irmas": {"protocol": "irmas", "heads": '["instrument"]'}, "openmic": {"protocol": "openmic"}}
NSYNTH_SECONDS = 4.0


def pack_of(name: str, source: Path, folder: Path) -> Pack:
    """The pack of a data set, prepared if it is not there yet.

    Args:
        source: where the data set was unpacked.
        folder: of such packs.

    Raises:
        DataError: it could not be prepared; the preparation has said why.
    """
    path = folder / name
    if not (path / INFO_NAME).is_file() and prepare([f"{name}={source}", "--duplicates", "keep", "--out", str(path)]):
        raise DataError(f"{name} was expected in {source}, which could not be prepared; see above why")
    return Pack.open(path)


def protocol_scores(
    options: argparse.Namespace, name: str, pack: Pack, rows: Mapping[str, Entry], found: Pretrained
) -> tuple[dict[str, list[dict[str, float]]], list[CheckpointError], bool]:
    """Of OpenMIC or IRMAS: the scores of each row, a dict a seed; what failed; whether Ctrl-C stopped it."""
    plans = instrument_plans(
        options, rows, found, options.runs / name, data=pack.folder, test_data=None, sources=None, labels=LABELS[name]
    )
    reached, failed, is_stopped = bands.finish_all(list(plans.values()), options.parallel)
    scores: dict[str, list[dict[str, float]]] = {}
    for (row, _), plan in plans.items():
        if plan.run.path in reached:
            scores.setdefault(row, []).append(_of_protocol(reached[plan.run.path], plan))
    return scores, failed, is_stopped


def _of_protocol(scores: Mapping[str, Any], plan: bands.Plan) -> dict[str, float]:
    if "protocol" not in scores:
        raise CheckpointError(f"{plan.run.path}/scores.json has no scores of a protocol; delete the run and try again")
    return dict(scores["protocol"])


def nsynth_scores(pack: Pack, ear: Heard, device: torch.device) -> dict[str, float]:
    """Accuracy of family and pitch of the test notes; of pitches that training has.

    An SVM learns from some notes drawn at random, for its memory grows with their square.

    Raises:
        DataError: the pack has no notes to learn from, or none to test on.
    """
    labels = LabelTable(pack)
    family, pitch = labels.single_family, labels.column("pitch")
    is_told = (family >= 0) & (pitch >= 0)
    train, test = (rows[is_told[rows]] for rows in (pack.rows("train"), pack.rows("test")))
    if not (len(train) and len(test)):
        raise DataError(f"{pack.folder} should hold NSynth's training and test split; give the folder that has both")
    notes = Notes(pack, train, family[train]), Notes(pack, test, family[test])
    ours, theirs = (one.features(ear.embed, NSYNTH_SECONDS, device) for one in notes)
    some = np.random.default_rng(0).permutation(len(train))[: MOST_SVM_CLIPS if ear.has_svm else len(train)]
    model = svm() if ear.has_svm else linear_probe()
    guess = model.fit(ours[some], family[train][some]).predict(theirs)
    scores = {"family": float(accuracy_score(family[test], guess))}
    is_known = np.isin(pitch[test], pitch[train])
    if is_known.any():
        of_pitch = make_pipeline(StandardScaler(), RidgeClassifier(alpha=10.0)).fit(ours, pitch[train])
        scores["pitch"] = float(accuracy_score(pitch[test][is_known], of_pitch.predict(theirs[is_known])))
    return scores

"""What each row's embedding knows: families of unseen timbres and of an unseen font, instrument or none, pitch."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from accelerate import Accelerator

from audit.embedder import Embedder
from backbones.builders import untrained_backbone
from backbones.frozen import Frozen
from backbones.log_mel import RATE, LogMel, frames_of, log_mel_statistics
from backbones.optimisation import count_parameters
from benchmarks.embeddings import in_windows
from benchmarks.fonts import Notes, knn, mfcc_statistics, probe_families, svm
from benchmarks.renderings import unshared
from benchmarks.results_rows import Entry
from checkpoints.errors import CheckpointError
from checkpoints.files import replacing
from data.pack import Pack
from losses.probes import linear_probe
from pretrain.embedding_scores import Embed, EmbeddingEvaluation, ScoredClips

HEARD_SECONDS = 2.0
"""Of each clip that instrument, none and pitch are told of."""
VERSION = 1
"""Of what is computed here; scores that were kept from another version are not used."""


class Heard(NamedTuple):
    """A row's ear."""

    embed: Embed
    identity: str
    """What its values depend on besides the sound."""
    parameters: int | None
    """Of the network; None of a classic feature."""
    has_svm: bool = False
    """Whether an SVM takes the place of the linear probe of families."""


def ear_of(entry: Entry, init: str | None, seed: int, preset: str, pack: Pack, device: torch.device) -> Heard:
    """What a row hears with.

    Args:
        init: a run, or what else `Embedder.load` finds; ``untrained`` draws a network by the seed; None of a classic
            feature.
    """
    info = pack.info
    if entry.is_classic:
        if entry.method == "mfcc_svm":
            return Heard(mfcc_statistics, "mfcc", None, has_svm=True)
        front_end = LogMel(info.log_mel_mean, info.log_mel_std).to(device)
        return Heard(lambda waveform, length: log_mel_statistics(front_end, waveform, length), "log_mel", None)
    if init == "untrained":
        torch.manual_seed(seed)
        size = round(HEARD_SECONDS * RATE)
        drawn = untrained_backbone(entry.backbone, preset, frames_of(size), info.log_mel_mean, info.log_mel_std)
        embedder = Embedder(Frozen(drawn, "mean").to(device), size)
    else:
        embedder = Embedder.load(init, device)
    parameters = count_parameters(embedder.frozen.backbone.parameters())
    identity = f"{embedder.checksum} {embedder.pooling} {embedder.num_samples}"
    return Heard(in_windows(embedder.frozen, embedder.num_samples), identity, parameters)


class Tests:
    """The clips that rows are tested on, and what is kept of their scores.

    Args:
        options: of the command.
        folder: where scores are kept.
    """

    def __init__(self, options: argparse.Namespace, pack: Pack, other: Pack, folder: Path):
        accelerator = Accelerator()
        self.pack, self.device, self.folder, self.seconds = pack, accelerator.device, folder, options.seconds
        rest = unshared(pack, other, options.fonts)
        held_out = np.concatenate([pack.rows("validation"), pack.rows("test")])
        self.train = Notes.choose(pack, pack.rows("train"), options.notes)
        self.seen = Notes.choose(pack, held_out, options.notes)
        self.unseen = Notes.choose(other, rest.rows, options.notes)
        counts = options.probe_clips, options.test_clips
        self.clips = EmbeddingEvaluation(accelerator, pack, other, round(HEARD_SECONDS * RATE), *counts)
        self.clips.test = ScoredClips.choose(other, rest.rows, options.test_clips)
        self.identity = [
            VERSION, pack.fingerprint, other.fingerprint, options.notes, *counts, options.seconds,
            [font.name for font in options.fonts],
        ]  # fmt: skip
        self.words = (
            f"Families are told of {len(self.seen.rows)} notes of timbres that training does not hold, and of "
            f"{len(self.unseen.rows)} notes of {other.folder}, by probes that learned from {len(self.train.rows)} "
            f"notes of {pack.folder}, the first {options.seconds:g} s of each; always guessing the largest family "
            f"scores {np.bincount(self.unseen.family).max() / len(self.unseen.family):.3f} there. {rest.describe()}. "
            f"Instrument or none and pitch are told of {len(self.clips.test.rows)} clips of {other.folder}."
        )

    def scores(self, name: str, ear: Heard) -> dict[str, float]:
        """Every score of an embedding, computed once."""
        return kept(self.folder / f"{name}.json", [*self.identity, ear.identity], lambda: self._measured(ear))

    def _measured(self, ear: Heard) -> dict[str, float]:
        models = knn(), svm() if ear.has_svm else linear_probe()
        found = probe_families(self.train, [self.seen, self.unseen], ear.embed, self.seconds, self.device, *models)
        keys = ("seen_knn", "seen_linear", "unseen_knn", "unseen_linear")
        accuracies = [accuracy for of_test in found for accuracy, _ in of_test]
        others, _ = self.clips.scores(ear.embed)
        return dict(zip(keys, accuracies, strict=True)) | {
            key: others[key] for key in ("instrument_auc", "pitch_accuracy") if key in others
        }


def kept(file: Path, identity: list, measure: Callable[[], dict[str, float]]) -> dict[str, float]:
    """Scores from a file, if they are of the same things, or measured and put there.

    Raises:
        CheckpointError: the file cannot be read.
    """
    asked = json.loads(json.dumps(identity))
    if file.is_file():
        try:
            found = json.loads(file.read_text())
            if found["of"] == asked:
                return found["scores"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{file} is damaged; delete it and run the command again") from error
    scores = measure()
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as temporary:
        temporary.write_text(json.dumps({"of": asked, "scores": scores}, indent=1) + "\n")
    return scores

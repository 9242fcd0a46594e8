"""What an embedding knows of clips whose timbres it was never trained on, and what it has forgotten.

Families, instruments and genres by neighbours of other timbres and by probes, instrument or none, pitch, how deep in
the tree the wrong neighbours lie, and how the embeddings lie on the sphere; beside them the same of log-mel statistics
and of the network before training.

Shapes: N clips, B rows of a batch, S samples, E embedding size.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from sklearn.linear_model import RidgeClassifier
from sklearn.metrics import accuracy_score, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor
from torch.nn.functional import normalize

from backbones.log_mel import LogMel, log_mel_statistics
from checkpoints.figures import save
from checkpoints.run import RunFolder
from checkpoints.weights import save_backbone
from data.augment import Augmentation
from data.depth import SAME_FAMILY, SAME_TIMBRE, depths
from data.labels import LabelTable
from data.loader import heads_of_clips
from data.pack import Pack
from data.relation import relation
from data.spread import spread
from losses.classes import centroid_distance
from losses.collapse import effective_rank, embedding_std
from losses.probes import classify, linear_probe
from losses.retrieval import (
    alignment,
    distance_of_wrong_neighbours,
    mean_distance_of_depths,
    retrieval,
    uniformity,
)
from pretrain.embedding_figures import distance_histogram, embedding_map, family_distances
from pretrain.embedding_model import EmbeddingModel
from pretrain.objectives import Classes

Embed = Callable[[Tensor, Tensor | None], Tensor]
"""From float waveforms ``(B, S)`` and their ``num_samples`` to embeddings ``(B, E)``."""

BATCH = 32
ALIGNED_CLIPS = 128
DEPTH_NAMES = ("timbre", "instrument", "family", "other_family", "non_instrument")
MIN_STD, MIN_RANK = 0.005, 1.5
"""Below these a run has collapsed. Projections deviate by 0.04 or more when training starts, by 0.1 or more where it
goes well, by 0.0004 to 0.004 once a loss has come to rest with all clips in one place."""
MIN_CLIPS = 8
"""Fewer say nothing of how an embedding is spread: three span two directions at most."""
HEADLINES = ("knn", "linear", "family_map_at_r", "instrument_auc")
"""The scores that are logged of the fixed lines too."""


@dataclass(frozen=True)
class ScoredClips:
    """Clips spread over families, genres and what is no instrument, with all that is known of them."""

    pack: Pack
    rows: np.ndarray
    labels: dict[str, Tensor]
    family: np.ndarray
    """int64 ``(N,)``, -1 where a clip does not hold exactly one."""
    group: np.ndarray
    """int64 ``(N,)``, a number for each timbre, player or recording."""

    @classmethod
    def choose(cls, pack: Pack, rows: np.ndarray, count: int) -> "ScoredClips":
        """Two thirds single families, and of the rest half genres, half non-instruments, as far as there are such."""
        table, groups = LabelTable(pack), pack.column("group")
        genre = table.column("genre")
        one_genre = np.where((genre == 1).sum(axis=1) == 1, genre.argmax(axis=1), -1)
        none = np.where(table.column("is_instrument") == 0, 0, -1)
        sixth = count // 6
        chosen = [
            spread(rows, label, groups, size)
            for label, size in ((table.single_family, count - 2 * sixth), (one_genre, sixth), (none, sixth))
        ]
        chosen = np.unique(np.concatenate(chosen))
        _, numbers = np.unique(groups[chosen].astype(str), return_inverse=True)
        return cls(pack, chosen, table.take(chosen), table.single_family[chosen], numbers)

    def embeddings(self, embed: Embed, num_samples: int, device: torch.device) -> np.ndarray:
        """``(N, E)`` of the beginning of every clip, float32; ``(0, 0)`` of none."""
        parts = [np.empty((0, 0), np.float32)][len(self.rows) :]  # of no clips
        with torch.no_grad():
            for batch in heads_of_clips(self.pack, self.rows, num_samples, BATCH):
                batch = batch.to(device)
                parts.append(embed(batch.waveform, batch.num_samples).float().cpu().numpy())
        return np.concatenate(parts) if parts else np.empty((0, 0), np.float32)


class EmbeddingEvaluation:
    """Scores a model on schedule, draws it, and saves its backbone; everything on the main process.

    Args:
        other: pack of other timbres, all of whose clips may be tested; the validation split of `pack` if None.
        num_samples: how much of each clip's beginning is heard.
        train_clips, test_clips: what probes learn from, and what is tested.
    """

    def __init__(
        self, accelerator: Accelerator, pack: Pack, other: Pack | None, num_samples: int, train_clips: int,
        test_clips: int,
    ):  # fmt: skip
        self.accelerator, self.num_samples = accelerator, num_samples
        self.train = ScoredClips.choose(pack, pack.rows("train"), train_clips)
        tested, rows = (pack, pack.rows("validation")) if other is None else (other, np.arange(len(other)))
        self.test = ScoredClips.choose(tested, rows, test_clips)
        self.fixed: dict[str, float] = {}
        if accelerator.is_main_process and not len(self.test.rows):
            print(f"{tested.place} has no clips of known families, genres or non-instruments to test on")

    def measure_fixed_lines(self, model: EmbeddingModel) -> None:
        """Scores log-mel statistics and the model as it is now, before training."""
        if not self.accelerator.is_main_process or not len(self.test.rows):
            return
        model.eval()
        info = self.train.pack.info
        log_mel = LogMel(info.log_mel_mean, info.log_mel_std).to(self.accelerator.device)
        for name, embed in (("log_mel", partial(log_mel_statistics, log_mel)), ("start", model.embed)):
            scores = self.scores(embed)[0]
            self.fixed |= {f"{name}_{key}": scores[key] for key in HEADLINES if key in scores}
        model.train()
        print(
            f"scores   from {len(self.train.rows)} clips of {len(set(self.train.group))} timbres or recordings, on "
            f"{len(self.test.rows)} of {len(set(self.test.group))} others; "
            f"{describe(self.fixed) or 'the labels allow no probe of families'}"
        )

    def __call__(self, model: EmbeddingModel, run: RunFolder, step: int) -> dict[str, float]:
        """Returns the scores after `step` steps; empty on all processes but the main one."""
        values: dict[str, float] = {}
        if self.accelerator.is_main_process:
            model.eval()
            if len(self.test.rows):
                values, tested = self.scores(model.embed)
                with torch.no_grad():
                    projected = model.projector(torch.from_numpy(tested).to(self.accelerator.device))
                values |= spread_of({"projection_std": embedding_std}, projected.cpu()) | self.fixed
                unit = normalize(torch.from_numpy(tested), dim=1)
                save(embedding_map(unit.numpy(), self.test.labels, step), run.figures / "map.png")
                save(
                    family_distances(unit.numpy(), self.test.family, self.test.group, step),
                    run.figures / "families.png",
                )
                save(distance_histogram(unit, self._depth, step), run.figures / "distances.png")
            if not collapse_of(values):  # else what was learned before stays on the disk
                save_backbone(model.encoder, run.backbone)
            model.train()
        self.accelerator.wait_for_everyone()
        return values

    def with_centroid_distance(self, classes: Classes, model: EmbeddingModel) -> Classes:
        """The same classes, as far apart as the centroids of their training clips lie in the model as it is now.

        A class without a training clip keeps its distance in the tree. The main process measures for all.
        """
        own = classes.of(self.train.labels)
        is_known = own >= 0
        if not is_known.any():
            return classes
        distance = classes.distance.to(self.accelerator.device, copy=True)
        if self.accelerator.is_main_process:
            model.eval()
            embeddings = torch.from_numpy(self.train.embeddings(model.embed, self.num_samples, distance.device))
            model.train()
            # What all embeddings have in common, most of each before training, would bring all classes together.
            embeddings = embeddings - embeddings.mean(dim=0)
            present, numbers = own[is_known].unique(return_inverse=True)
            centroids = centroid_distance(embeddings[is_known], numbers, len(present))
            distance[present[:, None], present] = centroids.to(distance.device)
        return replace(classes, distance=broadcast(distance))

    @property
    def _depth(self) -> Tensor:
        """int8 ``(N, N)`` of the tested clips, -1 where it is not known and for a clip itself.

        Other timbres of one family whose instruments nobody named, as in NSynth, count as no more than that.
        """
        low, high = depths(relation(self.test.labels))
        is_known = (low == high) | ((low > SAME_TIMBRE) & (high == SAME_FAMILY))
        return high.masked_fill(~is_known, -1).fill_diagonal_(-1)

    def scores(self, embed: Embed) -> tuple[dict[str, float], np.ndarray]:
        """Every score that the labels allow, and the embeddings ``(N, E)`` of the tested clips."""
        device = self.accelerator.device
        learned = self.train.embeddings(embed, self.num_samples, device)
        tested = self.test.embeddings(embed, self.num_samples, device)
        unit = normalize(torch.from_numpy(tested), dim=1)
        values = self._probes(learned, tested) | self._neighbours(unit) | {"alignment": self._alignment(embed)}
        measures = {"embedding_std": embedding_std, "effective_rank": effective_rank, "uniformity": uniformity}
        return values | spread_of(measures, unit), tested

    def _probes(self, learned: np.ndarray, tested: np.ndarray) -> dict[str, float]:
        values: dict[str, float] = {}
        ours, theirs = self.train.family >= 0, self.test.family >= 0
        if len(np.unique(self.train.family[ours])) > 1 and theirs.any():
            values |= classify(learned[ours], self.train.family[ours], tested[theirs], self.test.family[theirs])
        ours, theirs = (part.labels["is_instrument"].numpy() for part in (self.train, self.test))
        if all(len(np.unique(known[known >= 0])) == 2 for known in (ours, theirs)):
            probe = linear_probe().fit(learned[ours >= 0], ours[ours >= 0])
            guess = probe.predict_proba(tested[theirs >= 0])[:, 1]
            values["instrument_auc"] = float(roc_auc_score(theirs[theirs >= 0], guess))
        ours, theirs = (part.labels["pitch"].numpy() for part in (self.train, self.test))
        is_tested = (theirs >= 0) & np.isin(theirs, ours)
        if len(np.unique(ours[ours >= 0])) > 1 and is_tested.any():
            # Solved at once: logistic regression over eighty pitches takes longer than the rest of an evaluation.
            probe = make_pipeline(StandardScaler(), RidgeClassifier(alpha=10.0))
            probe.fit(learned[ours >= 0], ours[ours >= 0])
            values["pitch_accuracy"] = float(accuracy_score(theirs[is_tested], probe.predict(tested[is_tested])))
        return values

    def _neighbours(self, unit: Tensor) -> dict[str, float]:
        values: dict[str, float] = {}
        relations, similarity = relation(self.test.labels), unit @ unit.T
        group = torch.from_numpy(self.test.group)
        is_other = group != group[:, None]
        for level in ("family", "instrument", "genre"):
            same = relations[level]
            found = retrieval(similarity, same == 1, (same >= 0) & is_other)
            values |= {f"{level}_{name}": score for name, score in found.items()}
        depth = self._depth
        wrong = distance_of_wrong_neighbours(similarity, depth, is_other, right=SAME_FAMILY - 1)
        if wrong is not None:
            values["wrong_neighbour_depth"] = wrong
        for name, distance in zip(DEPTH_NAMES, mean_distance_of_depths(unit, depth), strict=True):
            if distance is not None:
                values[f"distance_{name}"] = distance
        return values

    def _alignment(self, embed: Embed) -> float:
        """Of two augmented views of some tested clips."""
        rows = self.test.rows[:: max(1, len(self.test.rows) // ALIGNED_CLIPS)]
        totals, augment = [], Augmentation.standard()
        with torch.no_grad():
            for batch in heads_of_clips(self.test.pack, rows, self.num_samples, BATCH, streams=2):
                batch = batch.to(self.accelerator.device)
                views = [
                    normalize(embed(augment(batch.waveform, keys, batch.num_samples), batch.num_samples).float(), dim=1)
                    for keys in batch.keys.T
                ]
                totals += [alignment(*views)] * len(batch.rows)
        return float(np.mean(totals))


def spread_of(measures: Mapping[str, Callable[[Tensor], Tensor]], unit: Tensor) -> dict[str, float]:
    """How ``(N, E)`` unit vectors lie on the sphere; nothing where they are too few to tell, see `MIN_CLIPS`."""
    if len(unit) < MIN_CLIPS:
        return {}
    return {name: float(measure(unit.double())) for name, measure in measures.items()}


def describe(values: dict[str, float]) -> str:
    """The scores of an evaluation in words."""
    parts = []
    for name, prefix in (("this run", ""), ("before training", "start_"), ("log-mel statistics", "log_mel_")):
        if f"{prefix}knn" in values:
            parts.append(f"{name} kNN {values[f'{prefix}knn']:.3f} linear {values[f'{prefix}linear']:.3f}")
    for key, name in (
        ("family_map_at_r", "family mAP@R"),
        ("instrument_auc", "instrument AUC"),
        ("pitch_accuracy", "pitch"),
        ("wrong_neighbour_depth", "depth of wrong neighbours"),
    ):
        if key in values:
            parts.append(f"{name} {values[key]:.3f}")
    return "; ".join(parts)


def collapse_of(values: dict[str, float]) -> str | None:
    """A sentence if the embeddings have fallen together, else None.

    They have if unit projections deviate by less than `MIN_STD` of what an even spread would, or unit embeddings span
    fewer than `MIN_RANK` directions: a network that has found a constant does not find back. The deviation of the
    embeddings says less: after masked reconstruction it is as small as after a collapse, for all share a large part.

    Args:
        values: what an evaluation returned.
    """
    std, rank = values.get("projection_std", 1.0), values.get("effective_rank", MIN_RANK)
    if std >= MIN_STD and rank >= MIN_RANK:
        return None
    return (
        f"the embeddings have collapsed: their projections deviate by {std:.4f} (at least {MIN_STD} expected), their "
        f"effective rank is {rank:.1f} (at least {MIN_RANK:g} expected); start anew with a lower --lr, a higher "
        "--temperature or another --objective"
    )

"""What an embedding knows of instrument families: kNN and a linear classifier, tested on timbres they never saw.

Clips that are known to hold exactly one family take part. Every score is the mean recall over the families of the
test clips (balanced accuracy), so that a font with many guitars does not decide it.

Shapes: N clips, E embedding size, F mel bins.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from backbones.ast_encoder import AstBackbone
from backbones.log_mel import LogMel
from backbones.pooling import OF_LAYERS, pool
from data.labels import LabelTable
from data.loader import Batch, heads_of_clips
from data.pack import Pack
from losses.collapse import effective_rank, embedding_std

NEIGHBOURS = 10
BATCH = 32


@dataclass(frozen=True)
class FamilyClips:
    """Clips of a pack that are known to hold exactly one family."""

    pack: Pack
    rows: np.ndarray
    """int64 ``(N,)``"""
    family: np.ndarray
    """int64 ``(N,)``: place in `data.taxonomy.FAMILIES`."""
    num_timbres: int

    @classmethod
    def choose(cls, pack: Pack, rows: np.ndarray, count: int) -> "FamilyClips":
        """Takes up to `count` of the rows.

        Families get equal shares as far as they go, and the clips of a family are spread over its timbres.
        """
        family, groups = LabelTable(pack).single_family, pack.column("group")
        chosen = spread(rows, family, groups, count)
        return cls(pack, chosen, family[chosen], len(set(groups[chosen])))


@dataclass(frozen=True)
class ProbeClips:
    """The clips that a probe learns from and those it is tested on."""

    train: FamilyClips
    test: FamilyClips

    @classmethod
    def choose(cls, pack: Pack, count: int, other: Pack | None = None) -> "ProbeClips | None":
        """Takes up to `count` clips of the training split, and half as many to test.

        Args:
            pack: whose training split is learned from.
            count: clips to learn from; 0 for no probes.
            other: a pack that has no timbre of `pack`, all of whose clips may be tested; the validation split of
                `pack` if None.

        Returns:
            None if there are fewer than two families to learn, or nothing to be tested.
        """
        train = FamilyClips.choose(pack, pack.rows("train"), count)
        tested, rows = (pack, pack.rows("validation")) if other is None else (other, np.arange(len(other)))
        test = FamilyClips.choose(tested, rows, count // 2)
        return cls(train, test) if len(np.unique(train.family)) >= 2 and len(test.rows) else None

    def describe(self) -> str:
        """Who learns from whom, in words."""
        source = "" if self.test.pack is self.train.pack else f" in {self.test.pack.folder}"
        return (
            f"{len(self.train.rows)} clips of {self.train.num_timbres} timbres, tested on "
            f"{len(self.test.rows)} of {self.test.num_timbres} others{source}"
        )


def spread(rows: np.ndarray, label: np.ndarray, group: np.ndarray, size: int) -> np.ndarray:
    """Takes at most `size` of some rows, round after round: one of each label a round, from its groups in turn; sorted.

    Args:
        rows: row numbers of the pack.
        label: int64 ``(N,)``, as of all clips of the pack; -1 is never taken.
        group: of all clips of the pack.
    """
    generator = np.random.default_rng(0)
    queues = []
    for value in np.unique(label[rows][label[rows] >= 0]):
        members = generator.permutation(rows[label[rows] == value])
        before, order = Counter(), []  # how many clips of its timbre come before each clip
        for name in group[members]:
            order.append(before[name])
            before[name] += 1
        queues.append(members[np.argsort(order, kind="stable")])
    rounds = [
        queue[place] for place in range(max(map(len, queues), default=0)) for queue in queues if place < len(queue)
    ]
    return np.sort(np.array(rounds[:size], dtype=np.int64))


def probe(embed: Callable[[Batch], Tensor], clips: ProbeClips, num_samples: int) -> dict[str, float]:
    """Scores an embedding.

    Args:
        embed: a batch to ``(B, E)``.
        num_samples: how much of each clip's beginning is heard.

    Returns:
        ``knn`` (cosine, 10 neighbours weighted by nearness) and ``linear`` (logistic regression on standardised
        features), both balanced accuracies in [0, 1]; of the tested clips ``embedding_std`` and
        ``effective_rank``, see `losses.collapse`.
    """
    train, test = (
        embeddings(embed, heads_of_clips(part.pack, part.rows, num_samples, BATCH))
        for part in (clips.train, clips.test)
    )
    spread = torch.from_numpy(test).double()
    return classify(train, clips.train.family, test, clips.test.family) | {
        "embedding_std": embedding_std(spread).item(),
        "effective_rank": effective_rank(spread).item(),
    }


def classify(train: np.ndarray, train_class: np.ndarray, test: np.ndarray, test_class: np.ndarray) -> dict[str, float]:
    """Balanced accuracy of ``knn`` and ``linear`` that learn from embeddings ``(N, E)`` and are tested on others."""
    knn = KNeighborsClassifier(min(NEIGHBOURS, len(train)), metric="cosine", weights="distance")
    return {
        name: float(balanced_accuracy_score(test_class, model.fit(train, train_class).predict(test)))
        for name, model in (("knn", knn), ("linear", linear_probe()))
    }


def linear_probe() -> Pipeline:
    """Logistic regression on standardised features."""
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000, C=0.1))


@torch.no_grad()
def embeddings(embed: Callable[[Batch], Tensor], batches: Iterator[Batch]) -> np.ndarray:
    """Embeddings ``(N, E)`` of all clips of some batches, float32."""
    return np.concatenate([embed(batch).float().cpu().numpy() for batch in batches])


def backbone_embedding(backbone: AstBackbone, device: torch.device, pooling: str) -> Callable[[Batch], Tensor]:
    """The embedding of a backbone, see `backbones.pooling.pool`."""

    def embed(batch: Batch) -> Tensor:
        batch = batch.to(device)
        return pool(backbone(batch.waveform, batch.num_samples, hidden=pooling in OF_LAYERS), pooling)

    return embed


def log_mel_statistics(log_mel: LogMel, waveform: Tensor, num_samples: Tensor | None) -> Tensor:
    """Mean and standard deviation of every mel bin over a clip's frames, ``(B, 2 F)``: what no learning gives."""
    values, num_frames = log_mel(waveform, num_samples)
    is_sound = (torch.arange(values.shape[1], device=values.device) < num_frames[:, None])[..., None]
    count = num_frames.clamp(min=1)[:, None]
    mean = (values * is_sound).sum(1) / count
    variance = ((values - mean[:, None]).square() * is_sound).sum(1) / count
    return torch.cat([mean, variance.sqrt()], dim=1)


def log_mel_embedding(log_mel: LogMel, device: torch.device) -> Callable[[Batch], Tensor]:
    """`log_mel_statistics` of a batch that is not on the device yet."""

    def embed(batch: Batch) -> Tensor:
        batch = batch.to(device)
        return log_mel_statistics(log_mel, batch.waveform, batch.num_samples)

    return embed

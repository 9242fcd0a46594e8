"""What an embedding knows of instrument families: kNN and a linear classifier, tested on timbres they never saw.

Clips that are known to hold exactly one family take part. Every score is the mean recall over the families of the
test clips (balanced accuracy), so that a font with many guitars does not decide it.

Shapes: N clips, E embedding size, F mel bins.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from backbones.ast_encoder import AstBackbone
from backbones.log_mel import LogMel, log_mel_statistics
from backbones.pooling import OF_LAYERS, pool
from data.labels import LabelTable
from data.loader import Batch, heads_of_clips
from data.pack import Pack
from data.spread import spread
from losses.collapse import effective_rank, embedding_std
from losses.probes import classify

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
        source = "" if self.test.pack is self.train.pack else f" in {self.test.pack.place}"
        return (
            f"{len(self.train.rows)} clips of {self.train.num_timbres} timbres, tested on "
            f"{len(self.test.rows)} of {self.test.num_timbres} others{source}"
        )


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


def log_mel_embedding(log_mel: LogMel, device: torch.device) -> Callable[[Batch], Tensor]:
    """`log_mel_statistics` of a batch that is not on the device yet."""

    def embed(batch: Batch) -> Tensor:
        batch = batch.to(device)
        return log_mel_statistics(log_mel, batch.waveform, batch.num_samples)

    return embed

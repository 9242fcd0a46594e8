"""What linear heads start from: the best linear probe of the backbone as it is, so that training can only add to it.

Heads that start at random first pull the backbone wherever their noise points, and a few hundred steps teach them less
than a solver finds in a second on embeddings computed once (Kumar et al. 2022, arXiv 2202.10054, "linear probing, then
fine-tuning").

Shapes: N clips, E embedding size, C classes of a head.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from data.labels import LabelTable
from data.loader import heads_of_clips
from data.pack import Pack
from data.spread import some
from finetune.classifiers import Clips, logistic_weights, standardised
from finetune.model import FineTuned
from finetune.targets import Target, targets_of
from losses.heads import binary_loss, class_loss

MOST_CLIPS = 1024
MOST_VALIDATED = 256
BATCH = 32
C = (1e-3, 1e-2, 0.1, 1.0)
"""Inverse strengths of the penalty, of which the validation clips choose one."""


class HeadStart(NamedTuple):
    """What a probe was learned from."""

    num_clips: int
    num_validated: int
    c: float

    def describe(self) -> str:
        """In words."""
        chosen = f", chosen on {self.num_validated} others" if self.num_validated else ""
        return f"a linear probe of {self.num_clips} clips, C = {self.c:g}{chosen}"


def why_random(model: FineTuned) -> str | None:
    """Why the heads of a network cannot start as a probe; None where they can."""
    if model.form != "linear":
        return f"{model.form} heads are no linear probe"
    if model.sections > 1:
        return "each class sees a section of the embedding"
    if model.pooling == "attentive":
        return "the pooling is untrained too"
    return None


def start_heads(
    model: FineTuned, pack: Pack, table: LabelTable, rows: np.ndarray, validated: np.ndarray,
    assume_complete: frozenset[str], device: torch.device,
) -> HeadStart:  # fmt: skip
    """Gives linear heads the weights of logistic regressions on the embeddings of the beginnings of clips.

    Args:
        model: linear heads on one embedding, see `why_random`; it comes back in the mode it was in.
        table: labels that training knows.
        rows: row numbers of clips to learn from, of which at most `MOST_CLIPS` are taken.
        validated: row numbers of clips that choose the penalty; without any, C is 0.01.
        assume_complete: see `finetune.targets.targets_of`.
        device: where the embeddings are computed.
    """
    rows, validated = some(rows, MOST_CLIPS), some(validated, MOST_VALIDATED)
    found = _embeddings(model, pack, np.concatenate([rows, validated]), device)
    learned, others = found[: len(rows)], found[len(rows) :]
    train, validation = standardised(learned, others)
    targets = targets_of(table.take(rows), model.specs, assume_complete)
    wanted = targets_of(LabelTable(pack).take(validated), model.specs, assume_complete) if len(validated) else None
    fits = {}
    for c in C if wanted else C[1:2]:
        fits[c] = logistic_weights(Clips(train, targets), model.specs, torch.device("cpu"), c)
    loss = {c: _loss(model, validation, *fit, wanted) if wanted else 0.0 for c, fit in fits.items()}
    c = min(loss, key=loss.__getitem__)
    _set(model, learned, *fits[c])
    return HeadStart(len(rows), len(validated), c)


@torch.no_grad()
def _embeddings(model: FineTuned, pack: Pack, rows: np.ndarray, device: torch.device) -> np.ndarray:
    """Float32 ``(N, E)``."""
    was_training, parts = model.training, []
    model.to(device).eval()
    for batch in heads_of_clips(pack, rows, model.num_samples, BATCH):
        batch = batch.to(device)
        parts.append(model.embed(batch.waveform, batch.num_samples)[0].float().cpu().numpy())
    model.train(was_training)
    return np.concatenate(parts)


def _loss(model: FineTuned, features: np.ndarray, weight: Tensor, bias: Tensor, targets: dict[str, Target]) -> float:
    """The mean over the heads of what is known."""
    logits = torch.addmm(bias, torch.from_numpy(features), weight)
    parts = logits.split([len(spec.classes) for spec in model.specs], dim=1)
    losses = [
        (binary_loss if spec.kind == "binary" else class_loss)(own, *targets[spec.name])
        for spec, own in zip(model.specs, parts, strict=True)
    ]
    known = [loss.mean() for loss in losses if loss.count > 0]
    return float(torch.stack(known).mean()) if known else 0.0


@torch.no_grad()
def _set(model: FineTuned, features: np.ndarray, weight: Tensor, bias: Tensor) -> None:
    """Writes weights ``(E, C)`` for standardised features into the heads, which see them as they are."""
    mean, std = (torch.from_numpy(of(features.astype(np.float64), axis=0)) for of in (np.mean, np.std))
    scale = torch.where(std > 1e-9 * mean.abs().clamp(min=1), 1 / std, 0.0)
    own_weight = (weight.double() * scale[:, None]).T  # (C, E)
    own_bias = bias.double() - own_weight @ mean
    sizes = [len(spec.classes) for spec in model.specs]
    for spec, part, offset in zip(model.specs, own_weight.split(sizes), own_bias.split(sizes), strict=True):
        head = model.heads.get_submodule(spec.name)
        head.weight.copy_(part)
        head.bias.copy_(offset)

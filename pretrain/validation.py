"""What a run reaches on clips it was never trained on, beside lines that do not learn.

Masked patches are compared with two simple predictors, embeddings with log-mel statistics and with the same network
untrained.

Shapes: B batch, M masked, K kept, A values in a patch, T frames, F mel bins.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from matplotlib.figure import Figure
from torch import Tensor

from backbones.ast_encoder import AstBackbone, log_mel_of
from backbones.mae import MaskedAutoencoder, Reconstruction, take_tokens
from checkpoints.figures import save
from checkpoints.run import RunFolder
from checkpoints.weights import save_backbone
from data.loader import heads_of_clips
from data.pack import Pack
from losses.masked_patches import (
    interpolated_from_nearest,
    masked_patch_loss,
    mean_of_visible,
    normalised_patches,
)
from pretrain.figures import reconstructions
from pretrain.probes import ProbeClips, backbone_embedding, log_mel_embedding, probe

BATCH = 32


class Evaluation:
    """Masked error, probes and a picture on the validation split; called on schedule, it also saves the backbone.

    Built before a state is loaded. Everything runs on the main process, while the others wait.

    Args:
        untrained: the network with untrained weights, as yet; its probes are the second fixed line.
        mask: arguments of `MaskedAutoencoder.forward` that choose masks.
        target: ``normalised`` or ``raw``, see `target_for`.
        num_clips: validation clips on which the masked error is measured.
        clips: of the probes; None for no probes.
        pooling: see `backbones.pooling.pool`.
    """

    def __init__(
        self, accelerator: Accelerator, pack: Pack, model: MaskedAutoencoder, untrained: AstBackbone,
        mask: dict[str, Any], target: str, num_clips: int, clips: ProbeClips | None, pooling: str,
    ):  # fmt: skip
        self.accelerator, self.pack, self.model = accelerator, pack, model
        self.mask, self.target, self.pooling = mask, target, pooling
        self.rows = spread_rows(pack.rows("validation"), num_clips)
        self.clips = clips
        self.fixed: dict[str, float] = {}
        if not accelerator.is_main_process:
            return
        if len(self.rows) == 0:
            print(f"{pack.place} has no validation clips: nothing will be evaluated")
        if self.clips:
            for name, embed in (
                ("log_mel", log_mel_embedding(model.encoder.log_mel, accelerator.device)),
                ("untrained", backbone_embedding(untrained, accelerator.device, pooling)),
            ):
                scores = probe(embed, self.clips, model.encoder.num_samples)
                self.fixed |= {f"{name}_{kind}": score for kind, score in scores.items()}
            print(f"probes   of family: {self.clips.describe()}; {describe(self.fixed)}")
        else:
            print("probes   none: not asked for, or no clips of known single families to learn from and be tested on")

    def __call__(self, run: RunFolder, step: int) -> dict[str, float]:
        """Returns the scores after `step` steps; empty on all processes but the main one."""
        values: dict[str, float] = {}
        if self.accelerator.is_main_process:
            self.model.eval()
            if len(self.rows):
                values = masked_errors(self.model, self.pack, self.rows, self.mask, target_for(self.target))
                is_normalised = self.target == "normalised"
                rows = spread_rows(self.rows, 4)
                figure = reconstruction_figure(self.model, self.pack, rows, self.mask, is_normalised, step)
                save(figure, run.figures / "reconstruction.png")
            if self.clips:
                embed = backbone_embedding(self.model.encoder, self.accelerator.device, self.pooling)
                values |= probe(embed, self.clips, self.model.encoder.num_samples) | self.fixed
            save_backbone(self.model.encoder, run.backbone)
            self.model.train()
        self.accelerator.wait_for_everyone()
        return values


def describe(values: dict[str, float]) -> str:
    """The scores of an evaluation in words."""
    parts = []
    if "masked_error" in values:
        parts.append(
            f"error on masked patches of unseen timbres {values['masked_error']:.3f} "
            f"(mean of the visible {values['mean_error']:.3f}, nearest visible {values['nearest_error']:.3f})"
        )
    for name, prefix in (("this run", ""), ("log-mel statistics", "log_mel_"), ("untrained", "untrained_")):
        if f"{prefix}knn" in values:
            parts.append(f"{name} kNN {values[f'{prefix}knn']:.3f} linear {values[f'{prefix}linear']:.3f}")
    return "; ".join(parts)


def spread_rows(rows: np.ndarray, count: int) -> np.ndarray:
    """At most `count` of the rows, drawn once and for all."""
    return np.sort(np.random.default_rng(0).permutation(rows)[:count])


@torch.no_grad()
def masked_errors(
    model: MaskedAutoencoder, pack: Pack, rows: np.ndarray, mask: dict, target_of: Callable[[Tensor], Tensor]
) -> dict[str, float]:
    """Mean squared error on masked patches of the clips' beginnings; each clip's mask is always the same.

    Args:
        mask: arguments of `MaskedAutoencoder.forward` that choose masks.
        target_of: patches to what the decoder is trained to predict; the simple predictors predict that too.

    Returns:
        ``masked_error`` of the model, ``mean_error`` of the mean of the visible patches, ``nearest_error`` of
        interpolation from the nearest visible ones. 1.0 is what predicting 0 gives where patches are normalised.
    """
    device = next(model.parameters()).device
    totals = np.zeros(3)
    for batch in heads_of_clips(pack, rows, model.encoder.num_samples, BATCH):
        batch = batch.to(device)
        out = model(batch.waveform, batch.keys, batch.num_samples, **mask)
        patches, _ = model.encoder.patches(batch.waveform, batch.num_samples)
        visible = target_of(take_tokens(patches, out.mask.ids_keep))
        target = target_of(out.target)
        guesses = (
            out.prediction,
            mean_of_visible(visible, target.shape[1]),
            interpolated_from_nearest(visible, out.mask.ids_keep, out.mask.ids_masked, model.encoder.grid),
        )
        totals += [len(batch.rows) * masked_patch_loss(guess, target, out.is_padding).item() for guess in guesses]
    return dict(zip(("masked_error", "mean_error", "nearest_error"), (totals / len(rows)).tolist(), strict=True))


@torch.no_grad()
def reconstruction_figure(
    model: MaskedAutoencoder, pack: Pack, rows: np.ndarray, mask: dict, is_normalised: bool, step: int
) -> Figure:
    """Original, visible and reconstructed log-mel of some clips."""
    device = next(model.parameters()).device
    batch = next(heads_of_clips(pack, rows, model.encoder.num_samples, len(rows))).to(device)
    out = model(batch.waveform, batch.keys, batch.num_samples, **mask)
    patches, _ = model.encoder.patches(batch.waveform, batch.num_samples)
    grid, log_mel = model.encoder.grid, model.encoder.log_mel

    def picture(values: Tensor) -> np.ndarray:  # (B, T, F) in decibels
        natural = log_mel_of(values.float(), grid) * 2 * log_mel.std + log_mel.mean
        return (natural * 10 / np.log(10)).cpu().numpy()

    seen, drawn = patches.clone(), patches.clone()
    index = out.mask.ids_masked[..., None].expand(-1, -1, patches.shape[2])
    seen.scatter_(1, index, float("nan"))
    drawn.scatter_(1, index, _rescaled(out, is_normalised))
    titles = ["\n".join(name.split("/")[-2:]) for name in pack.column("id")[rows]]
    note = f"log-mel of unseen clips after {step} steps"
    if is_normalised:
        note += "; the target is each patch's shape, so its mean and deviation are lent from the original"
    return reconstructions(
        list(zip(titles, picture(patches), picture(seen), picture(drawn), strict=True)),
        model.encoder.num_samples / 16_000,
        note,
    )


def _rescaled(out: Reconstruction, is_normalised: bool) -> Tensor:
    """The prediction in units of the normalised log-mel."""
    prediction = out.prediction.float()
    if not is_normalised:
        return prediction
    return prediction * out.target.std(dim=-1, keepdim=True) + out.target.mean(dim=-1, keepdim=True)


def target_for(kind: str) -> Callable[[Tensor], Tensor]:
    """What the decoder predicts of a patch: ``normalised`` its shape, ``raw`` the patch itself."""
    return normalised_patches if kind == "normalised" else lambda patches: patches

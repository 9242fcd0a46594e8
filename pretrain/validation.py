"""How well masked patches of clips that were never trained on are reconstructed, beside two simple predictors.

Shapes: B batch, M masked, K kept, A values in a patch, T frames, F mel bins.
"""

from collections.abc import Callable

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from backbones.ast_encoder import log_mel_of
from backbones.mae import MaskedAutoencoder, Reconstruction
from data.loader import heads_of_clips
from data.pack import Pack
from losses.masked_patches import (
    interpolated_from_nearest,
    masked_patch_loss,
    mean_of_visible,
    normalised_patches,
)
from pretrain.figures import reconstructions

BATCH = 32


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
        visible = target_of(_at(patches, out.mask.ids_keep))
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
    titles = [name.rpartition("/")[2] if len(name) > 34 else name for name in pack.column("id")[rows]]
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


def _at(patches: Tensor, ids: Tensor) -> Tensor:
    return patches.gather(1, ids[..., None].expand(-1, -1, patches.shape[2]))

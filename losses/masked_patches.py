"""The masked autoencoder's loss, and the simple predictors it has to beat.

Shapes: B batch, M masked patches, K visible patches, A values in a patch, grid (freq, time).
"""

import torch
from torch import Tensor


def normalised_patches(patches: Tensor, eps: float = 1e-6) -> Tensor:
    """Each patch minus its mean over the root of its variance, ``(..., A)`` to itself.

    He et al. 2021 (arXiv 2111.06377, section 3, "Reconstruction target"); the variance is the unbiased one.
    """
    mean = patches.mean(dim=-1, keepdim=True)
    return (patches - mean) * (patches.var(dim=-1, keepdim=True) + eps).rsqrt()


def masked_patch_loss(prediction: Tensor, target: Tensor, is_padding: Tensor | None = None) -> Tensor:
    """Mean squared error over the masked patches that hold sound, every clip counting alike.

    ``mean_b (sum_m known_bm * mean_a (prediction_bma - target_bma)^2 / sum_m known_bm)``, He et al. 2021, section 3:
    only masked patches are given. However many of a clip's patches sound, so the mean over parts of a batch, or over
    processes, of equally many clips is the mean over all. Computed in float32 at least: half precision is widened.

    Args:
        prediction: ``(B, M, A)``.
        target: ``(B, M, A)``.
        is_padding: bool ``(B, M)``, patches that do not count; None means that all do.

    Returns:
        Scalar, the mean over the local rows, a row without a patch that counts being 0 (with a gradient of 0).
    """
    wide = torch.promote_types(prediction.dtype, torch.float32)
    error = (prediction.to(wide) - target.to(wide)).square().mean(dim=-1)  # (B, M)
    if is_padding is None:
        return error.mean() if error.numel() else error.sum()
    is_known = (~is_padding).to(error.dtype)
    return ((error * is_known).sum(dim=1) / is_known.sum(dim=1).clamp(min=1)).mean()


def mean_of_visible(visible: Tensor, num_masked: int) -> Tensor:
    """Predicts each masked patch as the mean of the clip's visible ones.

    Args:
        visible: ``(B, K, A)``.

    Returns:
        ``(B, M, A)`` with M = `num_masked`.
    """
    return visible.mean(dim=1, keepdim=True).expand(-1, num_masked, -1)


def interpolated_from_nearest(visible: Tensor, ids_keep: Tensor, ids_masked: Tensor, grid: tuple[int, int]) -> Tensor:
    """Predicts each masked patch from its four nearest visible ones, weighted by the inverse squared distance.

    Shepard 1968 ("A two-dimensional interpolation function for irregularly-spaced data"); distances are Euclidean on
    the grid of patches.

    Args:
        visible: ``(B, K, A)``, the patches at `ids_keep` ``(B, K)``.
        ids_masked: int64 ``(B, M)``.
        grid: patches along frequency and along time.

    Returns:
        ``(B, M, A)``.
    """
    place = torch.cartesian_prod(*(torch.arange(size, device=visible.device) for size in grid)).float()  # (N, 2)
    distance = torch.cdist(place[ids_masked], place[ids_keep])  # (B, M, K)
    near = distance.topk(min(4, ids_keep.shape[1]), dim=2, largest=False)
    weight = near.values.square().reciprocal()
    weight = weight / weight.sum(dim=2, keepdim=True)  # (B, M, 4)
    rows = torch.arange(len(visible), device=visible.device)[:, None, None]
    return (visible[rows, near.indices] * weight[..., None]).sum(dim=2)

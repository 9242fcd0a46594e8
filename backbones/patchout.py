"""Patchout: a training step sees some of the patches only (Koutini et al. 2022, arXiv 2110.05069, section 2.1).

It costs as much less as there are fewer patches, and is an augmentation too.

Shapes: B batch, S samples, N patches of the grid, K kept, A values in a patch.
"""

import torch
from torch import Tensor

from backbones.ast_encoder import AstBackbone, Tokens
from backbones.cnn import CnnBackbone
from backbones.masking import draw_mask


def patched_out(
    backbone: AstBackbone | CnnBackbone, waveform: Tensor, num_samples: Tensor | None, keys: Tensor, share: float
) -> Tokens:
    """The tokens of the patches that are left; there is no class token, and no hidden layer.

    Args:
        waveform: float in [-1, 1], ``(B, S)``, as long as the backbone's position table.
        num_samples: int64 ``(B,)``, or None where all of it is sound.
        keys: int64 ``(B,)``, what decides which patches are left out.
        share: of the patches that are left out, in (0, 1).
    """
    patches, is_padding = backbone.patches(waveform, num_samples)  # (B, N, A)
    keep = draw_mask(keys, backbone.grid, share, is_padding=is_padding).ids_keep  # (B, K)
    rows = torch.arange(len(patches), device=patches.device)[:, None]
    kept_padding = None if is_padding is None else is_padding[rows, keep]
    return Tokens(backbone.encode_visible(patches[rows, keep], keep, kept_padding), kept_padding, [])

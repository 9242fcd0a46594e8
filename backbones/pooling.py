"""Tokens to one embedding a clip, blind to padding.

Shapes: B batch, N patches, D width, L layers, E embedding size.
"""

import torch
from torch import Tensor

from backbones.ast_encoder import Tokens


def mean_pool(tokens: Tensor, is_padding: Tensor | None = None) -> Tensor:
    """Mean over a clip's own patches: ``(B, N, D)`` to ``(B, D)``."""
    if is_padding is None:
        return tokens.mean(dim=1)
    is_sound = (~is_padding).unsqueeze(-1).to(tokens.dtype)
    return (tokens * is_sound).sum(dim=1) / is_sound.sum(dim=1).clamp(min=1)


def max_pool(tokens: Tensor, is_padding: Tensor | None = None) -> Tensor:
    """Maximum over a clip's own patches: ``(B, N, D)`` to ``(B, D)``."""
    if is_padding is not None:
        tokens = tokens.masked_fill(is_padding.unsqueeze(-1), torch.finfo(tokens.dtype).min)
    return tokens.amax(dim=1)


def pool(tokens: Tokens, pooling: str) -> Tensor:
    """The embedding ``(B, E)`` of each clip.

    ``mean`` is the mean of the last layer's patches, E = D. ``mean_max_layers`` is mean and maximum after every
    layer, averaged over layers, E = 2 D; it needs the backbone's hidden tokens.
    """
    if pooling == "mean":
        return mean_pool(tokens.tokens, tokens.is_padding)
    if pooling == "mean_max_layers":
        layers = [
            torch.cat([mean_pool(layer, tokens.is_padding), max_pool(layer, tokens.is_padding)], dim=1)
            for layer in tokens.hidden
        ]
        return torch.stack(layers).mean(dim=0)
    raise ValueError(f"pooling is one of {POOLINGS}, not {pooling!r}")


POOLINGS = ("mean", "mean_max_layers")

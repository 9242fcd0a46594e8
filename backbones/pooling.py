"""Tokens to one embedding a clip, blind to padding.

Shapes: B batch, N patches, D width, L layers, E embedding size.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from backbones.ast_encoder import Tokens

POOLINGS = ("mean", "class_token", "mean_layers", "mean_max_layers")
"""Those without parameters; `AttentivePooling` has some."""
OF_LAYERS = ("mean_layers", "mean_max_layers")
"""Those that need the backbone's hidden tokens."""


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


def pool(tokens: Tokens, pooling: str, layers: Sequence[int] = ()) -> Tensor:
    """The embedding ``(B, E)`` of each clip.

    ``mean`` is the mean of the last layer's patches, E = D; ``class_token`` what the backbone itself gathers, E = D;
    ``mean_layers`` the mean after every layer, averaged over layers, E = D; ``mean_max_layers`` mean and maximum after
    every layer, averaged over layers, E = 2 D. The last two need the backbone's hidden tokens.

    Args:
        layers: numbers, from 1 on, of the only layers that are averaged; ``mean`` becomes ``mean_layers`` with them,
            and needs the hidden tokens too.

    Raises:
        ValueError: no such pooling or layer, or the backbone has no class token.
    """
    if pooling == "class_token":
        if layers:
            raise ValueError("pooling class_token takes no layers, they have patches alone; choose mean")
        if tokens.class_token is None:
            raise ValueError("pooling class_token needs a backbone that has one, as ast; choose mean")
        return tokens.class_token
    if pooling == "mean" and not layers:
        return mean_pool(tokens.tokens, tokens.is_padding)
    hidden = _chosen(tokens.hidden, layers) if layers else tokens.hidden
    if pooling in ("mean", "mean_layers"):
        return torch.stack([mean_pool(layer, tokens.is_padding) for layer in hidden]).mean(dim=0)
    if pooling == "mean_max_layers":
        pooled = [
            torch.cat([mean_pool(layer, tokens.is_padding), max_pool(layer, tokens.is_padding)], dim=1)
            for layer in hidden
        ]
        return torch.stack(pooled).mean(dim=0)
    raise ValueError(f"pooling is one of {POOLINGS}, not {pooling!r}")


def _chosen(hidden: Sequence[Tensor], layers: Sequence[int]) -> list[Tensor]:
    if odd := [number for number in layers if not 1 <= number <= len(hidden)]:
        raise ValueError(f"the backbone has layers 1 to {len(hidden)}, there is no {odd[0]}")
    return [hidden[number - 1] for number in layers]


class AttentivePooling(nn.Module):
    """A learned query that attends to a clip's own patches: ``(B, N, D)`` to ``(B, D)``.

    It starts as their mean. Lee et al. 2019, arXiv 1810.00825, section 3.2, with one seed vector.
    """

    def __init__(self, width: int, heads: int = 4):
        super().__init__()
        if width % heads:
            raise ValueError(f"the heads must divide the width {width}, {heads} do not")
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.query = nn.Parameter(torch.zeros(width))
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        nn.init.eye_(self.value.weight)
        nn.init.zeros_(self.value.bias)

    def forward(self, tokens: Tensor, is_padding: Tensor | None = None) -> Tensor:
        """Pools ``(B, N, D)``; ``is_padding`` is bool ``(B, N)``."""
        batch, num, width = tokens.shape
        key = self.key(self.norm(tokens)).view(batch, num, self.heads, -1)
        scores = torch.einsum("bnhd,hd->bhn", key, self.query.view(self.heads, -1)) * (width // self.heads) ** -0.5
        if is_padding is not None:
            scores = scores.masked_fill(is_padding[:, None], torch.finfo(scores.dtype).min)
        share = scores.softmax(dim=-1, dtype=torch.float32).to(tokens.dtype)
        value = self.value(tokens).view(batch, num, self.heads, -1)
        return torch.einsum("bhn,bnhd->bhd", share, value).flatten(1)

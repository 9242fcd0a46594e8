"""The masked autoencoder: an encoder that sees a fifth of the patches, and a light decoder that is thrown away.

After He et al. 2021 (arXiv 2111.06377) and, for spectrograms, Huang et al. 2022 (arXiv 2207.06405), written from the
papers; several masks a clip after Chen et al. 2024 (arXiv 2401.03497, section 3.3).

Shapes: B batch, C clones (masks a clip), S samples, N patches, K kept, M masked, A values in a patch, D width of the
encoder, W width of the decoder.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from backbones.ast_encoder import AstBackbone, key_padding_mask, sine_cosine
from backbones.cnn import CnnBackbone
from backbones.masking import Mask, draw_mask

DECODERS: dict[str, dict[str, int]] = {
    "tiny": {"width": 128, "depth": 2, "heads": 4},
    "small": {"width": 256, "depth": 4, "heads": 8},
    "base": {"width": 256, "depth": 4, "heads": 8},
}
"""The decoder of each encoder preset; benchmarks/step.py says what it costs beside the published 8 x 512."""


class Reconstruction(NamedTuple):
    """What the decoder says of the masked patches; rows are clips x clones, a clip's clones side by side."""

    prediction: Tensor
    """``(B*C, M, A)``."""
    target: Tensor
    """The patches as they are, float32 ``(B*C, M, A)``, in units of the normalised log-mel."""
    mask: Mask
    is_padding: Tensor | None
    """bool ``(B*C, M)``, masked patches that hold no sound and enter no loss; None where there are none."""


class DecoderBlock(nn.Module):
    """Pre-norm transformer block; queries may be a part of the tokens, keys are all of them."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.attention_out = nn.Linear(width, width)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp_in = nn.Linear(width, 4 * width)
        self.mlp_out = nn.Linear(4 * width, width)

    def forward(self, tokens: Tensor, attention_mask: Tensor | None, ids: Tensor | None, eager: bool) -> Tensor:
        """Maps ``(B, N, W)`` to itself, or to the tokens at `ids` ``(B, M)`` alone."""
        width = tokens.shape[2]
        joint = self.query_key_value(self.attention_norm(tokens)).split(width, dim=2)
        query, key, value = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in joint)  # (B, H, N, W/H)
        if ids is not None:
            tokens = take_tokens(tokens, ids)
            query = query.gather(2, ids[:, None, :, None].expand(-1, self.heads, -1, width // self.heads))
        if eager:  # see attention_for
            scores = query @ key.transpose(2, 3) * (width // self.heads) ** -0.5
            scores = scores if attention_mask is None else scores + attention_mask
            mixed = scores.softmax(dim=-1, dtype=torch.float32).to(value.dtype) @ value
        else:
            mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=attention_mask)
        tokens = tokens + self.attention_out(mixed.transpose(1, 2).flatten(2))
        return tokens + self.mlp_out(F.gelu(self.mlp_in(self.mlp_norm(tokens))))


class MaeDecoder(nn.Module):
    """Fills the grid with a mask token, adds positions, and predicts the masked patches.

    The last block asks for the masked positions only; for the rest no prediction is wanted.
    """

    def __init__(
        self, encoder_width: int, patch_values: int, grid: tuple[int, int], width: int, depth: int, heads: int
    ):
        super().__init__()
        self.embed = nn.Linear(encoder_width, width)
        self.mask_token = nn.Parameter(torch.randn(width) * 0.02)
        self.register_buffer("positions", sine_cosine(grid, width), persistent=False)
        self.blocks = nn.ModuleList(DecoderBlock(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.predict = nn.Linear(width, patch_values)
        self.eager_attention = False
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, visible: Tensor, mask: Mask, is_padding: Tensor | None = None) -> Tensor:
        """Predicts ``(B, M, A)`` from the encoded visible patches ``(B, K, D)``.

        Args:
            is_padding: bool ``(B, N)``, patches of the grid that hold no sound and are attended by none.
        """
        visible = self.embed(visible)
        rows = torch.arange(len(visible), device=visible.device)[:, None]
        tokens = self.mask_token.to(visible.dtype).expand(len(visible), len(self.positions), -1)
        tokens = tokens.index_put((rows, mask.ids_keep), visible) + self.positions.to(visible.dtype)
        attention_mask = None if is_padding is None else key_padding_mask(is_padding, tokens.dtype)
        for index, block in enumerate(self.blocks):
            last = index == len(self.blocks) - 1
            tokens = block(tokens, attention_mask, mask.ids_masked if last else None, self.eager_attention)
        return self.predict(self.norm(tokens))


class MaskedAutoencoder(nn.Module):
    """Encoder and decoder; only the encoder outlives pretraining.

    The encoder is any backbone that can be masked, see `backbones.builders`.

    Raises:
        ValueError: its patches overlap, so that what is masked can be seen in the patches beside it.
    """

    def __init__(self, encoder: AstBackbone | CnnBackbone, width: int, depth: int, heads: int):
        super().__init__()
        size = encoder.patch_size
        if isinstance(encoder, AstBackbone) and encoder.strides != (size, size):
            raise ValueError(
                f"masking needs patches that do not overlap, strides of {size} x {size} were expected, "
                f"{encoder.strides[0]} x {encoder.strides[1]} found; choose another --init or --objective"
            )
        self.encoder = encoder
        self.decoder = MaeDecoder(encoder.width, encoder.patch_size**2, encoder.grid, width, depth, heads)

    def use_attention(self, implementation: str) -> None:
        """Chooses transformers' attention, ``eager`` or ``sdpa``, for encoder and decoder."""
        self.encoder.use_attention(implementation)
        self.decoder.eager_attention = implementation == "eager"

    def forward(
        self,
        waveform: Tensor,
        keys: Tensor,
        num_samples: Tensor | None = None,
        mask_ratio: float = 0.8,
        kind: str = "random",
        block: tuple[int, int] = (5, 5),
    ) -> Reconstruction:
        """Reconstructs each clip from what each of its masks leaves.

        Args:
            waveform: float in [-1, 1], ``(B, S)``.
            keys: int64 ``(B, C)``, what each mask is drawn from; one front-end pass serves a clip's C masks.
            num_samples: int64 ``(B,)``, how many of the S samples are sound; None means all.
            mask_ratio, kind, block: see `draw_mask`.
        """
        patches, is_padding = self.encoder.patches(waveform, num_samples)  # (B, N, A)
        clones = keys.shape[1]
        clip = torch.arange(len(patches), device=patches.device).repeat_interleave(clones)[:, None]  # (B*C, 1)
        is_padding = None if is_padding is None else is_padding[clip[:, 0]]
        mask = draw_mask(keys.flatten(), self.encoder.grid, mask_ratio, kind, block, is_padding)
        hidden = is_padding is not None
        visible = self.encoder.encode_visible(
            patches[clip, mask.ids_keep], mask.ids_keep, is_padding.gather(1, mask.ids_keep) if hidden else None
        )
        prediction = self.decoder(visible, mask, is_padding)
        return Reconstruction(
            prediction,
            patches[clip, mask.ids_masked],
            mask,
            is_padding.gather(1, mask.ids_masked) if hidden else None,
        )


def take_tokens(tokens: Tensor, ids: Tensor) -> Tensor:
    """The tokens ``(B, M, D)`` at `ids` ``(B, M)`` of ``(B, N, D)``."""
    return tokens.gather(1, ids[..., None].expand(-1, -1, tokens.shape[2]))

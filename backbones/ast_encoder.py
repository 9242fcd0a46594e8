"""transformers' `ASTModel` behind the interface of every backbone: waveform in, tokens out.

The encoder also runs on a few visible patches only, which is what a masked autoencoder trains; the weights are the
same, so what pretraining saves is an ordinary `ASTModel`.

Shapes: B batch, S samples, T frames, F mel bins, N patches of the grid (freq, time), K kept patches, A values in a
patch (its side squared), D width, L layers.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import ASTConfig, ASTFeatureExtractor, ASTModel

from backbones.log_mel import RATE, LogMel, samples_of

EXTRA_TOKENS = 2  # AST puts a class token and a distillation token before its patches

PRESETS: dict[str, dict[str, int]] = {
    "tiny": {"hidden_size": 192, "num_hidden_layers": 12, "num_attention_heads": 3, "intermediate_size": 768},
    "small": {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6, "intermediate_size": 1536},
    "base": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072},
}
"""The widths of ViT-Ti, ViT-S and ViT-B (Touvron et al. 2021, arXiv 2012.12877, table 1)."""


class Tokens(NamedTuple):
    """What a backbone makes of a batch."""

    tokens: Tensor
    """float ``(B, N, D)``, one a patch, frequency-major."""
    is_padding: Tensor | None
    """bool ``(B, N)``, patches behind a clip's end; None where there are none."""
    hidden: list[Tensor]
    """The patch tokens after each layer, L of ``(B, N, D)``; empty unless asked for."""
    class_token: Tensor | None = None
    """``(B, D)``: mean of AST's class and distillation token; None for backbones that have none."""


def attention_for(device_type: str, dtype: torch.dtype) -> str:
    """The faster of transformers' attentions: fused, but for bfloat16 on a CPU, whose fused backward is slow."""
    return "eager" if device_type == "cpu" and dtype == torch.bfloat16 else "sdpa"


class AstBackbone(nn.Module):
    """AST with its own front end, so that a checkpoint carries its log-mel statistics.

    Attributes:
        log_mel: the front end, with the statistics the weights were trained with.
        ast: the `ASTModel`.
    """

    kind = "ast"

    def __init__(self, ast: ASTModel, mean: float, std: float):
        super().__init__()
        self.ast = ast
        self.log_mel = LogMel(mean, std, ast.config.num_mel_bins)

    @classmethod
    def untrained(
        cls, preset: str, num_frames: int, mean: float, std: float, patch_size: int = 16, num_mel_bins: int = 128
    ) -> "AstBackbone":
        """A new network for clips of `num_frames` frames, with two-dimensional sine-cosine positions.

        Weights are drawn from torch's global generator as transformers initialises AST; the tokens with the same
        deviation, for zeros would start both extra tokens alike.
        """
        config = ASTConfig(
            **PRESETS[preset],
            patch_size=patch_size,
            frequency_stride=patch_size,
            time_stride=patch_size,
            num_mel_bins=num_mel_bins,
            max_length=num_frames // patch_size * patch_size,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
        return cls._drawn(config, mean, std)

    def untrained_twin(self) -> "AstBackbone":
        """The same network with new weights, drawn as `untrained` draws them."""
        return self._drawn(self.ast.config, self.log_mel.mean, self.log_mel.std)

    @classmethod
    def _drawn(cls, config: ASTConfig, mean: float, std: float) -> "AstBackbone":
        backbone = cls(ASTModel(config), mean, std)
        embeddings = backbone.ast.embeddings
        with torch.no_grad():
            embeddings.cls_token.normal_(std=config.initializer_range)
            embeddings.distillation_token.normal_(std=config.initializer_range)
            embeddings.position_embeddings[0, EXTRA_TOKENS:] = sine_cosine(backbone.grid, config.hidden_size)
        return backbone

    def resized(self, num_frames: int) -> "AstBackbone":
        """The same weights for clips of another length: the position table is cut or stretched, see `positions_for`."""
        config = ASTConfig.from_dict(self.ast.config.to_dict())
        size, (_, step) = config.patch_size, strides_of(config)
        config.max_length = (num_frames - size) // step * step + size
        weights = self.ast.state_dict()
        positions = positions_for(self.ast, grid_of(config))
        extra = self.ast.embeddings.position_embeddings[:, :EXTRA_TOKENS]
        weights["embeddings.position_embeddings"] = torch.cat([extra, positions], dim=1).detach()
        ast = ASTModel(config)
        ast.load_state_dict(weights)
        return AstBackbone(ast, self.log_mel.mean, self.log_mel.std)

    @property
    def model(self) -> ASTModel:
        """What is saved."""
        return self.ast

    @property
    def width(self) -> int:
        """D."""
        return self.ast.config.hidden_size

    @property
    def patch_size(self) -> int:
        """Side of a patch in frames and mel bins."""
        return self.ast.config.patch_size

    @property
    def strides(self) -> tuple[int, int]:
        """Mel bins and frames from patch to patch; less than `patch_size` where patches overlap, as published AST's."""
        return strides_of(self.ast.config)

    @property
    def grid(self) -> tuple[int, int]:
        """Patches along frequency and along time that the position table was made for."""
        return grid_of(self.ast.config)

    @property
    def num_samples(self) -> int:
        """Samples of a clip that fills the position table."""
        return samples_of(self.ast.config.max_length)

    @property
    def min_samples(self) -> int:
        """Samples of the shortest clip that has a patch."""
        return samples_of(self.patch_size)

    def use_attention(self, implementation: str) -> None:
        """Chooses transformers' attention, ``eager`` or ``sdpa``, see `attention_for`."""
        self.ast.set_attn_implementation(implementation)

    def feature_extractor(self) -> ASTFeatureExtractor:
        """transformers' own front end with our statistics, to be saved beside the weights."""
        config = self.ast.config
        return ASTFeatureExtractor(
            sampling_rate=RATE,
            num_mel_bins=config.num_mel_bins,
            max_length=config.max_length,
            mean=self.log_mel.mean,
            std=self.log_mel.std,
        )

    def patches(self, waveform: Tensor, num_samples: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Cuts the normalised log-mel of ``(B, S)`` into patches ``(B, N, A)``; no gradient flows through it.

        Frames behind the last whole patch are dropped. The second value is bool ``(B, N)``, True where a patch lies
        wholly behind the clip's end, or None where no clip of the batch is short.
        """
        log_mel, num_frames = self.log_mel(waveform, num_samples)
        size, strides = self.patch_size, self.strides
        is_padding = None if num_samples is None else padding_of(num_frames, log_mel, size, strides)
        return patches_of(log_mel, size, strides), is_padding

    def forward(self, waveform: Tensor, num_samples: Tensor | None = None, hidden: bool = False) -> Tokens:
        """Runs every patch of a batch through the encoder.

        Args:
            waveform: float in [-1, 1], ``(B, S)``, at 16 kHz.
            num_samples: int64 ``(B,)``, how many of the S samples are sound; None means all.
            hidden: whether to return the tokens after each layer too.
        """
        patches, is_padding = self.patches(waveform, num_samples)
        freq = self.grid[0]
        positions = positions_for(self.ast, (freq, patches.shape[1] // freq))
        tokens = self._project(patches) + positions
        tokens, layers = self._encode(tokens, is_padding, hidden)
        return Tokens(tokens[:, EXTRA_TOKENS:], is_padding, layers, tokens[:, :EXTRA_TOKENS].mean(dim=1))

    def encode_visible(self, patches: Tensor, ids_keep: Tensor, is_padding: Tensor | None = None) -> Tensor:
        """Encodes the visible patches ``(B, K, A)`` that lie at `ids_keep` ``(B, K)`` of the grid: ``(B, K, D)``."""
        positions = self.ast.embeddings.position_embeddings[0, EXTRA_TOKENS:]
        tokens = self._project(patches) + F.embedding(ids_keep, positions)
        return self._encode(tokens, is_padding, hidden=False)[0][:, EXTRA_TOKENS:]

    def _project(self, patches: Tensor) -> Tensor:
        """`ASTPatchEmbeddings`' convolution as the multiplication of patches that it is."""
        projection = self.ast.embeddings.patch_embeddings.projection
        return F.linear(patches, projection.weight.flatten(1), projection.bias)

    def _encode(self, tokens: Tensor, is_padding: Tensor | None, hidden: bool) -> tuple[Tensor, list[Tensor]]:
        """The extra tokens and the patches after the last layer, and the patches after each."""
        embeddings = self.ast.embeddings
        extra = torch.cat([embeddings.cls_token, embeddings.distillation_token], dim=1)
        extra = extra + embeddings.position_embeddings[:, :EXTRA_TOKENS]
        tokens = torch.cat([extra.expand(len(tokens), -1, -1).to(tokens.dtype), tokens], dim=1)
        attention_mask = None
        if is_padding is not None:
            attention_mask = key_padding_mask(F.pad(is_padding, (EXTRA_TOKENS, 0)), tokens.dtype)
        layers = []
        for layer in self.ast.layers:
            tokens = layer(tokens, attention_mask)
            if hidden:
                layers.append(tokens[:, EXTRA_TOKENS:])
        return self.ast.layernorm(tokens), layers


def strides_of(config: ASTConfig) -> tuple[int, int]:
    """Mel bins and frames from patch to patch."""
    return config.frequency_stride, config.time_stride


def grid_of(config: ASTConfig) -> tuple[int, int]:
    """Patches along frequency and along time of a clip of `max_length` frames."""
    lengths = config.num_mel_bins, config.max_length
    return tuple(
        (length - config.patch_size) // step + 1 for length, step in zip(lengths, strides_of(config), strict=True)
    )


def patches_of(log_mel: Tensor, size: int, strides: tuple[int, int] | None = None) -> Tensor:
    """Cuts ``(B, T, F)`` into patches ``(B, N, A)``, frequency-major, each patch frequency-major too.

    Args:
        strides: mel bins and frames from patch to patch; `size` of each if None.
    """
    freq_step, time_step = strides or (size, size)
    cut = log_mel.unfold(1, size, time_step).unfold(2, size, freq_step)  # (B, time, freq, frames, bins)
    return cut.permute(0, 2, 1, 4, 3).flatten(1, 2).flatten(2)


def padding_of(num_frames: Tensor, log_mel: Tensor, size: int, strides: tuple[int, int] | None = None) -> Tensor | None:
    """Which patches of ``(B, T, F)`` lie wholly behind their clip's end: bool ``(B, N)``; None where no clip is short.

    Of patches that overlap, what the one before has not seen must lie there.

    Args:
        num_frames: int64 ``(B,)``, how many of the T frames are sound.
        size: side of a patch.
        strides: as of `patches_of`.
    """
    freq_step, time_step = strides or (size, size)
    time, freq = (log_mel.shape[1] - size) // time_step + 1, (log_mel.shape[2] - size) // freq_step + 1
    new = torch.arange(time, device=num_frames.device) * time_step + max(0, size - time_step)
    is_padding = new >= num_frames[:, None]  # (B, time)
    return is_padding[:, None].expand(-1, freq, -1).flatten(1) if is_padding.any() else None


def log_mel_of(patches: Tensor, grid: tuple[int, int]) -> Tensor:
    """Puts patches ``(B, N, A)`` of a grid together again: ``(B, T, F)``, the inverse of `patches_of`."""
    freq, time = grid
    size = round(patches.shape[2] ** 0.5)
    whole = patches.reshape(-1, freq, time, size, size).permute(0, 2, 4, 1, 3)
    return whole.reshape(len(patches), time * size, freq * size)


def key_padding_mask(is_padding: Tensor, dtype: torch.dtype) -> Tensor:
    """Additive attention mask ``(B, 1, 1, N)`` that hides padding from every query."""
    mask = torch.zeros(is_padding.shape, dtype=dtype, device=is_padding.device)
    return mask.masked_fill_(is_padding, torch.finfo(dtype).min)[:, None, None]


def positions_for(ast: ASTModel, grid: tuple[int, int]) -> Tensor:
    """The position table ``(1, N, D)`` for another clip length.

    Shorter clips take the table's first columns, so that a clip has the same tokens alone and padded in a batch;
    longer ones stretch it bilinearly along time, as AST does (Gong et al. 2021, section 2.2).
    """
    table = ast.embeddings.position_embeddings[:, EXTRA_TOKENS:]
    freq, time = grid_of(ast.config)
    if grid[0] != freq:
        raise ValueError(f"the position table has {freq} rows of patches, the log-mel {grid[0]}")
    if grid[1] == time:
        return table
    square = table.view(1, freq, time, -1)
    if grid[1] < time:
        return square[:, :, : grid[1]].flatten(1, 2)
    stretched = F.interpolate(square.permute(0, 3, 1, 2), size=grid, mode="bilinear", align_corners=False)
    return stretched.permute(0, 2, 3, 1).flatten(1, 2)


def sine_cosine(grid: tuple[int, int], width: int) -> Tensor:
    """Two-dimensional sine-cosine positions ``(N, D)``: half the width for frequency, half for time.

    Vaswani et al. 2017 (arXiv 1706.03762, section 3.5) along each axis, as MAE uses it.
    """
    if width % 4:
        raise ValueError(f"sine-cosine positions need a width that 4 divides, not {width}")
    rate = 10_000.0 ** -(torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    freq, time = (torch.arange(size, dtype=torch.float64)[:, None] * rate for size in grid)
    freq = torch.cat([freq.sin(), freq.cos()], dim=1)[:, None].expand(-1, grid[1], -1)
    time = torch.cat([time.sin(), time.cos()], dim=1)[None].expand(grid[0], -1, -1)
    return torch.cat([freq, time], dim=2).flatten(0, 1).float()

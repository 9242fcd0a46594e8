"""A backbone that only listens: waveforms in, embeddings out, the mean over a clip's windows.

Shapes: N clips, B windows at a time, S samples, E embedding size.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from backbones.ast_encoder import Tokens
from backbones.builders import Backbone
from backbones.pooling import OF_LAYERS, AttentivePooling, pool


class Frozen(nn.Module):
    """Embeddings without gradients, in evaluation mode whatever `train` is told.

    Args:
        backbone: any of `backbones.builders`, adapted or not.
        pooling: one of `backbones.pooling.POOLINGS`; of no account with `attention`.
        layers: see `backbones.pooling.pool`.
        attention: the pooling that was learned for this backbone.
        dtype: in which matrices multiply; what comes out is float32 whatever this is.
    """

    def __init__(
        self, backbone: Backbone, pooling: str, layers: Sequence[int] = (), attention: AttentivePooling | None = None,
        dtype: torch.dtype = torch.float32,
    ):  # fmt: skip
        super().__init__()
        self.backbone, self.attention = backbone, attention
        self.pooling, self.layers, self.dtype = pooling, tuple(layers), dtype
        self.eval()

    def train(self, mode: bool = True) -> "Frozen":
        """Stays in evaluation mode."""
        return super().train(False)

    @property
    def device(self) -> torch.device:
        """Where it listens."""
        return next(self.backbone.parameters()).device

    @torch.no_grad()
    def tokens(self, waveform: Tensor, num_samples: Tensor | None = None) -> Tokens:
        """What the backbone makes of ``(B, S)``, hidden tokens included where the pooling needs them."""
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            return self.backbone(waveform, num_samples, hidden=self.pooling in OF_LAYERS or bool(self.layers))

    @torch.no_grad()
    def forward(self, waveform: Tensor, num_samples: Tensor | None = None) -> Tensor:
        """Embeddings ``(B, E)``, float32.

        Args:
            waveform: float in [-1, 1], ``(B, S)``, at 16 kHz.
            num_samples: int64 ``(B,)``, how many of the S samples are sound; None means all.

        Raises:
            ValueError: the backbone does not have these layers, or no class token.
        """
        tokens = self.tokens(waveform, num_samples)
        if self.attention is not None:
            return self.attention(tokens.tokens.float(), tokens.is_padding)
        return pool(tokens, self.pooling, self.layers).float()

    def of_clips(self, windows: Iterable[tuple[Tensor, Tensor | None, Tensor]], count: int) -> Tensor:
        """The embeddings of whole clips, the mean over their windows: float32 ``(N, E)`` on the CPU.

        Args:
            windows: batches of waveforms and numbers of samples, as above, and of which clip, 0 to N - 1, each is:
                int64 ``(B,)`` on the CPU.
            count: N; every clip has a window.
        """
        parts, clips = [], []
        for waveform, num_samples, clip in windows:
            parts.append(self(waveform, num_samples))
            clips.append(clip)
        clip, found = torch.cat(clips), torch.cat(parts).cpu()  # summed here: a GPU adds in any order
        total = found.new_zeros(count, found.shape[1]).index_add_(0, clip, found)
        return total / torch.bincount(clip, minlength=count)[:, None]

"""A backbone with what contrastive training puts on top of it: pooling, projector, class centres, and a decoder.

Shapes: B batch, S samples, E embedding size, Z size of the projection, C classes.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from backbones.ast_encoder import Tokens
from backbones.mae import MaskedAutoencoder, Reconstruction
from backbones.patchout import patched_out
from backbones.pooling import OF_LAYERS, AttentivePooling, pool
from backbones.projector import Projector
from losses.classes import ClassCentres
from losses.masked_patches import masked_patch_loss


class Projected(NamedTuple):
    """What a training step needs of a batch."""

    unit: Tensor
    """float32 ``(B, Z)``, unit projections."""
    centres: Tensor | None
    """float32 ``(C, Z)``, unit centres of classes; None where no term needs them."""
    reconstruction: Reconstruction | None
    """None where the objective has no term ``mae``."""


class EmbeddingModel(nn.Module):
    """Waveform to embedding, and from there to what the losses compare.

    Args:
        encoder: any of `backbones.builders`.
        pooling: one of `backbones.pooling.POOLINGS`, or ``attentive``.
        hidden, size: width of the projector's hidden layer, and Z.
        num_classes: C; 0 for no centres.
        decoder: arguments of `MaskedAutoencoder`; None for no reconstruction.
    """

    def __init__(
        self, encoder: nn.Module, pooling: str, hidden: int, size: int, num_classes: int, decoder: dict[str, int] | None
    ):
        super().__init__()
        # The encoder stands in one place only, or its weights would be saved twice.
        self.autoencoder = None if decoder is None else MaskedAutoencoder(encoder, **decoder)
        self.alone = encoder if decoder is None else None
        self.pooling = pooling
        self.attention = AttentivePooling(encoder.width) if pooling == "attentive" else None
        width = encoder.width * (2 if pooling == "mean_max_layers" else 1)
        self.projector = Projector(width, hidden, size)
        self.centres = ClassCentres(num_classes, size) if num_classes else None

    @property
    def encoder(self) -> nn.Module:
        """The backbone."""
        return self.alone if self.autoencoder is None else self.autoencoder.encoder

    def embed(
        self, waveform: Tensor, num_samples: Tensor | None, keys: Tensor | None = None, patchout: float = 0.0
    ) -> Tensor:
        """The embedding ``(B, E)`` that outlives training.

        Args:
            keys: int64 ``(B,)``, what patches are left out by; needed for `patchout` alone.
            patchout: share of the patches that the network does not see, see `backbones.patchout`.
        """
        tokens: Tokens = (
            patched_out(self.encoder, waveform, num_samples, keys, patchout)
            if patchout
            else self.encoder(waveform, num_samples, hidden=self.pooling in OF_LAYERS)
        )
        if self.attention is not None:
            return self.attention(tokens.tokens, tokens.is_padding)
        embedding = pool(tokens, self.pooling)
        if self.pooling in OF_LAYERS:
            # DDP waits for a gradient of every parameter, and the norm behind the last layer has no part in these.
            embedding = embedding + 0.0 * tokens.tokens.mean(dim=(1, 2))[:, None]
        return embedding

    def forward(
        self, waveform: Tensor, num_samples: Tensor | None, keys: Tensor, mask: dict[str, Any] | None = None,
        patchout: float = 0.0,
    ) -> Projected:  # fmt: skip
        """Projects a batch and, with a decoder and a mask, reconstructs its masked patches.

        Args:
            waveform: float in [-1, 1], ``(B, S)``.
            num_samples: int64 ``(B,)``, or None where all of it is sound.
            keys: int64 ``(B, 2)``: what masks are drawn from, and what patches are left out by.
            mask: arguments of `MaskedAutoencoder.forward` that choose masks; None for no reconstruction.
            patchout: see `embed`.
        """
        reconstruction = None
        if self.autoencoder is not None and mask is not None:
            reconstruction = self.autoencoder(waveform, keys[:, :1], num_samples, **mask)
        unit = self.projector(self.embed(waveform, num_samples, keys[:, 1], patchout))
        return Projected(unit, None if self.centres is None else self.centres(), reconstruction)


Inputs = tuple[Tensor, Tensor | None, Tensor]
"""``waveform``, ``num_samples`` and ``keys`` of `EmbeddingModel.forward`."""


def chunks_of(inputs: Inputs, size: int) -> Iterator[Inputs]:
    """A batch cut into parts of `size` rows."""
    waveform, num_samples, keys = inputs
    for start in range(0, len(waveform), size):
        part = slice(start, start + size)
        yield waveform[part], None if num_samples is None else num_samples[part], keys[part]


def reconstruction_mean(out: Reconstruction | None) -> dict[str, Tensor]:
    """The term ``mae``: mean squared error on masked patches; nothing where there was nothing to reconstruct."""
    return {} if out is None else {"mae": masked_patch_loss(out.prediction, out.target, out.is_padding)}


def weighted(weights: Mapping[str, float], means: Mapping[str, Tensor]) -> Tensor:
    """The sum of the terms."""
    return sum(weights[term] * mean for term, mean in means.items())


def cached_backward(
    accelerator: Accelerator, trained: nn.Module, inputs: Inputs, size: int, mask: dict[str, Any] | None,
    patchout: float, weights: Mapping[str, float], terms_of: Callable[..., dict[str, Tensor]],
) -> dict[str, Tensor]:  # fmt: skip
    """The gradient of a contrastive loss over a batch of which only `size` rows fit into memory at a time.

    First all projections without a graph; then the loss and its gradient by each projection; then each part once more
    with a graph, through which that gradient flows on (Gao et al. 2021, arXiv 2101.06983, section 3.2). The result is
    the plain gradient up to the order of its sums, for one more forward pass. The network must do the same in both
    passes: what is random in ours depends on keys, and there is no dropout.

    Args:
        trained: the model as Accelerate prepared it.
        terms_of: from ``unit`` projections of this process and ``centres`` to the mean of each term.

    Returns:
        The mean of each term, reconstruction included, without graph.
    """
    parts = list(chunks_of(inputs, size))
    with torch.no_grad():
        outs = [trained(*part, patchout=patchout) for part in parts]
    unit = torch.cat([out.unit for out in outs]).requires_grad_()
    centres = None if outs[0].centres is None else outs[0].centres.clone().requires_grad_()
    means = terms_of(unit=unit, centres=centres)
    weighted(weights, means).backward()
    means = {term: mean.detach() for term, mean in means.items()}
    for number, (part, of_part) in enumerate(zip(parts, unit.grad.split(size), strict=True)):
        is_last = number == len(parts) - 1
        # DDP exchanges gradients in the last pass, when they are whole.
        with nullcontext() if is_last else accelerator.no_sync(trained):
            out = trained(*part, mask, patchout)
            surrogate = (out.unit * of_part).sum()
            if centres is not None and is_last:
                surrogate = surrogate + (out.centres * centres.grad).sum()
            for term, mean in reconstruction_mean(out.reconstruction).items():
                mean = mean * (len(part[0]) / len(unit))
                surrogate = surrogate + weights[term] * mean
                means[term] = means.get(term, 0.0) + mean.detach()
            accelerator.backward(surrogate)
    return means

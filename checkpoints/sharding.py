"""Weights that lie in shards over the processes, as under FSDP2, and the same in one piece.

Everything here leaves weights and numbers as they are where every process holds all of them, so recipes call it always.
Under FSDP2 each weight, its gradient and its moments are `DTensor`, cut over the processes along the first dimension.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from accelerate.utils import convert_outputs_to_fp32
from torch import Tensor, nn
from torch.distributed.fsdp import MixedPrecisionPolicy
from torch.distributed.tensor import DTensor, distribute_tensor

from backbones.optimisation import WeightAverage

BLOCKS = {
    "ASTLayer", "ClapAudioLayer", "DecoderBlock", "HubertEncoderLayer", "HubertEncoderLayerStableLayerNorm",
    "Wav2Vec2EncoderLayer", "Wav2Vec2EncoderLayerStableLayerNorm", "WavLMEncoderLayer",
    "WavLMEncoderLayerStableLayerNorm",
}  # fmt: skip
"""Classes whose weights are gathered at a time; those of a network with none of them are gathered at once."""


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor. Of a sharded one every process has to ask, and each gets it."""
    tensor = tensor.detach()
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def shard_like(tensor: Tensor, target: Tensor) -> Tensor:
    """This process's part of a whole tensor, on the device and cut as `target` is, without exchanging anything."""
    tensor = tensor.to(target.device)
    if not isinstance(target, DTensor):
        return tensor
    return distribute_tensor(tensor, target.device_mesh, target.placements, src_data_rank=None)


class WholeNetwork:
    """A network in one piece, for what the main process alone does with it: evaluate, draw, save.

    Made before `prepare`. Where every process holds all weights it is the network itself. Where they lie in shards a
    forward on one process would wait for the others for ever, so it is a copy: on the main process's device, which
    needs the room for it, and on the others without any memory (PyTorch's meta device).

    Attributes:
        network: what to evaluate and to save; on the main process alone, where weights lie in shards.
    """

    def __init__(self, accelerator: Accelerator, network: nn.Module):
        self.network, self._accelerator = network, accelerator
        self._shards = network if accelerator.is_fsdp2 else None
        if self._shards is not None:
            device = accelerator.device if accelerator.is_main_process else "meta"
            self.network = _in_mixed_precision(accelerator, copy.deepcopy(network).to(device))

    @contextmanager
    def shown(self, average: WeightAverage | None) -> Iterator[None]:
        """Within the block the network has the newest weights, or their average. Every process has to enter it."""
        if average:
            average.swap()
        if self._shards is not None:
            self._fetch()
        yield
        if average:
            average.swap()

    @torch.no_grad()
    def _fetch(self) -> None:
        own = self.network.state_dict()
        for name, shard in self._shards.state_dict().items():
            tensor = whole(shard)
            if self._accelerator.is_main_process:
                own[name].copy_(tensor)


def prepare(
    accelerator: Accelerator, network: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[nn.Module, AcceleratedOptimizer]:
    """`accelerator.prepare`, with FSDP2 made to compute what DDP computes.

    Accelerate would cast weights and inputs to the matrices' type under FSDP2, the waveform too, of which bfloat16
    keeps eight bits; here the same autocast runs as under DDP, and gradients are summed in float32. Blocks of
    transformers and decoder are gathered one after the other where the configuration asks for
    ``TRANSFORMER_BASED_WRAP`` and names no classes.
    """
    if accelerator.is_fsdp2:
        plugin = accelerator.state.fsdp_plugin
        plugin.cpu_ram_efficient_loading = False  # every process has made the same network, buffers and all
        plugin.mixed_precision_policy = MixedPrecisionPolicy(cast_forward_inputs=False)
        network._no_split_modules = sorted(BLOCKS & {type(module).__name__ for module in network.modules()})
        network = _in_mixed_precision(accelerator, network)
    return accelerator.prepare(network, optimizer)


def clip_gradients(accelerator: Accelerator, trained: nn.Module, longest: float) -> Tensor:
    """Scales the gradient down to a length, and returns the length it had over all shards, a scalar."""
    return whole(accelerator.clip_grad_norm_(trained.parameters(), longest))


def _in_mixed_precision(accelerator: Accelerator, network: nn.Module) -> nn.Module:
    """Does to a forward what Accelerate's own preparation does to it under DDP."""
    if accelerator.native_amp:
        network.forward = convert_outputs_to_fp32(accelerator.autocast()(network.forward))
    return network

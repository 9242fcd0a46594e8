"""BitFit (Ben Zaken et al. 2021, arXiv 2106.10199): every bias is trained and nothing else.

What is trained is each bias's change, so that the frozen network stays bit-equal and weight decay pulls towards it.
"""

from dataclasses import dataclass

import torch
from peft import PeftConfig
from peft.tuners.tuners_utils import check_adapters_to_merge
from timm.layers import LayerNorm2d
from torch import Tensor, nn

from backbones.adapters.layer import OutputLayer, OutputTuner, register

CHANNELS_FIRST = (nn.Conv1d, nn.Conv2d, nn.GroupNorm, LayerNorm2d)


@dataclass
class BitfitConfig(PeftConfig):
    """What ``adapter_config.json`` says of it."""

    target_modules: str | list[str] | None = None
    """Linear maps, convolutions and norms: names, or one regular expression; those without a bias are left alone."""

    def __post_init__(self):
        super().__post_init__()
        self.peft_type = "BITFIT"


class BitfitLayer(OutputLayer):
    """A module whose bias changes by ``bitfit_bias``, zero at first."""

    adapter_layer_names = ("bitfit_bias",)

    def container(self) -> nn.Module:
        """An empty container from an adapter's name to its part."""
        return nn.ParameterDict()

    def build(self, adapter: str, config: BitfitConfig) -> None:
        """Adds an adapter's parts to the containers."""
        self.bitfit_bias[adapter] = nn.Parameter(torch.zeros_like(self.get_base_layer().bias))

    def added(self, output: Tensor, adapter: str) -> Tensor:
        """What an adapter adds to an output."""
        change = self.bitfit_bias[adapter]
        is_first = isinstance(self.get_base_layer(), CHANNELS_FIRST)
        return change.view(-1, *(1,) * (output.ndim - 2)) if is_first else change

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Adds the changes to the bias itself."""
        bias = self.get_base_layer().bias
        for adapter in check_adapters_to_merge(self, adapter_names):
            merged = bias.data + self.bitfit_bias[adapter].data.to(bias.dtype)
            if safe_merge and not torch.isfinite(merged).all():
                raise ValueError(f"the biases of adapter {adapter} are not finite")
            bias.data = merged
            self.merged_adapters.append(adapter)

    def unmerge(self) -> None:
        """Takes the changes away again."""
        bias = self.get_base_layer().bias
        while self.merged_adapters:
            bias.data = bias.data - self.bitfit_bias[self.merged_adapters.pop()].data.to(bias.dtype)


class BitfitModel(OutputTuner):
    """PEFT's view of the method."""

    prefix = "bitfit_"
    tuner_layer_cls = BitfitLayer

    def _create_and_replace(self, peft_config, adapter_name, target, *args, **kwargs) -> None:
        if getattr(target, "bias", None) is not None:
            super()._create_and_replace(peft_config, adapter_name, target, *args, **kwargs)


register("BITFIT", BitfitConfig, BitfitModel)

"""Bottleneck adapters: a narrow two-layer network on the output of attention, of the feed-forward part, or of both.

Houlsby et al. 2019 (arXiv 1902.00751, section 2.1) put one behind each of the two, before it is added to the residual;
Pfeiffer et al. 2020 (arXiv 2005.00247, section 3.2.1) one behind the feed-forward part alone. Where they go is up to
``target_modules``.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from peft import PeftConfig
from torch import Tensor, nn

from backbones.adapters.layer import OutputLayer, OutputTuner, register, width_of


@dataclass
class BottleneckConfig(PeftConfig):
    """What ``adapter_config.json`` says of it."""

    target_modules: str | list[str] | None = None
    """Modules that return tokens ``(..., D)``: names, or one regular expression."""
    width: int = 8
    """Of the narrow part."""
    dropout: float = 0.0
    """On the narrow part, in training."""

    def __post_init__(self):
        super().__post_init__()
        self.peft_type = "BOTTLENECK"


class BottleneckLayer(OutputLayer):
    """``x + up(gelu(down(x)))``; ``up`` is zero at first, so the network starts as it was."""

    adapter_layer_names = ("bottleneck_down", "bottleneck_up")
    other_param_names = ("bottleneck_dropout",)

    def __init__(self, base_layer: nn.Module, adapter: str, config: BottleneckConfig):
        super().__init__(base_layer, adapter, config)
        self.bottleneck_dropout = nn.ModuleDict()

    def build(self, adapter: str, config: BottleneckConfig) -> None:
        """Adds an adapter's parts to the containers."""
        width = width_of(self.get_base_layer())
        self.bottleneck_down[adapter] = nn.Linear(width, config.width)
        self.bottleneck_up[adapter] = zero_linear(config.width, width)
        self.bottleneck_dropout[adapter] = nn.Dropout(config.dropout) if config.dropout else nn.Identity()

    def added(self, output: Tensor, adapter: str) -> Tensor:
        """What an adapter adds to an output."""
        down = self.bottleneck_down[adapter]
        narrow = F.gelu(down(self._cast_input_dtype(output, down.weight.dtype)))
        return self.bottleneck_up[adapter](self.bottleneck_dropout[adapter](narrow))


class BottleneckModel(OutputTuner):
    """PEFT's view of the method."""

    prefix = "bottleneck_"
    tuner_layer_cls = BottleneckLayer


def zero_linear(inputs: int, outputs: int) -> nn.Linear:
    """A linear map that returns zero until it is trained."""
    linear = nn.Linear(inputs, outputs)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear


register("BOTTLENECK", BottleneckConfig, BottleneckModel)

"""What our adapters share: each wraps a module and changes its output, and looks to PEFT like a tuner of its own."""

from typing import Any

from peft import PeftConfig
from peft.mapping import (
    PEFT_TYPE_TO_CONFIG_MAPPING,
    PEFT_TYPE_TO_PREFIX_MAPPING,
    PEFT_TYPE_TO_TUNER_MAPPING,
)
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from torch import Tensor, nn


class OutputLayer(nn.Module, BaseTunerLayer):
    """A module and what one or more adapters, by name, add to what it returns.

    A subclass names its containers in ``adapter_layer_names``, builds them empty, fills them in `build` and says in
    `added` what goes on top of the output.
    """

    def __init__(self, base_layer: nn.Module, adapter: str, config: PeftConfig):
        super().__init__()
        self.base_layer = base_layer
        self.merged_adapters: list[str] = []
        self._active_adapter = adapter
        for name in self.adapter_layer_names:
            setattr(self, name, self.container())

    def container(self) -> nn.Module:
        """An empty container from an adapter's name to its part."""
        return nn.ModuleDict()

    def build(self, adapter: str, config: PeftConfig) -> None:
        """Adds an adapter's parts to the containers."""
        raise NotImplementedError

    def added(self, output: Tensor, adapter: str) -> Tensor:
        """What an adapter adds to an output."""
        raise NotImplementedError

    def update_layer(self, adapter: str, config: PeftConfig) -> None:
        """Adds an adapter."""
        self.build(adapter, config)
        self._move_adapter_to_device_of_base_layer(adapter)
        self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the module; of a tuple, the first is its output."""
        whole = self.base_layer(*args, **kwargs)
        if self.disable_adapters or self.merged:
            return whole
        output = whole[0] if isinstance(whole, tuple) else whole
        for adapter in self.active_adapters:
            if adapter in getattr(self, self.adapter_layer_names[0]):
                output = output + self.added(output, adapter).to(output.dtype)
        return (output, *whole[1:]) if isinstance(whole, tuple) else output


class OutputTuner(BaseTuner):
    """Puts an `OutputLayer` around every module that a config names."""

    target_module_mapping: dict[str, list[str]] = {}  # noqa: RUF012, PEFT's own declaration

    def _create_and_replace(
        self,
        peft_config: PeftConfig,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
    ) -> None:
        is_wrapped = isinstance(target, self.tuner_layer_cls)
        layer = target if is_wrapped else self.tuner_layer_cls(target, adapter_name, peft_config)
        layer.update_layer(adapter_name, peft_config)
        if not is_wrapped:
            if adapter_name not in self.active_adapters:
                layer.requires_grad_(False)
            self._replace_module(parent, target_name, layer, target)


def width_of(module: nn.Module) -> int:
    """D of the tokens that a linear map or an attention returns."""
    return module.out_features if hasattr(module, "out_features") else module.embed_dim


def register(name: str, config: type[PeftConfig], tuner: type[OutputTuner]) -> None:
    """Makes a method known to PEFT, so that it is built, saved and loaded like the others.

    `peft.utils.register_peft_method` does the same for the names in PEFT's own enumeration, and refuses all others.
    """
    PEFT_TYPE_TO_CONFIG_MAPPING[name] = config
    PEFT_TYPE_TO_TUNER_MAPPING[name] = tuner
    PEFT_TYPE_TO_PREFIX_MAPPING[name] = tuner.prefix

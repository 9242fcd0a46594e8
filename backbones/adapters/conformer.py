"""Conformer adapters: a narrow depth-wise convolution along time on the output of a layer's parts.

Cappellazzo et al. 2023 (arXiv 2312.03694, section 2.2): the convolution module of Conformer (Gulati et al. 2020, arXiv
2005.08100, section 2.2) as an adapter for AST. Two differences: the norm is a layer norm, so that a clip's tokens do
not depend on its neighbours in the batch, and AST's tokens are convolved along time within each row of patches, not
from the end of one row into the next.

Shapes: B batch, N tokens, D width, W narrow width, R rows of patches, T patches in a row.
"""

import re
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from peft import PeftConfig
from torch import Tensor, nn

from backbones.adapters.bottleneck import zero_linear
from backbones.adapters.layer import OutputLayer, OutputTuner, register, width_of


@dataclass
class ConformerConfig(PeftConfig):
    """What ``adapter_config.json`` says of it."""

    target_modules: str | list[str] | None = None
    """Modules within layers that return tokens ``(B, N, D)``: names, or one regular expression."""
    layers: str = ""
    """The layers, as one regular expression: they are told what is padding, and the adapters in them ask them."""
    width: int = 8
    """W, of the narrow part."""
    kernel: int = 9
    """Tokens that the convolution spans; odd."""
    num_extra: int = 0
    """Tokens before the others that have no neighbours in time, as AST's two."""
    num_rows: int = 1
    """R, rows in which the other tokens lie, one after another."""
    dropout: float = 0.0
    """On the narrow part, in training."""

    def __post_init__(self):
        super().__post_init__()
        self.peft_type = "CONFORMER"


class ConformerLayer(OutputLayer):
    """``x + up(silu(norm(convolve(glu(down(x))))))``; ``up`` is zero at first, so the network starts as it was.

    Attributes:
        is_padding: bool ``(B, N)`` of the batch that is under way, or None; its layer writes it.
    """

    adapter_layer_names = ("conformer_down", "conformer_convolution", "conformer_norm", "conformer_up")
    other_param_names = ("conformer_dropout",)

    def __init__(self, base_layer: nn.Module, adapter: str, config: ConformerConfig):
        super().__init__(base_layer, adapter, config)
        self.conformer_dropout = nn.ModuleDict()
        self.order: dict[str, tuple[int, int]] = {}
        self.is_padding: Tensor | None = None

    def build(self, adapter: str, config: ConformerConfig) -> None:
        """Adds an adapter's parts to the containers."""
        width, narrow = width_of(self.get_base_layer()), config.width
        self.conformer_down[adapter] = nn.Linear(width, 2 * narrow)
        self.conformer_convolution[adapter] = nn.Conv1d(
            narrow, narrow, config.kernel, padding=config.kernel // 2, groups=narrow
        )
        self.conformer_norm[adapter] = nn.LayerNorm(narrow)
        self.conformer_up[adapter] = zero_linear(narrow, width)
        self.conformer_dropout[adapter] = nn.Dropout(config.dropout) if config.dropout else nn.Identity()
        self.order[adapter] = config.num_extra, config.num_rows

    def added(self, output: Tensor, adapter: str) -> Tensor:
        """What an adapter adds to an output ``(B, N, D)``."""
        down = self.conformer_down[adapter]
        narrow = F.glu(down(self._cast_input_dtype(output, down.weight.dtype)), dim=-1)  # (B, N, W)
        if self.is_padding is not None:
            narrow = narrow.masked_fill(self.is_padding[..., None], 0)
        num_extra, num_rows = self.order[adapter]
        extra, rows = narrow[:, :num_extra], narrow[:, num_extra:]
        if rows.shape[1] % num_rows:
            raise ValueError(
                f"a conformer adapter convolves {num_rows} whole rows of patches, {rows.shape[1]} patches are none; "
                "leave none out (patchout 0) or choose another adapter"
            )
        convolution = self.conformer_convolution[adapter]
        convolved = torch.cat(
            [_along_time(convolution, extra, num_extra), _along_time(convolution, rows, num_rows)], dim=1
        )
        convolved = F.silu(self.conformer_norm[adapter](convolved))
        return self.conformer_up[adapter](self.conformer_dropout[adapter](convolved))


def _along_time(convolution: nn.Conv1d, tokens: Tensor, num_rows: int) -> Tensor:
    """Convolves each of the rows in ``(B, R * T, W)``."""
    batch, num, width = tokens.shape
    if not num:
        return tokens
    rows = tokens.reshape(batch * num_rows, num // num_rows, width).mT  # (B * R, W, T)
    return convolution(rows).mT.reshape(batch, num, width)


class ConformerModel(OutputTuner):
    """PEFT's view of the method; it also has every layer tell its adapters what is padding."""

    prefix = "conformer_"
    tuner_layer_cls = ConformerLayer

    def _post_injection_hook(self, model: nn.Module, config: ConformerConfig, adapter_name: str) -> None:
        if len(self.peft_config) > 1:
            return  # the first adapter's hooks tell all
        for name, module in model.named_modules():
            if re.fullmatch(config.layers, name):
                module.register_forward_pre_hook(_tell_padding, with_kwargs=True)
                module.register_forward_hook(_forget_padding)


def _tell_padding(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    mask = kwargs.get("attention_mask", args[1] if len(args) > 1 else None)
    _set_padding(layer, padding_of_mask(mask))


def _forget_padding(layer: nn.Module, args: tuple[Any, ...], output: Any) -> None:
    _set_padding(layer, None)


def _set_padding(layer: nn.Module, is_padding: Tensor | None) -> None:
    for module in layer.modules():  # found anew, so that a copy of the network tells its own
        if isinstance(module, ConformerLayer):
            module.is_padding = is_padding


def padding_of_mask(mask: Tensor | None) -> Tensor | None:
    """Bool ``(B, N)``, True on padding, from any of transformers' attention masks.

    Args:
        mask: ``(B, N)``, not zero on sound; or ``(B, 1, 1 or N, N)``, True on sound, or zero there and negative on
            padding; None means that there is no padding.
    """
    if mask is None:
        return None
    if mask.ndim == 2:
        return mask == 0
    keys = mask[:, 0, 0]
    return ~keys if keys.dtype == torch.bool else keys < 0


register("CONFORMER", ConformerConfig, ConformerModel)

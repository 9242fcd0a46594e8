"""Where adapters go: names of modules for each model of transformers, as regular expressions from its root.

Only modules that are called stand here. Wrapping one whose weights another module reads changes nothing and trains
nothing: AST's patch projection, of which our encoder reads the weight, and the attention of WavLM, which hands its
weights to one function of torch.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from backbones.ast_encoder import EXTRA_TOKENS


class Order(NamedTuple):
    """How tokens lie in a sequence: extra ones first, then rows of one after another along time."""

    num_extra: int
    num_rows: int


@dataclass(frozen=True)
class Places:
    """Names within a layer, and those outside of all layers."""

    layer: str
    """Of a transformer's layer, or of what is closest to it."""
    feed_forward: tuple[str, ...]
    """Within a layer: what widens and what narrows again, or whatever linear maps there are."""
    attention: tuple[str, ...] = ()
    """Within a layer: queries, keys, values and output; none where they are not called."""
    after_attention: str | None = None
    """Within a layer: what returns attention's output, before it is added to the residual."""
    norms: tuple[str, ...] = ()
    """Within a layer."""
    outside: tuple[str, ...] = ()
    """Norms outside of the layers; not every model of a kind has each."""
    outside_linear: tuple[str, ...] = ()
    """Linear maps outside of the layers."""
    order: Callable[[PretrainedConfig], Order] | None = None
    """Of the tokens that a layer sees; None where they are no sequence."""
    methods: frozenset[str] | None = None
    """The adapters that work here; None means all."""

    def in_layers(self, *names: str) -> str:
        """The expression for modules of these names in every layer."""
        return rf"{self.layer}\.({'|'.join(re.escape(name) for name in names)})"

    @property
    def queries_values(self) -> str:
        """What LoRA adapts by default (Hu et al. 2021, arXiv 2106.09685, section 7.1)."""
        return self.in_layers(self.attention[0], self.attention[2]) if self.attention else self.linear

    @property
    def linear(self) -> str:
        """Every linear map within the layers."""
        return self.in_layers(*self.attention, *self.feed_forward)

    @property
    def every_norm(self) -> str:
        """Norms within layers and outside of them."""
        return "|".join((self.in_layers(*self.norms), *self.outside))

    @property
    def every_bias(self) -> str:
        """All that may have a bias."""
        within = self.in_layers(*self.attention, *self.feed_forward, *self.norms)
        return "|".join((within, *self.outside, *self.outside_linear))


SEQUENCE = Places(
    layer=r"encoder\.layers\.\d+",
    attention=("attention.q_proj", "attention.k_proj", "attention.v_proj", "attention.out_proj"),
    feed_forward=("feed_forward.intermediate_dense", "feed_forward.output_dense"),
    after_attention="attention.out_proj",
    norms=("layer_norm", "final_layer_norm"),
    outside=(r"encoder\.layer_norm", r"feature_projection\.layer_norm"),
    outside_linear=(r"feature_projection\.projection",),
    order=lambda config: Order(0, 1),
)
"""Wav2Vec2 and what is built like it."""

PLACES: dict[str, Places] = {
    "audio-spectrogram-transformer": Places(
        layer=r"layers\.\d+",
        attention=("attention.q_proj", "attention.k_proj", "attention.v_proj", "attention.o_proj"),
        feed_forward=("mlp.fc1", "mlp.fc2"),
        after_attention="attention.o_proj",
        norms=("layernorm_before", "layernorm_after"),
        outside=("layernorm",),
        order=lambda config: Order(
            EXTRA_TOKENS, (config.num_mel_bins - config.patch_size) // config.frequency_stride + 1
        ),
    ),
    "wav2vec2": SEQUENCE,
    "hubert": SEQUENCE,
    "data2vec-audio": SEQUENCE,
    "wavlm": Places(
        layer=SEQUENCE.layer,
        feed_forward=SEQUENCE.feed_forward,
        after_attention="attention",
        norms=SEQUENCE.norms,
        outside=SEQUENCE.outside,
        outside_linear=SEQUENCE.outside_linear,
        order=SEQUENCE.order,
    ),
    "clap_audio_model": Places(
        layer=r"audio_encoder\.layers\.\d+\.blocks\.\d+",
        attention=(
            "attention.self.query",
            "attention.self.key",
            "attention.self.value",
            "attention.output.dense",
        ),
        feed_forward=("intermediate.dense", "output.dense"),
        after_attention="attention.output.dense",
        norms=("layernorm_before", "layernorm_after"),
        outside=(r"audio_encoder\.norm", r"audio_encoder\.layers\.\d+\.downsample\.norm"),
    ),
    "timm_wrapper": Places(
        layer=r"timm_model\.stages\.\d+\.blocks\.\d+",
        feed_forward=("mlp.fc1", "mlp.fc2"),
        norms=("norm",),
        outside=(r"timm_model\.stem\.1", r"timm_model\.norm_pre", r"timm_model\.stages\.\d+\.downsample\.0"),
        methods=frozenset({"lora", "dora", "loha", "lokr", "ia3", "bitfit", "layernorm"}),
    ),
}
"""By the ``model_type`` of config.json."""

CONVOLUTIONS = Places(
    layer=r"feature_extractor\.conv_layers\.\d+",
    feed_forward=("conv",),
    norms=("layer_norm",),
    outside=(r"feature_projection\.layer_norm",),
    methods=frozenset({"lora", "dora", "loha", "lokr", "bitfit", "layernorm"}),
)
"""Of a Wav2Vec2 without layers, ``wav2vec2-cnn``."""


def places_of(model: PreTrainedModel) -> Places:
    """The table of a model, whose names are all there.

    Raises:
        ValueError: there is none, or the model's layers lack one of its names, as after a change of transformers.
    """
    kind = getattr(getattr(model, "config", None), "model_type", type(model).__name__)
    if kind not in PLACES:
        raise ValueError(f"there is no table of places for adapters in a {kind}; choose method head or full")
    places = CONVOLUTIONS if kind == "wav2vec2" and model.config.num_hidden_layers == 0 else PLACES[kind]
    names = {*places.attention, *places.feed_forward, *places.norms, *filter(None, [places.after_attention])}
    if missing := sorted(name for name in names if not find(model, places.in_layers(name))):
        layer = next(iter(find(model, places.layer)), None)
        inside = model.get_submodule(layer).named_modules() if layer else model.named_children()
        raise ValueError(
            f"a {kind} should have {', '.join(missing)} in each {places.layer}, {layer or 'the model'} has "
            f"{', '.join(name for name, _ in inside if name)}; this version of transformers calls them otherwise"
        )
    return places


def find(model: nn.Module, pattern: str) -> dict[str, nn.Module]:
    """The modules that an expression names."""
    return {name: module for name, module in model.named_modules() if re.fullmatch(pattern, name)}

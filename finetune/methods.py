"""How a backbone is adapted: every method by its name, with the learning rate it is trained at.

Learning rates are those of Cappellazzo et al. 2023 on AST (arXiv 2312.03694, the authors' hparams/train.yaml): 5e-3 for
adapters, LoRA and biases, 1e-3 for a head alone, 5e-5 for all weights. Norms are trained like biases; methods that
multiply the weights (``oft``, ``hra``) take the 1e-3 to 1e-4 of their papers.
"""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from peft import (
    AdaLoraConfig,
    BeftConfig,
    C3AConfig,
    FourierFTConfig,
    GraloraConfig,
    HiraConfig,
    HRAConfig,
    IA3Config,
    LNTuningConfig,
    LoHaConfig,
    LoKrConfig,
    LoraConfig,
    MissConfig,
    OFTConfig,
    PeftConfig,
    PeftModel,
    RandLoraConfig,
    RoadConfig,
    VeraConfig,
    WaveFTConfig,
    get_peft_model,
)
from torch import Tensor, nn
from transformers import PreTrainedModel

from backbones.adapters.adalora import RankAllocation, orthogonality
from backbones.adapters.bitfit import BitfitConfig
from backbones.adapters.bottleneck import BottleneckConfig
from backbones.adapters.conformer import ConformerConfig
from backbones.adapters.places import Places, find, places_of
from backbones.builders import Backbone


@dataclass(frozen=True)
class AdapterOptions:
    """How large adapters are and where they go; each method takes what concerns it."""

    rank: int = 8
    """Of LoRA and its kin; what each of them trains grows with it, about as much as LoRA's rank would."""
    alpha: int | None = None
    """LoRA's change counts alpha / rank; twice the rank unless given."""
    dropout: float = 0.0
    """Within lora, dora, adalora, bottleneck and conformer, in [0, 1). 0, for what happens to a clip depends on its key
    alone, and dropout depends on the batch it lies in."""
    target: Literal["attention", "all"] = "attention"
    """Where LoRA and its kin go: the queries and values of attention, or all linear maps of the layers. Models whose
    attention cannot be adapted, or that have none (wavlm, cnn, wav2vec2-cnn), take all."""
    bottleneck: int = 8
    """Narrow width of bottleneck and conformer."""
    kernel: int = 9
    """Tokens that a conformer's convolution spans; odd."""
    placing: Literal["houlsby", "pfeiffer"] | None = None
    """Where bottleneck and conformer go: houlsby is behind attention and behind the feed-forward part of each layer,
    pfeiffer behind the latter alone; unless given, houlsby for bottleneck and pfeiffer for conformer."""

    def __post_init__(self):
        for name in ("rank", "alpha", "bottleneck"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is at least 1, not {value}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is in [0, 1), not {self.dropout}")
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise ValueError(f"kernel is an odd number of tokens, not {self.kernel}")

    @property
    def scale(self) -> int:
        """Alpha, or what it is unless given."""
        return self.alpha or 2 * self.rank


class Method(NamedTuple):
    """What the recipe needs to know of a method."""

    learning_rate: float
    help: str
    config: Callable[["Site", AdapterOptions], PeftConfig] | None = None
    """None for the methods that add nothing."""
    merges: bool = True
    """Whether `finetune.merge` can fold it into the backbone's weights."""


class Site(NamedTuple):
    """A model, the places in it, and how long it will be trained."""

    model: PreTrainedModel
    places: Places
    num_steps: int | None

    def targets(self, options: AdapterOptions) -> str:
        """The linear maps to adapt."""
        return self.places.linear if options.target == "all" else self.places.queries_values

    def divisor(self, options: AdapterOptions) -> int:
        """The largest number that divides all widths of the linear maps to adapt."""
        maps = find(self.model, self.targets(options)).values()
        return math.gcd(*(size for linear in maps for size in (linear.in_features, linear.out_features)))

    def outputs(self, placing: str) -> str:
        """The modules behind which bottleneck and conformer go."""
        behind = [self.places.feed_forward[-1]]
        return self.places.in_layers(*([self.places.after_attention] if placing == "houlsby" else []), *behind)


def _lora(site: Site, options: AdapterOptions, is_dora: bool = False) -> PeftConfig:
    return LoraConfig(
        r=options.rank, lora_alpha=options.scale, lora_dropout=options.dropout, use_dora=is_dora,
        target_modules=site.targets(options),
    )  # fmt: skip


def _adalora(site: Site, options: AdapterOptions) -> PeftConfig:
    if site.num_steps is None:
        raise ValueError("adalora plans its ranks over the whole run, and needs its number of steps")
    # From a quarter more ranks down to `rank`, between a tenth and three quarters of the run.
    return AdaLoraConfig(
        init_r=options.rank + max(1, options.rank // 4), target_r=options.rank, lora_alpha=options.scale,
        lora_dropout=options.dropout, total_step=site.num_steps, tinit=site.num_steps // 10,
        tfinal=site.num_steps // 4, deltaT=max(1, site.num_steps // 100), orth_reg_weight=0.1,
        target_modules=site.targets(options),
    )  # fmt: skip


def _ia3(site: Site, options: AdapterOptions) -> PeftConfig:
    narrowing = site.places.in_layers(site.places.feed_forward[-1])
    keys_values = [site.places.in_layers(*site.places.attention[1:3])] if site.places.attention else []
    return IA3Config(target_modules="|".join([*keys_values, narrowing]), feedforward_modules=narrowing)


def _vera(site: Site, options: AdapterOptions) -> PeftConfig:
    # The frozen projections are shared by all layers and drawn anew from their key; they need not be saved.
    return VeraConfig(r=32 * options.rank, save_projection=False, target_modules=site.targets(options))


def _randlora(site: Site, options: AdapterOptions) -> PeftConfig:
    return RandLoraConfig(r=4 * options.rank, save_projection=False, target_modules=site.targets(options))


def _oft(site: Site, options: AdapterOptions) -> PeftConfig:
    block = math.gcd(32, site.divisor(options))
    return OFTConfig(r=0, oft_block_size=block, target_modules=site.targets(options))


def _c3a(site: Site, options: AdapterOptions) -> PeftConfig:
    divisor = site.divisor(options)
    return C3AConfig(
        block_size=divisor // math.gcd(divisor, options.rank), init_weights=True, target_modules=site.targets(options)
    )


def _fourierft(site: Site, options: AdapterOptions) -> PeftConfig:
    least = site.divisor(options) ** 2
    return FourierFTConfig(
        n_frequency=min(125 * options.rank, least), init_weights=True, target_modules=site.targets(options)
    )


def _waveft(site: Site, options: AdapterOptions) -> PeftConfig:
    least = site.divisor(options) ** 2
    return WaveFTConfig(n_frequency=min(324 * options.rank, least), target_modules=site.targets(options))


def _gralora(site: Site, options: AdapterOptions) -> PeftConfig:
    return GraloraConfig(
        r=options.rank, alpha=options.scale, gralora_k=math.gcd(2, options.rank), target_modules=site.targets(options)
    )


def _bottleneck(site: Site, options: AdapterOptions) -> PeftConfig:
    return BottleneckConfig(
        target_modules=site.outputs(options.placing or "houlsby"), width=options.bottleneck, dropout=options.dropout
    )


def _conformer(site: Site, options: AdapterOptions) -> PeftConfig:
    if site.places.order is None:
        raise ValueError(f"conformer needs tokens in a sequence, {site.model.config.model_type} has none")
    order = site.places.order(site.model.config)
    return ConformerConfig(
        target_modules=site.outputs(options.placing or "pfeiffer"), layers=site.places.layer, dropout=options.dropout,
        width=options.bottleneck, kernel=options.kernel, num_extra=order.num_extra, num_rows=order.num_rows,
    )  # fmt: skip


def _plain(config: type[PeftConfig]) -> Callable[[Site, AdapterOptions], PeftConfig]:
    """For tuners that only want to know their rank."""
    return lambda site, options: config(r=options.rank, target_modules=site.targets(options))


def _hra(site: Site, options: AdapterOptions) -> PeftConfig:
    even = options.rank + options.rank % 2  # reflections cancel in pairs
    return HRAConfig(r=even, target_modules=site.targets(options))


def _loha(site: Site, options: AdapterOptions) -> PeftConfig:
    rank = max(1, options.rank // 2)  # of two products
    return LoHaConfig(r=rank, alpha=options.alpha or 2 * rank, target_modules=site.targets(options))


def _lokr(site: Site, options: AdapterOptions) -> PeftConfig:
    return LoKrConfig(r=options.rank, alpha=options.scale, target_modules=site.targets(options))


METHODS: dict[str, Method] = {
    "lora": Method(5e-3, "low-rank changes of linear maps (Hu et al. 2021)", _lora),
    "dora": Method(5e-3, "lora, with lengths and directions apart (Liu et al. 2024)", lambda s, o: _lora(s, o, True)),
    "adalora": Method(5e-3, "lora, with ranks moved to where they matter (Zhang et al. 2023)", _adalora),
    "vera": Method(5e-3, "scales of random low-rank changes (Kopiczko et al. 2023)", _vera),
    "ia3": Method(5e-3, "scales of keys, values and the feed-forward part (Liu et al. 2022)", _ia3),
    "loha": Method(5e-3, "Hadamard products of low-rank changes (Hyeon-Woo et al. 2021)", _loha),
    "lokr": Method(5e-3, "Kronecker products of low-rank changes (Edalati et al. 2022)", _lokr),
    "oft": Method(1e-3, "rotations of weights, block by block (Qiu et al. 2023)", _oft),
    "hra": Method(1e-3, "reflections of weights (Yuan et al. 2024)", _hra),
    "road": Method(5e-3, "rotations of outputs, two by two (Liao and Monz 2024)", lambda s, o: RoadConfig(
        group_size=math.gcd(64, s.divisor(o)), target_modules=s.targets(o))),
    "miss": Method(5e-3, "one matrix shared by all shards of the weights (Kang and Yin 2024)", _plain(MissConfig)),
    "c3a": Method(5e-3, "circular convolutions, block by block (Chen et al. 2024)", _c3a),
    "fourierft": Method(5e-3, "a few frequencies of the change (Gao et al. 2024)", _fourierft),
    "waveft": Method(5e-3, "a few wavelets of the change (Bilican et al. 2025)", _waveft),
    "randlora": Method(5e-3, "full-rank sums of random changes (Albert et al. 2025)", _randlora),
    "gralora": Method(5e-3, "lora, block by block (Jung et al. 2025)", _gralora),
    "hira": Method(5e-3, "low-rank factors of the weights' own values (Huang et al. 2025)", _plain(HiraConfig)),
    "beft": Method(5e-3, "biases of queries and values", lambda s, o: BeftConfig(target_modules=s.targets(o))),
    "bottleneck": Method(5e-3, "small networks behind the parts of layers (Houlsby et al. 2019)", _bottleneck, False),
    "conformer": Method(5e-3, "small convolutions along time (Cappellazzo et al. 2023)", _conformer, False),
    "bitfit": Method(5e-3, "all biases (Ben Zaken et al. 2021)", lambda s, o: BitfitConfig(
        target_modules=s.places.every_bias)),
    "layernorm": Method(5e-3, "weights and biases of all norms (Zhao et al. 2023)", lambda s, o: LNTuningConfig(
        target_modules=s.places.every_norm)),
    "head": Method(1e-3, "nothing but the heads, on a frozen backbone"),
    "full": Method(5e-5, "all weights"),
}  # fmt: skip
"""From a method's name to what trains it. For a cnn and a wav2vec2-cnn see `backbones.adapters.places`."""


def adapt(
    backbone: Backbone, method: str, options: AdapterOptions | None = None, num_steps: int | None = None
) -> PeftModel | None:
    """Freezes a backbone in place and adds what the method trains; the network computes what it did before.

    For ``full`` nothing is frozen that was not before. Where convolutions of the Wav2Vec2 family are frozen, their
    encoder is told so: otherwise transformers takes gradients back through them.

    Args:
        method: one of `METHODS`.
        options: the defaults unless given.
        num_steps: optimizer steps of the run, which ``adalora`` plans by.

    Returns:
        What knows how to save the adapter (see `checkpoints.adapters`), around the same `backbone.model`; None for
        ``head`` and ``full``.

    Raises:
        ValueError: no such method, one that does not work on this kind of backbone, or sizes that do not fit it.
    """
    if method not in METHODS:
        raise ValueError(f"a method is one of {', '.join(METHODS)}, not {method}")
    if method == "full":
        return None
    config = None
    if METHODS[method].config is not None:
        config = _config_for(backbone, method, options or AdapterOptions(), num_steps)
    freeze(backbone)
    if config is None:
        return None
    with warnings.catch_warnings():
        # PEFT does not know norms by their type, but adapts them; and asks transformers for what it renamed.
        warnings.filterwarnings("ignore", message="Unsupported layer type")
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`")
        adapted = get_peft_model(backbone.model, config)
    if method == "adalora":
        backbone.model.rank_allocation = RankAllocation(adapted)
    return adapted


def _config_for(backbone: Backbone, method: str, options: AdapterOptions, num_steps: int | None) -> PeftConfig:
    places = places_of(backbone.model)
    if places.methods is not None and method not in places.methods:
        works = [name for name in METHODS if name in places.methods]
        raise ValueError(f"on a {backbone.kind} work {', '.join(works)}, head and full, not {method}")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Specified to not save")  # projections, which a key draws anew
        return METHODS[method].config(Site(backbone.model, places, num_steps), options)


def freeze(backbone: Backbone) -> None:
    """Freezes all weights. (Batch norms hold their statistics in every backbone, see `backbones.batch_norm`.)"""
    backbone.requires_grad_(False)
    encoder = getattr(backbone.model, "feature_extractor", None)
    if hasattr(encoder, "_freeze_parameters"):  # HubertModel has no freeze_feature_encoder, which would call it
        encoder._freeze_parameters()


def after_step(adapted: PeftModel | None, step: int) -> None:
    """What a method does between an optimizer step and `zero_grad`; nothing, but for ``adalora``.

    AdaLoRA's averages and ranks are buffers of the backbone's model, so a run that saves the model's state goes on
    exactly. A step that was skipped is not to be told.

    Args:
        step: optimizer steps done so far, this one included.
    """
    allocation = getattr(adapted.get_base_model(), "rank_allocation", None) if adapted is not None else None
    if allocation is not None:
        allocation.update(step)


def penalty(adapted: PeftModel | None) -> Tensor | None:
    """What a method adds to the loss; None, but for ``adalora``, whose factors are to stay orthogonal."""
    config = adapted.peft_config["default"] if adapted is not None else None
    return config.orth_reg_weight * orthogonality(adapted) if isinstance(config, AdaLoraConfig) else None


def count_trainable(model: nn.Module) -> tuple[int, int]:
    """Numbers that are trained, and all numbers, in the parameters of a model."""
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    return sum(size for size, is_trained in sizes if is_trained), sum(size for size, _ in sizes)

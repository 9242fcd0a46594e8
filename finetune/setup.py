"""What `finetune/adapters.py` does before its first step: which clips, which heads, which network, and saying so."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from accelerate import Accelerator

from backbones.builders import Backbone, untrained_backbone
from backbones.log_mel import RATE, compare_statistics, frames_of
from backbones.optimisation import count_parameters, parameter_groups
from checkpoints.errors import CheckpointError
from checkpoints.loop import describe_device
from checkpoints.run import RunFolder
from checkpoints.shipped import PRETRAINING, starting_point
from checkpoints.weights import find_backbone, save_backbone
from data.ahead import windows_of
from data.errors import DataError
from data.label_share import share_of_labels
from data.labels import LabelTable
from data.opening import OFFLINE_PACK
from data.pack import Pack
from data.predominant import PredominantTable
from data.sampler import GlobalOrder
from data.selection import selected_rows
from data.weighted import WeightedOrder, balancing_weights
from finetune.head_start import start_heads, why_random
from finetune.heads import HeadSpec
from finetune.methods import METHODS, adapt, count_trainable
from finetune.model import FineTuned
from finetune.objective import Trained
from finetune.protocols import PROTOCOLS
from finetune.targets import heads_for, left_out

if TYPE_CHECKING:
    from finetune.adapters import Config

OFFLINE_SOURCES = ["gm/*/band", "gm/*/effect", "gm/noise"]
"""Of the offline pack: what sounds together, and what is no instrument. Its single notes are for pretraining."""


def sources_of(config: "Config") -> list[str]:
    """Beginnings of the ids of the clips that take part; all if there are none."""
    if config.sources is None:
        return OFFLINE_SOURCES if Path(config.data) == OFFLINE_PACK else []
    return config.sources


def table_of(config: "Config", pack: Pack) -> LabelTable:
    """The labels that training knows."""
    return PredominantTable(pack) if config.predominant_only else LabelTable(pack)


def rows_of(config: "Config", pack: Pack, table: LabelTable) -> np.ndarray:
    """The training clips.

    Raises:
        DataError: there are none.
    """
    rows = selected_rows(pack, "train", sources_of(config))
    if len(rows) == 0:
        raise DataError(f"{pack.place} has no training clips of {', '.join(sources_of(config))}; give other --sources")
    return rows if config.label_share == 1 else share_of_labels(table, rows, config.label_share, config.seed)


def tested_clips(config: "Config", pack: Pack, other: Pack | None) -> tuple[Pack, np.ndarray]:
    """The pack that is tested and row numbers in it: the test split, or all of another pack that has none.

    The sources of `pack` choose in another one too, where that has any of their clips or they were asked for.
    """
    sources = sources_of(config)
    if other is None:
        return pack, selected_rows(pack, "test", sources)
    if config.sources is None:
        try:
            selected_rows(other, "test", sources)
        except DataError:
            sources = []
    rows = selected_rows(other, "test", sources)
    return other, rows if len(rows) else selected_rows(other, None, sources)


def specs_of(config: "Config", table: LabelTable, rows: np.ndarray, accelerator: Accelerator) -> list[HeadSpec]:
    """The heads that the labels allow, of those that were asked for; says what was left out.

    Raises:
        CheckpointError: a head that was asked for is unknown or cannot be learned, or no head is left.
    """
    kinds = {name: "classes" for name, loss in config.head_losses.items() if loss.endswith("cross_entropy")}
    assume_complete = frozenset(config.assume_complete)
    with sentences():
        specs = heads_for(table, rows, kinds, assume_complete)
        reasons = left_out(table, rows, kinds, assume_complete)
    wanted = config.heads or [spec.name for spec in specs if config.head_weights.get(spec.name, 1.0) > 0]
    allowed = [spec.name for spec in specs]
    for name in wanted:
        if name not in allowed:
            reason = reasons.get(name, f"heads are of {', '.join(allowed) or 'nothing here'}")
            raise CheckpointError(f"--heads asks for {name}, which these training clips cannot teach: {reason}")
    for name, reason in reasons.items():
        if config.heads is None or name in config.heads:
            accelerator.print(f"left out {name}: {reason}")
    if not wanted:
        raise CheckpointError("no head is left to train; give clips with labels, or weights above 0")
    if config.consistency and not {"instrument", "family"} <= set(wanted):
        raise CheckpointError("--consistency needs the heads instrument and family; train both, or leave it out")
    kept = [spec for spec in specs if spec.name in wanted]
    if config.consistency and {spec.kind for spec in kept if spec.name in ("instrument", "family")} != {"binary"}:
        raise CheckpointError("--consistency compares probabilities of each class; leave cross_entropy out of the two")
    if config.protocol != "none":
        with sentences():
            PROTOCOLS[config.protocol].places(kept)  # says what the protocol asks about and no head answers
    return kept


def order_of(
    config: "Config", pack: Pack, table: LabelTable, rows: np.ndarray, parts: int
) -> GlobalOrder | WeightedOrder:
    """Which clips each global batch holds; of fewer clips than a batch, all of them.

    Args:
        parts: processes x micro-batches, which a batch is shared out over.
    """
    batch_size, windows = config.batch_size, windows_of(pack, rows, config.shuffle_blocks)
    if config.balance != "none":
        return WeightedOrder(balancing_weights(table, rows, config.balance), batch_size, config.seed, windows)
    if len(rows) < batch_size:
        batch_size = max(parts, len(rows) // parts * parts)
    return GlobalOrder(len(rows), batch_size, config.seed, windows)


def find_init(config: "Config") -> str | None:
    """The backbone to start from; None for an untrained one.

    A run that is resumed goes on from its own.
    """
    if config.resume:
        return str(RunFolder(config.out).backbone)
    return starting_point(config.init, PRETRAINING, config.backbone, config.preset)


def build_model(
    config: "Config", pack: Pack, init: str | None, specs: list[HeadSpec], num_steps: int,
    keep: Callable[[Backbone], None],
) -> FineTuned:  # fmt: skip
    """The backbone, adapted, under untrained heads.

    Args:
        num_steps: of the run, which AdaLoRA plans by.
        keep: is called with the backbone before anything is added to it.
    """
    num_samples = round(config.clip_seconds * RATE)
    num_frames = frames_of(num_samples)
    if init is None:
        mean, std = pack.info.log_mel_mean, pack.info.log_mel_std
        backbone = untrained_backbone(config.backbone, config.preset, num_frames, mean, std)
    else:
        backbone = find_backbone(init, config.backbone)
        if hasattr(backbone, "resized"):
            backbone = backbone.resized(num_frames)
    keep(backbone)
    with sentences():
        adapted = adapt(backbone, config.method, config.adapter, num_steps)
        return FineTuned(
            backbone, adapted, config.method, config.pooling, specs, config.head_form, config.head_hidden,
            config.sections, num_samples,
        )  # fmt: skip


@contextmanager
def sentences() -> Iterator[None]:
    """Turns what functions that know of no command say of their arguments into the end of one."""
    try:
        yield
    except ValueError as error:
        raise CheckpointError(str(error)) from error


def save_base(backbone: Backbone, run: RunFolder, accelerator: Accelerator, is_resumed: bool) -> None:
    """Writes the backbone as it is before anything is added to it, once."""
    if accelerator.is_main_process and not is_resumed:
        save_backbone(backbone, run.backbone)
    accelerator.wait_for_everyone()


def head_start_of(
    config: "Config", model: FineTuned, pack: Pack, table: LabelTable, rows: np.ndarray, accelerator: Accelerator
) -> str:
    """Starts the heads, unless a resumed run has its own, and says from what, in words."""
    reason = "--head_start says so" if config.head_start == "random" else why_random(model)
    if reason:
        return f"noise: {reason}"
    if config.resume:
        return "a linear probe, before the run was interrupted"
    validated = selected_rows(pack, "validation", sources_of(config))
    complete = frozenset(config.assume_complete)
    return start_heads(model, pack, table, rows, validated, complete, accelerator.device).describe()


def groups_of(config: "Config", trainable: Trained) -> list[dict[str, Any]]:
    """Parameter groups with their ``part``, ``backbone`` or ``heads``, and its ``peak`` learning rate."""
    backbone_lr = config.lr or METHODS[config.method].learning_rate
    inside = {id(parameter) for parameter in trainable.model.backbone.parameters()}
    groups = []
    for group in parameter_groups(trainable, config.weight_decay):
        for part, peak in (("backbone", backbone_lr), ("heads", config.head_lr)):
            own = [parameter for parameter in group["params"] if (id(parameter) in inside) == (part == "backbone")]
            if own:
                groups.append({**group, "params": own, "part": part, "peak": peak, "lr": peak})
    return groups


def announce(
    config: "Config", accelerator: Accelerator, run: RunFolder, pack: Pack, model: FineTuned,
    order: GlobalOrder | WeightedOrder, num_rows: int, num_steps: int, init: str | None, head_start: str,
) -> None:  # fmt: skip
    """Says once what will be done."""
    trained, total = count_trainable(model.backbone)
    heads = count_parameters(model.parameters()) - total
    base = total if model.adapted is None else total - trained
    told = ", ".join(f"{spec.name} ({len(spec.classes)})" for spec in model.specs)
    accelerator.print(
        f"init     {init or 'untrained'}\n"
        f"pack     {config.data}: {pack.info.describe_splits()}\n"
        f"clips    {num_rows} to learn from, {config.clip_seconds:g} s of each\n"
        f"model    {config.backbone}: {base / 1e6:.2f} M parameters; {config.method} trains {trained / 1e6:.3f} M "
        f"({trained / base:.2%}), heads {heads / 1e6:.3f} M\n"
        f"heads    {told}; {config.head_form}, pooling {config.pooling}; start from {head_start}\n"
        + (f"order    {order.describe()}\n" if isinstance(order, WeightedOrder) else "")
        + f"steps    {num_steps} ({num_steps / order.steps_per_epoch:.2f} epochs) of {order.batch_size} clips on "
        f"{accelerator.num_processes} process(es); learning rate "
        f"{config.lr or METHODS[config.method].learning_rate:g}, of heads {config.head_lr:g}\n"
        f"device   {describe_device(accelerator)}\n"
        f"run      {run.path}"
    )
    front_end = getattr(model.backbone, "log_mel", None)
    warning = front_end and compare_statistics(
        (front_end.mean, front_end.std), (pack.info.log_mel_mean, pack.info.log_mel_std)
    )
    if warning:
        accelerator.print(f"warning  {warning}")

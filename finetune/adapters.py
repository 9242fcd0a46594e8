"""Fine-tunes a pretrained backbone with a small adapter and several heads at once.

    accelerate launch finetune/adapters.py --backbone ast
    accelerate launch finetune/adapters.py --init runs/contrastive_triplet_1 --data packs/irmas --method bottleneck
    accelerate launch finetune/adapters.py --init facebook/wav2vec2-base --backbone wav2vec2 --adapter.rank 16
    accelerate launch finetune/adapters.py --resume runs/lora_20260101-120000

Reads a pack; renders the offline one where none is given and learns from its bands. Starts from the newest pretraining
run in runs/, where there is none from the weights that ship, and untrained where none ship of the kind and size. Trains
heads for whatever the labels allow, all on one pass through the backbone; labels that nobody knows count nowhere.
Writes a run folder (checkpoints/run.py): backbone/ as it was, adapter/ in PEFT's layout, heads/, scores.json,
metrics.jsonl, TensorBoard's logs/, figures/, state/ to resume from. What is kept is what scored best on the validation
split.

Adapters beat full fine-tuning on music in the published comparisons (arXiv 2312.03694, 2401.10544); the methods are in
finetune/methods.py, the losses in losses/heads.py.
"""

import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch
from accelerate.tracking import get_available_trackers
from accelerate.utils import set_seed
from tqdm import tqdm

from backbones.ast_encoder import attention_for
from backbones.builders import BUILDERS
from backbones.optimisation import WeightAverage, learning_rate
from checkpoints.config import as_yaml_values, recipe_config, run_command
from checkpoints.engine import open_accelerator, refuse_shards
from checkpoints.errors import CheckpointError
from checkpoints.lifecycle import finish, open_run, report, restore, start_trackers, store
from checkpoints.loop import Clock, StopSignal, agreed, mixed_dtype, use_cores
from checkpoints.run import RunFolder
from checkpoints.sharding import WholeNetwork, clip_gradients, prepare
from checkpoints.shipped import UNTRAINED
from checkpoints.state import Progress
from data.augment import Augmentation
from data.block_cache import DEFAULT_GIB
from data.errors import DataError
from data.loader import TrainBatches
from data.mixing import Mixing
from data.opening import OFFLINE_PACK, open_pack
from data.pack import Pack
from data.sampler import Share
from finetune.evaluation import Evaluation
from finetune.heads import FORMS, NAMES
from finetune.methods import METHODS, AdapterOptions, after_step, penalty
from finetune.model import RECIPE
from finetune.objective import Terms, Trained, class_weights_of, means_of, metric_mean, weighted_sum
from finetune.protocols import PROTOCOLS
from finetune.scores import describe
from finetune.setup import (
    announce,
    build_model,
    find_init,
    groups_of,
    head_start_of,
    order_of,
    rows_of,
    save_base,
    specs_of,
    table_of,
)
from finetune.targets import YES_OR_NO, targets_of

ERRORS = (CheckpointError, DataError)
DEFAULT_STEPS = 240
IDENTITY = (
    "backbone", "init", "method", "sources", "clip_seconds", "batch_size", "label_share", "predominant_only",
    "assume_complete", "head_form", "head_start", "pooling", "protocol", "seed",
)  # fmt: skip
"""Settings that a run cannot change when it is resumed."""
LOSSES = ("bce", "focal", "cross_entropy", "focal_cross_entropy")
STREAMS = 2  # of a clip's keys: augmentation, patchout


@dataclass
class Config:
    """Settings of a fine-tuning run."""

    data: str = str(OFFLINE_PACK)
    """Folder of the pack, or a URL as s3://bucket/pack; the offline pack is rendered if packs/gm is not there."""
    sources: list[str] | None = None
    """Clips that take part, by how their ids begin, as [openmic] or [gm/*/band]; all by default, of the offline pack
    its bands and what is no instrument."""
    test_data: str | None = None
    """Pack whose clips are tested, all of them where it has no test split; the test split of --data by default."""
    protocol: Literal["none", "irmas", "openmic"] = "none"
    """Train and test as the published numbers of a data set were made, see finetune/protocols.py."""
    backbone: Literal[tuple(BUILDERS)] = "ast"
    """Kind of backbone."""
    preset: Literal["tiny", "small", "base"] = "tiny"
    """Size of an untrained backbone."""
    init: str = "newest"
    """Backbone to start from: a run folder, a backbone's folder, a name in checkpoints/pretrained/, a Hub id,
    'untrained', or 'newest' for the newest pretraining run in runs/ (where there is none, what ships for --backbone and
    --preset, else untrained)."""
    method: Literal[tuple(METHODS)] = "lora"
    """What is trained of the backbone: an adapter, some of its own parameters, nothing (head) or all (full)."""
    adapter: AdapterOptions = field(default_factory=AdapterOptions)
    """Size and places of the adapter."""
    heads: list[str] | None = None
    """Of instrument, family, genre, drums, pitch, is_instrument; all that the labels allow by default."""
    head_form: Literal[FORMS] = "linear"
    """Each class's own classifier: a line, a small network, or attention over the tokens and then a line."""
    head_hidden: int = 64
    """Width of each class's own network, of deep heads."""
    sections: int = 1
    """Parts of the embedding that share out the classes; for mobilenets their number."""
    head_start: Literal["probe", "random"] = "probe"
    """What linear heads of a fixed pooling start from: a linear probe of the backbone as it is, see
    finetune/head_start.py, or noise; other heads start from noise."""
    pooling: Literal["mean", "class_token", "mean_layers", "mean_max_layers", "attentive"] = "mean"
    """Tokens to embedding."""
    head_weights: dict[str, float] = field(default_factory=dict)
    """How much the loss of each head counts, as '{pitch: 0.1}'; 1 where it is not named."""
    head_losses: dict[str, str] = field(default_factory=dict)
    """Loss of each head, as '{instrument: focal}': bce, focal, cross_entropy (one class a clip) or
    focal_cross_entropy; bce by default, cross_entropy for pitch."""
    focal_gamma: float = 2.0
    """How little easy labels count in focal losses."""
    class_weights: bool = False
    """Whether positives of rare classes count more."""
    uncertainty: bool = False
    """Whether the weights of the heads are learned by their uncertainty."""
    consistency: float = 0.0
    """Weight of the term that asks a family to be as likely as its instruments."""
    metric: float = 0.0
    """Weight of supervised contrastive learning on the embedding beside the heads."""
    label_share: float = 1.0
    """Share of the training clips that is used, in (0, 1]; every class keeps a clip."""
    predominant_only: bool = False
    """Whether training clips tell their predominant instrument only, as those of IRMAS do."""
    assume_complete: list[str] = field(default_factory=list)
    """Heads, as [instrument], for which training takes what a labelled clip does not name as absent."""
    balance: Literal["none", "instrument", "family", "genre"] = "none"
    """Level by which clips of rare labels are drawn more often."""
    clip_seconds: float = 4.0
    """Length of a crop in seconds."""
    batch_size: int = 16
    """Clips of an optimizer step, over all processes."""
    accumulation: int = 1
    """Micro-batches that make one step."""
    patchout: float = 0.0
    """Share of the patches that a step leaves out, in [0, 1); of backbones on the log-mel."""
    augment: Augmentation = field(default_factory=Augmentation)
    """Augmentation of each crop, see data/augment.py; its time and frequency masks are SpecAugment's."""
    mix: Mixing = field(default_factory=Mixing)
    """Mixing of clips, their labels united, see data/mixing.py."""
    steps: int | None = None
    """Optimizer steps of the run; 240 unless --epochs is given."""
    epochs: float | None = None
    """Length of the run in passes over the training clips, in place of --steps."""
    lr: float | None = None
    """Peak learning rate of what is trained of the backbone; the method's own by default."""
    head_lr: float = 1e-3
    """Peak learning rate of heads and pooling."""
    warmup: float = 0.1
    """Share of the run over which learning rates rise, in [0, 1)."""
    heads_first: float = 0.1
    """Share of the run in which the heads learn alone, before the backbone opens, in [0, 1)."""
    weight_decay: float = 0.01
    """AdamW's decoupled decay of weights; norms, biases, tokens and positions are spared."""
    max_grad_norm: float = 1.0
    """Longest gradient; longer ones are scaled down to it."""
    average: Literal["none", "ema", "swa"] = "none"
    """Weights that are scored and kept: those of the last step, their moving average, or their mean over the run's last
    quarter."""
    ema: float = 0.99
    """Decay of the moving average."""
    eval_every: int | None = None
    """Steps between evaluations; a sixth of the run by default. 0 evaluates at the end only."""
    eval_clips: int = 512
    """Validation clips that are scored on the way; all of them choose the thresholds at the end."""
    patience: int = 0
    """Evaluations without a better score before the run ends; 0 never ends it early."""
    seed: int = 0
    """Of the weights, the order, crops and augmentation."""
    out: Path | None = None
    """Run folder; runs/METHOD_TIME by default."""
    resume: str | None = None
    """Run folder to go on with; 'newest', or nothing, is the newest in runs/; 'auto' is --out, once it has a state."""
    cache_gib: float = DEFAULT_GIB
    """Room on this machine for what is fetched of packs at URLs, in GiB, below $LUTHIER_CACHE or ~/.cache/luthier."""
    shuffle_blocks: int | None = None
    """Shuffles the clips of so many blocks of 64 MiB at a time, so that a pack at a URL may be larger than --cache_gib;
    all at once by default."""
    num_workers: int = 0
    """Processes that read ahead; 0 reads between steps, which a local disk keeps up with."""
    log_every: int = 10
    """Steps between lines of metrics.jsonl."""
    save_minutes: float = 5.0
    """Minutes between states to resume from; 0 saves one after every step."""
    keep_states: int = 1
    """How many of the newest states are kept."""
    cpu_threads: int | None = None
    """Threads of each process where it runs on a CPU; the cores shared out over the processes by default."""
    max_bad_steps: int = 5
    """Steps in a row whose gradient may be non-finite before the run stops."""
    timeout_minutes: float = 15.0
    """Minutes that a process waits for the others, an evaluation included, before it takes one for lost."""
    log_with: list[str] | None = None
    """Trackers of Accelerate besides TensorBoard, as [wandb]."""

    def __post_init__(self):
        positive = ("clip_seconds", "batch_size", "accumulation", "head_hidden", "sections", "head_lr", "log_every",
                    "keep_states", "max_bad_steps", "max_grad_norm", "eval_clips", "label_share",
                    "timeout_minutes")  # fmt: skip
        optional = ("steps", "epochs", "cpu_threads", "shuffle_blocks", "lr")
        for name in (*positive, *optional):
            value = getattr(self, name)
            if not (value is None and name in optional) and not value > 0:
                raise ValueError(f"--{name} must be positive, not {value}")
        for name in ("warmup", "heads_first", "patchout", "ema"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"--{name} must lie between 0 and 1, 1 left out, not {getattr(self, name)}")
        for name in (*self.head_losses, *self.head_weights, *(self.heads or []), *self.assume_complete):
            if name not in NAMES:
                raise ValueError(f"a head is one of {', '.join(NAMES)}, not {name}")
        for name, loss in self.head_losses.items():
            losses = LOSSES[2:] if name == "pitch" else LOSSES[:2] if name in YES_OR_NO else LOSSES
            if loss not in losses:
                raise ValueError(f"--head_losses of {name} is one of {', '.join(losses)}, not {loss}")
        for name in ("consistency", "metric", "focal_gamma", "patience"):
            if getattr(self, name) < 0:
                raise ValueError(f"--{name} must not be negative, {getattr(self, name)} is")
        if self.label_share > 1:
            raise ValueError(f"--label_share must be at most 1, not {self.label_share}")
        if self.steps is not None and self.epochs is not None:
            raise ValueError("--steps and --epochs both give the length of the run; choose one")
        if self.patchout and (self.backbone not in ("ast", "cnn") or self.pooling not in ("mean", "attentive")):
            raise ValueError("--patchout needs a backbone of patches, ast or cnn, and --pooling mean or attentive")
        if self.patchout and self.method == "conformer":
            raise ValueError("--method conformer convolves neighbouring patches; leave --patchout out")
        if self.head_form == "attention" and self.pooling == "attentive":
            raise ValueError("--head_form attention pools for each class by itself; leave --pooling attentive out")
        if self.head_form == "attention" and self.sections > 1:
            raise ValueError("--sections shares out an embedding, heads of --head_form attention make their own")
        available = [str(name) for name in get_available_trackers()]
        unknown = sorted(set(self.log_with or []) - set(available))
        if unknown:
            raise ValueError(f"--log_with {unknown[0]} is not installed; there are {', '.join(available)}")
        if self.protocol != "none":
            PROTOCOLS[self.protocol].apply_to(self)

    def terms(self) -> Terms:
        """What the loss is made of."""
        focal = frozenset(name for name, loss in self.head_losses.items() if loss.startswith("focal"))
        return Terms(
            self.head_weights, focal, self.focal_gamma, self.consistency, self.metric,
            is_uncertainty_weighted=self.uncertainty,
        )  # fmt: skip


def main(config: Config) -> RunFolder:
    """Trains, scores and saves; returns the run folder."""
    accelerator = open_accelerator(config.log_with, config.accumulation, config.timeout_minutes)
    if config.method == "adalora":
        refuse_shards(accelerator, "--method adalora")
    use_cores(accelerator, config.cpu_threads)
    pack = open_pack(config.data, accelerator, config.cache_gib)
    other = Pack.open(config.test_data, config.cache_gib) if config.test_data else None
    table, terms, assume_complete = table_of(config, pack), config.terms(), frozenset(config.assume_complete)
    rows = rows_of(config, pack, table)
    specs = specs_of(config, table, rows, accelerator)
    share = Share(accelerator.process_index, accelerator.num_processes, config.accumulation)
    order = order_of(config, pack, table, rows, accelerator.num_processes * config.accumulation)
    share.per_device(order.batch_size)  # says what is wrong with the batch size
    from_epochs = max(1, round(config.epochs * order.steps_per_epoch)) if config.epochs else None
    num_steps = config.steps or from_epochs or DEFAULT_STEPS

    set_seed(config.seed)
    init = find_init(config)
    if not config.resume:
        config = replace(config, init=init or UNTRAINED)  # so that the run says what it started from
    name = f"{config.method}_{time.strftime('%Y%m%d-%H%M%S')}"
    run = open_run(accelerator, RECIPE, as_yaml_values(config), config.out or Path("runs") / name, bool(config.resume))
    model = build_model(
        config, pack, init, specs, num_steps, lambda base: save_base(base, run, accelerator, bool(config.resume))
    )
    start = head_start_of(config, model, pack, table, rows, accelerator)
    model.backbone.use_attention(attention_for(accelerator.device.type, mixed_dtype(accelerator)))
    trainable = Trained(model, len(specs) if terms.is_uncertainty_weighted else 0)
    optimizer = torch.optim.AdamW(groups_of(config, trainable), betas=(0.9, 0.98), fused=True)
    whole = WholeNetwork(accelerator, trainable)
    trained, optimizer = prepare(accelerator, trainable, optimizer)
    averaged_from = round(0.75 * num_steps) if config.average == "swa" else None
    average = None if config.average == "none" else WeightAverage(trainable, config.ema, averaged_from)
    batches = TrainBatches(
        pack, rows, order, share, model.num_samples, STREAMS, config.mix,
        table.non_instruments(pack.rows("train")) if config.augment.is_on("background") else None, labels=table,
    )  # fmt: skip
    class_weights = class_weights_of(table, rows, specs, assume_complete) if config.class_weights else {}
    class_weights = {name: weight.to(accelerator.device) for name, weight in class_weights.items()}

    announce(config, accelerator, run, pack, model, order, len(rows), num_steps, init, start)
    evaluation = Evaluation(config, accelerator, run, whole.network.model, pack, other)
    progress = Progress(0, {name: str(getattr(config, name)) for name in IDENTITY} | {"pack": pack.fingerprint})
    if config.shuffle_blocks:
        progress.identity["shuffle_blocks"] = config.shuffle_blocks
    progress.counters |= {"skipped_steps": 0, "best_score": -1.0, "since_best": 0}
    if config.resume:
        progress = restore(accelerator, run, progress, trainable, optimizer.optimizer, average)
        if not (run.heads / "heads.json").is_file():
            progress.counters["best_score"] = -1.0  # the network that reached it is lost
    start_trackers(accelerator, run, as_yaml_values(config), progress.step)
    eval_every = -(-num_steps // 6) if config.eval_every is None else config.eval_every

    clock, stop, bad_steps = Clock(accelerator, config.save_minutes), StopSignal(), 0
    is_over = 0 < config.patience <= progress.counters["since_best"]  # what patience has ended stays ended
    loader = iter(batches.loader(progress.step, num_steps, config.num_workers, accelerator.device.type == "cuda"))
    bar = tqdm(total=num_steps, initial=progress.step, desc="finetune", unit="step",
               disable=not accelerator.is_main_process)  # fmt: skip
    while progress.step < num_steps and not is_over:
        # The backbone opens once the heads know where they are, and warms up from there.
        heads_only = round(config.heads_first * num_steps) if config.method != "head" else 0
        for group in optimizer.param_groups:
            first = heads_only if group["part"] == "backbone" else 0
            num_warmup = round(config.warmup * (num_steps - first))
            is_open = progress.step >= first
            rate = learning_rate(progress.step - first, group["peak"], num_steps - first, num_warmup) if is_open else 0
            group["lr"] = rate
        losses: dict[str, torch.Tensor] = {}
        for _ in range(config.accumulation):
            with clock.waiting():
                batch = next(loader)
            batch = config.mix(batch.to(accelerator.device))
            sound = config.augment(batch.waveform, batch.keys[:, 0], batch.num_samples, batch.background)
            with accelerator.accumulate(trained), clock.counting():
                logits, embedding, log_variance = trained(sound, batch.num_samples, batch.keys[:, 1], config.patchout)
                targets = targets_of(batch.labels, specs, assume_complete)
                means = means_of(specs, logits, targets, class_weights, terms)
                if terms.metric:
                    means["metric"] = metric_mean(embedding, batch.labels, terms.temperature)
                loss, of_method = weighted_sum(means, terms, log_variance), penalty(model.adapted)
                loss = loss if of_method is None else loss + of_method
                accelerator.backward(loss)
                for term, mean in {"loss": loss, **{f"loss_{term}": mean for term, mean in means.items()}}.items():
                    losses[term] = losses.get(term, 0.0) + mean.detach() / config.accumulation
        # Gradients are averaged over the processes by now, so a bad one is bad everywhere.
        norm = clip_gradients(accelerator, trained, config.max_grad_norm)
        is_good = bool(torch.isfinite(norm))
        if is_good or accelerator.scaler:  # float16's scaler skips the step itself and lowers its scale
            optimizer.step()
        progress.step += 1
        if is_good:
            after_step(model.adapted, progress.step)
            if average:
                average.update(progress.step)
        optimizer.zero_grad()
        progress.counters["skipped_steps"] += not is_good
        bad_steps = 0 if is_good else bad_steps + 1
        if bad_steps >= config.max_bad_steps:
            raise CheckpointError(
                f"the gradient was not finite for {bad_steps} steps in a row, up to step {progress.step}; lower --lr, "
                f"then go on from the last good state with --resume {run.path}"
            )

        is_last = progress.step == num_steps
        clock.count(order.batch_size)
        bar.update()
        if is_last or progress.step % config.log_every == 0:
            values = {term: mean.item() for term, mean in losses.items()}  # the same on every process already
            values |= {"grad_norm": norm.item(), "lr": optimizer.param_groups[0]["lr"]} | clock.lap()
            report(accelerator, run, bar, progress, order.batch_size, values)
        if is_last or (eval_every and progress.step % eval_every == 0):
            with clock.paused(), whole.shown(average):
                scores = evaluation(progress)
                report(accelerator, run, bar, progress, order.batch_size, scores, describe)
            is_over = agreed(accelerator, 0 < config.patience <= progress.counters["since_best"])[0]
        # Between bad steps nothing is saved: the last good state is that from before them.
        must_stop, must_save = agreed(accelerator, stop.received, is_good and clock.is_time_to_save())
        if is_last or is_over or must_stop or must_save:
            with clock.paused():
                store(accelerator, run, progress, trainable, optimizer.optimizer, average, config.keep_states)
            clock.saved()
        if must_stop:
            break
    bar.close()
    stop.restore()
    if progress.step == num_steps or is_over:
        evaluation.final(progress, clock.seconds)
    finish(accelerator, run, progress, progress.step if is_over else num_steps)
    return run


if __name__ == "__main__":
    run_command(lambda: main(recipe_config(Config, RECIPE, sys.argv[1:], __doc__)), ERRORS)

"""Teaches a backbone where instruments lie: contrastive, triplet and class losses over the label tree.

    accelerate launch pretrain/contrastive.py
    accelerate launch pretrain/contrastive.py --data packs/mine --objective supcon --init runs/mae_small_1
    accelerate launch pretrain/contrastive.py --objective "triplet + 0.5*mae" --batch_size 256 --grad_cache 32
    accelerate launch pretrain/contrastive.py --resume runs/contrastive_20260101-120000

Reads a pack; renders the offline one where none is given. Starts from the newest masked-autoencoder run in runs/, where
there is none from the weights that ship, and untrained where none ship of the kind and size. Writes a run folder
(checkpoints/run.py): backbone/ in transformers' layout, metrics.jsonl, TensorBoard's logs/, figures/, state/ to resume
from.

Margins from a label tree with unknown labels left out: DESIGN.md; the terms: losses/contrastive.py (Khosla et al. 2020,
Zhang et al. 2022), losses/triplet.py (Hermans et al. 2017), losses/classes.py (Wen et al. 2016, Deng et al. 2019).
"""

import sys
import time
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from accelerate import Accelerator
from accelerate.tracking import get_available_trackers
from accelerate.utils import set_seed
from tqdm import tqdm

from backbones.builders import untrained_backbone
from backbones.log_mel import RATE, compare_statistics, frames_of
from backbones.mae import DECODERS
from backbones.optimisation import count_parameters, learning_rate, parameter_groups
from checkpoints.config import as_yaml_values, recipe_config, run_command
from checkpoints.engine import open_accelerator
from checkpoints.errors import CheckpointError
from checkpoints.lifecycle import finish, open_run, report, restore, start_trackers, store
from checkpoints.loop import Clock, StopSignal, agreed, describe_device, use_cores
from checkpoints.run import RunFolder
from checkpoints.sharding import WholeNetwork, clip_gradients, prepare
from checkpoints.shipped import UNTRAINED, starting_point
from checkpoints.state import Progress
from checkpoints.weights import find_backbone
from data.augment import Augmentation
from data.balanced import BalancedOrder
from data.block_cache import DEFAULT_GIB
from data.draws import uniform_of_keys
from data.errors import DataError
from data.labels import LabelTable
from data.loader import TrainBatches
from data.mixing import Mixing
from data.opening import OFFLINE_PACK, open_pack
from data.pack import Pack
from data.sampler import Share
from pretrain.embedding_model import EmbeddingModel, cached_backward, reconstruction_mean, weighted
from pretrain.embedding_scores import EmbeddingEvaluation, collapse_of, describe
from pretrain.objectives import Margins, classes_of, objective_losses, parse_objective, weights_of_levels

RECIPE = "pretrain/contrastive.py"
ERRORS = (CheckpointError, DataError)
DEFAULT_STEPS = 400
IDENTITY = (
    "backbone", "preset", "init", "objective", "clip_seconds", "views", "batch_size", "clips_per_class",
    "non_instrument_share", "pooling", "class_level", "seed",
)  # fmt: skip
"""Settings that a run cannot change when it is resumed."""
STREAMS = 4  # of a clip's keys: augmentation, masks, patchout, what a miner draws by


@dataclass
class Config:
    """Settings of a contrastive run."""

    data: str = str(OFFLINE_PACK)
    """Folder of the pack, or a URL as s3://bucket/pack; the offline pack is rendered if packs/gm is not there."""
    backbone: Literal["ast", "wav2vec2", "wav2vec2-cnn", "cnn"] = "ast"
    """Spectrogram transformer, Wav2Vec2 whole or its convolutions alone, or a ConvNeXt on the log-mel."""
    preset: Literal["tiny", "small", "base"] = "tiny"
    """Size of an untrained backbone."""
    init: str = "newest"
    """Backbone to start from: a run folder, a backbone's folder, a name in checkpoints/pretrained/, a Hub id,
    'untrained', or 'newest' for the newest masked-autoencoder run in runs/ (where there is none, what ships for
    --backbone and --preset, else untrained)."""
    objective: str = "triplet"
    """Sum of terms, as 'triplet + 0.5*mae': ntxent, supcon, triplet, center, arcface, mae."""
    clip_seconds: float = 2.0
    """Length of a crop in seconds."""
    views: int | None = None
    """Views of a clip and step, each another crop with other augmentation; 2 for ntxent, else 1 by default."""
    batch_size: int = 64
    """Clips of an optimizer step, over all processes."""
    clips_per_class: int = 4
    """Clips of each timbre in a batch (of each instrument, where timbres are unknown)."""
    non_instrument_share: float = 0.1
    """Share of the batch that is no instrument, in [0, 1)."""
    pooling: Literal["mean", "class_token", "mean_layers", "mean_max_layers", "attentive"] = "mean"
    """Tokens to embedding; attention is dropped after training, like the projector."""
    projector_hidden: int = 512
    """Width of the projector's hidden layer."""
    projector_size: int = 128
    """Size of what the losses compare."""
    temperature: float = 0.1
    """Of ntxent and supcon: smaller looks at nearer neighbours."""
    level_weights: list[float] | None = None
    """Of supcon: what timbre, instrument, family and is-instrument count, as [0, 1, 1, 1]; 0 leaves a level out, the
    published 2, 1.41, 1.26, 1.19 by default."""
    margin: float = 0.2
    """Of triplet, for each level of the tree that the negative parts earlier; distances reach from 0 to 2."""
    genre_margin: float = 0.1
    """Of triplet, where all genres are known; less than --margin."""
    tree_margins: bool = True
    """Whether margins grow with the depth of the tree; if not, one margin parts each timbre from everything else."""
    miner: Literal["all", "hard", "semi_hard", "family_balanced"] = "all"
    """Of triplet: every triplet there is, or chosen ones, see losses/miners.py."""
    own_family_share: float = 0.5
    """Of family_balanced: share of the negatives that come from the anchor's own family, in [0, 1]."""
    soft_margin: bool = False
    """Of triplet: log(1 + exp(x)) in place of the hinge; needs a miner that chooses."""
    class_level: Literal["timbre", "instrument", "family"] = "timbre"
    """Of center and arcface: the classes."""
    class_distance: Literal["tree", "centroids"] = "tree"
    """Of arcface: distance between classes, from the tree or from the centroids of the embedding at the start."""
    scale: float = 16.0
    """Of center and arcface: what cosines are multiplied by before the softmax."""
    angle: float = 0.3
    """Of arcface: margin in radians."""
    alpha: float = 0.5
    """Of center and arcface: weight of the centre loss, or of the expected distance of the guess from the truth."""
    mask_ratio: float = 0.8
    """Of mae: share of patches removed, in (0, 1)."""
    patchout: float = 0.0
    """Share of the patches that a step leaves out of sight, in [0, 1): faster, and an augmentation; of ast and cnn."""
    augment: Augmentation = field(default_factory=Augmentation.standard)
    """Augmentation of each view, see data/augment.py."""
    mix: Mixing = field(default_factory=Mixing)
    """Mixing of clips before they are augmented, their labels united, see data/mixing.py; none by default."""
    grad_cache: int | None = None
    """Rows that fit into memory at a time; the batch is cut into such parts, with the same gradient."""
    steps: int | None = None
    """Optimizer steps of the run; 400 unless --epochs is given."""
    epochs: float | None = None
    """Length of the run in passes over as many clips as the training split has, in place of --steps."""
    lr: float = 3e-4
    """Peak learning rate."""
    warmup: float = 0.1
    """Share of the run over which the learning rate rises, in [0, 1)."""
    weight_decay: float = 0.05
    """AdamW's decoupled decay of weights; norms, biases, tokens and positions are spared."""
    betas: tuple[float, float] = (0.9, 0.98)
    """AdamW's decay of its two moments."""
    max_grad_norm: float = 1.0
    """Longest gradient; longer ones are scaled down to it."""
    seed: int = 0
    """Of the weights, the order, crops, augmentation and masks."""
    out: Path | None = None
    """Run folder; runs/contrastive_OBJECTIVE_TIME by default."""
    resume: str | None = None
    """Run folder to go on with; 'newest', or nothing, is the newest in runs/; 'auto' is --out, once it has a state."""
    cache_gib: float = DEFAULT_GIB
    """Room on this machine for what is fetched of packs at URLs, in GiB, below $LUTHIER_CACHE or ~/.cache/luthier."""
    num_workers: int = 0
    """Processes that read ahead; 0 reads between steps, which a local disk keeps up with."""
    log_every: int = 10
    """Steps between lines of metrics.jsonl."""
    eval_every: int | None = None
    """Steps between evaluations; a quarter of the run by default. 0 evaluates at the end only."""
    probe_clips: int = 1024
    """Training clips that kNN and linear probes learn from."""
    test_clips: int = 768
    """Clips of other timbres that are tested."""
    probe_data: str | None = None
    """Pack of other timbres, as of another SoundFont, to test on; the validation split by default."""
    save_minutes: float = 5.0
    """Minutes between states to resume from; 0 saves one after every step."""
    keep_states: int = 2
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
        self.terms()  # says what is wrong with --objective
        positive = ("clip_seconds", "batch_size", "clips_per_class", "temperature", "margin", "scale", "lr",
                    "log_every", "keep_states", "max_bad_steps", "max_grad_norm", "projector_hidden",
                    "projector_size", "probe_clips", "test_clips", "timeout_minutes")  # fmt: skip
        optional = ("views", "grad_cache", "steps", "epochs", "cpu_threads")
        for name in (*positive, *optional):
            value = getattr(self, name)
            if not (value is None and name in optional) and not value > 0:
                raise ValueError(f"--{name} must be positive, not {value}")
        if not 0 <= self.patchout < 1:
            raise ValueError(f"--patchout must lie between 0 and 1, 1 left out, not {self.patchout}")
        if self.patchout and (self.backbone.startswith("wav2vec2") or self.pooling not in ("mean", "attentive")):
            raise ValueError("--patchout needs a backbone of patches, ast or cnn, and --pooling mean or attentive")
        for name in ("non_instrument_share", "own_family_share", "warmup", "mask_ratio"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"--{name} must lie between 0 and 1, not {getattr(self, name)}")
        weights_of_levels(self.level_weights)  # says what is wrong with them
        if self.steps is not None and self.epochs is not None:
            raise ValueError("--steps and --epochs both give the length of the run; choose one")
        if not 0 <= self.genre_margin < self.margin:
            raise ValueError(f"--genre_margin must be less than --margin {self.margin}, not {self.genre_margin}")
        if self.soft_margin and self.miner == "all":
            raise ValueError("--soft_margin needs a miner that chooses triplets; add --miner hard")
        if "ntxent" in self.terms() and self.views == 1:
            raise ValueError("--objective ntxent needs two views of a clip, not --views 1")
        if "mae" in self.terms() and self.backbone.startswith("wav2vec2"):
            raise ValueError(f"--objective mae needs a backbone on the log-mel, ast or cnn, not {self.backbone}")
        if len(self.terms()) == 1 and "mae" in self.terms():
            raise ValueError("--objective mae alone is pretrain/mae.py; add another term")
        available = [str(name) for name in get_available_trackers()]
        unknown = sorted(set(self.log_with or []) - set(available))
        if unknown:
            raise ValueError(f"--log_with {unknown[0]} is not installed; there are {', '.join(available)}")

    def terms(self) -> dict[str, float]:
        """The weight of each term of the objective."""
        return parse_objective(self.objective)

    def num_views(self) -> int:
        """Views of a clip and step."""
        return self.views or (2 if "ntxent" in self.terms() else 1)


def main(config: Config) -> RunFolder:
    """Trains, evaluates and saves; returns the run folder."""
    accelerator = open_accelerator(config.log_with, timeout_minutes=config.timeout_minutes)
    use_cores(accelerator, config.cpu_threads)
    pack = open_pack(config.data, accelerator, config.cache_gib)
    rows = pack.rows("train")
    order = BalancedOrder(
        pack, rows, config.batch_size, config.clips_per_class, config.non_instrument_share, config.seed
    )
    share = Share(accelerator.process_index, accelerator.num_processes)
    per_device = share.per_device(config.batch_size) * config.num_views()
    from_epochs = max(1, round(config.epochs * order.steps_per_epoch)) if config.epochs else None
    num_steps = config.steps or from_epochs or DEFAULT_STEPS
    weights, margins = config.terms(), margins_of(config)
    mask = {"mask_ratio": config.mask_ratio} if "mae" in weights else None

    set_seed(config.seed)
    init = starting_point(config.init, ("pretrain/mae.py",), config.backbone, config.preset)
    config = replace(config, init=init or UNTRAINED)  # so that the run says what it started from
    classes = classes_of(LabelTable(pack), config.class_level) if weights.keys() & {"center", "arcface"} else None
    model = build_model(config, pack, init, len(classes.names) if classes else 0)
    groups = parameter_groups(model, config.weight_decay)
    optimizer = torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, fused=True)
    whole = WholeNetwork(accelerator, model)
    trained, optimizer = prepare(accelerator, model, optimizer)
    num_samples = round(config.clip_seconds * RATE)
    backgrounds = LabelTable(pack).non_instruments(rows) if config.augment.is_on("background") else None
    batches = TrainBatches(pack, rows, order, share, num_samples, STREAMS, config.mix, backgrounds, config.num_views())

    name = f"contrastive_{'_'.join(weights)}_{time.strftime('%Y%m%d-%H%M%S')}"
    run = open_run(accelerator, RECIPE, as_yaml_values(config), config.out or Path("runs") / name, bool(config.resume))
    announce(config, accelerator, run, pack, model, init, order, num_steps)
    other = Pack.open(config.probe_data, config.cache_gib) if config.probe_data else None
    evaluation = EmbeddingEvaluation(accelerator, pack, other, num_samples, config.probe_clips, config.test_clips)
    evaluation.measure_fixed_lines(whole.network)
    if classes and config.class_distance == "centroids":
        classes = evaluation.with_centroid_distance(classes, whole.network)
    progress = Progress(0, {name: str(getattr(config, name)) for name in IDENTITY} | {"pack": pack.fingerprint})
    progress.counters["skipped_steps"] = 0
    if config.resume:
        progress = restore(accelerator, run, progress, model, optimizer.optimizer, None)
    start_trackers(accelerator, run, as_yaml_values(config), progress.step)
    eval_every = -(-num_steps // 4) if config.eval_every is None else config.eval_every

    clock, stop, bad_steps = Clock(accelerator, config.save_minutes), StopSignal(), 0
    loader = iter(batches.loader(progress.step, num_steps, config.num_workers, accelerator.device.type == "cuda"))
    bar = tqdm(total=num_steps, initial=progress.step, desc="contrastive", unit="step",
               disable=not accelerator.is_main_process)  # fmt: skip
    while progress.step < num_steps:
        rate = learning_rate(progress.step, config.lr, num_steps, round(config.warmup * num_steps))
        for group in optimizer.param_groups:
            group["lr"] = rate
        with clock.waiting():
            batch = next(loader)
        batch = config.mix(batch.to(accelerator.device))
        views = config.augment(batch.waveform, batch.keys[:, 0], batch.num_samples, batch.background)
        inputs = (views, batch.num_samples, batch.keys[:, 1:3])
        uniform = uniform_of_keys(batch.keys[:, 3], per_device * accelerator.num_processes)
        terms_of = partial(
            objective_losses, weights, margins, labels=batch.labels, clip=batch.rows, uniform=uniform, classes=classes
        )
        with clock.counting():
            if config.grad_cache:
                means = cached_backward(
                    accelerator, trained, inputs, config.grad_cache, mask, config.patchout, weights, terms_of
                )
            else:
                out = trained(*inputs, mask, config.patchout)
                means = terms_of(unit=out.unit, centres=out.centres) | reconstruction_mean(out.reconstruction)
                accelerator.backward(weighted(weights, means))
        # Gradients are averaged over the processes by now, so a bad one is bad everywhere.
        norm = clip_gradients(accelerator, trained, config.max_grad_norm)
        is_good = bool(torch.isfinite(norm))
        if is_good or accelerator.scaler:  # float16's scaler skips the step itself and lowers its scale
            optimizer.step()
        optimizer.zero_grad()
        progress.step += 1
        progress.counters["skipped_steps"] += not is_good
        bad_steps = 0 if is_good else bad_steps + 1
        if bad_steps >= config.max_bad_steps:
            raise CheckpointError(
                f"the gradient was not finite for {bad_steps} steps in a row, up to step {progress.step}; lower --lr, "
                f"then go on from the last good state with --resume {run.path}"
            )

        is_last = progress.step == num_steps
        clock.count(config.batch_size)
        bar.update()
        if is_last or progress.step % config.log_every == 0:
            # All terms but mae are the same on every process already.
            means = {term: accelerator.reduce(mean.detach(), "mean") for term, mean in means.items()}
            values = {"loss": weighted(weights, means).item(), "grad_norm": norm.item(), "lr": rate}
            values |= {f"loss_{term}": mean.item() for term, mean in means.items()} | clock.lap()
            report(accelerator, run, bar, progress, config.batch_size, values)
        if is_last or (eval_every and progress.step % eval_every == 0):
            with clock.paused(), whole.shown(None):
                scores = evaluation(whole.network, run, progress.step)
                report(accelerator, run, bar, progress, config.batch_size, scores, describe)
                collapse = collapse_of(scores)
            if agreed(accelerator, bool(collapse))[0]:
                raise CheckpointError(collapse or "the main process found that the embeddings have collapsed")
        # Between bad steps nothing is saved: the last good state is that from before them.
        must_stop, must_save = agreed(accelerator, stop.received, is_good and clock.is_time_to_save())
        if is_last or must_stop or must_save:
            with clock.paused():
                store(accelerator, run, progress, model, optimizer.optimizer, None, config.keep_states)
            clock.saved()
        if must_stop:
            break
    bar.close()
    stop.restore()
    finish(accelerator, run, progress, num_steps)
    return run


def build_model(config: Config, pack: Pack, init: str | None, num_classes: int) -> EmbeddingModel:
    """The backbone, from another run or untrained, under an untrained projector."""
    if init is None:
        num_frames = frames_of(round(config.clip_seconds * RATE))
        mean, std = pack.info.log_mel_mean, pack.info.log_mel_std
        encoder = untrained_backbone(config.backbone, config.preset, num_frames, mean, std)
    else:
        encoder = find_backbone(init, config.backbone)
        if config.patchout:  # which patches are left says nothing of where, unless the position table fits
            encoder = encoder.resized(frames_of(round(config.clip_seconds * RATE)))
    decoder = DECODERS[config.preset] if "mae" in config.terms() else None
    sizes = config.projector_hidden, config.projector_size
    try:
        return EmbeddingModel(encoder, config.pooling, *sizes, num_classes, decoder)
    except ValueError as error:
        raise CheckpointError(str(error)) from error


def margins_of(config: Config) -> Margins:
    """The settings of the terms."""
    return Margins(**{field.name: getattr(config, field.name) for field in fields(Margins)})


def announce(
    config: Config, accelerator: Accelerator, run: RunFolder, pack: Pack, model: EmbeddingModel, init: str | None,
    order: BalancedOrder, num_steps: int,
) -> None:  # fmt: skip
    """Says once what will be done."""
    total, backbone = count_parameters(model.parameters()), count_parameters(model.encoder.parameters())
    accelerator.print(
        f"init     {init or 'untrained'}\n"
        f"pack     {config.data}: {pack.info.describe_splits()}\n"
        f"batches  {order.describe()}; {config.num_views()} view(s) of each\n"
        f"model    {config.backbone}: backbone {backbone / 1e6:.2f} M, dropped after training "
        f"{(total - backbone) / 1e6:.2f} M parameters\n"
        f"loss     {config.objective}, pooling {config.pooling}\n"
        f"clips    {config.clip_seconds:g} s\n"
        f"steps    {num_steps} ({num_steps / order.steps_per_epoch:.2f} epochs) of {config.batch_size} clips on "
        f"{accelerator.num_processes} process(es)\n"
        f"device   {describe_device(accelerator)}\n"
        f"run      {run.path}"
    )
    front_end = getattr(model.encoder, "log_mel", None)
    warning = front_end and compare_statistics(
        (front_end.mean, front_end.std), (pack.info.log_mel_mean, pack.info.log_mel_std)
    )
    if warning:
        accelerator.print(f"warning  {warning}")


if __name__ == "__main__":
    run_command(lambda: main(recipe_config(Config, RECIPE, sys.argv[1:], __doc__)), ERRORS)

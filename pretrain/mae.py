"""Pretrains a spectrogram transformer, or a ConvNeXt, as a masked autoencoder.

    accelerate launch pretrain/mae.py
    accelerate launch pretrain/mae.py --data packs/mine --preset small --epochs 100
    accelerate launch pretrain/mae.py --backbone cnn --clip_seconds 4
    accelerate launch pretrain/mae.py --resume runs/mae_tiny_20260101-120000

Reads a pack; renders the offline one where none is given. Writes a run folder (checkpoints/run.py): backbone/ in
transformers' layout, metrics.jsonl, TensorBoard's logs/, figures/, state/ to resume from.

He et al. 2021, arXiv 2111.06377; for spectrograms Huang et al. 2022, arXiv 2207.06405; for
convolutions Tian et al. 2023, arXiv 2301.03580.
"""

import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from accelerate import Accelerator
from accelerate.tracking import get_available_trackers
from accelerate.utils import set_seed
from tqdm import tqdm

from backbones.ast_encoder import attention_for
from backbones.builders import untrained_backbone
from backbones.log_mel import RATE, compare_statistics, frames_of
from backbones.mae import DECODERS, MaskedAutoencoder
from backbones.optimisation import WeightAverage, count_parameters, learning_rate, parameter_groups
from checkpoints.config import as_yaml_values, recipe_config, run_command
from checkpoints.engine import open_accelerator
from checkpoints.errors import CheckpointError
from checkpoints.lifecycle import finish, open_run, report, restore, start_trackers, store
from checkpoints.loop import Clock, StopSignal, agreed, describe_device, mixed_dtype, use_cores
from checkpoints.run import RunFolder
from checkpoints.sharding import WholeNetwork, clip_gradients, prepare
from checkpoints.state import Progress
from checkpoints.weights import find_backbone
from data.ahead import windows_of
from data.augment import Augmentation
from data.block_cache import DEFAULT_GIB
from data.errors import DataError
from data.labels import LabelTable
from data.loader import TrainBatches
from data.mixing import Mixing
from data.opening import OFFLINE_PACK, open_pack
from data.pack import Pack
from data.sampler import GlobalOrder, Share
from losses.masked_patches import masked_patch_loss
from pretrain.probes import ProbeClips
from pretrain.validation import Evaluation, describe, target_for

RECIPE = "pretrain/mae.py"
ERRORS = (CheckpointError, DataError)
DEFAULT_STEPS = 2400
PATCH_SIZES = {"ast": 16, "cnn": 32}
IDENTITY = ("backbone", "preset", "init", "clip_seconds", "patch_size", "clones", "batch_size", "seed")
"""Settings that a run cannot change when it is resumed."""


@dataclass
class Config:
    """Settings of a masked-autoencoder run."""

    data: str = str(OFFLINE_PACK)
    """Folder of the pack, or a URL as s3://bucket/pack; the offline pack is rendered if packs/gm is not there."""
    backbone: Literal["ast", "cnn"] = "ast"
    """Kind of encoder: ast, or timm's ConvNeXt with masked convolutions."""
    preset: Literal["tiny", "small", "base"] = "tiny"
    """Size of encoder and decoder: ast 192, 384 or 768 wide, of 12 layers; cnn ConvNeXt's atto, pico or tiny."""
    init: str | None = None
    """Encoder to go on from, in place of an untrained one: a run folder, a backbone's folder, a name in
    checkpoints/pretrained/ or a Hub id. None is taken unasked: what ships has learned more than reconstruction since,
    and would lose it here."""
    clip_seconds: float = 2.0
    """Length of a crop in seconds; cut down to whole patches."""
    patch_size: int | None = None
    """Side of a square patch in frames and mel bins, for ast alone; 16 by default. A cnn's is 32."""
    mask: Literal["random", "time", "frequency", "inverse_block"] = "random"
    """What is masked: patches, columns, rows, or all but blocks."""
    mask_ratio: float = 0.8
    """Share of patches removed, in (0, 1)."""
    mask_block: tuple[int, int] = (5, 5)
    """Size of inverse_block's blocks in patches, (freq, time)."""
    clones: int = 1
    """Masks a clip and step, which share its front end."""
    target: Literal["raw", "normalised"] = "raw"
    """What the decoder predicts: each patch's values, or its shape (mean 0, deviation 1)."""
    decoder_width: int | None = None
    """Width of the decoder; the preset's own by default."""
    decoder_depth: int | None = None
    """Blocks of the decoder; the preset's own by default."""
    decoder_heads: int | None = None
    """Attention heads of the decoder; the preset's own by default."""
    augment: Augmentation = field(default_factory=Augmentation)
    """Augmentation of each crop, see data/augment.py; none by default."""
    mix: Mixing = field(default_factory=Mixing)
    """Mixing of clips before they are augmented, see data/mixing.py; none by default."""
    batch_size: int = 16
    """Clips of an optimizer step: per device x processes x accumulation."""
    accumulation: int = 1
    """Micro-batches that make one step."""
    steps: int | None = None
    """Optimizer steps of the run; 2400 unless --epochs is given."""
    epochs: float | None = None
    """Length of the run in passes over the training split, in place of --steps."""
    lr: float = 1e-3
    """Peak learning rate."""
    warmup: float = 0.1
    """Share of the run over which the learning rate rises, in [0, 1)."""
    weight_decay: float = 0.05
    """AdamW's decoupled decay of weights; norms, biases, tokens and positions are spared."""
    betas: tuple[float, float] = (0.9, 0.95)
    """AdamW's decay of its two moments."""
    max_grad_norm: float = 1.0
    """Longest gradient; longer ones are scaled down to it."""
    ema: float | None = None
    """Decay of a moving average of the weights, as 0.999; it is what is probed and saved. None keeps none."""
    seed: int = 0
    """Of the weights, the order, crops and masks."""
    out: Path | None = None
    """Run folder; runs/mae_PRESET_TIME by default."""
    resume: str | None = None
    """Run folder to go on with; 'newest', or nothing, is the newest in runs/; 'auto' is --out, once it has a state."""
    cache_gib: float = DEFAULT_GIB
    """Room on this machine for what is fetched of packs at URLs, in GiB, below $LUTHIER_CACHE or ~/.cache/luthier."""
    shuffle_blocks: int | None = None
    """Shuffles the clips of so many blocks of 64 MiB at a time, so that a pack at a URL may be larger than --cache_gib;
    all at once by default."""
    num_workers: int = 0
    """Processes that read ahead; 0 reads between steps, which a local disk keeps up with."""
    log_every: int = 40
    """Steps between lines of metrics.jsonl."""
    eval_every: int | None = None
    """Steps between evaluations; a quarter of the run by default. 0 evaluates at the end only."""
    eval_clips: int = 512
    """Validation clips on which the masked error is measured."""
    probe_clips: int = 1024
    """Training clips that kNN and linear probe learn from; half as many are tested. 0 leaves probes out."""
    probe_data: str | None = None
    """Pack of other timbres, as of another SoundFont, to test the probes on; the validation split by default."""
    probe_pooling: Literal["mean", "class_token", "mean_layers", "mean_max_layers"] = "mean"
    """Tokens to embedding for the probes: mean of the last layer, class token, mean (and maximum) over all layers."""
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
        if self.patch_size is None:
            self.patch_size = PATCH_SIZES[self.backbone]
        positive = ("clip_seconds", "patch_size", "clones", "batch_size", "accumulation", "lr", "log_every",
                    "eval_clips", "keep_states", "max_bad_steps", "max_grad_norm", "timeout_minutes")  # fmt: skip
        optional = ("steps", "epochs", "cpu_threads", "decoder_width", "decoder_depth", "decoder_heads",
                    "shuffle_blocks")  # fmt: skip
        for name in (*positive, *optional):
            value = getattr(self, name)
            if not (value is None and name in optional) and not value > 0:
                raise ValueError(f"--{name} must be positive, not {value}")
        for name, low in (("mask_ratio", 0), ("warmup", -1e-9), ("ema", 0)):
            value = getattr(self, name)
            if value is not None and not low < value < 1:
                raise ValueError(f"--{name} must lie between 0 and 1, not {value}")
        if self.steps is not None and self.epochs is not None:
            raise ValueError("--steps and --epochs both give the length of the run; choose one")
        trackers = [str(name) for name in get_available_trackers()]
        for name in self.log_with or []:
            if name not in trackers:
                raise ValueError(f"--log_with {name} is not installed; there are {', '.join(trackers)}")
        if self.backbone == "cnn" and self.patch_size != PATCH_SIZES["cnn"]:
            raise ValueError(f"--patch_size {self.patch_size} is for --backbone ast alone; a cnn's is always 32")
        if self.backbone == "cnn" and self.probe_pooling == "class_token":
            raise ValueError("--probe_pooling class_token is for --backbone ast alone; choose mean")
        if 128 % self.patch_size:
            raise ValueError(f"--patch_size must divide the 128 mel bins, {self.patch_size} does not")
        size, seconds = self.patch_size, self.clip_seconds
        if frames_of(round(seconds * RATE)) < 2 * size:
            raise ValueError(f"--clip_seconds {seconds} is shorter than two patches of {size} frames")


def main(config: Config) -> RunFolder:
    """Trains, evaluates and saves; returns the run folder."""
    accelerator = open_accelerator(config.log_with, config.accumulation, config.timeout_minutes)
    use_cores(accelerator, config.cpu_threads)
    pack = open_pack(config.data, accelerator, config.cache_gib)
    rows = pack.rows("train")
    order = GlobalOrder(len(rows), config.batch_size, config.seed, windows_of(pack, rows, config.shuffle_blocks))
    share = Share(accelerator.process_index, accelerator.num_processes, config.accumulation)
    from_epochs = max(1, round(config.epochs * order.steps_per_epoch)) if config.epochs else None
    num_steps = config.steps or from_epochs or DEFAULT_STEPS
    mask = {"mask_ratio": config.mask_ratio, "kind": config.mask, "block": tuple(config.mask_block)}
    target_of = target_for(config.target)

    set_seed(config.seed)
    model = build_model(config, pack)
    model.use_attention(attention_for(accelerator.device.type, mixed_dtype(accelerator)))
    groups = parameter_groups(model, config.weight_decay)
    optimizer = torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, fused=True)
    whole = WholeNetwork(accelerator, model)
    trained, optimizer = prepare(accelerator, model, optimizer)
    average = WeightAverage(model.encoder, config.ema) if config.ema else None
    backgrounds = LabelTable(pack).non_instruments(rows) if config.augment.is_on("background") else None
    # A key for each mask, and one for augmentation.
    streams, num_samples = config.clones + 1, model.encoder.num_samples
    batches = TrainBatches(pack, rows, order, share, num_samples, streams, config.mix, backgrounds)

    name = f"mae_{config.preset}_{time.strftime('%Y%m%d-%H%M%S')}"
    run = open_run(accelerator, RECIPE, as_yaml_values(config), config.out or Path("runs") / name, bool(config.resume))
    announce(config, accelerator, run, pack, model, order, share, num_steps)
    other = Pack.open(config.probe_data, config.cache_gib) if config.probe_data else None
    untrained = model.encoder.untrained_twin().to(accelerator.device) if config.init else whole.network.encoder
    evaluation = Evaluation(
        accelerator, pack, whole.network, untrained, mask, config.target, config.eval_clips,
        ProbeClips.choose(pack, config.probe_clips, other), config.probe_pooling,
    )  # fmt: skip
    progress = Progress(0, {name: str(getattr(config, name)) for name in IDENTITY} | {"pack": pack.fingerprint})
    if config.shuffle_blocks:
        progress.identity["shuffle_blocks"] = config.shuffle_blocks
    progress.counters["skipped_steps"] = 0
    if config.resume:
        progress = restore(accelerator, run, progress, model, optimizer.optimizer, average)
    start_trackers(accelerator, run, as_yaml_values(config), progress.step)
    eval_every = -(-num_steps // 4) if config.eval_every is None else config.eval_every

    clock, stop, bad_steps = Clock(accelerator, config.save_minutes), StopSignal(), 0
    loader = iter(batches.loader(progress.step, num_steps, config.num_workers, accelerator.device.type == "cuda"))
    bar = tqdm(total=num_steps, initial=progress.step, desc="mae", unit="step", disable=not accelerator.is_main_process)
    while progress.step < num_steps:
        rate = learning_rate(progress.step, config.lr, num_steps, round(config.warmup * num_steps))
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = torch.zeros((), device=accelerator.device)
        for _ in range(config.accumulation):
            with clock.waiting():
                batch = next(loader)
            batch = config.mix(batch.to(accelerator.device))
            sound = config.augment(batch.waveform, batch.keys[:, -1], batch.num_samples, batch.background)
            with accelerator.accumulate(trained), clock.counting():
                out = trained(sound, batch.keys[:, :-1], batch.num_samples, **mask)
                micro_loss = masked_patch_loss(out.prediction, target_of(out.target), out.is_padding)
                accelerator.backward(micro_loss)
                loss += micro_loss.detach() / config.accumulation
        # Gradients are averaged over the processes by now, so a bad one is bad everywhere.
        norm = clip_gradients(accelerator, trained, config.max_grad_norm)
        is_good = bool(torch.isfinite(norm))
        if is_good or accelerator.scaler:  # float16's scaler skips the step itself and lowers its scale
            optimizer.step()
        optimizer.zero_grad()
        progress.step += 1
        if is_good and average:
            average.update(progress.step)
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
            values = {"loss": accelerator.reduce(loss, "mean").item(), "grad_norm": norm.item(), "lr": rate}
            report(accelerator, run, bar, progress, config.batch_size, values | clock.lap())
        if is_last or (eval_every and progress.step % eval_every == 0):
            with clock.paused(), whole.shown(average):
                report(accelerator, run, bar, progress, config.batch_size, evaluation(run, progress.step), describe)
        # Between bad steps nothing is saved: the last good state is that from before them.
        must_stop, must_save = agreed(accelerator, stop.received, is_good and clock.is_time_to_save())
        if is_last or must_stop or must_save:
            with clock.paused():
                store(accelerator, run, progress, model, optimizer.optimizer, average, config.keep_states)
            clock.saved()
        if must_stop:
            break
    bar.close()
    stop.restore()
    finish(accelerator, run, progress, num_steps)
    return run


def build_model(config: Config, pack: Pack) -> MaskedAutoencoder:
    """Encoder and decoder for crops of the config's length; an untrained encoder takes the pack's statistics."""
    num_frames = frames_of(round(config.clip_seconds * RATE))
    statistics = pack.info.log_mel_mean, pack.info.log_mel_std
    if config.init is None:
        options = {"patch_size": config.patch_size} if config.backbone == "ast" else {}
        encoder = untrained_backbone(config.backbone, config.preset, num_frames, *statistics, **options)
    else:
        encoder = find_backbone(config.init, config.backbone).resized(num_frames)
        if encoder.patch_size != config.patch_size:
            raise CheckpointError(
                f"--init {config.init} has patches of {encoder.patch_size}, --patch_size asks for "
                f"{config.patch_size}; give that size, or start without --init"
            )
    decoder = {key: getattr(config, f"decoder_{key}") or value for key, value in DECODERS[config.preset].items()}
    try:
        return MaskedAutoencoder(encoder, **decoder)
    except ValueError as error:
        raise CheckpointError(str(error)) from error


def announce(
    config: Config, accelerator: Accelerator, run: RunFolder, pack: Pack, model: MaskedAutoencoder,
    order: GlobalOrder, share: Share, num_steps: int,
) -> None:  # fmt: skip
    """Says once what will be done."""
    encoder, decoder = (count_parameters(part.parameters()) / 1e6 for part in (model.encoder, model.decoder))
    freq, time_ = model.encoder.grid
    accelerator.print(
        f"init     {config.init or 'untrained'}\n"
        f"pack     {config.data}: {pack.info.describe_splits()}\n"
        f"model    {config.backbone} {config.preset}: encoder {encoder:.2f} M, decoder {decoder:.2f} M parameters\n"
        f"clips    {model.encoder.num_samples / RATE:.3f} s, {freq} x {time_} patches of {config.patch_size}, "
        f"{config.mask_ratio:.0%} masked ({config.mask}), {config.clones} mask(s) each\n"
        f"steps    {num_steps} ({num_steps / order.steps_per_epoch:.2f} epochs) of {config.batch_size} clips = "
        f"{share.per_device(config.batch_size)} per device x {share.num_processes} process(es) x {share.accumulation}\n"
        f"device   {describe_device(accelerator)}\n"
        f"run      {run.path}"
    )
    front_end = model.encoder.log_mel
    warning = compare_statistics((front_end.mean, front_end.std), (pack.info.log_mel_mean, pack.info.log_mel_std))
    if warning:
        accelerator.print(f"warning  {warning}")


if __name__ == "__main__":
    run_command(lambda: main(recipe_config(Config, RECIPE, sys.argv[1:], __doc__)), ERRORS)

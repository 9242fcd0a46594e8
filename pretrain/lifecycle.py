"""From the pack a run reads to the folder it leaves: what every recipe does before, between and after its steps."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import nn
from tqdm import tqdm

from checkpoints.run import RunFolder
from checkpoints.state import Progress, load_state, newest_good_state, save_state
from data.errors import DataError
from data.pack import INFO_NAME, Pack
from data.prepare import prepare_gm
from pretrain.figures import curves, save
from pretrain.optimisation import WeightAverage
from pretrain.progress import generator_states, restore_generators
from pretrain.validation import describe

OFFLINE_PACK = Path("packs/gm")
VERIFIED_BYTES = 4 << 30
"""Packs up to this size are compared with their checksums before every run, which takes a second a gigabyte or less."""


def open_pack(folder: Path, accelerator: Accelerator) -> Pack:
    """Opens the pack; the offline pack is rendered first if it is not there.

    A pack of a few gigabytes is read and verified; larger ones are only looked over, `data.describe --verify` reads
    them.

    Raises:
        DataError: it is no pack, is damaged, or has no training split.
    """
    if accelerator.is_main_process and folder == OFFLINE_PACK and not (folder / INFO_NAME).is_file():
        print(f"{folder} is not there yet: rendering the offline pack")
        prepare_gm(folder)
    accelerator.wait_for_everyone()
    pack = Pack.open(folder)
    if pack.info.log_mel_std is None:
        raise DataError(f"{folder} has no training clips to learn from; prepare a pack that has a training split")
    if accelerator.is_main_process and sum(pack.info.shard_bytes) <= VERIFIED_BYTES:
        pack.verify()
    return pack


def open_run(accelerator: Accelerator, recipe: str, config: dict[str, Any], path: Path, is_resumed: bool) -> RunFolder:
    """Makes the run folder, or opens the one to go on with; its config.yaml says what this command does."""
    path = broadcast_object_list([path])[0]  # names hold the time, and clocks differ
    run = RunFolder.open(path, recipe) if is_resumed else RunFolder(path)
    if accelerator.is_main_process:
        if is_resumed:
            run.write_config(recipe, config | {"resume": None})
        else:
            RunFolder.create(path, recipe, config)
    accelerator.wait_for_everyone()
    return run


def start_trackers(accelerator: Accelerator, run: RunFolder, config: dict[str, Any], step: int) -> None:
    """Starts TensorBoard and whatever else logs; TensorBoard drops what an earlier try logged after `step`."""
    accelerator.project_configuration.logging_dir = str(run.path)
    values = {name: str(value) for name, value in config.items()}
    accelerator.init_trackers("logs", values, init_kwargs={"tensorboard": {"purge_step": step + 1}})


def report(
    accelerator: Accelerator, run: RunFolder, bar: tqdm, progress: Progress, batch_size: int, values: dict[str, float],
    describe: Callable[[dict[str, float]], str] = describe,
) -> None:  # fmt: skip
    """Hands the numbers of a step or of an evaluation to metrics.jsonl, the trackers and the screen.

    Args:
        describe: an evaluation in words; that of a masked autoencoder by default.
    """
    accelerator.log(values, step=progress.step)
    if not accelerator.is_main_process or not values:
        return
    run.log({"step": progress.step, "clips": progress.step * batch_size} | values | progress.counters)
    if "loss" in values:
        bar.set_postfix_str(
            f"loss {values['loss']:.4f}, {values['clips_per_s']:.0f} clips/s, wait {values['wait_share']:.1%}"
        )
        return
    bar.write(f"step {progress.step}: {describe(values)}")
    save(curves(run.read_log()), run.figures / "curves.png")


def store(
    accelerator: Accelerator, run: RunFolder, progress: Progress, model: nn.Module,
    optimizer: torch.optim.Optimizer, average: WeightAverage | None, keep: int,
) -> None:  # fmt: skip
    """Saves a state to resume from."""
    generators = generator_states(accelerator)
    if accelerator.is_main_process:
        save_state(run.state, progress, model, optimizer, generators, average.tensors if average else None, keep)
    accelerator.wait_for_everyone()


def restore(
    accelerator: Accelerator, run: RunFolder, progress: Progress, model: nn.Module,
    optimizer: torch.optim.Optimizer, average: WeightAverage | None,
) -> Progress:  # fmt: skip
    """Goes back to the newest state that is whole; `progress` says what it must have been made with."""
    path, complaints = newest_good_state(run.state)
    for complaint in complaints:
        accelerator.print(f"passed over: {complaint}")
    progress, generators = load_state(path, progress.identity, model, optimizer, average.tensors if average else None)
    restore_generators(accelerator, generators)
    if accelerator.is_main_process:
        run.cut_log(progress.step)
    accelerator.wait_for_everyone()
    accelerator.print(f"resumed  from {path}")
    return progress


def finish(accelerator: Accelerator, run: RunFolder, progress: Progress, num_steps: int) -> None:
    """Says where everything is."""
    accelerator.end_training()
    is_done = progress.step >= num_steps
    accelerator.print(
        f"{'finished' if is_done else 'stopped'} after {progress.step} of {num_steps} steps"
        + ("" if is_done else f"; go on with --resume {run.path}")
    )
    for path in (run.backbone, run.metrics, *run.pictures()):
        if path.exists():
            accelerator.print(f"  {path}")

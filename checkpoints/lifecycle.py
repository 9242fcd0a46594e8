"""The life of a run folder: what every recipe does to it before, between and after its steps."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import nn
from tqdm import tqdm

from backbones.optimisation import WeightAverage
from checkpoints.errors import CheckpointError, StoppedEarly
from checkpoints.figures import curves, save
from checkpoints.loop import agreed, generator_states, restore_generators
from checkpoints.run import RunFolder
from checkpoints.state import Progress, load_state, newest_good_state, save_state


def open_run(accelerator: Accelerator, recipe: str, config: dict[str, Any], path: Path, is_resumed: bool) -> RunFolder:
    """Makes the run folder, or opens the one to go on with; its config.yaml says what this command does.

    Raises:
        CheckpointError: there is a run already, none to go on with, or not all processes see it.
    """
    path = broadcast_object_list([path])[0]  # names hold the time, and clocks differ
    is_new_somewhere, is_resumed_somewhere = agreed(accelerator, not is_resumed, is_resumed)
    if is_new_somewhere and is_resumed_somewhere:
        raise CheckpointError(
            f"{path} should hold the same states for all processes, and some see none; put the run on a file system "
            "that all machines share"
        )
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
    describe: Callable[[dict[str, float]], str] | None = None,
) -> None:  # fmt: skip
    """Hands the numbers of a step or of an evaluation to metrics.jsonl, the trackers and the screen.

    Args:
        describe: puts the scores of an evaluation into words; None where the numbers are those of a step.
    """
    accelerator.log(values, step=progress.step)
    if not accelerator.is_main_process or not values:
        return
    run.log({"step": progress.step, "clips": progress.step * batch_size} | values | progress.counters)
    if describe is None:
        bar.set_postfix_str(
            f"loss {values['loss']:.4f}, {values['clips_per_s']:.0f} clips/s, wait {values['wait_share']:.1%}, "
            f"{values['flops_share']:.0%} of matrix rate, {values['memory_gib']:.1f} GiB"
        )
        return
    bar.write(f"step {progress.step}: {describe(values)}")
    save(curves(run.read_log()), run.figures / "curves.png")


def store(
    accelerator: Accelerator, run: RunFolder, progress: Progress, model: nn.Module,
    optimizer: torch.optim.Optimizer, average: WeightAverage | None, keep: int,
) -> None:  # fmt: skip
    """Saves a state to resume from."""
    save_state(
        run.state, progress, model, optimizer, generator_states(accelerator), average.tensors if average else None,
        keep, is_writer=accelerator.is_main_process,
    )  # fmt: skip
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
    """Says where everything is.

    Raises:
        StoppedEarly: steps are left to do.
    """
    accelerator.end_training()
    is_done = progress.step >= num_steps
    accelerator.print(
        f"{'finished' if is_done else 'stopped'} after {progress.step} of {num_steps} steps"
        + ("" if is_done else f"; go on with --resume {run.path}")
    )
    for path in (run.backbone, run.adapter, run.heads, run.scores, run.metrics, *run.pictures()):
        if path.exists():
            accelerator.print(f"  {path}")
    if not is_done:
        raise StoppedEarly

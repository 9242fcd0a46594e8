"""Accelerate as every recipe starts it, and what of its configuration a recipe refuses.

Precision, processes and how weights are spread over them belong to Accelerate's configuration; what a run learns
belongs to the recipe's own flags, and a setting of the former that would change the latter ends the command.
"""

import os
from collections.abc import Sequence

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin, ProjectConfiguration, str_to_bool

from checkpoints.errors import CheckpointError
from checkpoints.loop import waiting_at_most

ENGINES = (
    DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU, DistributedType.FSDP,
    DistributedType.MULTI_XPU, DistributedType.MULTI_NPU, DistributedType.MULTI_HPU,
)  # fmt: skip
"""One process, DDP on any device, and FSDP."""


def open_accelerator(
    log_with: Sequence[str] | None, accumulation: int = 1, timeout_minutes: float = 15.0
) -> Accelerator:
    """Starts Accelerate with TensorBoard and whatever else logs.

    Several processes without a GPU talk through gloo, where Accelerate by itself would let each train alone, and a
    configuration that asks for FSDP2 gets it there, where Accelerate would quietly replicate the network.

    Args:
        log_with: trackers of Accelerate besides TensorBoard.
        accumulation: micro-batches that make one step, by the recipe's own flag.
        timeout_minutes: how long a process waits for the others.

    Raises:
        CheckpointError: Accelerate's configuration asks for what no recipe does, or what this one does otherwise.
    """
    num_processes = int(os.environ.get("WORLD_SIZE", 1))
    accelerator = Accelerator(
        cpu=num_processes > 1 and not torch.accelerator.is_available(),
        gradient_accumulation_steps=accumulation,
        log_with=["tensorboard", *(log_with or [])],
        kwargs_handlers=[waiting_at_most(timeout_minutes)],
        project_config=ProjectConfiguration(logging_dir="runs"),  # start_trackers puts the run folder in its place
    )
    if accelerator.distributed_type == DistributedType.MULTI_CPU and _asks_for("ACCELERATE_USE_FSDP"):
        accelerator.state.fsdp_plugin = FullyShardedDataParallelPlugin()
        for state in (accelerator.state, PartialState()):  # the former copies the latter whenever anything asks for it
            state.distributed_type = DistributedType.FSDP
    check_engine(accelerator, accumulation)
    return accelerator


def check_engine(accelerator: Accelerator, accumulation: int) -> None:
    """Compares what Accelerate was told with what a recipe does.

    Raises:
        CheckpointError: they differ.
    """
    found = accelerator.distributed_type
    if found not in ENGINES:
        raise CheckpointError(
            f"DDP or FSDP2 was expected in Accelerate's configuration, {found.value} found; launch with one of the "
            "files in checkpoints/launch/"
        )
    # The variable goes over the recipe's number without a word; steps would be dropped, or gradients made smaller.
    steps = accelerator.gradient_accumulation_steps
    if steps != accumulation:
        raise CheckpointError(
            f"this recipe makes a step of {accumulation} micro-batch(es), ACCELERATE_GRADIENT_ACCUMULATION_STEPS asks "
            f"for {steps}; unset it, and use --accumulation, or --grad_cache of pretrain/contrastive.py"
        )
    if found != DistributedType.FSDP:
        return
    plugin = accelerator.state.fsdp_plugin
    if plugin.fsdp_version != 2:
        raise CheckpointError(
            "FSDP of version 2 was expected in Accelerate's configuration, version 1 found; add fsdp_version: 2, as "
            "in checkpoints/launch/fsdp2.yaml"
        )
    if plugin.activation_checkpointing:
        raise CheckpointError(
            "fsdp_activation_checkpointing renames the weights of a state, so that no other launch could resume it; "
            "leave it out, and save memory with --accumulation or --grad_cache"
        )


def refuse_shards(accelerator: Accelerator, what: str) -> None:
    """Ends a run that needs whole weights in every step.

    Args:
        what: the setting that needs them.

    Raises:
        CheckpointError: the weights lie in shards.
    """
    if accelerator.is_fsdp2:
        raise CheckpointError(f"{what} needs whole weights in every step, FSDP2 has them in shards; launch with DDP")


def _asks_for(variable: str) -> bool:
    return bool(str_to_bool(os.environ.get(variable, "false")))

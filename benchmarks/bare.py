"""A recipe's steps beside those of a bare loop that computes the same.

    python -m benchmarks.bare seconds.json 60 pretrain.mae --data packs/gm --batch_size 16

runs sixty steps of a recipe, and after each of them one of the bare loop: a copy of the recipe's network on the first
batch that it saw, with its loss, its clipping and its AdamW, and nothing else.
"""

import copy
import importlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import torch
from accelerate import Accelerator
from accelerate.utils import convert_to_fp32
from torch import Tensor, nn

from benchmarks.recipes import ADAPTERS, CONTRASTIVE, MAE, Enough, watched
from checkpoints.config import recipe_config
from checkpoints.loop import mixed_dtype
from finetune.objective import means_of, weighted_sum
from losses.masked_patches import masked_patch_loss
from pretrain.embedding_model import weighted
from pretrain.objectives import objective_losses

Arguments = tuple[tuple, dict[str, Any]]
"""Of a call."""


class Recorded:
    """A function that keeps the arguments of its first call."""

    def __init__(self, function: Callable):
        self.function = function
        self.arguments: Arguments | None = None

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        self.arguments = self.arguments or (arguments, named)
        return self.function(*arguments, **named)


def mae_loss(out: Any, recorded: Arguments) -> Tensor:
    """The loss of pretrain/mae.py."""
    return masked_patch_loss(out.prediction, out.target, out.is_padding)


def contrastive_loss(out: Any, recorded: Arguments) -> Tensor:
    """The loss of pretrain/contrastive.py."""
    (weights, *others), named = recorded
    return weighted(weights, objective_losses(weights, *others, **named | {"unit": out.unit, "centres": out.centres}))


def adapters_loss(out: Any, recorded: Arguments) -> Tensor:
    """The loss of finetune/adapters.py."""
    (specs, _, targets, class_weights, terms), _ = recorded
    logits, _, log_variance = out
    return weighted_sum(means_of(specs, logits, targets, class_weights, terms), terms, log_variance)


LOSSES = {
    MAE: ("masked_patch_loss", mae_loss),
    CONTRASTIVE: ("objective_losses", contrastive_loss),
    ADAPTERS: ("means_of", adapters_loss),
}
"""Of each recipe: which of its functions knows what the loss needs beside the network's output, and the loss."""


class Bare:
    """The bare loop beside a recipe.

    Attributes:
        device: where it computes, once the recipe has made its network.
    """

    def __init__(self, recipe: str):
        self.device = torch.device("cpu")
        self._function, self._loss = LOSSES[recipe]
        self._forward: Recorded | None = None
        self._recorded: Recorded | None = None

    @contextmanager
    def beside(self, recipe: ModuleType) -> Iterator[None]:
        """While the block lasts, the bare loop takes a copy of the network that the recipe makes, and its batch."""
        self._recorded, prepare = Recorded(getattr(recipe, self._function)), recipe.prepare

        def copying(accelerator: Accelerator, network: nn.Module, optimizer: torch.optim.Optimizer) -> tuple:
            self._copy(accelerator, network, optimizer)
            trained, optimizer = prepare(accelerator, network, optimizer)
            self._forward = trained.forward = Recorded(trained.forward)
            return trained, optimizer

        with (
            mock.patch.object(recipe, "prepare", copying),
            mock.patch.object(recipe, self._function, self._recorded),
        ):
            yield

    def _copy(self, accelerator: Accelerator, network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self.device, self._dtype = accelerator.device, mixed_dtype(accelerator)
        names = {parameter: name for name, parameter in network.named_parameters()}
        self._network = copy.deepcopy(network).to(self.device)
        copies = dict(self._network.named_parameters())
        groups = [
            group | {"params": [copies[names[parameter]] for parameter in group["params"]]}
            for group in optimizer.param_groups
        ]
        self._optimizer = torch.optim.AdamW(groups, fused=True)
        is_compiled = accelerator.state.dynamo_plugin.backend.value != "NO"
        self._compute = torch.compile(self._network) if is_compiled else self._network

    def step(self) -> Tensor:
        """Forward, loss, backward, clipping, AdamW; returns the loss."""
        arguments, named = self._forward.arguments
        with torch.autocast(self.device.type, self._dtype, enabled=self._dtype != torch.float32):
            out = self._compute(*arguments, **named)
        loss = self._loss(convert_to_fp32(out), self._recorded.arguments)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._network.parameters(), 1.0)
        self._optimizer.step()
        self._optimizer.zero_grad()
        return loss.detach()

    def now(self) -> float:
        """CPU seconds of the process; on another device wall-clock seconds, once it has done what it was asked for."""
        if self.device.type == "cpu":
            return time.process_time()
        torch.accelerator.synchronize(self.device)
        return time.perf_counter()


def main() -> None:
    """Runs both and writes the seconds of their steps."""
    file, steps, name, *flags = sys.argv[1:]
    recipe, bare = importlib.import_module(name), Bare(name)
    seconds: dict[str, list[float]] = {"recipe": [], "bare": []}
    left = None

    def compare() -> None:
        nonlocal left
        came = bare.now()
        if left is not None:
            seconds["recipe"].append(came - left)
            start = bare.now()
            bare.step()
            seconds["bare"].append(bare.now() - start)
        if len(seconds["bare"]) == int(steps):
            raise Enough
        left = bare.now()

    with watched(recipe, compare), bare.beside(recipe), suppress(Enough):
        recipe.main(recipe_config(recipe.Config, recipe.RECIPE, flags, recipe.__doc__))
    Path(file).write_text(json.dumps(seconds))


if __name__ == "__main__":
    main()

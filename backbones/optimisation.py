"""What a training step does to weights besides the gradient: decay groups, schedule, moving average."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

NO_DECAY = ("cls_token", "distillation_token", "mask_token", "position_embeddings")


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Weights to decay and weights to spare: norms, biases, tokens and positions (Loshchilov and Hutter 2019)."""
    spared, decayed = [], []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            is_spared = parameter.ndim < 2 or name.rpartition(".")[2] in NO_DECAY
            (spared if is_spared else decayed).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": spared, "weight_decay": 0.0}]


def learning_rate(step: int, peak: float, num_steps: int, num_warmup: int, floor: float = 0.0) -> float:
    """Linear warm-up, then half a cosine down to `floor` (Loshchilov and Hutter 2017, arXiv 1608.03983, eq. 5).

    Args:
        step: optimizer steps done before this one.
    """
    if step < num_warmup:
        return peak * (step + 1) / num_warmup
    share = (step - num_warmup) / max(1, num_steps - num_warmup)
    return floor + 0.5 * (peak - floor) * (1 + math.cos(math.pi * min(1.0, share)))


class WeightAverage:
    """Average over steps of a module's trained parameters; its tensors keep the parameters' names.

    Exponential: ``average = decay * average + (1 - decay) * weight`` after step t, with
    ``decay = min(decay, (1 + t) / (10 + t))`` so that the first steps are forgotten soon, as TensorFlow's
    ExponentialMovingAverage does. Or, from a step on, the plain mean (Izmailov et al. 2018, arXiv 1803.05407,
    algorithm 1); before it, the weights themselves.

    Args:
        decay: of the exponential average.
        uniform_from: steps before the plain mean begins, which then takes the exponential one's place.
    """

    def __init__(self, module: nn.Module, decay: float, uniform_from: int | None = None):
        self.decay, self.uniform_from = decay, uniform_from
        self._weights = {name: weight for name, weight in module.named_parameters() if weight.requires_grad}
        self.tensors = {name: weight.detach().clone() for name, weight in self._weights.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Takes in the weights as they are after `step` steps."""
        decay = min(self.decay, (1 + step) / (10 + step))
        if self.uniform_from is not None:
            number = max(1, step - self.uniform_from)  # of the weights that are averaged, these included
            decay = 1 - 1 / number
        torch._foreach_lerp_(list(self.tensors.values()), list(self._weights.values()), 1 - decay)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchanges weights and average; a second call exchanges them back."""
        for name, weight in self._weights.items():
            kept = weight.clone()
            weight.copy_(self.tensors[name])
            self.tensors[name].copy_(kept)


def count_parameters(parameters: Iterable[Tensor]) -> int:
    """Number of values in some parameters."""
    return sum(parameter.numel() for parameter in parameters)

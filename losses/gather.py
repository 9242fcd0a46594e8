"""What the processes of a run exchange inside a loss; all of it does nothing where there is one process.

Accelerate's ``gather`` has no gradient (huggingface/accelerate issue 1154), and a gathered loss that forgets a factor
of the number of processes trains silently at another rate (lightly issue 1977). So the scale, once and for all: each of
R processes computes the loss of its own A anchors against the R * B gathered rows, DDP averages the gradients of the
processes, and the result is exactly the gradient of the mean over all anchors that one process would find on the
global batch. Two factors make it so: the gradient of gathered rows is summed over the processes that used them, and
`mean_over_processes` divides by the global count over R.

Shapes: R processes, A anchors and B rows of this process.
"""

import torch
import torch.distributed as dist
from torch import Tensor

from losses.reduction import LossSum


def num_processes() -> int:
    """R."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def gather(rows: Tensor) -> Tensor:
    """The rows of all processes ``(R * B, ...)`` in the order of their ranks, without gradient.

    Every process must bring the same number of rows.
    """
    if num_processes() == 1:
        return rows.detach()
    rows = rows.detach().contiguous()
    as_bytes = rows.dtype == torch.bool  # gloo does not carry booleans
    sent = rows.to(torch.uint8) if as_bytes else rows
    received = [torch.empty_like(sent) for _ in range(num_processes())]
    dist.all_gather(received, sent)
    return torch.cat(received).to(rows.dtype)


def gather_with_gradient(rows: Tensor) -> Tensor:
    """The rows of all processes ``(R * B, ...)``; a row's gradient is the sum of what all processes make of it."""
    return rows if num_processes() == 1 else _Gather.apply(rows)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(context, rows: Tensor) -> Tensor:
        context.num_rows = len(rows)
        return gather(rows)

    @staticmethod
    def backward(context, gradient: Tensor) -> Tensor:
        gradient = gradient.contiguous().clone()
        dist.all_reduce(gradient)
        first = dist.get_rank() * context.num_rows
        return gradient[first : first + context.num_rows]


def is_self_of(num_rows: int, device: torch.device | None = None) -> Tensor:
    """bool ``(B, R * B)``: where a gathered row is the anchor itself."""
    first = dist.get_rank() * num_rows if num_processes() > 1 else 0
    places = torch.arange(num_processes() * num_rows, device=device)
    return places == first + torch.arange(num_rows, device=device)[:, None]


def mean_over_processes(loss: LossSum) -> Tensor:
    """The mean over everything that all processes counted; 0 if they counted nothing.

    Its value is the same on every process. Its gradient is R times this process's part of the mean's gradient, so
    that DDP, which averages over the processes, gives the gradient of the mean.
    """
    if num_processes() == 1:
        return loss.mean()
    sums = torch.stack([loss.total.detach(), loss.count]).double()
    dist.all_reduce(sums)
    total, count = sums.to(loss.total.dtype)
    part = loss.total * (num_processes() / count.clamp(min=1))
    return part + (total / count.clamp(min=1) - part).detach()

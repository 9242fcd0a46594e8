"""Two processes find the value and the gradient that one finds on the global batch."""

import torch
import torch.multiprocessing as mp
from torch import distributed
from torch.nn.functional import normalize

from losses.contrastive import level_losses, scaled_similarity
from losses.gather import gather, gather_with_gradient, is_self_of, mean_over_processes
from losses.reduction import LossSum

ROWS, SIZE = 6, 5


def loss_of(weight: torch.Tensor, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """A recipe's path from inputs to loss, the same for any number of processes."""
    unit = normalize(inputs @ weight, dim=1)
    others = gather_with_gradient(unit)
    relation = (labels[:, None] == gather(labels)).to(torch.int8)
    loss = level_losses(scaled_similarity(unit, others, 0.3), [relation], is_self_of(len(unit)))[0]
    return mean_over_processes(loss)


def inputs_and_labels() -> tuple[torch.Tensor, torch.Tensor]:
    # Only three of the first process's anchors have a positive, five of the second's: a mean of means would differ.
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2 * ROWS, SIZE, generator=generator), torch.tensor([0, 1, 2, 3, 4, 5, 0, 0, 1, 1, 2, 6])


def one_of_two(rank: int, rendezvous: str, folder: str) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    weight = torch.eye(SIZE).requires_grad_()
    inputs, labels = (part[rank * ROWS : (rank + 1) * ROWS] for part in inputs_and_labels())
    loss = loss_of(weight, inputs, labels)
    loss.backward()
    distributed.all_reduce(weight.grad)  # what DDP does: the mean over processes
    booleans = gather(torch.tensor([rank == 0, True]))
    torch.save([loss.detach(), weight.grad / 2, booleans], f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def test_two_processes_equal_one_on_the_global_batch(tmp_path):
    mp.spawn(one_of_two, (str(tmp_path / "rendezvous"), str(tmp_path)), nprocs=2)
    weight = torch.eye(SIZE).requires_grad_()
    expected = loss_of(weight, *inputs_and_labels())
    expected.backward()
    for rank in range(2):
        loss, gradient, booleans = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        torch.testing.assert_close(loss, expected.detach(), rtol=1e-6, atol=0)
        torch.testing.assert_close(gradient, weight.grad, rtol=1e-5, atol=1e-7)
        assert booleans.tolist() == [True, True, False, True]


def test_one_process_alone_exchanges_nothing():
    rows = torch.randn(3, 2, requires_grad=True)
    assert gather_with_gradient(rows) is rows
    assert not gather(rows).requires_grad
    assert torch.equal(is_self_of(3), torch.eye(3, dtype=torch.bool))
    assert mean_over_processes(LossSum(torch.tensor(6.0), torch.tensor(4.0))).item() == 1.5
    assert mean_over_processes(LossSum(torch.tensor(0.0), torch.tensor(0.0))).item() == 0.0

"""Losses of heads against slow loops, closed forms, torch and torchvision; on one process and on two."""

import math

import pytest
import torch
import torch.multiprocessing as mp
import torch.nn.functional as F
from torch import distributed

from losses.gather import mean_over_processes
from losses.heads import binary_loss, class_loss, family_consistency

GAMMAS = (0.0, 0.5, 2.0)


def random(*shape: int, seed: int = 0, dtype=torch.float64) -> torch.Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def answers(batch: int, classes: int, seed: int = 0):
    """Targets from 0 to 1, some of them soft, what is known of them, and a weight for each class."""
    generator = torch.Generator().manual_seed(seed)
    target = torch.rand(batch, classes, dtype=torch.float64, generator=generator)
    target[target < 0.4], target[target > 0.7] = 0, 1
    is_known = torch.rand(batch, classes, generator=generator) < 0.6
    return target, is_known, torch.rand(classes, dtype=torch.float64, generator=generator) * 3


def slow_binary(logits, target, is_known, weight, gamma) -> float:
    total = 0.0
    for row in range(len(logits)):
        for column in range(logits.shape[1]):
            if is_known[row, column]:
                p, y = 1 / (1 + math.exp(-logits[row, column])), target[row, column].item()
                total -= weight[column].item() * y * (1 - p) ** gamma * math.log(p)
                total -= (1 - y) * p**gamma * math.log(1 - p)
    return total


def slow_class(logits, target, is_known, weight, gamma) -> float:
    total = 0.0
    for row in range(len(logits)):
        if is_known[row]:
            exponentials = [math.exp(value) for value in logits[row]]
            p = exponentials[target[row]] / sum(exponentials)
            total -= weight[target[row]].item() * (1 - p) ** gamma * math.log(p)
    return total


@pytest.mark.parametrize("gamma", GAMMAS)
def test_binary_equals_the_loop_written_from_the_paper(gamma):
    logits, (target, is_known, weight) = random(7, 5), answers(7, 5)
    found = binary_loss(logits, target, is_known, weight, gamma)
    assert found.total.item() == pytest.approx(slow_binary(logits, target, is_known, weight, gamma), rel=1e-12)
    assert found.count == is_known.sum()


@pytest.mark.parametrize("gamma", GAMMAS)
def test_class_equals_the_loop_written_from_the_paper(gamma):
    logits, (_, is_known, weight) = random(9, 5), answers(9, 5)
    target = torch.randint(0, 5, (9,), generator=torch.Generator().manual_seed(1)).where(is_known[:, 0], -1)
    found = class_loss(logits, target, is_known[:, 0], weight, gamma)
    expected = slow_class(logits, target, is_known[:, 0], weight, gamma)
    assert found.total.item() == pytest.approx(expected, rel=1e-12)
    assert found.count == is_known[:, 0].sum()


def test_consistency_equals_a_loop():
    instrument, family, family_of = random(4, 6), random(4, 3, seed=1), torch.tensor([0, 0, 1, 2, -1, 1])
    expected = sum(
        max(0.0, (instrument[b, i].sigmoid() - family[b, family_of[i]].sigmoid()).item()) ** 2
        for b in range(4)
        for i in range(6)
        if family_of[i] >= 0
    )
    found = family_consistency(instrument, family, family_of)
    assert found.total.item() == pytest.approx(expected, rel=1e-12)
    assert found.count == 4 * 5


def test_binary_equals_torch_and_torchvision():
    from torchvision.ops import sigmoid_focal_loss  # here, for the processes of the last test would import it too

    logits, (target, _, weight) = random(6, 4), answers(6, 4)
    everything = torch.ones(6, 4, dtype=torch.bool)
    found = binary_loss(logits, target, everything, weight).mean()
    torch.testing.assert_close(found, F.binary_cross_entropy_with_logits(logits, target, pos_weight=weight))
    hard = target.round()  # torchvision's weight of a soft target is another one
    found = binary_loss(logits, hard, everything, focal=2.0).total
    torch.testing.assert_close(found, sigmoid_focal_loss(logits, hard, alpha=-1, gamma=2.0, reduction="sum"))


def test_class_equals_torch():
    logits, target, weight = random(6, 4), torch.tensor([0, 1, 2, 3, 3, 1]), answers(6, 4)[2]
    is_known = torch.tensor([True, True, False, True, True, False])
    found = class_loss(logits, target, is_known, weight).total
    expected = F.cross_entropy(logits, target.where(is_known, -100), weight, reduction="sum")
    torch.testing.assert_close(found, expected)


def test_two_classes_are_yes_or_no():
    logit, target = random(8), torch.arange(8) % 2
    everything = torch.ones(8, dtype=torch.bool)
    pair = torch.stack([torch.zeros(8), logit], dim=1)
    for gamma in GAMMAS:
        of_classes = class_loss(pair, target, everything, focal=gamma).total
        of_binary = binary_loss(logit[:, None], target[:, None].double(), everything[:, None], focal=gamma).total
        torch.testing.assert_close(of_classes, of_binary)


def test_even_odds_have_a_closed_form():
    everything = torch.ones(3, 4, dtype=torch.bool)
    for gamma in GAMMAS:
        found = binary_loss(torch.zeros(3, 4), torch.ones(3, 4), everything, focal=gamma).mean()
        assert found.item() == pytest.approx(0.5**gamma * math.log(2))
        found = class_loss(torch.zeros(3, 4), torch.tensor([0, 1, 2]), everything[:, 0], focal=gamma).mean()
        assert found.item() == pytest.approx(0.75**gamma * math.log(4))
    certain = family_consistency(torch.full((2, 1), 60.0), torch.full((2, 1), -60.0), torch.zeros(1, dtype=torch.long))
    assert certain.mean() == 1
    assert family_consistency(random(2, 1), random(2, 1), torch.zeros(1, dtype=torch.long)).mean() == 0


@pytest.mark.parametrize("gamma", GAMMAS)
def test_gradcheck(gamma):
    target, is_known, weight = answers(4, 3)
    logits, places = random(4, 3).requires_grad_(), torch.tensor([2, 0, 1, 1])
    assert torch.autograd.gradcheck(lambda x: binary_loss(x, target, is_known, weight, gamma).mean(), logits)
    assert torch.autograd.gradcheck(lambda x: class_loss(x, places, is_known[:, 0], weight, gamma).mean(), logits)
    family, family_of = random(4, 2, seed=5).requires_grad_(), torch.tensor([1, -1, 0])
    assert torch.autograd.gradcheck(lambda x, y: family_consistency(x, y, family_of).mean(), (logits, family))


@pytest.mark.parametrize("gamma", [0.0, 0.5])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_unknown_has_no_gradient_whatever_it_is(bad, gamma):
    target, is_known, weight = answers(5, 4)
    is_known[:, 0] = torch.arange(5) % 2 == 0
    logits = random(5, 4).masked_fill(~is_known, bad).requires_grad_()
    found = binary_loss(logits, target.masked_fill(~is_known, math.nan), is_known, weight, gamma)
    found.mean().backward()
    clean = random(5, 4).requires_grad_()
    binary_loss(clean, target, is_known, weight, gamma).mean().backward()
    torch.testing.assert_close(logits.grad, clean.grad * is_known)
    rows = random(5, 4).masked_fill(~is_known[:, :1], bad).requires_grad_()
    class_loss(rows, torch.tensor([0, -1, 2, -1, 3]), is_known[:, 0], weight, gamma).mean().backward()
    assert rows.grad.isfinite().all()
    assert rows.grad[~is_known[:, 0]].eq(0).all()


@pytest.mark.parametrize("gamma", GAMMAS)
def test_where_nothing_is_known_loss_and_gradient_are_zero(gamma):
    logits = random(3, 4, dtype=torch.float32).requires_grad_()
    nothing = torch.zeros(3, 4, dtype=torch.bool)
    no_family = torch.full((4,), -1)
    for loss in (
        binary_loss(logits, torch.zeros(3, 4), nothing, focal=gamma),
        class_loss(logits, torch.full((3,), -1), nothing[:, 0], focal=gamma),
        family_consistency(logits, logits[:, :2], no_family),
    ):
        assert (loss.total, loss.count, loss.mean()) == (0, 0, 0)
        loss.mean().backward()
    assert torch.equal(logits.grad, torch.zeros_like(logits))


@pytest.mark.parametrize("gamma", GAMMAS)
def test_certain_logits_stay_finite(gamma):
    logits = torch.tensor([[1e4, -1e4], [-1e4, 1e4]], requires_grad=True)
    everything = torch.ones(2, 2, dtype=torch.bool)
    right = binary_loss(logits, (logits > 0).float(), everything, focal=gamma)
    wrong = class_loss(logits, logits.argmin(dim=1), everything[:, 0], focal=gamma)
    assert right.total == 0
    assert wrong.mean() == 2e4
    (right.total + wrong.total).backward()
    assert logits.grad.isfinite().all()


def test_half_precision_is_widened():
    logits, (target, is_known, weight) = random(6, 4), answers(6, 4)
    exact = binary_loss(logits.bfloat16().float(), target.float(), is_known, weight, 2.0).total
    found = binary_loss(logits.bfloat16(), target, is_known, weight, 2.0).total
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, exact)
    assert class_loss(logits.half(), torch.zeros(6, dtype=torch.long), is_known[:, 0]).total.dtype == torch.float32


def test_nothing_waits_for_the_device():
    # On the meta device there are no values: whatever looks at one, and so would wait for a GPU, raises.
    logits, target, is_known, weight = (torch.as_tensor(one).to("meta") for one in (random(6, 4), *answers(6, 4)))
    assert binary_loss(logits, target, is_known, weight, 2.0).total.is_meta
    assert class_loss(logits, target.argmax(dim=1), is_known[:, 0], weight, 2.0).total.is_meta
    assert family_consistency(logits, logits, target[0].long()).total.is_meta


ROWS, SIZE = 4, 3


def mean_of(weight: torch.Tensor, inputs: torch.Tensor, target: torch.Tensor, is_known: torch.Tensor) -> torch.Tensor:
    """A recipe's path from inputs to loss, the same for any number of processes."""
    logits = inputs @ weight
    of_classes = class_loss(logits, target.argmax(dim=1), is_known[:, 0], focal=2.0)
    consistency = family_consistency(logits, logits.flip(1), torch.tensor([0, 1, -1]))
    losses = [binary_loss(logits, target, is_known), of_classes, consistency]
    return sum(mean_over_processes(loss) for loss in losses)


def global_batch() -> list[torch.Tensor]:
    """Much more is known in the second process's part: a mean of means would differ."""
    target = answers(2 * ROWS, SIZE)[0]
    is_known = torch.ones(2 * ROWS, SIZE, dtype=torch.bool)
    is_known[: ROWS - 1] = False
    return [random(2 * ROWS, SIZE), target, is_known]


def one_of_two(rank: int, rendezvous: str, folder: str) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    weight = torch.eye(SIZE, dtype=torch.float64).requires_grad_()
    loss = mean_of(weight, *(part[rank * ROWS : (rank + 1) * ROWS] for part in global_batch()))
    loss.backward()
    distributed.all_reduce(weight.grad)  # what DDP does: the mean over processes
    torch.save([loss.detach(), weight.grad / 2], f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def test_two_processes_equal_one_on_the_global_batch(tmp_path):
    mp.spawn(one_of_two, (str(tmp_path / "rendezvous"), str(tmp_path)), nprocs=2)
    weight = torch.eye(SIZE, dtype=torch.float64).requires_grad_()
    expected = mean_of(weight, *global_batch())
    expected.backward()
    for rank in range(2):
        loss, gradient = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        torch.testing.assert_close(loss, expected.detach(), rtol=1e-12, atol=0)
        torch.testing.assert_close(gradient, weight.grad, rtol=1e-12, atol=1e-15)

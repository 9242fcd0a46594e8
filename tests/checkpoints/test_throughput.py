"""What a step is said to cost, and that saying so changes nothing."""

import multiprocessing
import time
from multiprocessing.connection import Connection

import psutil
import pytest
import torch
from accelerate import Accelerator
from torch import nn

from backbones import builders
from checkpoints.loop import Clock
from checkpoints.throughput import GIB, Arithmetic, matrix_rate, memory_peak

CPU = torch.device("cpu")
ROWS, WIDE = 5, 7


def hold(end: Connection, size: int) -> None:
    """What a worker does: it holds memory until it is told to stop."""
    held = bytearray(b"1") * size
    end.send("held")
    end.recv()
    del held


def operations_of(block) -> int:
    """What a block counts."""
    with Arithmetic() as arithmetic:
        block()
    return arithmetic.operations


@pytest.mark.parametrize(
    ("is_frozen", "products"),
    [
        ((False, False), 5),  # forward, gradients of both weights, and of what the second layer is given
        ((True, False), 3),  # nothing flows below the second layer
        ((False, True), 4),  # through the second layer, whose weights need none
        ((True, True), 2),
    ],
)
def test_frozen_layers_save_their_gradients_share(is_frozen, products):
    layers = nn.Sequential(nn.Linear(WIDE, WIDE), nn.ReLU(), nn.Linear(WIDE, WIDE), nn.LayerNorm(WIDE))
    layers[0].requires_grad_(not is_frozen[0])
    layers[2].requires_grad_(not is_frozen[1])
    inputs = torch.ones(ROWS, WIDE)
    assert operations_of(lambda: layers(inputs).sum().backward()) == products * 2 * ROWS * WIDE**2


def test_attention_counts_alike_however_it_is_called():
    query, key, value = torch.randn(3, 2, 3, 16, 8, generator=torch.Generator().manual_seed(0))

    def explicit() -> None:
        (query @ key.mT).softmax(dim=-1) @ value

    fused = operations_of(lambda: nn.functional.scaled_dot_product_attention(query, key, value))
    assert fused == operations_of(explicit) == 2 * 2 * (2 * 3) * 16 * 16 * 8


def test_the_backward_pass_of_fused_attention_counts():
    tensors = torch.randn(3, 2, 3, 16, 8).requires_grad_()
    out = nn.functional.scaled_dot_product_attention(*tensors)
    # Scores once more, and the gradients of scores, queries, keys and values.
    assert operations_of(lambda: out.sum().backward()) == 5 * 2 * (2 * 3) * 16 * 16 * 8


@pytest.mark.parametrize("kind", ["ast", "cnn", "wav2vec2"])
def test_a_counted_step_is_the_same_step_to_the_last_bit(kind):
    torch.manual_seed(0)
    model = builders.untrained_backbone(kind, "tiny", 98, 0.0, 1.0)
    model.train()
    sound = 0.1 * torch.randn(2, 16_000)

    def step() -> list[torch.Tensor]:
        torch.manual_seed(1)  # of dropout
        model.zero_grad()
        out = model(sound, None).tokens
        out.square().mean().backward()
        return [out.detach(), torch.rand(3), *(p.grad for p in model.parameters() if p.grad is not None)]

    plain = step()
    with Arithmetic() as arithmetic:
        counted = step()
    assert arithmetic.operations > 1e6
    assert len(counted) == len(plain) > 10
    assert all(one.equal(other) for one, other in zip(plain, counted, strict=True))


def test_the_matrix_rate_is_one_that_products_reach_and_draws_nothing():
    before = torch.get_rng_state()
    rate = matrix_rate(CPU, torch.float32)
    assert before.equal(torch.get_rng_state())
    left, right = torch.randn(2, 1024, 1024)
    taken = []
    for _ in range(3):
        start = time.perf_counter()
        left @ right
        taken.append(time.perf_counter() - start)
    assert rate > 0.2 * 2 * 1024**3 / min(taken)  # another process may be running
    assert rate < 1e14


def test_memory_counts_what_was_given_back_and_what_workers_hold():
    resident = psutil.Process().memory_info().rss / GIB
    torch.ones(GIB // 4 // 4)
    before = memory_peak(CPU)
    assert before > resident + 0.24
    here, there = multiprocessing.get_context("fork").Pipe()
    worker = multiprocessing.get_context("fork").Process(target=hold, args=(there, 1 << 27))
    worker.start()
    try:
        assert here.recv() == "held"
        assert memory_peak(CPU) > before + 0.125
    finally:
        here.send("enough")
        worker.join()


def test_a_clock_counts_the_first_step_once_and_says_so(capsys):
    clock, layer = Clock(Accelerator(cpu=True), 5), nn.Linear(WIDE, WIDE)
    for _ in range(3):
        for _ in range(2):  # micro-batches
            with clock.counting():
                layer(torch.ones(ROWS, WIDE)).sum().backward()
        clock.count(2 * ROWS)
    assert clock.step_flops == 2 * 2 * 2 * ROWS * WIDE**2  # forward and the weight's gradient
    assert capsys.readouterr().out.count("speed    1.96e-06 GFLOP a step") == 1
    values = clock.lap()
    assert values["flops_per_s"] == pytest.approx(3 * clock.step_flops * values["clips_per_s"] / (3 * 2 * ROWS))
    assert 0 < values["flops_share"] < 1
    assert 0.05 < values["memory_gib"] < 64
    assert clock.lap()["flops_per_s"] == 0.0

"""Two processes that share out a network learn what one does with all of it, and one goes on where two stopped."""

import os
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.multiprocessing as mp
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType
from safetensors.torch import load_file
from torch import Tensor, distributed, nn

import backbones.builders
import backbones.mae  # noqa: F401, both load the classes that `BLOCKS` names
from backbones.optimisation import WeightAverage
from checkpoints.engine import check_engine, open_accelerator, refuse_shards
from checkpoints.errors import CheckpointError
from checkpoints.sharding import BLOCKS, WholeNetwork, clip_gradients, prepare, whole
from checkpoints.state import Progress, load_state, save_state

IDENTITY = {"preset": "odd"}
STEPS = 3
LEARNING_RATE = 1e-2


class DecoderBlock(nn.Module):
    """By its name one of `BLOCKS`; trained and frozen weights in one."""

    def __init__(self):
        super().__init__()
        self.trained, self.frozen = nn.Linear(5, 7), nn.Linear(7, 5).requires_grad_(False)

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs + self.frozen(self.trained(inputs).relu())


class Odd(nn.Module):
    """Rows that two processes cannot share evenly, one row alone, a buffer, and inputs that bfloat16 would round."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.token = nn.Parameter(torch.randn(1, 5))
        self.blocks = nn.ModuleList(DecoderBlock() for _ in range(2))
        self.register_buffer("offset", torch.full((1,), 1000.0))

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = inputs - self.offset + self.token
        for block in self.blocks:
            hidden = block(hidden)
        return hidden


class Training:
    """What the recipes do with a network, as short as can be."""

    def __init__(self):
        self.accelerator = open_accelerator(None)
        self.network = Odd()
        trained = [weight for weight in self.network.parameters() if weight.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=LEARNING_RATE, fused=True)
        self.whole = WholeNetwork(self.accelerator, self.network)
        self.trained, self.optimizer = prepare(self.accelerator, self.network, optimizer)
        self.average, self.step = WeightAverage(self.network, 0.5), 0

    def train(self, num_steps: int) -> list[tuple[float, float]]:
        """Loss and length of the gradient of every step; half of a process's rows come after the other half."""
        found = []
        for _ in range(num_steps):
            rows = torch.randn(8, 5, generator=torch.Generator().manual_seed(self.step)) + 1000
            own = rows.chunk(self.accelerator.num_processes)[self.accelerator.process_index]
            first, second = own.chunk(2)
            with self.accelerator.no_sync(self.trained):
                loss = self.trained(first).square().mean() / 2
                self.accelerator.backward(loss)
            other = self.trained(second).square().mean() / 2
            self.accelerator.backward(other)
            norm = clip_gradients(self.accelerator, self.trained, 0.1)
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.step += 1
            self.average.update(self.step)
            found.append((self.accelerator.reduce((loss + other).detach(), "mean").item(), norm.item()))
        return found

    def save(self, folder: Path) -> Path:
        is_writer = self.accelerator.is_main_process
        state = save_state(
            folder, Progress(self.step, IDENTITY), self.network, self.optimizer.optimizer,
            {"cpu.0": torch.get_rng_state()}, self.average.tensors, is_writer=is_writer,
        )  # fmt: skip
        self.accelerator.wait_for_everyone()
        return state

    def load(self, state: Path) -> None:
        progress, _ = load_state(state, IDENTITY, self.network, self.optimizer.optimizer, self.average.tensors)
        self.step = progress.step


def one_of_two(rank: int, port: int, folder: str) -> None:
    """Trains in shards; goes on from its own state, and from that of one process; then the same in bfloat16."""
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true",
        "ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    }  # fmt: skip
    AcceleratorState._reset_state(reset_partial_state=True)  # importing may have made one, of a single process
    torch.set_num_threads(1)
    folder = Path(folder)
    training = Training()
    assert training.accelerator.is_fsdp2
    assert {type(module).__name__ for module in training.network.modules()} >= {"FSDPOdd", "FSDPDecoderBlock"}
    found = {"sharded": torch.tensor(training.train(STEPS))}
    with training.whole.shown(training.average):
        devices = {weight.device.type for weight in training.whole.network.parameters()}
        assert devices == ({"cpu"} if rank == 0 else {"meta"})
        shown = training.whole.network.state_dict() if rank == 0 else {}
        shown = {name: tensor.clone() for name, tensor in shown.items()}
    with training.whole.shown(None):
        weights = training.whole.network.state_dict() if rank == 0 else {}
    own = training.save(folder / "sharded")
    found["rest"] = torch.tensor(training.train(STEPS))

    for name, state in (("own", own), ("of_one", folder / "one" / "step_00000003")):
        training = Training()
        training.train(1)  # has moments of its own, which must go
        training.load(state)
        found[name] = torch.tensor(training.train(STEPS))

    AcceleratorState._reset_state(reset_partial_state=True)
    os.environ["ACCELERATE_MIXED_PRECISION"] = "bf16"
    training = Training()
    found["bfloat16"] = torch.tensor(training.train(STEPS))
    assert all(whole(weight).dtype == torch.float32 for weight in training.network.parameters())
    if rank == 0:
        torch.save(found | {f"shown.{k}": v for k, v in shown.items()} | {f"own.{k}": v for k, v in weights.items()},
                   folder / "found.pt")  # fmt: skip
    distributed.destroy_process_group()


@pytest.fixture
def alone(monkeypatch) -> None:
    """One process on the CPU, whatever ran before and runs after."""
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def test_shards_learn_what_one_process_does_and_go_on_from_each_other(alone, tmp_path, unused_port):
    training = Training()
    assert training.whole.network is training.network
    expected = torch.tensor(training.train(STEPS))
    with training.whole.shown(training.average):
        average = {name: tensor.clone() for name, tensor in training.network.state_dict().items()}
    ours = training.save(tmp_path / "one")
    weights = {name: tensor.clone() for name, tensor in training.network.state_dict().items()}
    rest = torch.tensor(training.train(STEPS))

    mp.spawn(one_of_two, (unused_port, str(tmp_path)), nprocs=2)
    found = torch.load(tmp_path / "found.pt", weights_only=True)
    close = {"rtol": 1e-5, "atol": 1e-6}  # float32 sums of halves
    torch.testing.assert_close(found["sharded"], expected, **close)
    for name in ("rest", "own", "of_one"):
        torch.testing.assert_close(found[name], rest, **close)
    assert found["own"].equal(found["rest"]), "shards go on from their own state to the last bit"
    for name, tensor in weights.items():
        torch.testing.assert_close(found[f"own.{name}"], tensor, **close)
        torch.testing.assert_close(found[f"shown.{name}"], average[name], **close)
    assert not average["token"].equal(weights["token"])

    theirs = tmp_path / "sharded" / ours.name
    for file in ours.glob("*.safetensors"):
        one, other = load_file(file), load_file(theirs / file.name)
        assert one.keys() == other.keys(), file.name
        for name in one:
            assert one[name].shape == other[name].shape, name
    resumed = Training()
    resumed.load(theirs)
    torch.testing.assert_close(torch.tensor(resumed.train(STEPS)), rest, **close)

    # Inputs of 1000 +- 1 would be multiples of 4 in bfloat16, which has eight bits; only matrices are multiplied in it.
    AcceleratorState._reset_state(reset_partial_state=True)
    os.environ["ACCELERATE_MIXED_PRECISION"] = "bf16"
    try:
        rounded = torch.tensor(Training().train(STEPS))
    finally:
        del os.environ["ACCELERATE_MIXED_PRECISION"]
    torch.testing.assert_close(found["bfloat16"], rounded, rtol=1e-2, atol=0)
    assert not rounded.equal(expected)


@pytest.fixture
def unused_port() -> int:
    """A port of this machine that nobody listens at."""
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return opened.getsockname()[1]


def test_every_backbone_has_its_blocks():
    known = {cls.__name__ for cls in _subclasses(nn.Module) if not cls.__module__.startswith("test")}
    assert known >= BLOCKS


def _subclasses(cls: type) -> set[type]:
    return {cls}.union(*(_subclasses(one) for one in cls.__subclasses__()))


def test_a_setting_that_would_change_what_is_learned_is_refused(alone, monkeypatch):
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    with pytest.raises(CheckpointError, match=r"of 1 micro-batch.*asks for 4; unset it.*--grad_cache"):
        open_accelerator(None)
    assert open_accelerator(None, accumulation=4).gradient_accumulation_steps == 4


@pytest.mark.parametrize(
    ("found", "version", "checkpointing", "message"),
    [
        (DistributedType.DEEPSPEED, 2, False, "DDP or FSDP2 was expected .* DEEPSPEED found"),
        (DistributedType.FSDP, 1, False, "version 2 was expected .* add fsdp_version: 2"),
        (DistributedType.FSDP, 2, True, "fsdp_activation_checkpointing .* leave it out"),
    ],
)
def test_engines_without_whole_states_are_refused(found, version, checkpointing, message):
    plugin = SimpleNamespace(fsdp_version=version, activation_checkpointing=checkpointing)
    state = SimpleNamespace(fsdp_plugin=plugin)
    accelerator = SimpleNamespace(distributed_type=found, gradient_accumulation_steps=1, state=state)
    with pytest.raises(CheckpointError, match=message):
        check_engine(accelerator, 1)


def test_what_needs_whole_weights_ends_under_shards():
    refuse_shards(SimpleNamespace(is_fsdp2=False), "--method adalora")
    with pytest.raises(CheckpointError, match=r"--method adalora needs whole weights .* launch with DDP"):
        refuse_shards(SimpleNamespace(is_fsdp2=True), "--method adalora")

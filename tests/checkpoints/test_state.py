"""Training state: bit for bit, damaged, killed while saving, and on a full disk."""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import nn

from checkpoints.errors import CheckpointError
from checkpoints.state import Progress, check_state, load_state, newest_good_state, save_state, states

IDENTITY = {"preset": "tiny", "batch_size": "64"}
FILES = ("average.safetensors", "generators.safetensors", "model.safetensors", "optimizer.safetensors", "state.json")
ROOT = Path(__file__).parents[2]


class Training:
    """A few layers, AdamW, an average and a generator, as a recipe has them."""

    def __init__(self, seed: int = 0, fused: bool = True, width: int = 8):
        torch.manual_seed(seed)
        self.model = nn.Sequential(nn.Linear(4, width), nn.LayerNorm(width), nn.GELU(), nn.Linear(width, 4))
        self.frozen = self.model[1].bias.requires_grad_(False)  # a parameter the optimizer never saw
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=1e-2, fused=fused)
        self.average = {name: parameter.detach().clone() for name, parameter in self.model.named_parameters()}
        self.generator = torch.Generator().manual_seed(seed)
        self.step = 0

    def train(self, num_steps: int) -> list[float]:
        losses = []
        for _ in range(num_steps):
            data = torch.randn(16, 4, generator=self.generator)
            loss = (self.model(data) - data.sin()).square().mean()
            loss.backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
            for name, parameter in self.model.named_parameters():
                self.average[name].lerp_(parameter.detach(), 0.1)
            losses.append(loss.item())
            self.step += 1
        return losses

    def save(self, folder: Path, **options) -> Path:
        progress = Progress(self.step, IDENTITY, {"skipped_steps": 3, "hours": 0.1 + 0.2})
        generators = {"cpu.0": self.generator.get_state()}
        return save_state(folder, progress, self.model, self.optimizer, generators, self.average, **options)

    def load(self, path: Path, identity: dict = IDENTITY) -> Progress:
        progress, generators = load_state(path, identity, self.model, self.optimizer, self.average)
        self.generator.set_state(generators["cpu.0"])
        self.step = progress.step
        return progress


@pytest.fixture
def saved(tmp_path) -> Path:
    """A state folder that holds steps 2 and 4."""
    training = Training()
    for _ in range(2):
        training.train(2)
        training.save(tmp_path / "state")
    return tmp_path / "state"


def test_what_lies_on_the_disk(saved):
    assert sorted(path.name for path in saved.iterdir()) == ["step_00000002", "step_00000004"]
    newest = saved / "step_00000004"
    assert tuple(sorted(path.name for path in newest.iterdir())) == FILES
    names = {name for name, _ in Training().model.named_parameters()}
    trained = names - {"1.bias"}
    with safe_open(newest / "optimizer.safetensors", "pt") as file:
        assert set(file.keys()) == {f"{kind}.{n}" for kind in ("exp_avg", "exp_avg_sq", "step") for n in trained}
    with safe_open(newest / "model.safetensors", "pt") as file:
        assert set(file.keys()) == names
    content = json.loads((newest / "state.json").read_text())
    assert (content["step"], content["identity"]) == (4, IDENTITY)
    assert sorted(content["checksums"]) == sorted(set(FILES) - {"state.json"})


@pytest.mark.parametrize("fused", [True, False])
def test_a_resumed_training_equals_the_unbroken_one_bit_for_bit(tmp_path, fused):
    unbroken = Training(fused=fused)
    unbroken.train(3)
    path = unbroken.save(tmp_path)
    expected = unbroken.train(5)

    resumed = Training(seed=9, fused=fused)
    resumed.train(1)  # has moments of its own, which must go
    progress = resumed.load(path)
    assert progress == Progress(3, IDENTITY, {"skipped_steps": 3, "hours": 0.1 + 0.2})
    assert resumed.train(5) == expected
    for one, other in zip(resumed.model.parameters(), unbroken.model.parameters(), strict=True):
        assert torch.equal(one, other)
        assert (one in resumed.optimizer.state) == (other in unbroken.optimizer.state)
        for kind, tensor in unbroken.optimizer.state.get(other, {}).items():
            assert torch.equal(resumed.optimizer.state[one][kind], tensor)
            assert resumed.optimizer.state[one][kind].dtype == tensor.dtype
    assert all(torch.equal(resumed.average[name], tensor) for name, tensor in unbroken.average.items())


def test_a_state_before_the_first_step_is_a_state(tmp_path):
    path = Training().save(tmp_path)
    assert sorted(file.name for file in path.iterdir()) == sorted(set(FILES) - {"optimizer.safetensors"})
    resumed = Training(seed=9)
    resumed.load(path)
    assert resumed.train(2) == Training().train(2)


def test_only_the_newest_are_kept(tmp_path):
    training = Training()
    for _ in range(4):
        training.train(1)
        training.save(tmp_path, keep=3)
    assert [path.name for path in states(tmp_path)] == ["step_00000002", "step_00000003", "step_00000004"]
    training.save(tmp_path, keep=1)
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000004"]


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def truncate(file: Path) -> None:
    os.truncate(file, file.stat().st_size - 2)  # the last byte of state.json is a line break


@pytest.mark.parametrize("damage", [flip, truncate, Path.unlink])
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_state_is_passed_over(saved, name, damage):
    damage(saved / "step_00000004" / name)
    path, complaints = newest_good_state(saved)
    assert path.name == "step_00000002"
    assert len(complaints) == 1
    assert f"step_00000004/{name}" in complaints[0] or name == "state.json"
    with pytest.raises(CheckpointError, match=r"step_00000004.* missing or damaged"):
        Training().load(saved / "step_00000004")


def test_no_byte_of_state_json_can_change_unnoticed(saved):
    file = saved / "step_00000004" / "state.json"
    good = file.read_bytes()
    expected, noticed = check_state(file.parent), 0
    for place in range(len(good)):
        file.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
        try:
            assert check_state(file.parent) == expected  # the last digit of 0.30000000000000004, say
        except CheckpointError:
            noticed += 1
    assert noticed >= len(good) - 2


def test_a_checksum_cannot_point_outside_the_state(saved):
    file = saved / "step_00000004" / "state.json"
    content = json.loads(file.read_text())
    content["checksums"] = {"../step_00000002/state.json": "00000000"}
    file.write_text(json.dumps(content))
    with pytest.raises(CheckpointError):
        check_state(file.parent)


def test_without_a_whole_state_the_sentence_says_so(saved, tmp_path):
    with pytest.raises(CheckpointError, match=r"a saved state was expected in .*nowhere"):
        newest_good_state(tmp_path / "nowhere")
    for path in states(saved):
        flip(path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"none that is whole .*00000004/model.*00000002/model"):
        newest_good_state(saved)


def test_another_run_is_named(saved):
    path = saved / "step_00000004"
    with pytest.raises(CheckpointError, match="made with preset 'tiny', not 'small'; resume with the former"):
        Training().load(path, IDENTITY | {"preset": "small"})
    with pytest.raises(CheckpointError, match="made with clones None, not '2'"):
        Training().load(path, IDENTITY | {"clones": "2"})
    with pytest.raises(CheckpointError, match="fits another model"):
        Training(width=6).load(path)


def test_a_state_of_another_version_is_named(saved):
    file = saved / "step_00000004" / "state.json"
    file.write_text(file.read_text().replace('"version": 1', '"version": 99'))
    with pytest.raises(CheckpointError, match="version 99, this code reads version 1"):
        check_state(file.parent)


def test_a_missing_average_is_named(tmp_path):
    training = Training()
    path = save_state(tmp_path, Progress(0, IDENTITY), training.model, training.optimizer, {"cpu.0": torch.zeros(1)})
    with pytest.raises(CheckpointError, match=r"average\.safetensors cannot be read"):
        training.load(path)


CHILD = textwrap.dedent(
    """
    import os, resource, signal, sys
    from pathlib import Path
    import torch
    from checkpoints import files, state
    from checkpoints.errors import CheckpointError

    torch.set_num_threads(1)  # no threads: the process is about to be forked
    model = torch.nn.Linear(200, 200)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 200)).sum().backward()
    optimizer.step()

    def save(folder, step):
        generators = {"cpu.0": torch.get_rng_state()}
        state.save_state(folder, state.Progress(step, {}), model, optimizer, generators)

    def die(*_):
        os.kill(os.getpid(), signal.SIGKILL)

    for folder in map(Path, sys.argv[1:]):
        save(folder, 1)
        child = os.fork()
        if child:
            print(folder.name, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
            continue
        if folder.name == "full disk":
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        elif folder.name == "between files":
            state.checksum_of = die
        elif folder.name == "before the rename":
            files._sync = die
        elif folder.name == "before old states go":
            state.states = die
        try:
            save(folder, 2)
        except CheckpointError as error:
            print(error, flush=True)
        os._exit(0)
    """
)


def test_a_kill_or_a_full_disk_leaves_the_older_state(tmp_path):
    expected = {"between files": 1, "before the rename": 1, "before old states go": 2, "full disk": 1}
    command = [sys.executable, "-c", CHILD, *(str(tmp_path / when) for when in expected)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stderr) == (0, "")
    *killed, sentence, full_disk = ended.stdout.splitlines()
    assert killed == [f"{when} {-signal.SIGKILL}" for when in list(expected)[:3]]
    assert full_disk == "full disk 0"
    assert "step_00000002 cannot be written" in sentence
    assert "free some room" in sentence
    for when, step in expected.items():
        path, complaints = newest_good_state(tmp_path / when)
        assert (path.name, complaints) == (f"step_{step:08d}", [])
        assert len(states(tmp_path / when)) == step
    assert [file.name for file in (tmp_path / "full disk").iterdir()] == ["step_00000001"]


def test_what_a_kill_left_is_cleared_by_the_next_save(saved):
    shutil.copytree(saved / "step_00000004", saved / ".step_00000006.tmp")
    training = Training()
    training.load(newest_good_state(saved)[0])
    training.train(3)
    training.save(saved)
    assert sorted(path.name for path in saved.iterdir()) == ["step_00000004", "step_00000007"]

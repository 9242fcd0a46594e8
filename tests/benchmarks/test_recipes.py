"""What benchmarks of whole recipes compare, and how they count."""

import importlib
import signal
from contextlib import suppress

import pytest

from backbones import ast_encoder
from benchmarks.bare import Bare
from benchmarks.manifest import write
from benchmarks.overhead import BLOCK, SKIPPED, blocks
from benchmarks.processes import gathering_of
from benchmarks.recipes import MAE, RECIPES, SMALL, Enough, Setting, Times, command_line, settings_of, watched
from benchmarks.resume import before_first_step
from checkpoints.config import recipe_config
from checkpoints.run import RunFolder
from data.labels import LabelTable
from data.pack import Pack


@pytest.fixture(scope="module")
def pack(tmp_path_factory) -> Pack:
    return write(tmp_path_factory.mktemp("packs") / "synthetic", 1_000, "nre")


@pytest.fixture
def kept_handlers():
    """A recipe that is stopped from within leaves its handlers of signals behind."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_synthetic_pack_is_one_that_recipes_open(pack):
    assert sum(part["clips"] for part in pack.info.splits.values()) == len(pack) == 1_000
    assert pack.info.splits["train"]["clips"] == len(pack.rows("train"))
    assert pack.samples(int(pack.rows("train")[-1])).any()
    assert set(LabelTable(pack).take(pack.rows("train"))["is_instrument"].tolist()) == {0, 1}


@pytest.mark.parametrize(
    "name", [MAE, *(pytest.param(name, marks=pytest.mark.slow) for name in RECIPES if name != MAE)]
)
def test_the_bare_loop_computes_what_the_recipe_computes(name, pack, tmp_path, monkeypatch, kept_handlers):
    monkeypatch.setitem(ast_encoder.PRESETS, "tiny", ast_encoder.PRESETS["tiny"] | {"num_hidden_layers": 2})
    recipe, bare, losses = importlib.import_module(name), Bare(name), []

    def compare() -> None:
        losses.append(bare.step().item())
        if len(losses) == 2:
            raise Enough

    flags = SMALL[name] | {
        "data": pack.folder, "clip_seconds": 1.0, "batch_size": 8, "log_every": 1, "cpu_threads": 1,
        "out": tmp_path / "run",
    }  # fmt: skip
    with watched(recipe, compare), bare.beside(recipe), suppress(Enough):
        recipe.main(recipe_config(recipe.Config, recipe.RECIPE, command_line(flags), ""))
    first = RunFolder(tmp_path / "run").read_log()[0]
    assert first["step"] == 1
    assert losses[0] == first["loss"]
    assert losses[1] < losses[0]  # it learns that batch


def test_steps_are_averaged_in_whole_blocks_after_the_first():
    seconds = [100.0] * SKIPPED + [1.0] * BLOCK + [*range(BLOCK)] + [50.0]
    assert blocks(seconds) == [1.0, (BLOCK - 1) / 2]


def test_times_are_those_after_the_first_step():
    times = Times(
        started=10.0, imported=12.0, steps=[20.0, 21.0, 23.0], waited=[5.0, 5.1, 5.2], exchanged=[1, 1.3, 1.9]
    )
    assert times.step_seconds() == 1.5
    assert before_first_step(times, 1.5) == 6.5
    assert gathering_of(times) == pytest.approx((1.5, 0.3, 0.2 / 3))


def test_a_setting_says_what_accelerate_is_told():
    (cpu,), (eager, compiled) = settings_of("cpu"), settings_of("cuda")
    assert str(cpu) == "cpu float32"
    assert str(compiled) == "cuda bf16, compiled"
    assert cpu.environment() == {
        "ACCELERATE_USE_CPU": "true", "ACCELERATE_MIXED_PRECISION": "no", "ACCELERATE_DYNAMO_BACKEND": "NO",
    }  # fmt: skip
    assert Setting("cuda", "bf16") == eager
    assert compiled.environment()["ACCELERATE_DYNAMO_BACKEND"] == "INDUCTOR"

"""How a run begins and ends, for all of its processes alike."""

import pytest
from accelerate import Accelerator

from checkpoints import lifecycle
from checkpoints.errors import CheckpointError, StoppedEarly
from checkpoints.run import RunFolder
from checkpoints.state import Progress


@pytest.fixture
def run(tmp_path) -> RunFolder:
    return RunFolder.create(tmp_path / "run", "pretrain/toy.py", {})


def test_processes_that_see_other_states_than_the_rest_are_told_so(run, monkeypatch):
    opened = lifecycle.open_run(Accelerator(cpu=True), "pretrain/toy.py", {"steps": 3}, run.path, is_resumed=True)
    assert opened.config() == {"recipe": "pretrain/toy.py", "steps": 3, "resume": None}
    # One machine's file system has not heard of the run yet.
    monkeypatch.setattr(lifecycle, "agreed", lambda accelerator, *wishes: [True for _ in wishes])
    for is_resumed in (True, False):
        with pytest.raises(CheckpointError, match="put the run on a file system that all machines share"):
            lifecycle.open_run(Accelerator(cpu=True), "pretrain/toy.py", {"steps": 4}, run.path, is_resumed)
    assert run.config()["steps"] == 3


def test_a_run_that_is_not_done_ends_as_one_that_was_stopped(run, capsys):
    lifecycle.finish(Accelerator(cpu=True), run, Progress(5, {}), num_steps=5)
    assert "finished after 5 of 5 steps" in capsys.readouterr().out
    with pytest.raises(StoppedEarly):
        lifecycle.finish(Accelerator(cpu=True), run, Progress(4, {}), num_steps=5)
    assert f"stopped after 4 of 5 steps; go on with --resume {run.path}" in capsys.readouterr().out

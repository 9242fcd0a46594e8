"""The run folder and its files."""

import math
import os
from pathlib import Path

import pytest
import yaml

from checkpoints.errors import CheckpointError
from checkpoints.files import TEMPORARY, replacing
from checkpoints.run import RunFolder

CONFIG = {"preset": "tiny", "lr": 0.001, "block": [5, 5], "out": None}


@pytest.fixture
def run(tmp_path) -> RunFolder:
    return RunFolder.create(tmp_path / "runs" / "toy", "pretrain/toy.py", CONFIG)


def test_a_new_run_holds_its_config_and_nothing_else(run):
    assert [path.name for path in run.path.iterdir()] == ["config.yaml"]
    assert yaml.safe_load((run.path / "config.yaml").read_text()) == {"recipe": "pretrain/toy.py", **CONFIG}
    assert RunFolder.open(run.path, "pretrain/toy.py").config()["lr"] == 0.001
    assert (run.backbone.name, run.state.name, run.figures.name) == ("backbone", "state", "figures")


@pytest.mark.parametrize("leave", [lambda run: run.log({"step": 1}), lambda run: run.state.mkdir()])
def test_a_run_is_not_written_over(run, leave):
    RunFolder.create(run.path, "pretrain/toy.py", CONFIG)  # nothing has been done yet: start again
    leave(run)
    before = (run.path / "config.yaml").read_bytes()
    with pytest.raises(CheckpointError, match=r"already holds a run; choose another --out, or --resume"):
        RunFolder.create(run.path, "pretrain/toy.py", {})
    assert (run.path / "config.yaml").read_bytes() == before


def test_no_run_or_another_recipes_is_named(run, tmp_path):
    with pytest.raises(CheckpointError, match=r"is a run of pretrain/toy\.py, not of pretrain/mae\.py"):
        RunFolder.open(run.path, "pretrain/mae.py")
    with pytest.raises(CheckpointError, match=r"a run was expected in .*nowhere"):
        RunFolder.open(tmp_path / "nowhere", "pretrain/toy.py")
    for text in ("", "- 1", "a: [", "!!python/name:os.system"):
        (run.path / "config.yaml").write_text(text)
        with pytest.raises(CheckpointError, match="a run was expected"):
            RunFolder.open(run.path, "pretrain/toy.py")


def test_newest_is_the_run_written_to_last(tmp_path):
    runs = {name: RunFolder.create(tmp_path / name, "pretrain/toy.py", {}) for name in ("a", "b", "c")}
    RunFolder.create(tmp_path / "d", "pretrain/other.py", {})
    for age, run in enumerate(runs.values()):
        os.utime(run.path / "config.yaml", (1000 + age, 1000 + age))
    assert RunFolder.newest(tmp_path, "pretrain/toy.py").path.name == "c"
    runs["a"].log({"step": 1})
    assert RunFolder.newest(tmp_path, "pretrain/toy.py").path.name == "a"
    runs["b"].state.mkdir()
    os.utime(runs["b"].state, (2e9, 2e9))
    assert RunFolder.newest(tmp_path, "pretrain/toy.py").path.name == "b"
    with pytest.raises(CheckpointError, match=r"a run of pretrain/none\.py was expected"):
        RunFolder.newest(tmp_path, "pretrain/none.py")
    with pytest.raises(CheckpointError, match="none was found"):
        RunFolder.newest(tmp_path / "nowhere", "pretrain/toy.py")


def test_metrics_keep_every_bit(run):
    values = [{"step": step, "loss": math.pi * 10.0**-step} for step in range(5)]
    for line in values:
        run.log(line)
    assert len(run.metrics.read_text().splitlines()) == 5
    assert run.read_log() == values


def test_a_line_that_a_kill_cut_short_is_left_out_and_damage_is_named(run):
    assert run.read_log() == []
    run.log({"step": 1})
    run.log({"step": 2})
    with open(run.metrics, "a") as file:
        file.write('{"step": 3, "lo')
    assert run.read_log() == [{"step": 1}, {"step": 2}]
    run.metrics.write_text('{"step": 1\n{"step": 2}\n')
    with pytest.raises(CheckpointError, match=r"line 1 of .*metrics\.jsonl is damaged"):
        run.read_log()


def test_a_resumed_run_drops_the_lines_it_writes_again(run):
    for step in (1, 2, 3, 4):
        run.log({"step": step, "loss": 1 / step})
    with open(run.metrics, "a") as file:
        file.write('{"st')
    run.cut_log(2)
    run.log({"step": 3, "loss": 0.5})
    assert [line["step"] for line in run.read_log()] == [1, 2, 3]
    run.cut_log(0)
    assert run.metrics.read_text() == ""


def test_pictures_by_name(run):
    run.figures.mkdir()
    for name in ("b.png", "a.png", "a.txt"):
        (run.figures / name).touch()
    assert [path.name for path in run.pictures()] == ["a.png", "b.png"]


def fail_half_way(path: Path) -> None:
    with replacing(path) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    file = tmp_path / "settings"
    file.write_text("old")
    with pytest.raises(ZeroDivisionError):
        fail_half_way(file)
    assert [path.name for path in tmp_path.iterdir()] == ["settings"]
    assert file.read_text() == "old"
    with replacing(file) as temporary:
        temporary.write_text("new")
        assert file.read_text() == "old"
        assert temporary.name.endswith(TEMPORARY)
        assert temporary.parent == tmp_path  # the same disk, or a rename would be a copy
    assert [path.name for path in tmp_path.iterdir()] == ["settings"]
    assert file.read_text() == "new"


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path):
    def fill(folder: Path, *names: str) -> None:
        folder.mkdir()
        for name in names:
            (folder / name).write_text(name)

    for names in (("a", "b"), ("c",)):
        with replacing(tmp_path / "backbone") as temporary:
            fill(temporary, *names)
        assert sorted(path.name for path in (tmp_path / "backbone").iterdir()) == sorted(names)
    with pytest.raises(ZeroDivisionError):
        fail_half_way(tmp_path / "backbone")
    assert [path.name for path in tmp_path.rglob("*")] == ["backbone", "c"]


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match=r"file/run cannot be written .*; make the folder writable"):
        RunFolder.create(tmp_path / "file" / "run", "toy", {})
    with pytest.raises(CheckpointError, match=r"file/metrics\.jsonl cannot be written"):
        RunFolder(tmp_path / "file").log({})
    with pytest.raises(CheckpointError, match=r"nowhere/file cannot be written"):
        fail_half_way(tmp_path / "nowhere" / "file")

"""A config from defaults, a saved run, YAML and the command line; what does not fit gets one sentence."""

import errno
import os
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
import torch
import yaml

from checkpoints.config import as_yaml_values, parse_config, recipe_config, run_command
from checkpoints.errors import CheckpointError
from checkpoints.run import RunFolder


@dataclass
class Config:
    """Settings of a toy recipe."""

    steps: int = 10
    """Optimizer steps, at least one."""
    lr: float = 0.1
    """Peak learning rate."""
    preset: Literal["tiny", "small"] = "tiny"
    """Width of the encoder."""
    out: Path | None = None
    """Run folder."""
    block: tuple[int, int] = (5, 5)
    """Size of a block in patches."""

    def __post_init__(self):
        if self.steps < 1:
            raise ValueError(f"--steps must be positive, not {self.steps}")


def parse(*arguments: str, saved: dict | None = None) -> Config:
    return parse_config(Config, arguments, "A toy recipe.", saved)


@pytest.fixture
def write_yaml(tmp_path):
    def write(text: str) -> str:
        file = tmp_path / "settings.yaml"
        file.write_text(text)
        return str(file)

    return write


@pytest.mark.parametrize(
    ("name", "text"),
    [("lr", ".inf"), ("lr", ".nan"), ("lr", "-1e19"), ("steps", str(1 << 63)), ("block", f"[5, {1 << 70}]")],
)
def test_numbers_that_nothing_can_be_computed_from(name, text, write_yaml):
    with pytest.raises(CheckpointError, match=rf"--{name} must be a finite number below 2\*\*63"):
        parse("--config", write_yaml(f"{name}: {text}"))
    assert parse("--lr", "1e18").lr == 1e18


def test_precedence_wherever_config_stands(write_yaml):
    file = write_yaml("steps: 30\nlr: 3e-1\n")
    saved = {"recipe": "toy", "steps": 20, "lr": 0.2, "preset": "small", "block": [2, 3]}
    assert parse() == Config()
    assert parse(saved=saved) == Config(20, 0.2, "small", None, (2, 3))
    assert parse("--config", file, saved=saved) == Config(30, 0.3, "small", None, (2, 3))
    expected = Config(40, 0.3, "small", None, (2, 3))
    flag = ["--steps", "40"]
    for arguments in ([*flag, "--config", file], ["--config", file, *flag], [f"--config={file}", *flag],
                      [*flag, f"--config={file}"], ["--steps=40", "--config", file]):  # fmt: skip
        assert parse(*arguments, saved=saved) == expected


def test_values_keep_their_types(tmp_path):
    config = parse("--out", "a/b", "--block", "[1, 2]", "--lr", "1e-5")
    assert config == Config(10, 1e-5, "tiny", Path("a/b"), (1, 2))
    file = tmp_path / "saved.yaml"
    file.write_text(yaml.safe_dump(as_yaml_values(config)))
    assert parse(saved=yaml.safe_load(file.read_text())) == config
    assert parse("--config", str(file)) == config


@dataclass
class Asking:
    """Settings of a command that cannot do without some."""

    run: str
    """What to ask."""
    number: int = 1
    """How often."""


def test_what_has_no_default_is_taken_by_its_place():
    for arguments in (["runs/a", "--number=3"], ["--number", "3", "runs/a"]):
        assert parse_config(Asking, arguments, "Asks.") == Asking("runs/a", 3)
    for arguments, sentence in (([], "required: run"), (["a", "b"], "b"), (["--run=a"], "run")):
        with pytest.raises(CheckpointError, match=sentence) as raised:
            parse_config(Asking, arguments, "Asks.")
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--step", "3"], r"there is no flag --step; did you mean --steps\?; --help lists them all"),
        (["--wholly_other=3"], "there is no flag --wholly_other; --help lists them all"),
        (["--steps", "many"], r"--steps: .*int.* many"),
        (["--steps=1.5"], r"--steps: .*int.* 1\.5"),
        (["--steps"], "--steps: expected one argument"),
        (["--preset", "huge"], r"--preset: Expected one of \['tiny', 'small'\].* huge"),
        (["--block", "3"], r"--block: .* 3"),
        (["--steps", "0"], "^--steps must be positive, not 0$"),
        (["stray"], "stray"),
        (["--config"], "--config: expected one argument"),
        (["--config", "nowhere.yaml"], r"--config nowhere\.yaml cannot be read; give a YAML file of settings"),
    ],
)
def test_a_bad_command_line_gets_one_sentence(arguments, sentence):
    with pytest.raises(CheckpointError, match=sentence) as raised:
        parse(*arguments)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("stepz: 3", r"settings\.yaml has an unknown key 'stepz'; did you mean steps\?"),
        ("1: 3", "unknown key 1"),
        ("steps: many", r"--steps: .*int.* many"),
        ("steps: 0", "--steps must be positive, not 0"),
        ("block: [1, 2, 3]", r"--block: .*2 elements"),
        ("", "holds none"),
        ("- steps", "holds none"),
        ("lr: 1\nsteps: [1", r"is not YAML, line 2"),
        ("steps: !!python/object/apply:os.getcwd []", "is not YAML"),
        ("\ud800", "cannot be read"),
    ],
)
@pytest.mark.parametrize("form", ["--config {}", "--config={}"])
def test_a_bad_yaml_gets_one_sentence(tmp_path, text, sentence, form):
    file = tmp_path / "settings.yaml"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(CheckpointError, match=sentence) as raised:
        parse(*form.format(file).split(" "))
    assert "\n" not in str(raised.value)


def test_help_names_every_field_with_its_docstring(capsys):
    with pytest.raises(SystemExit) as ended:
        parse("--help")
    assert ended.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    for words in ("A toy recipe.", "Peak learning rate.", "--block", "Size of a block in patches.", "default: 0.1"):
        assert words in shown


@dataclass
class Resumable:
    """Settings of a recipe whose runs can be gone on with."""

    steps: int = 10
    """Optimizer steps."""
    out: Path | None = None
    """Run folder."""
    resume: str | None = None
    """Run folder to go on with."""


def recipe(*arguments: str) -> Resumable:
    return recipe_config(Resumable, "pretrain/toy.py", arguments, "A recipe.")


@pytest.fixture
def begun(tmp_path) -> Path:
    """A run of 20 steps that has saved none."""
    run = RunFolder.create(tmp_path / "runs" / "toy", "pretrain/toy.py", {"steps": 20, "resume": "auto"})
    run.log({"step": 1})
    (run.state / ".step_00000001.tmp").mkdir(parents=True)
    return run.path


def test_auto_begins_a_run_and_goes_on_once_it_has_a_state(begun):
    command = (f"--out={begun}", "--resume=auto")
    assert recipe(*command) == Resumable(10, begun, None)
    assert [path.name for path in begun.iterdir()] == ["config.yaml"]  # free for RunFolder.create
    (begun / "state" / "step_00000003").mkdir(parents=True)
    assert recipe(*command) == Resumable(20, begun, str(begun))
    assert recipe(*command, "--steps=30") == Resumable(30, begun, str(begun))
    assert (begun / "state" / "step_00000003").is_dir()
    with pytest.raises(CheckpointError, match=r"is a run of pretrain/toy\.py, not of pretrain/mae\.py"):
        recipe_config(Resumable, "pretrain/mae.py", command, "Another recipe.")
    with pytest.raises(CheckpointError, match=r"add --out runs/NAME"):
        recipe("--resume", "auto")


def test_a_launcher_that_restarts_implies_auto(begun, monkeypatch):
    assert recipe(f"--out={begun}") == Resumable(10, begun, None)
    assert (begun / "metrics.jsonl").is_file()  # nobody asked for it to go
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "0")
    assert recipe() == Resumable(10, None, None)
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "3")
    (begun / "state" / "step_00000003").mkdir()
    assert recipe(f"--out={begun}") == Resumable(20, begun, str(begun))
    with pytest.raises(CheckpointError, match=r"--max_restarts implies.* add --out runs/NAME"):
        recipe()


def test_a_launcher_whose_restarts_cannot_work_is_refused(begun, monkeypatch):
    for name, value in (("MAX_RESTARTS", "3"), ("USE_AGENT_STORE", "True")):
        monkeypatch.setenv(f"TORCHELASTIC_{name}", value)
    assert recipe(f"--out={begun}").out == begun  # alone it looks for nobody
    monkeypatch.setenv("WORLD_SIZE", "2")
    for flags in ((), ("--resume=newest",)):
        with pytest.raises(CheckpointError, match="c10d and TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 in the environment"):
            recipe(f"--out={begun}", *flags)
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "False")
    assert recipe(f"--out={begun}").out == begun


def test_one_process_of_many_clears_what_was_never_saved(begun, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    assert recipe(f"--out={begun}", "--resume=auto").resume is None
    assert (begun / "metrics.jsonl").is_file()


def run_script(body: str, rank: str = "0") -> subprocess.CompletedProcess:
    script = "from checkpoints.config import run_command\nfrom checkpoints.errors import CheckpointError\n"
    return subprocess.run(
        [sys.executable, "-c", script + textwrap.dedent(body)],
        cwd=Path(__file__).parents[2], env={"LOCAL_RANK": rank}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def test_bad_input_ends_a_command_with_one_sentence_and_exit_code_2():
    failing = """
        def main():
            raise CheckpointError("this was expected, that was found, do so")
        run_command(main, (CheckpointError,))
        """
    ended = run_script(failing)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == "error: this was expected, that was found, do so\n"
    other = run_script(failing, rank="1")  # speaks where no launcher has ended it because the first had failed too
    assert (other.returncode, other.stderr) == (2, ended.stderr)


@pytest.mark.slow
@pytest.mark.parametrize("failing", [("0", "1", "2"), ("1",), ("1", "2")])
def test_of_processes_that_fail_one_says_why(tmp_path, failing):
    (tmp_path / "recipe.py").write_text(
        "import os, time\n"
        "from checkpoints.config import run_command\n"
        "from checkpoints.errors import CheckpointError\n"
        "def main():\n"
        f"    if os.environ['LOCAL_RANK'] not in {failing}:\n"
        "        time.sleep(60)\n"
        "    raise CheckpointError('this was expected, that was found')\n"
        "run_command(main, (CheckpointError,))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=3", tmp_path / "recipe.py"],
        cwd=Path(__file__).parents[2], env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert ended.returncode != 0
    assert ended.stderr.count("error: this was expected, that was found") == 1, ended.stderr


def test_a_mistake_of_ours_keeps_its_traceback():
    ended = run_script("run_command(lambda: 1 / 0, (CheckpointError,))")
    assert ended.returncode == 1
    assert "ZeroDivisionError" in ended.stderr


def test_what_another_start_would_mend_ends_with_exit_code_75():
    ended = run_script("""
        from checkpoints.errors import StoppedEarly
        def main():
            raise StoppedEarly
        run_command(main, (CheckpointError,))
        """)
    assert (ended.returncode, ended.stderr) == (75, "")


@pytest.mark.parametrize(
    "said",
    [
        "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:538] Read error [10.0.0.2]:5: Connection reset by peer",
        "[/pytorch/third_party/gloo/gloo/transport/tcp/unbound_buffer.cc:129] Timed out waiting 6000ms for send",
        "Application timeout caused pair closure",
    ],
)
def test_a_lost_process_gets_one_sentence(said, capsys):
    def lose():
        raise RuntimeError(f"{said}\nException raised from somewhere in C++")

    with pytest.raises(SystemExit) as ended:
        run_command(lose, (CheckpointError,))
    assert ended.value.code == 75
    sentence = capsys.readouterr().err
    assert said.rpartition("] ")[2] in sentence
    assert sentence.count("\n") == 1
    assert "start all of them again with --resume" in sentence
    assert ".cc" not in sentence
    with pytest.raises(RuntimeError, match="shape"):
        run_command(lambda: torch.zeros(2).view(3), (CheckpointError,))


def test_a_full_disk_is_a_sentence_whoever_writes(capsys):
    def write() -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "runs/x/logs/events")

    with pytest.raises(SystemExit) as ended:
        run_command(write, (CheckpointError,))
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("error: runs/x/logs/events cannot be written (No space left on device); free some room")

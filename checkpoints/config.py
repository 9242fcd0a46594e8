"""A recipe's config: a dataclass that is command line, YAML and help in one.

Precedence: default < the resumed run's config.yaml < ``--config`` YAML < command line, wherever ``--config`` stands.
"""

import dataclasses
import difflib
import os
import re
import signal
import sys
import time
from argparse import ArgumentError, RawDescriptionHelpFormatter
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import yaml
from jsonargparse import ArgumentParser, DefaultHelpFormatter, set_parsing_settings
from tqdm import tqdm

from checkpoints.errors import CheckpointError, StoppedEarly
from checkpoints.files import cannot_write, is_of_room
from checkpoints.run import RunFolder

C = TypeVar("C")
NEWEST, AUTO = "newest", "auto"
"""What ``--resume`` takes beside a folder: the newest run there is; the run in ``--out``, or a new one."""
BAD_INPUT, START_AGAIN = 2, 75
"""Exit codes; the latter is EX_TEMPFAIL of sysexits.h: nothing is wrong, the same command goes on from the state."""
LARGEST = 1 << 63
"""No number of a config is as large."""
ALONE_SECONDS = 2.0
"""Of silence before a process that is not the first on its machine says why it ended."""


def parse_config(
    config_class: type[C], arguments: Sequence[str], description: str, saved: dict[str, Any] | None = None
) -> C:
    """Builds a config from command-line arguments.

    Args:
        config_class: a dataclass with a docstring under each field; what has no default is given by its place.
        saved: values that stand between the defaults and the rest, as from a run that is resumed.

    Raises:
        CheckpointError: an unknown flag or key, or a value that does not fit.
        SystemExit: with 0, after ``--help``.
    """
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    parser = ArgumentParser(
        prog=os.path.relpath(sys.argv[0]), description=description, formatter_class=_Help, exit_on_error=False
    )
    parser.add_argument("--config", action="config", help="YAML file with any of these settings; flags go over it.")
    parser.add_class_arguments(config_class, as_positional=True)
    names = [field.name for field in dataclasses.fields(config_class)]
    _reject_unknown(arguments, _flags(config_class))
    try:
        if saved:
            parser.set_defaults({name: value for name, value in saved.items() if name in names})
        values = parser.parse_args(_config_first(arguments))
        _check_numbers(values.as_dict())
        built = parser.instantiate(values)
        return config_class(**{name: built[name] for name in names})
    except (ArgumentError, ValueError, TypeError) as error:
        raise CheckpointError(_one_sentence(str(error))) from error


def recipe_config(config_class: type[C], recipe: str, arguments: Sequence[str], description: str) -> C:
    """The config of a recipe's command line; ``--resume`` brings the config of the run it names.

    Its ``resume`` is that run's folder; with ``--resume auto``, or under a launcher that restarts processes, it is
    ``--out`` if that has saved a state, else None.

    Raises:
        CheckpointError: as `parse_config`, or there is no such run.
        SystemExit: with 0, after ``--help``.
    """
    arguments = list(arguments)
    for place, argument in enumerate(arguments):
        if argument == "--resume" and (place + 1 == len(arguments) or arguments[place + 1].startswith("--")):
            arguments[place] = f"--resume={NEWEST}"
    config = parse_config(config_class, arguments, description)
    run = _run_to_resume(config, recipe)
    if run is not None:
        config = parse_config(config_class, arguments, description, run.config() | {"out": str(run.path)})
    config.resume = None if run is None else str(run.path)
    return config


def _run_to_resume(config: Any, recipe: str) -> RunFolder | None:
    is_restarted = _is_restarted()
    asked = config.resume or (AUTO if is_restarted else None)
    if asked != AUTO:
        return asked and (RunFolder.newest(Path("runs"), recipe) if asked == NEWEST else RunFolder.open(asked, recipe))
    if config.out is None:
        raise CheckpointError(
            f"--resume {AUTO}, which --max_restarts implies, finds its run by the folder, and none was named; add "
            "--out runs/NAME"
        )
    return RunFolder.begun(config.out, recipe)


def _is_restarted() -> bool:
    """Whether the launcher would start the processes again, as it says to each of them.

    Raises:
        CheckpointError: it would, but they would not find each other.
    """
    if int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", 0)) == 0:
        return False
    # The launcher's store outlives the processes, with the addresses of dead ones in it (pytorch issue 135712).
    if int(os.environ.get("WORLD_SIZE", 1)) > 1 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        raise CheckpointError(
            "processes that --max_restarts starts again would look for the dead ones; launch with --rdzv_backend c10d "
            "and TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 in the environment, see docs/launching.md"
        )
    return True


def as_yaml_values(config: Any) -> dict[str, Any]:
    """The fields of a config as values that YAML can hold; a dataclass within it becomes a mapping."""
    plain = {Path: str, tuple: list}

    def convert(value: Any) -> Any:
        if dataclasses.is_dataclass(value):
            return as_yaml_values(value)
        return next((to(value) for kind, to in plain.items() if isinstance(value, kind)), value)

    return {field.name: convert(getattr(config, field.name)) for field in dataclasses.fields(config)}


def run_command(main: Callable[[], None], errors: tuple[type[Exception], ...]) -> None:
    """Runs a command and ends it with an exit code that says why; of processes that all failed the first speaks.

    Bad input gets one sentence and `BAD_INPUT`; a run that was told to stop, or has lost its other processes,
    `START_AGAIN`.
    """
    try:
        main()
    except errors as error:
        _say(f"error: {error}")
        sys.exit(BAD_INPUT)
    except StoppedEarly:
        sys.exit(START_AGAIN)
    except OSError as error:  # of what others write, as TensorBoard
        if not is_of_room(error):
            raise
        _say(f"error: {cannot_write(error.filename or 'a file', error)}")
        sys.exit(BAD_INPUT)
    except RuntimeError as error:
        if not _is_lost(error):
            raise
        reason = re.sub(r"\[\S+:\d+\] ", "", str(error).partition("\n")[0])
        _say(
            f"error: the other processes were expected to answer, one does not ({reason}); start all of them again "
            "with --resume, which goes on from the last state"
        )
        sys.exit(START_AGAIN)


def _is_lost(error: RuntimeError) -> bool:
    """Whether a process waited for another in vain; gloo has no error of its own for it, only its words."""
    from torch.distributed import DistError  # not every command has paid for torch

    return isinstance(error, DistError) or re.search("/gloo/|Application timeout", str(error)) is not None


def _say(sentence: str) -> None:
    rank = int(os.environ.get("LOCAL_RANK", "0"))
    if rank > 0:
        # A launcher ends all processes soon after one has exited: who still lives by then is the first that failed.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        time.sleep(ALONE_SECONDS * min(rank, 5))
    tqdm.write(sentence, file=sys.stderr)  # on a line of its own, though a progress bar may be open


def _check_numbers(value: Any, name: str = "") -> None:
    """Complains of a number that no arithmetic goes on from."""
    if isinstance(value, dict):
        for key, one in value.items():
            _check_numbers(one, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list | tuple):
        for one in value:
            _check_numbers(one, name)
    elif isinstance(value, int | float) and not abs(value) < LARGEST:
        raise ValueError(f"--{name} must be a finite number below 2**63, not {value}")


class _Help(DefaultHelpFormatter, RawDescriptionHelpFormatter):
    """Keeps the line breaks of a recipe's docstring."""


def _config_first(arguments: Sequence[str]) -> list[str]:
    """Moves ``--config FILE`` to the front, where it yields to every flag."""
    front, rest, waiting = [], [], False
    for argument in arguments:
        if waiting or argument == "--config" or argument.startswith("--config="):
            front.append(argument)
        else:
            rest.append(argument)
        waiting = argument == "--config"
    return front + rest


def _flags(config_class: type) -> list[str]:
    """The names of all settings, those of a dataclass within the config as ``field.name``."""
    names = []
    for field in dataclasses.fields(config_class):
        inner = dataclasses.fields(field.type) if dataclasses.is_dataclass(field.type) else ()
        names += [field.name, *(f"{field.name}.{one.name}" for one in inner)]
    return names


def _reject_unknown(arguments: Sequence[str], names: Sequence[str]) -> None:
    known = {f"--{name}" for name in (*names, "config", "help", "print_config")}
    for argument in arguments:
        flag = argument.partition("=")[0]
        if flag.startswith("--") and flag not in known:
            raise CheckpointError(f"there is no flag {flag}{_nearest(flag, known)}; --help lists them all")
    for file in (a for before, a in pairwise(arguments) if before == "--config"):
        _check_yaml(Path(file), names)
    for file in (a.partition("=")[2] for a in arguments if a.startswith("--config=")):
        _check_yaml(Path(file), names)


def _check_yaml(file: Path, names: Sequence[str]) -> None:
    try:
        settings = yaml.safe_load(file.read_text())
    except (OSError, ValueError, RecursionError) as error:  # ValueError of bytes, and of odd dates
        raise CheckpointError(f"--config {file} cannot be read; give a YAML file of settings") from error
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 1}" if where else ""
        raise CheckpointError(f"{file} is not YAML{line} ({getattr(error, 'problem', error)})") from error
    if not isinstance(settings, dict):
        raise CheckpointError(f"{file} should hold settings, as in 'preset: tiny', and holds none")
    inner = [f"{key}.{one}" for key, value in settings.items() if isinstance(value, dict) for one in value]
    for key in (*settings, *inner):
        if key not in names:
            raise CheckpointError(f"{file} has an unknown key {key!r}{_nearest(str(key), names)}")


def _nearest(word: str, words: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, list(words), n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _one_sentence(message: str) -> str:
    """jsonargparse's message without its line breaks and Python's own words for types."""
    message = re.sub(r'Parser key "(\w+)":\s*', r"--\1: ", message)
    message = re.sub(r"<class '(\w+)'>", r"\1", message).replace("typing.Literal", "one of ")
    message = " ".join(message.split()).replace("a one of", "one of").replace("a int", "an int")
    optional = re.fullmatch(r"(--\w+: ).*Subtypes: \[(.*?)\] Errors:.* Given value: (.*)", message)
    if optional:
        flag, types, value = optional.groups()
        return f"{flag}Expected {types.replace(', NoneType', '')} or nothing. Got value: {value}"
    return message

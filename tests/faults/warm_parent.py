"""A process that has imported everything, and forks a child for every command that it is told to run.

Importing torch and its kin takes longer than the runs of these tests; a fork of it is ready at once. Nothing is
computed here, for a fork copies the memory of threads but not the threads: the children start their own.

Reads requests from its standard input, a JSON object a line, and answers each with one:

    {"arguments": ["pretrain/mae.py", "--steps=6"], "log": FILE, ...}   {"pid": 12}, at once
    {"wait": 12}                                                         {"code": 0}, -9 after SIGKILL

A child is the leader of its own group and session. Its request may ask for a fault:

    kill_at     {"folder": F, "operation": n, "seconds": s}: it ends before the n-th operation on a file in F, with its
                whole group, or s seconds of computing later, wherever it then is; whatever else the machine does
    poison      [first, last]: NaN in place of the sound of these batches, counted from 0
"""

import importlib
import json
import os
import runpy
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PRELOADED = (
    "pretrain.mae", "pretrain.contrastive", "finetune.adapters", "data.prepare", "data.sources.folder", "audit.embed",
    "torch.utils.tensorboard", "matplotlib.backends.backend_agg", "transformers.models.auto.modeling_auto",
)  # fmt: skip
LIMIT_SECONDS = 240
"""After which SIGALRM ends a child."""
OPERATIONS = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link")


def main() -> None:
    """Serves until its input ends."""
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    for name in PRELOADED:
        importlib.import_module(name)
    threads = [task.joinpath("comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]
    print(json.dumps({"threads": threads}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            _, status = os.waitpid(request["wait"], 0)
            answer = {"code": os.waitstatus_to_exitcode(status)}
        else:
            answer = {"pid": os.fork()}
            if answer["pid"] == 0:
                run(request)
        print(json.dumps(answer), flush=True)


def run(request: dict[str, Any]) -> None:
    """Runs a command as `python` would, and ends the process."""
    os.setsid()
    signal.alarm(LIMIT_SECONDS)
    os.dup2(os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND), 1)
    os.dup2(1, 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    code = 1
    try:
        if "poison" in request:
            poison(*request["poison"])
        if "kill_at" in request:
            kill_at(**request["kill_at"])
        is_module, *sys.argv = (request["arguments"][0] == "-m", *request["arguments"])
        if is_module:
            sys.argv.pop(0)
            runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(sys.argv[0], run_name="__main__")
        code = 0
    except SystemExit as ended:
        code = ended.code or 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def kill_at(folder: str, operation: int, seconds: float = 0.0) -> None:
    """Kills this process some time after an operation on a file in a folder, counted from 0; its children too if 0."""
    seen = 0

    def hook(event: str, arguments: tuple) -> None:
        nonlocal seen
        if event in OPERATIONS and isinstance(arguments[0], (str, os.PathLike)):
            path = os.fspath(arguments[0])
            # What deletes a folder names the files in it from there.
            if event in ("os.remove", "os.rmdir") and arguments[-1] >= 0:
                path = os.path.join(os.readlink(f"/proc/self/fd/{arguments[-1]}"), path)
            if path.startswith(folder):
                if seen == operation and seconds == 0:
                    os.killpg(0, signal.SIGKILL)
                if seen == operation:  # nobody handles SIGPROF: it ends the process as SIGKILL does, between any two
                    signal.setitimer(signal.ITIMER_PROF, seconds)  # instructions
                seen += 1

    sys.addaudithook(hook)


def poison(first: int, last: int) -> None:
    """Lets some batches hold NaN, as broken memory or a bug in an augmentation would."""
    from data.loader import Batch

    sound_of, count = Batch.to, iter(range(sys.maxsize))

    def poisoned(batch: Batch, device: Any) -> Batch:
        moved = sound_of(batch, device)
        if first <= next(count) <= last:
            moved.waveform.fill_(float("nan"))
        return moved

    Batch.to = poisoned


if __name__ == "__main__":
    main()

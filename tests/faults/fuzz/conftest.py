"""Files that somebody else has written: damaged at random, or made to do harm.

An attack reads many of them in a process of its own. All that may come of one is an answer or a sentence: no other
exception, no crash, no seconds of computing, no gigabytes, and nothing written, fetched, started or unpickled.
"""

import gc
import json
import os
import re
import resource
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir

from audit.errors import AuditError
from checkpoints.errors import CheckpointError
from data.errors import DataError

CLEAN = (AuditError, CheckpointError, DataError)
SECONDS = 5
"""Of computing that one file may cost."""
ROOM = 4 << 30
"""Bytes that reading may take."""
HUGE = (0, -1, 1, 127, 255, 1 << 15, (1 << 31) - 1, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)
ODD = (
    None, True, "", "x" * 5000, "../../outside", "/etc/passwd", "a\0b", "\ud800", [], {}, [[]], {"": None},
    [1, "a", None], *HUGE, -(1 << 63), 1 << 200, 0.5, 1e308, float("nan"), float("inf"),
)  # fmt: skip
"""Values that stand where another was expected."""
SOME, MANY = 8, int(os.environ.get("FUZZ_CASES", 60))
"""Cases of each test, in the default suite and among the slow tests; FUZZ_CASES=20000 hunts for an afternoon."""
DEPTH = 100_000
"""Of brackets, to run out of stack by."""


@st.composite
def damaged_bytes(draw: st.DrawFn, content: bytes) -> bytes:
    """Bytes with a few flips, cuts, insertions and huge numbers."""
    found = bytearray(content)
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(("flip", "cut", "end", "insert", "repeat", "number", "digits", "brackets")))
        place = draw(st.integers(0, max(0, len(found) - 1)))
        if kind == "flip" and found:
            found[place] ^= 1 << draw(st.integers(0, 7))
        elif kind == "cut":
            del found[place : place + draw(st.integers(1, 64))]
        elif kind == "end":
            del found[place:]
        elif kind == "insert":
            found[place:place] = draw(st.binary(min_size=1, max_size=16))
        elif kind == "repeat":
            found[place:place] = found[place : place + 40] * draw(st.integers(1, 8))
        elif kind == "number":
            size = draw(st.sampled_from((2, 4, 8)))
            number = draw(st.sampled_from(HUGE)) & ((1 << 8 * size) - 1)
            found[place : place + size] = number.to_bytes(size, "little")
        elif kind == "digits":
            digits = [digit.start() for digit in re.finditer(rb"[0-9]", found)]
            if digits:
                at = draw(st.sampled_from(digits))
                found[at : at + 1] = str(draw(st.sampled_from(HUGE))).encode()
        else:
            found[place:place] = draw(st.sampled_from((b"[", b'{"a":', b"- "))) * DEPTH
    return bytes(found)


@st.composite
def damaged_values(draw: st.DrawFn, values: Any) -> Any:
    """What a JSON or YAML file holds, with some of it missing or of another kind."""
    found = deepcopy(values)
    for _ in range(draw(st.integers(1, 2))):
        places = list(_places(found))
        if not places:
            break
        inside, key = draw(st.sampled_from(places))
        kind = draw(st.sampled_from(("odd", "odd", "odd", "less", "more")))
        if kind == "less":
            del inside[key]
        elif kind == "more" and isinstance(inside, dict):
            inside[draw(st.sampled_from(("", "extra", "__class__")))] = draw(st.sampled_from(ODD))
        else:
            inside[key] = deepcopy(draw(st.sampled_from(ODD)))
    return found


def _places(values: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(values, (dict, list)):
        for key, value in list(values.items() if isinstance(values, dict) else enumerate(values)):
            yield values, key
            yield from _places(value)


@pytest.fixture(scope="session")
def damaged() -> Callable[..., st.SearchStrategy[bytes]]:
    """``damaged(content, load=None, dump=None)``: what may become of a file; well-formed too, if it can be loaded."""

    def build(
        content: bytes, load: Callable[[bytes], Any] | None = None, dump: Callable[[Any], bytes] | None = None
    ) -> st.SearchStrategy[bytes]:
        at_random = damaged_bytes(content)
        return damaged_values(load(content)).map(dump) | at_random if load else at_random

    return build


@pytest.fixture(scope="session")
def damaged_json(damaged) -> Callable[[bytes], st.SearchStrategy[bytes]]:
    """``damaged_json(content)``: what may become of a JSON file."""
    return lambda content: damaged(content, json.loads, lambda values: json.dumps(values, indent=2).encode())


class Guard:
    """Forbids what reading a file must not do, from the first `watching` on until the process ends."""

    WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
    CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.chmod", "os.truncate")
    NEVER = ("socket.connect", "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "pickle.find_class")

    def __init__(self, folder: Path):
        self.folder, self.is_watching, self.seen = f"{folder}{os.sep}", False, []
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple) -> None:
        if not self.is_watching:
            return
        is_write = event == "open" and isinstance(arguments[2], int) and arguments[2] & self.WRITES
        if is_write or event in self.CHANGES:
            path = arguments[event in ("os.link", "os.symlink")]
            named = isinstance(path, (str, bytes, os.PathLike)) and os.path.abspath(os.fsdecode(path))
            relative = (
                event in ("os.remove", "os.rmdir") and arguments[-1] >= 0
            )  # of a folder that was looked at before
            if named and named != os.devnull and not relative and not named.startswith(self.folder):
                self.seen.append(f"{event} of {named}")
        if event in self.NEVER:
            self.seen.append(f"{event}{arguments[:2]!r}")


@pytest.fixture(scope="session")
def collected(tmp_path_factory) -> None:
    """Hypothesis looks through all modules for constants to try, once; every fork would do it again."""
    set_hypothesis_home_dir(tmp_path_factory.mktemp("hypothesis"))
    few = settings(max_examples=20, database=None, deadline=None)  # the first of them are too simple for constants
    few(given(st.tuples(st.integers(), st.binary(), st.text()))(lambda case: None))()


@pytest.fixture(params=[SOME, pytest.param(MANY, marks=pytest.mark.slow)], ids=["some", "many"])
def attack(request, collected, tmp_path) -> Callable[..., None]:
    """``attack(cases, write, read, share=1)``: writes each of many cases, and reads it, in a process of its own.

    `share` is for what is slow to read: of the number of cases.
    """

    def run(
        cases: st.SearchStrategy, write: Callable[[Any], None], read: Callable[[], Any], share: float = 1.0
    ) -> None:
        number = max(1, round(request.param * share))
        report = tmp_path / "report.txt"
        pid = os.fork()
        if pid == 0:
            try:
                _attack(cases, write, read, number, tmp_path, report)
            except BaseException:
                said = traceback.format_exc().partition("Failing test case:")[0]  # which may be of any length
                report.write_text(f"{said}what it read lies in {tmp_path}\n")
                os._exit(1)
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        code = os.waitstatus_to_exitcode(status)
        if code:
            what = f"ended by {signal.Signals(-code).name}" if code < 0 else "failed"
            said = report.read_text() if report.is_file() else "nothing; what it read lies in " + str(tmp_path)
            pytest.fail(f"reading {what}:\n{said}", pytrace=False)

    return run


def _attack(
    cases: st.SearchStrategy, write: Callable[[Any], None], read: Callable[[], Any], number: int, folder: Path,
    report: Path,
) -> None:  # fmt: skip
    torch.set_num_threads(1)
    sys.setrecursionlimit(1000)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + ROOM, size + ROOM))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    guard = Guard(folder)

    def look(case: Any) -> None:
        write(case)
        guard.is_watching, guard.seen = True, []
        signal.setitimer(signal.ITIMER_PROF, SECONDS)  # nobody handles what follows
        try:
            read()
        except CLEAN as error:
            sentence = str(error)
        else:
            sentence = "an answer"
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            guard.is_watching = False
        assert sentence.strip(), "an error should say what is wrong"
        assert "Traceback" not in sentence
        assert not guard.seen, guard.seen

    # Without its explanations, which trace every line; and what it has found it need not keep.
    phases = (Phase.generate, Phase.shrink)
    quick = settings(
        max_examples=number, deadline=None, database=None, derandomize=True, phases=phases,
        suppress_health_check=list(HealthCheck), print_blob=False, report_multiple_bugs=False,
    )  # fmt: skip
    gc.freeze()  # or a collection would touch, and so copy, all memory that is shared with the parent
    quick(given(cases)(look))()

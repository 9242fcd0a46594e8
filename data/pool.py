"""Runs the units of a preparation in other processes: none outlives the command, and one that crashes is replaced."""

import gc
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from multiprocessing import connection
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from data.errors import DataError

Job = TypeVar("Job")
Result = TypeVar("Result")

_SENT_FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def run_jobs(
    work: Callable[[Job], Result],
    jobs: Iterable[Job],
    processes: int,
    after_crash: Callable[[Job], Result],
) -> Iterator[Result]:
    """Yields the results of ``work(job)`` as they come, in no order. Closing the iterator ends the processes at once.

    Args:
        work: called in another process; it, its jobs and its results must pickle.
        jobs: taken one by one, when a process is free.
        processes: how many work at a time.
        after_crash: called instead with a job that crashed its process, as damaged input can make a C library do;
            see `call_alone`.

    Raises:
        DataError: a process was killed from outside, or crashed again.
    """
    remaining = iter(jobs)
    busy: dict[Connection, _Process] = {}
    try:
        for job in remaining:
            process = _Process()
            busy[process.connection] = process.ask(work, job)
            if len(busy) == processes:
                break
        while busy:
            for ready in connection.wait(list(busy)):
                process = busy[ready]
                try:
                    result = process.answer()
                except _Crash as crash:
                    if process.work is after_crash:
                        raise DataError(f"a process that reads clips crashed twice, at last by {crash}") from crash
                    busy.pop(ready).end()
                    crashed, process = process, _Process()
                    busy[process.connection] = process.ask(after_crash, crashed.job)
                    continue
                for job in remaining:
                    process.ask(work, job)
                    break
                else:
                    busy.pop(ready).end()
                yield result
    except _Kill as kill:
        raise DataError(
            "a process that reads clips died, killed from outside or for want of memory; run the command again to "
            "continue, with fewer --processes if it repeats"
        ) from kill
    finally:
        for process in busy.values():
            process.end()


def call_alone(work: Callable[[Job], Result], job: Job) -> Result:
    """Returns ``work(job)``, called in a process of its own, which may crash.

    Raises:
        DataError: it crashed; or what ``work`` raises.
    """
    process = _Process()
    try:
        return process.ask(work, job).answer()
    except _Crash as crash:
        raise DataError(f"crashes what reads it: the process ended by {crash}") from crash
    finally:
        process.end()


class _Crash(Exception):
    """A process ended by a fault of its own."""


class _Kill(Exception):
    """A process was ended by somebody else."""


class _Process:
    """A process that calls what it is asked to."""

    def __init__(self):
        # A fork is ready at once, without importing numpy and the caller's program again; macOS cannot be trusted
        # with it.
        context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,))
        self._process.start()
        theirs.close()  # or nobody would notice that the process is gone
        self.work: Callable[[Any], Any] | None = None
        self.job: Any = None

    def ask(self, work: Callable[[Job], Result], job: Job) -> "_Process":
        self.work, self.job = work, job
        with suppress(ConnectionError):  # of a process that is gone the answer tells
            self.connection.send((work, job))
        return self

    def answer(self) -> Any:
        """Waits for the result, or raises what ``work`` raised, `_Crash` or `_Kill`."""
        try:
            result, error = self.connection.recv()
        except (EOFError, ConnectionError):
            self._process.join()
            code = self._process.exitcode
            if -code in _SENT_FROM_OUTSIDE:
                raise _Kill from None
            raise _Crash(signal.Signals(-code).name if code < 0 else f"an exit with code {code}") from None
        if error is not None:
            raise error
        return result

    def end(self) -> None:
        self._process.kill()
        self._process.join()
        self.connection.close()


def _serve(asked: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends this process
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # where C libraries complain of damaged files, into a progress bar
    gc.freeze()  # or a collection would touch, and so copy, all memory that is shared with the parent
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        work, job = asked.recv()
        try:
            answer = work(job), None
        except MemoryError:
            answer = None, DataError("too little memory to read a clip; run the command with fewer --processes")
        except Exception as error:
            if not isinstance(error, DataError):
                error.add_note(f"in another process:\n{traceback.format_exc()}")
            answer = None, error
        asked.send(answer)


def _end_with_parent() -> None:
    connection.wait([multiprocessing.parent_process().sentinel])
    os._exit(1)

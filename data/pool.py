"""Runs the units of a preparation in several processes, none of which outlives the command."""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing import connection
from multiprocessing.connection import Connection
from typing import TypeVar

from data.errors import DataError

Job = TypeVar("Job")
Result = TypeVar("Result")


def run_jobs(work: Callable[[Job], Result], jobs: Iterable[Job], processes: int) -> Iterator[Result]:
    """Yields the results of ``work(job)`` as they come, in no order; in this process if ``processes`` is 1.

    Only a few jobs are in flight at once. Closing the iterator drops those that have not begun.

    Raises:
        DataError: a process died.
    """
    if processes == 1:
        yield from map(work, jobs)
        return
    # A fork is ready at once, without importing numpy and the caller's program again; macOS cannot be trusted with it.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    remaining = iter(jobs)
    stop_reader, stop_writer = context.Pipe(duplex=False)
    with ProcessPoolExecutor(processes, context, initializer=_start_process, initargs=(stop_reader,)) as pool:
        try:
            running = {pool.submit(work, job) for job in islice(remaining, 2 * processes)}
            while running:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                running |= {pool.submit(work, job) for job in islice(remaining, len(done))}
                for future in done:
                    yield future.result()
        except BrokenProcessPool as error:
            raise DataError(
                "a process that reads clips died, killed from outside or for want of memory; run the command again to "
                "continue, with fewer --processes if it repeats"
            ) from error
        except BaseException:
            stop_writer.send_bytes(b"stop")  # nobody waits for the jobs that are running
            raise


def _start_process(stop_reader: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends the pool
    threading.Thread(target=_end_when_told, args=(stop_reader,), daemon=True).start()


def _end_when_told(stop_reader: Connection) -> None:
    # A pool's process waits for jobs for ever when its parent is killed.
    connection.wait([stop_reader, multiprocessing.parent_process().sentinel])
    os._exit(1)

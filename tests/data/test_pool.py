"""Work in other processes, some of which come to an end."""

import faulthandler
import os
import signal
import time
from functools import partial

import pytest

from data.errors import DataError
from data.pool import call_alone, run_jobs


def square(number: int) -> int:
    return number * number


def end_at_three(how: int, number: int) -> int:
    if number == 3:
        faulthandler.disable()  # which pytest has enabled
        os.kill(os.getpid(), how)
        time.sleep(10)
    return number


def leave_at_three(number: int) -> int:
    if number == 3:
        os._exit(5)
    return number


def fail_at_three(error: Exception, number: int) -> int:
    if number == 3:
        raise error
    return number


def pid_of(_: int) -> int:
    return os.getpid()


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def no_retry(number: int) -> int:
    raise AssertionError(f"{number} did not crash")


@pytest.mark.parametrize("processes", [1, 2, 5])
def test_every_job_has_its_result(processes):
    assert sorted(run_jobs(square, range(20), processes, no_retry)) == [number * number for number in range(20)]
    assert list(run_jobs(square, [], processes, no_retry)) == []


def test_jobs_are_taken_when_a_process_is_free():
    taken = []

    def jobs():
        for number in range(10):
            taken.append(number)
            yield number

    results = run_jobs(square, jobs(), 2, no_retry)
    next(results)
    assert len(taken) < 6
    results.close()


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("crash", [partial(end_at_three, signal.SIGSEGV), leave_at_three])
def test_a_job_that_crashes_its_process_is_done_otherwise_and_no_other_is(processes, crash):
    assert sorted(run_jobs(crash, range(8), processes, square)) == [0, 1, 2, 4, 5, 6, 7, 9]


def test_a_process_that_crashes_again_or_is_killed_ends_it():
    crash = partial(end_at_three, signal.SIGABRT)
    with pytest.raises(DataError, match="crashed twice, at last by SIGABRT"):
        list(run_jobs(crash, range(8), 2, partial(end_at_three, signal.SIGABRT)))
    with pytest.raises(DataError, match="killed from outside or for want of memory"):
        list(run_jobs(partial(end_at_three, signal.SIGKILL), range(8), 2, no_retry))


def test_too_little_memory_is_said():
    with pytest.raises(DataError, match="too little memory to read a clip; run the command with fewer --processes"):
        list(run_jobs(partial(fail_at_three, MemoryError()), range(8), 2, no_retry))


@pytest.mark.parametrize("error", [DataError("a sentence"), ValueError("a mistake")])
def test_what_is_raised_there_is_raised_here(error):
    with pytest.raises(type(error), match=str(error)) as raised:
        list(run_jobs(partial(fail_at_three, error), range(8), 2, no_retry))
    if isinstance(error, ValueError):
        assert "in fail_at_three" in raised.value.__notes__[0]


def test_no_process_is_left_behind():
    results = run_jobs(pid_of, range(20), 3, no_retry)
    pids = {next(results) for _ in range(6)}
    assert os.getpid() not in pids
    results.close()
    assert not any(map(is_running, pids))


def test_alone():
    assert call_alone(square, 4) == 16
    with pytest.raises(DataError, match="crashes what reads it: the process ended by SIGSEGV"):
        call_alone(partial(end_at_three, signal.SIGSEGV), 3)
    with pytest.raises(DataError, match="a sentence"):
        call_alone(partial(fail_at_three, DataError("a sentence")), 3)


def crash_alone(number: int) -> int:
    return call_alone(partial(end_at_three, signal.SIGKILL), number)


def test_a_kill_is_told_through_two_processes():
    with pytest.raises(DataError, match="killed from outside or for want of memory"):
        list(run_jobs(partial(end_at_three, signal.SIGSEGV), [3], 1, crash_alone))

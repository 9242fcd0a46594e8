"""What a run does when it is told to stop, and how long it waits for others."""

import os
import signal
from datetime import timedelta

import pytest
from accelerate.utils import InitProcessGroupKwargs

from checkpoints.loop import StopSignal, waiting_at_most


@pytest.fixture
def stop(monkeypatch) -> StopSignal:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that put the tests behind it has Ctrl-C ignored
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)}
    yield (stop := StopSignal())
    stop.restore()
    assert {number: signal.getsignal(number) for number in before} == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_word_that_time_is_up_becomes_a_flag(stop, number):
    assert stop.received is None
    os.kill(os.getpid(), number)
    assert stop.received == number.name


def test_the_same_word_from_the_launcher_too_is_no_second_one(stop):
    os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGTERM)
    assert stop.received == "SIGINT"


def test_a_second_one_ends_at_once(stop, monkeypatch):
    monkeypatch.setattr(stop, "SAME_SECONDS", 0.0)
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("minutes", [0.1, 10, 30])
def test_the_time_that_is_waited_reaches_the_processes(minutes):
    # Accelerate leaves out what equals its defaults, 10 minutes among them, and torch then takes its own.
    handed_on = waiting_at_most(minutes).to_kwargs()["timeout"]
    assert abs(handed_on - timedelta(minutes=minutes)) < timedelta(seconds=1)
    assert handed_on != InitProcessGroupKwargs().timeout

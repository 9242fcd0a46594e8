import os
from pathlib import Path

import pytest

from data.readable import as_text, clock, printable


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00.0"), (59.96, "1:00.0"), (61.25, "1:01.2"), (3599.99, "1:00:00.0"), (45_296, "12:34:56.0")],
)
def test_seconds_are_read_off_a_clock(seconds, text):
    assert clock(seconds) == text
    assert clock(75.4, digits=0) == "1:15"


def test_names_that_are_no_text_can_be_printed():
    path = Path(os.fsdecode(b"caf\xe9\n\x1b[2J.wav"))
    assert printable(path) == "caf\\udce9\\n\\x1b[2J.wav"
    assert as_text(path).encode()

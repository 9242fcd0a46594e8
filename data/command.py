"""How a command ends."""

import os
import sys
from collections.abc import Callable
from typing import NoReturn

_ENDED_BY_SIGPIPE = 141
"""The exit code that a shell reports for a program that wrote to a pipe which nobody reads any more."""


def run(main: Callable[[], int]) -> NoReturn:
    """Ends the process with what ``main`` returns; quietly when the reader of its output is gone, as in ``| head``."""
    try:
        code = main()
        sys.stdout.flush()
    except BrokenPipeError:
        # The interpreter flushes once more on its way out, and would complain.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (sys.stdout, sys.stderr):
            os.dup2(nowhere, stream.fileno())
        code = _ENDED_BY_SIGPIPE
    sys.exit(code)

"""How a command begins and ends."""

import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn

_ENDED_BY_SIGPIPE = 141
"""The exit code that a shell reports for a program that wrote to a pipe which nobody reads any more."""


def run(main: Callable[[], int]) -> NoReturn:
    """Ends the process with what ``main`` returns; quietly when the reader of its output is gone, as in ``| head``."""
    _keep_pandas_out()
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


def _keep_pandas_out() -> None:
    """Lets pyarrow believe that there is no pandas, until somebody imports it.

    To tell whether it is handed a table of pandas, which nothing here does, pyarrow imports it where it is installed:
    a third of a second in every process.
    """
    if "pyarrow" not in sys.modules or "pandas" in sys.modules:
        return
    sys.meta_path.insert(0, _NoPandas)
    try:
        sys.modules["pyarrow"].array([])
    finally:
        sys.meta_path.remove(_NoPandas)


class _NoPandas:
    """A finder of modules."""

    @staticmethod
    def find_spec(name: str, *_: Any) -> None:
        if name == "pandas":
            raise ImportError(name)

"""Folders and files that are there whole or not at all."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from checkpoints.errors import CheckpointError

TEMPORARY = ".tmp"
"""Ending of names that are not whole yet; whoever finds one may delete it."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary name for a file or folder that takes the place of `path` when the block ends.

    A folder that is there already gets its files replaced one by one, each whole: at no moment is it gone.

    Raises:
        CheckpointError: the disk is full or refuses to be written.
    """
    temporary = path.with_name(f".{path.name}{TEMPORARY}")
    try:
        remove(temporary)
        yield temporary
        _sync(temporary)
        if path.is_dir():
            names = {file.name for file in temporary.iterdir()}
            for name in sorted(names):
                (temporary / name).replace(path / name)
            for file in path.iterdir():
                if file.name not in names:
                    remove(file)
            _sync_names(path)
        else:
            temporary.replace(path)
        _sync_names(path.parent)
    except OSError as error:
        raise CheckpointError(cannot_write(path, error)) from error
    except SafetensorError as error:  # it wraps the system's error and keeps only its words
        raise CheckpointError(f"{path} cannot be written ({error}); free some room and run again") from error
    finally:
        remove(temporary)


def is_of_room(error: OSError) -> bool:
    """Whether a write failed for want of room."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def cannot_write(path: Path | str, error: OSError) -> str:
    """The sentence for a write that failed."""
    advice = "free some room" if is_of_room(error) else "make the folder writable"
    return f"{path} cannot be written ({error.strerror or error}); {advice} and run the command again"


def remove(path: Path) -> None:
    """Deletes a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            with open(file, "rb") as opened:
                os.fsync(opened.fileno())


def _sync_names(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

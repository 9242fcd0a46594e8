"""Files that are there whole or not at all."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import xxhash

from data.errors import DataError

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def checksum_of(data: Any) -> str:
    """XXH3's 128 bits of a bytes-like object, in hexadecimal: finds damage and equal sound, keeps out no forger."""
    return xxhash.xxh3_128_hexdigest(data)


@contextmanager
def write_atomically(path: Path) -> Iterator[BinaryIO]:
    """Opens a temporary file beside ``path`` that takes its name when the block ends, and vanishes when it fails.

    Raises:
        DataError: the file cannot be written, as on a full disk.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def inside(root: Path, relative: str) -> Path:
    """The path of a file that some table names, which must lie below the folder of its data set.

    Raises:
        DataError: the path leaves the folder, by ``..``, as an absolute path or through a link.
    """
    path = root / relative
    try:
        is_inside = path.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError, ValueError):  # a loop of links, a name with a zero byte
        is_inside = False
    if not is_inside:
        raise DataError(f"a path below {root} was expected, {relative!r} leads out of it; mend the table that names it")
    return path


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder, new or removed, survive a power cut.

    Raises:
        DataError: the disk refuses.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems keep names without being asked
            raise cannot_write(folder, error) from error
    finally:
        os.close(descriptor)


def cannot_write(path: Path, error: OSError) -> DataError:
    """The sentence for what the disk refused."""
    advice = "free some room" if error.errno in _NO_ROOM else "make it writable"
    return DataError(f"cannot write {path} ({error.strerror}); {advice} and run the command again")

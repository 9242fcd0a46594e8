"""The files of one folder of a data set."""

import os
from pathlib import Path

from data.errors import DataError


def sizes(folder: Path, *suffixes: str) -> dict[str, int]:
    """Bytes of every file with one of these endings, by name, sorted; hidden files are left out.

    A link to nowhere is listed with 0 bytes: what is wrong with it is said, with its name, when it is read.

    Raises:
        DataError: the folder cannot be listed.
    """
    try:
        with os.scandir(folder) as entries:
            found = {entry.name: _size(entry) for entry in entries if _is_asked_for(entry.name, suffixes)}
    except OSError as error:
        raise DataError(f"recordings were expected in {folder} ({error.strerror}); unpack the data again") from error
    return dict(sorted(found.items()))


def folders(folder: Path) -> list[Path]:
    """The folders in a folder, sorted; hidden ones and what a Mac packs beside the data (``__MACOSX``) are left out.

    Raises:
        DataError: the folder cannot be listed.
    """
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith((".", "__")))
    except OSError as error:
        raise DataError(f"a folder of the data was expected at {folder} ({error.strerror}); check the path") from error


def _is_asked_for(name: str, suffixes: tuple[str, ...]) -> bool:
    return name.endswith(suffixes) and not name.startswith(".")


def _size(entry: os.DirEntry) -> int:
    try:
        return entry.stat().st_size
    except OSError:
        return 0

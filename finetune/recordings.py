"""The recordings that a command line names: files, and folders with all that lies in them."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from data.decode import FORMATS_OF_SUFFIX


class Failure(NamedTuple):
    """A recording that nothing can be said of."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Found:
    """Recordings, each once however often and under however many names it was given, and what is none."""

    recordings: dict[Path, PurePosixPath]
    """In order; the path as it was given, or below the folder that was, and a name that no other one has: the path
    below that folder, or the file's name."""
    failures: list[Failure]
    num_repeated: int
    """Names of recordings that were found under another name before, for example links."""


def find_recordings(paths: Iterable[Path]) -> Found:
    """Finds the recordings that paths name.

    Folders are walked recursively, sorted by name, through links but never twice through the same folder; in them what
    is named as a recording (`data.decode.FORMATS_OF_SUFFIX`) counts, hidden files and folders do not. A file that is
    named itself counts whatever its name.
    """
    recordings: dict[Path, PurePosixPath] = {}
    failures: list[Failure] = []
    num_repeated, known, names = 0, set(), set()
    for given in paths:
        inside = list(_walk(given, failures)) if given.is_dir() else [given]
        if not inside:
            suffixes = ", ".join(FORMATS_OF_SUFFIX)
            failures.append(Failure(given, f"recordings ({suffixes}) were expected in this folder, none found"))
        for path in inside:
            real = os.path.realpath(path)
            if real in known:
                num_repeated += 1
                continue
            known.add(real)
            name = PurePosixPath(path.relative_to(given).as_posix() if path != given else path.name)
            recordings[path] = _unique(name, names)
            names.add(recordings[path])
    return Found(recordings, failures, num_repeated)


def _walk(folder: Path, failures: list[Failure]) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        failures.append(Failure(Path(error.filename), f"cannot be read: {error.strerror}"))

    entered = {os.path.realpath(folder)}
    for parent, folders, files in os.walk(folder, followlinks=True, onerror=refuse):
        kept = []
        for name in sorted(folders):
            real = os.path.realpath(os.path.join(parent, name))
            if not name.startswith(".") and real not in entered:
                entered.add(real)
                kept.append(name)
        folders[:] = kept
        for name in sorted(files):
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in FORMATS_OF_SUFFIX:
                yield Path(parent, name)


def _unique(name: PurePosixPath, taken: set[PurePosixPath]) -> PurePosixPath:
    found, number = name, 1
    while found in taken:
        number += 1
        found = name.with_name(f"{name.stem}-{number}{name.suffix}")
    return found

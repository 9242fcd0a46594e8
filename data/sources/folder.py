"""The source ``folder``: any tree of wav, flac, ogg and mp3 recordings, with an optional CSV of labels.

Links are followed, hidden files and folders are not looked at. The columns of the CSV are in
data/sources/folder_labels.py. What it says of a recording that is cut into clips is weak: nobody said when it holds.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from data.clip import Clip, Reject
from data.cutting import check_cut, cut
from data.decode import FORMATS_OF_SUFFIX, AudioFile, seconds_of
from data.errors import DataError
from data.sources.folder_labels import Known, read_labels

LICENCE = "your own recordings"


@dataclass(frozen=True, slots=True)
class FolderOptions:
    """Where recordings lie and how they are cut."""

    folder: Path
    labels: Path | None = None
    """CSV of what is known about the recordings; its columns are in data/sources/folder_labels.py."""
    clip_seconds: float = 30.0
    """Longer recordings are cut into clips of this length."""
    hop_seconds: float | None = None
    """From the beginning of a clip to that of the next; clips do not overlap if it is not given."""

    def __post_init__(self):
        check_cut(self.clip_seconds, self.hop_seconds)


def clips(options: FolderOptions) -> Iterator[Clip | Reject]:
    """Finds the recordings of a folder, sorted by path.

    Raises:
        DataError: no such folder, no recordings in it, or a CSV that cannot be used (with the line).
    """
    folder = Path(options.folder)
    found, rejects = _recordings(folder)
    known = read_labels(options.labels, found) if options.labels else {}
    yield from rejects
    for recording in sorted(found):
        yield from _clips_of(recording, found[recording], known.get(recording, Known()), options)


def _clips_of(recording: str, path: Path, known: Known, options: FolderOptions) -> Iterator[Clip | Reject]:
    try:
        seconds = seconds_of(path)
        audio = AudioFile.of(path)
    except DataError as error:
        yield Reject("folder", recording, str(error))
        return
    whole = Clip(
        id=f"folder/{recording}",
        source="folder",
        recording=recording,
        group=f"folder/{known.group or recording}",
        audio=audio,
        split=known.split,
    )
    for row in known.sounding:
        if row.start_s >= seconds:
            raise DataError(
                f"{options.labels}, line {row.line}: start_s is {row.start_s:g}, but {recording} has only "
                f"{seconds:.2f} s; mend the times"
            )
    for clip in cut(whole, seconds, options.clip_seconds, options.hop_seconds):
        end_s = seconds if clip.audio.duration_s is None else clip.start_s + clip.audio.duration_s
        yield replace(clip, labels=known.labels_between(clip.start_s, end_s, is_part=clip is not whole))


def _recordings(folder: Path) -> tuple[dict[str, Path], list[Reject]]:
    """Recordings by their path below the folder, with slashes, and what only looks like one."""
    if not folder.is_dir():
        raise DataError(f"a folder of recordings was expected at {folder}, no folder found; check the path")
    found: dict[str, Path] = {}
    rejects: list[Reject] = []

    def take(path: Path, reason: str | None = None) -> None:
        # A file name may hold bytes that are no text.
        name = path.relative_to(folder).as_posix().encode(errors="backslashreplace").decode()
        if name in found:
            reason = "the same name as another recording, where its bytes that are no text are written out; rename it"
        if reason:
            rejects.append(Reject("folder", name, reason))
        else:
            found[name] = path

    def refuse(error: OSError) -> None:
        take(Path(error.filename), f"cannot be read: {error.strerror}")

    entered = {os.path.realpath(folder)}
    for parent, folders, files in os.walk(folder, followlinks=True, onerror=refuse):
        kept = []
        for name in sorted(folders):
            real = os.path.realpath(os.path.join(parent, name))
            if name.startswith(".") or real in entered:
                continue
            entered.add(real)
            kept.append(name)
            if _is_named_as_recording(name):
                take(Path(parent, name), "cannot be read: it is a folder; what lies in it is")
        folders[:] = kept
        for name in sorted(files):
            if _is_named_as_recording(name):
                take(Path(parent, name))
    if not found:
        raise DataError(f"recordings ({', '.join(FORMATS_OF_SUFFIX)}) were expected in {folder}, none found")
    return found, sorted(rejects, key=lambda reject: reject.recording)


def _is_named_as_recording(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in FORMATS_OF_SUFFIX and not name.startswith(".")

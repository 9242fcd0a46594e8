"""The source ``folder``: any tree of wav, flac, ogg and mp3 recordings, with an optional CSV of labels.

The CSV has a header and a row for each recording that something is known of. Its columns, all but ``file`` optional, an
empty cell being unknown:

    file           path below the folder, as in ``live/take_3.flac``
    instrument     names from `data.taxonomy`, separated by ``;``: these sound, others may; ``instruments`` is the same
    family         names from `data.taxonomy`, separated by ``;``; the families of the instruments are known anyway
    is_instrument  yes or no; no says that neither an instrument nor a family sounds
    genre          one name
    drums          yes or no
    timbre         a name for one player or preset
    pitch          MIDI note number, 0 to 127
    split          train, validation or test; left open it is drawn by group
    group          what a split may not cut, as a player or an album; the recording if left open
"""

import csv
import difflib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from data.clip import NOTHING, SPLITS, UNKNOWN, Clip, Labels, LabelSet, Reject
from data.decode import FORMATS_OF_SUFFIX, AudioFile, seconds_of
from data.errors import DataError
from data.taxonomy import FAMILIES, FAMILY_OF_INSTRUMENT

LICENCE = "your own recordings"
COLUMNS = (
    "file", "instrument", "instruments", "family", "is_instrument", "genre", "drums", "timbre", "pitch", "split",
    "group",
)  # fmt: skip
MIN_REST_SECONDS = 1.0
"""What is left of a recording after its last whole clip goes to that clip if it is shorter."""
_YES_NO = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}


@dataclass(frozen=True, slots=True)
class FolderOptions:
    """Where recordings lie and how they are cut."""

    folder: Path
    labels: Path | None = None
    """CSV of what is known about the recordings; its columns are in data/sources/folder.py."""
    clip_seconds: float = 30.0
    """Longer recordings are cut into consecutive clips of this length."""

    def __post_init__(self):
        if not self.clip_seconds >= MIN_REST_SECONDS:
            raise DataError(f"--clip_seconds should be at least {MIN_REST_SECONDS:g}, {self.clip_seconds:g} found")


@dataclass(frozen=True, slots=True)
class _Known:
    """What a row of the CSV says."""

    line: int
    labels: Labels = field(default_factory=Labels)
    split: str | None = None
    group: str | None = None


def clips(options: FolderOptions) -> Iterator[Clip | Reject]:
    """Finds the recordings of a folder, sorted by path.

    Raises:
        DataError: no such folder, no recordings in it, or a CSV that cannot be used (with the line).
    """
    folder = Path(options.folder)
    recordings = _recordings(folder)
    known = _read_labels(options.labels, recordings) if options.labels else {}
    for recording in recordings:
        yield from _clips_of(folder, recording, known.get(recording, _Known(line=0)), options.clip_seconds)


def _clips_of(folder: Path, recording: str, known: _Known, clip_seconds: float) -> Iterator[Clip | Reject]:
    path = folder / recording
    try:
        seconds = seconds_of(path)
    except DataError as error:
        yield Reject("folder", recording, str(error))
        return
    whole = AudioFile.of(path)
    first = Clip(
        id=f"folder/{recording}",
        source="folder",
        recording=recording,
        group=f"folder/{known.group or recording}",
        audio=whole,
        split=known.split,
        labels=known.labels,
    )
    count = max(1, int(seconds // clip_seconds) + (seconds % clip_seconds >= MIN_REST_SECONDS))
    if count == 1:
        yield first
        return
    for number in range(count):
        start = number * clip_seconds
        audio = replace(whole, start_s=start, duration_s=None if number == count - 1 else clip_seconds)
        yield replace(first, id=f"{first.id}@{start:g}", start_s=start, audio=audio)


def _recordings(folder: Path) -> list[str]:
    """Paths below the folder, with slashes, sorted; links are followed, each folder is entered once."""
    if not folder.is_dir():
        raise DataError(f"a folder of recordings was expected at {folder}, no folder found; check the path")
    found: list[str] = []
    seen = {os.path.realpath(folder)}
    for parent, folders, files in os.walk(folder, followlinks=True):
        entered = []
        for name in sorted(folders):
            real = os.path.realpath(os.path.join(parent, name))
            if real not in seen and not name.startswith("."):
                seen.add(real)
                entered.append(name)
        folders[:] = entered
        for name in files:
            if os.path.splitext(name)[1].lower() in FORMATS_OF_SUFFIX and not name.startswith("."):
                found.append(Path(parent, name).relative_to(folder).as_posix())
    if not found:
        raise DataError(f"recordings ({', '.join(FORMATS_OF_SUFFIX)}) were expected in {folder}, none found")
    return sorted(found)


def _read_labels(path: Path, recordings: list[str]) -> dict[str, _Known]:
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            _check_header(path, reader.fieldnames or [])
            known: dict[str, _Known] = {}
            names = set(recordings)
            for row in reader:
                line = reader.line_num
                cells = {key: (value or "").strip() for key, value in row.items() if key is not None}
                try:
                    if None in row:
                        raise DataError(f"more cells than the header's {len(reader.fieldnames)}")
                    recording = Path(cells["file"]).as_posix()
                    if recording not in names:
                        raise DataError(f"no recording {cells['file']!r} in the folder{_close(recording, recordings)}")
                    if recording in known:
                        raise DataError(f"{recording!r} was already in line {known[recording].line}")
                    known[recording] = _known(cells, line)
                except DataError as error:
                    raise DataError(f"{path}, line {line}: {error}; mend the cell or leave it empty") from error
            return known
    except OSError as error:
        raise DataError(f"a CSV of labels was expected at {path} ({error.strerror}); check --labels") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} should be a CSV in UTF-8 ({error}); save it as one") from error


def _check_header(path: Path, columns: list[str]) -> None:
    if "file" not in columns:
        raise DataError(
            f"{path} should have a column 'file', found {', '.join(columns) or 'an empty file'}; add it to the header"
        )
    for column in columns:
        if column not in COLUMNS:
            raise DataError(f"{path} has an unknown column {column!r}{_close(column, COLUMNS)}; rename or remove it")


def _known(cells: dict[str, str], line: int) -> _Known:
    def cell(name: str) -> str | None:
        return cells.get(name) or None

    listed = ";".join(filter(None, (cell("instrument"), cell("instruments"))))
    instruments = _names(listed, "instrument", tuple(FAMILY_OF_INSTRUMENT))
    families = _names(cell("family") or "", "family", FAMILIES)
    families = tuple(dict.fromkeys([*families, *(FAMILY_OF_INSTRUMENT[name] for name in instruments)]))
    is_instrument = _yes_no(cells, "is_instrument")
    if is_instrument is False and families:
        raise DataError(f"is_instrument is no, but {', '.join(instruments or families)} is said to sound")
    nothing = is_instrument is False
    split = cell("split")
    if split not in (None, *SPLITS):
        raise DataError(f"unknown split {split!r}, one of {', '.join(SPLITS)} expected")
    labels = Labels(
        is_instrument=True if families else is_instrument,
        family=NOTHING if nothing else LabelSet(families) if families else UNKNOWN,
        instrument=NOTHING if nothing else LabelSet(instruments) if instruments else UNKNOWN,
        timbre=cell("timbre"),
        genre=LabelSet((cell("genre"),), complete=True) if cell("genre") else UNKNOWN,
        drums=_yes_no(cells, "drums"),
        pitch=_pitch(cell("pitch")),
    )
    return _Known(line=line, labels=labels, split=split, group=cell("group"))


def _names(text: str, level: str, allowed: tuple[str, ...]) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in text.split(";") if name.strip()))
    for name in names:
        if name not in allowed:
            raise DataError(f"unknown {level} {name!r}{_close(name, allowed)}")
    return names


def _yes_no(cells: dict[str, str], column: str) -> bool | None:
    text = cells.get(column)
    if not text:
        return None
    if text.lower() not in _YES_NO:
        raise DataError(f"{column} should be yes or no, {text!r} found")
    return _YES_NO[text.lower()]


def _pitch(text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or int(text) > 127:
        raise DataError(f"pitch should be a whole number from 0 to 127, {text!r} found")
    return int(text)


def _close(name: str, allowed: list[str] | tuple[str, ...]) -> str:
    """A hint at what may have been meant, to go behind the name."""
    normal = name.lower().replace(" ", "_").replace("-", "_")
    close = difflib.get_close_matches(normal, allowed, n=3, cutoff=0.5)
    return f" (close: {', '.join(close)})" if close else f" (known: {', '.join(sorted(allowed)[:12])}, ...)"

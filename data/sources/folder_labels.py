"""The CSV of the source ``folder``: its columns, and what its rows say about a recording and its clips.

A header, and a row for each recording that something is known of. All columns but ``file`` are optional, an empty cell
is unknown, and where several names fit, they are separated by ``;``:

    file           path below the folder, as in ``live/take_3.flac``
    instrument     names: these sound, others may; ``instruments`` is the same
    family         names; the families of the instruments are known anyway
    is_instrument  yes or no; no says that neither an instrument nor a family sounds
    genre          names; all that the recording has
    drums          yes or no
    timbre         a name for one player or preset
    pitch          MIDI note number, 0 to 127
    split          train, validation or test; left open it is drawn by group
    group          what a split may not cut, as a player or an album; the recording if left open
    start_s        with end_s: seconds between which the instruments and families of this row sound
    end_s

Names are those of `data.taxonomy`, or what published data sets call the same ("Double Bass", "drum set", "rock"), in
capitals or not; a genre that it does not know is one of its own. Beside the row that holds for all of it, a recording
may have any number of rows with times, which name instruments and families and nothing else: the clips in which these
sound have them as labels.
"""

import csv
import difflib
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from data.clip import NOTHING, SPLITS, Labels, LabelSet
from data.errors import DataError
from data.sources.sounding import DRUMS, MIN_SOUNDING_SECONDS
from data.taxonomy import ALIASES, FAMILIES, FAMILY_OF_INSTRUMENT, GENRE_ALIASES, GENRES, Meaning

COLUMNS = (
    "file", "instrument", "instruments", "family", "is_instrument", "genre", "drums", "timbre", "pitch", "split",
    "group", "start_s", "end_s",
)  # fmt: skip
_TIMELESS = ("is_instrument", "genre", "drums", "timbre", "pitch", "split", "group")
_YES_NO = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}


@dataclass(frozen=True, slots=True)
class Sounding:
    """What a row with times says."""

    line: int
    start_s: float
    end_s: float
    labels: Labels

    def is_in(self, start_s: float, end_s: float) -> bool:
        """Whether it sounds in a clip: long enough, or as long as it does at all."""
        shared = min(self.end_s, end_s) - max(self.start_s, start_s)
        return shared >= min(MIN_SOUNDING_SECONDS, self.end_s - self.start_s)


@dataclass(frozen=True, slots=True)
class Known:
    """What the rows of a recording say."""

    line: int = 0
    """Of the row without times; 0 if there is none."""
    labels: Labels = field(default_factory=Labels)
    """What that row says."""
    split: str | None = None
    group: str | None = None
    sounding: tuple[Sounding, ...] = ()

    def labels_between(self, start_s: float, end_s: float, is_part: bool) -> Labels:
        """The labels of a clip: of the whole recording, weak in a part of it, and of what sounds just then."""
        whole = replace(self.labels, is_weak=is_part and self.labels != Labels())
        heard = [whole, *(row.labels for row in self.sounding if row.is_in(start_s, end_s))]
        if len(heard) == 1:
            return whole
        return replace(
            whole,
            is_instrument=True,
            family=_present(name for labels in heard for name in labels.family.present),
            instrument=_present(name for labels in heard for name in labels.instrument.present),
            drums=True if any(labels.drums for labels in heard) else whole.drums,
        )


def read_labels(path: Path, recordings: Iterable[str]) -> dict[str, Known]:
    """Reads the CSV; what it says by recording.

    Args:
        path: of the CSV.
        recordings: those that it may name.

    Raises:
        DataError: the CSV cannot be used, with the line where there is one.
    """
    names = dict.fromkeys(recordings)
    known: dict[str, Known] = {}
    split_of_group: dict[str, tuple[str, int]] = {}
    for line, cells in _rows(path):
        try:
            recording = Path(cells["file"]).as_posix()
            if recording not in names:
                raise DataError(f"no recording {cells['file']!r} in the folder{_close(recording, names)}")
            found = known[recording] = _with_row(known.get(recording, Known()), cells, line)
            if found.group and found.split:
                split, before = split_of_group.setdefault(found.group, (found.split, line))
                if split != found.split:
                    raise DataError(f"the group {found.group!r} is in {found.split}, in line {before} in {split}")
        except DataError as error:
            raise DataError(f"{path}, line {line}: {error}; mend the cell or leave it empty") from error
    return known


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns = reader.fieldnames or []
            _check_header(path, columns)
            for row in reader:
                if None in row:
                    raise DataError(
                        f"{path}, line {reader.line_num}: more cells than the header's {len(columns)}; "
                        "put cells with commas into quotation marks"
                    )
                yield reader.line_num, {column: (cell or "").strip() for column, cell in row.items()}
    except OSError as error:
        raise DataError(f"a CSV of labels was expected at {path} ({error.strerror}); check --labels") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} should be a CSV in UTF-8 ({error}); save it as one") from error


def _check_header(path: Path, columns: Iterable[str]) -> None:
    if "file" not in columns:
        raise DataError(
            f"{path} should have a column 'file', found {', '.join(columns) or 'an empty file'}; add it to the header"
        )
    for column in columns:
        if column not in COLUMNS:
            raise DataError(f"{path} has an unknown column {column!r}{_close(column, COLUMNS)}; rename or remove it")


def _with_row(known: Known, cells: Mapping[str, str], line: int) -> Known:
    """What is known of a recording when one more row has been read."""
    is_timed = bool(cells.get("start_s") or cells.get("end_s"))
    if known.line and not is_timed:
        raise DataError(f"{cells['file']!r} was already in line {known.line}")
    meanings, families = _sounding_names(cells)
    labels = _labels(meanings, families, cells)
    if is_timed:
        known = replace(known, sounding=(*known.sounding, _sounding(cells, line, labels)))
    else:
        split = cells.get("split") or None
        if split not in (None, *SPLITS):
            raise DataError(f"unknown split {split!r}, one of {', '.join(SPLITS)} expected")
        known = replace(known, line=line, labels=labels, split=split, group=cells.get("group") or None)
    if known.labels.is_instrument is False and known.sounding:
        raise DataError("is_instrument is no in one row of the recording, but another has an instrument")
    return known


def _sounding(cells: Mapping[str, str], line: int, labels: Labels) -> Sounding:
    for column in _TIMELESS:
        if cells.get(column):
            raise DataError(f"{column} holds for a whole recording, but this row has times; move it to a row without")
    if labels.is_instrument is None:
        raise DataError("a row with times should name instruments or families, none found")
    start, end = _seconds(cells, "start_s"), _seconds(cells, "end_s")
    if not start < end:
        raise DataError(f"end_s should be above start_s ({start:g}), {end:g} found")
    return Sounding(line, start, end, labels)


def _sounding_names(cells: Mapping[str, str]) -> tuple[list[Meaning], list[str]]:
    """What the instruments of a row mean, and the families that it names."""
    listed = _names(cells.get("instrument")) + _names(cells.get("instruments"))
    return (
        [_look_up(name, "instrument", _MEANINGS, FAMILY_OF_INSTRUMENT) for name in listed],
        [_look_up(name, "family", _FAMILIES, FAMILIES) for name in _names(cells.get("family"))],
    )


def _labels(meanings: list[Meaning], families: list[str], cells: Mapping[str, str]) -> Labels:
    is_instrument, drums = _yes_no(cells, "is_instrument"), _yes_no(cells, "drums")
    if is_instrument is False:
        if meanings or families:
            sounding = cells.get("instrument") or cells.get("instruments") or cells.get("family")
            raise DataError(f"is_instrument is no, but {sounding} is said to sound")
        family = instrument = NOTHING
    else:
        instrument = _present(meaning.instrument for meaning in meanings)
        family = _present([*families, *(meaning.family for meaning in meanings)])
        if drums is None and not DRUMS.isdisjoint(instrument.present):
            drums = True
    return Labels(
        is_instrument=True if meanings or families else is_instrument,
        family=family,
        instrument=instrument,
        timbre=cells.get("timbre") or None,
        genre=_genres(_names(cells.get("genre"))),
        drums=drums,
        pitch=_pitch(cells.get("pitch")),
    )


def _genres(names: list[str]) -> LabelSet:
    """Names that the taxonomy knows in its words; where it says that one is no genre, the list is not complete."""
    found = [_GENRES.get(_plain(name), name) for name in names]
    return replace(_present(found), complete=bool(found) and None not in found)


def _present(names: Iterable[str | None]) -> LabelSet:
    """What is known to sound, where more may; unknown if nothing is."""
    return LabelSet(tuple(dict.fromkeys(name for name in names if name is not None)))


def _names(cell: str | None) -> list[str]:
    return [name.strip() for name in (cell or "").split(";") if name.strip()]


def _look_up(name: str, column: str, meanings: Mapping[str, Any], known: Iterable[str]) -> Any:
    if _plain(name) not in meanings:
        raise DataError(f"unknown {column} {name!r}{_close(name, known)}")
    return meanings[_plain(name)]


def _yes_no(cells: Mapping[str, str], column: str) -> bool | None:
    text = cells.get(column)
    if not text:
        return None
    if text.lower() not in _YES_NO:
        raise DataError(f"{column} should be yes or no, {text!r} found")
    return _YES_NO[text.lower()]


def _pitch(text: str | None) -> int | None:
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or int(text) > 127:
        raise DataError(f"pitch should be a whole number from 0 to 127, {text!r} found")
    return int(text)


def _seconds(cells: Mapping[str, str], column: str) -> float:
    try:
        seconds = float(cells.get(column) or "nan")
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise DataError(f"{column} should be a number of seconds, {cells.get(column, '')!r} found")
    return seconds


def _close(name: str, known: Iterable[str]) -> str:
    """A hint at what may have been meant, to go behind the name."""
    known = list(known)
    close = difflib.get_close_matches(_plain(name), known, n=3, cutoff=0.5)
    close = close or difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    return f" (close: {', '.join(close)})" if close else f" (known: {', '.join(sorted(known)[:12])}, ...)"


def _plain(name: str) -> str:
    """A name without what people write in different ways: ``Hi-Hat`` and ``hi hat`` are ``hi_hat``."""
    return re.sub(r"[\W_]+", "_", name.casefold()).strip("_")


def _meanings() -> dict[str, Meaning]:
    """What a name for instruments means; where data sets disagree, the first of them is right."""
    meanings = {name: Meaning(name, family, True) for name, family in FAMILY_OF_INSTRUMENT.items()}
    for source in ("openmic", "medleydb", "fsd50k", "musan", "mir"):
        for label, meaning in ALIASES[source].items():
            if meaning.candidates:
                meanings.setdefault(_plain(label), meaning)
    return meanings


_MEANINGS = _meanings()
_FAMILIES = {name: name for name in FAMILIES}
_GENRES = {_plain(name): genre for table in GENRE_ALIASES.values() for name, genre in table.items()} | {
    name: name for name in GENRES
}

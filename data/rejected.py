"""What a preparation did not take into the pack: ``rejected.csv``, one row each, named with its reason."""

import csv
import io
from collections import Counter
from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from data.errors import DataError
from data.files import write_atomically
from data.pack import REJECTED_NAME

BROKEN, DUPLICATE, LEFT_OUT = "broken", "duplicate", "left_out"
KINDS = (BROKEN, DUPLICATE, LEFT_OUT)
"""Cannot be used; sounds the same as another clip to the last sample; left out by its source on purpose."""
SAME_SOUND = "same sound as "
"""Begins the reason of a duplicate; the id of the clip in the pack follows."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """A row of ``rejected.csv``: a recording, or one of its clips."""

    kind: str
    """One of `KINDS`."""
    source: str
    recording: str
    reason: str
    id: str = ""
    """Of the clip, if it came to be one."""
    split: str = ""
    """Of the clip, if its source gave one."""


def write_rejected(folder: Path, rejected: Iterable[Rejected]) -> None:
    """Writes ``rejected.csv``.

    Raises:
        DataError: it cannot be written.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(field.name for field in fields(Rejected))
    writer.writerows(map(astuple, rejected))
    with write_atomically(folder / REJECTED_NAME) as file:
        # A file name may hold bytes that are no text.
        file.write(text.getvalue().encode(errors="backslashreplace"))


def read_rejected(folder: Path) -> list[Rejected]:
    """Reads the ``rejected.csv`` of a pack.

    Raises:
        DataError: it is missing or damaged.
    """
    path = folder / REJECTED_NAME
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = [Rejected(**row) for row in csv.DictReader(file)]
    except (OSError, UnicodeDecodeError, csv.Error, TypeError) as error:
        raise DataError(f"{path} cannot be read; copy the pack again or prepare it anew") from error
    unknown = next((row.kind for row in rows if row.kind not in KINDS), None)
    if unknown is not None:
        raise DataError(
            f"{path} should name the kinds {', '.join(KINDS)}, {unknown!r} found; "
            "copy the pack again or prepare it anew"
        )
    return rows


def count_reasons(rejected: Iterable[Rejected]) -> dict[str, Counter[str]]:
    """How many were rejected, by kind and by the first words of the reason, for the kinds that occur."""
    counts: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}
    for row in rejected:
        counts[row.kind][_first_words(row)] += 1
    return {kind: reasons for kind, reasons in counts.items() if reasons}


def _first_words(row: Rejected) -> str:
    """A reason without the numbers and names of the single case."""
    if row.kind == DUPLICATE:
        return SAME_SOUND + "another clip"
    words = row.reason.split(" s: ", 1)[1] if row.reason.startswith("at ") and " s: " in row.reason else row.reason
    if words.startswith("holds "):
        return "holds NaN or infinite values"
    return words if words.startswith("cannot be") else words.split(":", 1)[0]

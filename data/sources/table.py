"""The tables of a published data set."""

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from data.errors import DataError

MAX_CELL = 1 << 20
"""Characters; the csv module's own 131,072 are few for what musicians may write about their tracks (OpenMIC)."""


def rows(path: Path, columns: tuple[str, ...], data_set: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Yields the rows of a published CSV, each with where it stands, for errors.

    Args:
        path: of the CSV; its first line is the header.
        columns: that it must have.
        data_set: its name, for errors.

    Returns:
        ``("FILE, line 2", {column: cell})`` of each row.

    Raises:
        DataError: no such file, not a CSV in UTF-8, a column missing, a row with more or fewer cells than the header.
    """
    advice = f"unpack {data_set} again"
    csv.field_size_limit(MAX_CELL)
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            header = reader.fieldnames or []
            for column in columns:
                if column not in header:
                    found = ", ".join(header) or "an empty file"
                    raise DataError(f"{path} should have a column {column!r}, found {found}; {advice}")
            for row in reader:
                where = f"{path}, line {reader.line_num}"
                if None in row or None in row.values():
                    raise DataError(f"{where}: {len(header)} cells were expected, more or fewer found; {advice}")
                yield where, row
    except OSError as error:
        raise DataError(f"{data_set}'s table was expected at {path} ({error.strerror}); {advice}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} should be a CSV in UTF-8 ({error}); {advice}") from error


@contextmanager
def standing_at(where: str) -> Iterator[None]:
    """Puts where a row stands before the sentence of whatever is wrong with it."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{where}: {error}") from error

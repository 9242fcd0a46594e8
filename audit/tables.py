"""Answers to queries as text: a table to read, or JSON.

``json``, one object:

    format, version    "luthier query", 1; the version grows when a key changes its meaning or goes
    index, pack        their folders
    k, filters, exclude_group
    queries            a list, each with
      name, clip         as it was asked for; its id, null if it is a file
      seconds            its length
      neighbours         nearest first, each with rank, similarity (cosine), distance (1 - similarity), clip, labels,
                         source, recording, group, split, start_s, duration_s
    labels             family, instrument and genre, each a list of names that are known to sound; is_instrument, true,
                       false or null
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from audit.findings import Neighbour, Query
from data.clip import SPLITS
from data.codes import SETS
from data.decode import FULL_SCALE, RATE
from data.pack import Pack
from data.readable import as_text, clock, printable

VERSION = 1
DIGITS = 4
"""Behind the point, of similarities."""
NUMBERS = 5
"""Columns of the table that hold numbers."""
NOT_KNOWN, NO_INSTRUMENT = "?", "no instrument"


@dataclass(frozen=True)
class Answer:
    """What was asked for, and its neighbours."""

    name: str
    """As it was asked for."""
    row: int | None
    """Of the clip; None if it is a file."""
    waveform: np.ndarray
    """float32 ``(S,)`` at 16 kHz."""
    similarity: np.ndarray
    """Cosines, float32 ``(k,)``, falling."""
    rows: np.ndarray
    """int64 ``(k,)``."""

    def as_query(self, clips: "Clips") -> Query:
        """The same in the words of `audit.findings`."""
        neighbours = zip(map(clips.id, self.rows), self.similarity.tolist(), strict=True)
        clip = None if self.row is None else clips.id(self.row)
        return Query(as_text(Path(self.name)), clip, tuple(Neighbour(*one) for one in neighbours))


class Clips:
    """What a pack says of its clips, read once when it is asked for."""

    def __init__(self, pack: Pack):
        self.pack = pack

    @cached_property
    def ids(self) -> np.ndarray:
        """Of all clips, ``(N,)``."""
        return self.pack.column("id")

    @cached_property
    def _columns(self) -> dict[str, np.ndarray]:
        return {name: self.pack.column(name) for name in ("source", "recording", "group", "start_s")}

    def id(self, row: int) -> str:
        """Of a clip."""
        return self.ids[row]

    def sound(self, row: int) -> np.ndarray:
        """Of a clip, float32 ``(S,)``."""
        return self.pack.samples(row).astype(np.float32) / FULL_SCALE

    def about(self, row: int) -> dict[str, Any]:
        """Everything of a clip that a table or JSON tells, by the names of the manifest."""
        own = {name: column[row] for name, column in self._columns.items()}
        codes = self.pack.codes.columns
        return {
            "clip": self.id(row),
            "labels": self.labels(row),
            "source": own["source"],
            "recording": own["recording"],
            "group": own["group"],
            "split": SPLITS[codes["split"][row]],
            "start_s": round(float(own["start_s"]), 3),
            "duration_s": round(int(self.pack.num_samples[row]) / RATE, 3),
        }

    def labels(self, row: int) -> dict[str, Any]:
        """Names that are known to sound at every level, and whether the clip is an instrument."""
        codes = self.pack.codes
        labels: dict[str, Any] = {}
        for level in SETS:
            is_present = codes.sets[level][codes.columns[level][row]] == 1
            labels[level] = [name for name, here in zip(codes.names[level], is_present, strict=True) if here]
        labels["is_instrument"] = {1: True, 0: False}.get(int(codes.columns["is_instrument"][row]))
        return labels

    def words(self, row: int) -> str:
        """The labels in a few words: instruments, or families where no instrument has a name, and genres."""
        labels = self.labels(row)
        if labels["is_instrument"] is False:
            return NO_INSTRUMENT
        names = labels["instrument"] or labels["family"]
        parts = [", ".join(some) for some in (names, labels["genre"]) if some]
        return "; ".join(parts) or NOT_KNOWN


def as_table(answer: Answer, clips: Clips) -> str:
    """The lines of one query, for a person."""
    own = "" if answer.row is None else f", {clips.words(answer.row)}"
    lines = [f"{printable(Path(answer.name))}  {clock(len(answer.waveform) / RATE)}{own}"]
    header = ("rank", "similarity", "distance", "start", "duration", "split", "data set", "clip", "labels")
    rows = []
    for rank, (row, similarity) in enumerate(zip(answer.rows.tolist(), answer.similarity.tolist(), strict=True), 1):
        about = clips.about(row)
        rows.append(
            (
                str(rank), f"{similarity:.{DIGITS}f}", f"{1 - similarity:.{DIGITS}f}", clock(about["start_s"]),
                clock(about["duration_s"]), about["split"], about["source"], printable(Path(about["clip"])),
                clips.words(row),
            )
        )  # fmt: skip
    return "\n".join([*lines, *_aligned(header, rows)]) + "\n"


def as_json(
    answers: Iterable[Answer], clips: Clips, index: Path, k: int, filters: Sequence[str], exclude_group: bool
) -> str:
    """All queries, see the top of this file."""
    queries = [
        {
            "name": as_text(Path(answer.name)),
            "clip": None if answer.row is None else clips.id(answer.row),
            "seconds": round(len(answer.waveform) / RATE, 3),
            "neighbours": [
                {"rank": rank, "similarity": similarity, "distance": round(1 - similarity, 6), **clips.about(row)}
                for rank, (row, similarity) in enumerate(_rounded(answer), 1)
            ],
        }
        for answer in answers
    ]
    found = {
        "format": "luthier query", "version": VERSION, "index": as_text(index), "pack": as_text(clips.pack.folder),
        "k": k, "filters": list(filters), "exclude_group": exclude_group, "queries": queries,
    }  # fmt: skip
    return json.dumps(found, ensure_ascii=False, indent=1, allow_nan=False) + "\n"


def _rounded(answer: Answer) -> list[tuple[int, float]]:
    similarity = answer.similarity.astype(np.float64).round(6).tolist()
    return list(zip(answer.rows.tolist(), similarity, strict=True))


def _aligned(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns of text, of which the first are numbers; the last, which may be long, is not filled up."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    return [
        "  " + "  ".join(
            cell.rjust(width) if place < NUMBERS else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (header, *rows)
    ]  # fmt: skip

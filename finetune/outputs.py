"""Predictions as text: a table to read, CSV, or JSON with every number.

Each output gives its text piece by piece, a recording at a time, so that a thousand of them need no memory.

``csv``, one header, for every recording a row for each class of it as a whole and one for each span of time:

    recording    path
    part         recording: all of it, pooled over time; span: a stretch of time in which the class is heard
    head, class  as violin of instrument
    start_s      seconds, and end_s
    probability  of the recording, or the mean over a span's chunks
    is_heard     1 where it reaches the threshold; of a span always

``json``, one object:

    format, version       "luthier prediction", 1; the version grows when a key changes its meaning or goes
    run, pooling          the run folder; how chunks were pooled over time
    chunk_seconds         length of a chunk, and hop_seconds from the beginning of one to that of the next
    heads                 name to kind (binary or classes), classes, thresholds (null for classes)
    recordings            a list, each with
      recording, seconds    path, length
      times                 of each chunk [begin, end], T of them
      is_silent             of each chunk; where it is true, every probability is 0
      heads                 name to present (names), pooled (C numbers), probabilities (T rows of C numbers),
                            spans (objects with class, start_s, end_s, probability)
    failed                a list, each with recording and reason
"""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from data.readable import as_text, clock, printable
from finetune.prediction import HeadPrediction, Prediction
from finetune.recordings import Failure

VERSION = 1
DIGITS = 5
"""Behind the point, of probabilities; of seconds there are three."""


@dataclass(frozen=True)
class About:
    """What holds for all predictions of an output."""

    run: str
    chunk_seconds: float
    hop_seconds: float
    top: int | None
    """How many classes of a head a table and CSV tell of, the likeliest in the recording, heard or not; None for those
    that are heard in it or in a part of it (table) or for all (CSV)."""


class Table:
    """What a person reads: per recording what is heard in all of it, and when."""

    suffixes = (".txt",)

    def __init__(self, about: About):
        self._about = about

    def add(self, prediction: Prediction) -> str:
        """The lines of one recording."""
        num, silent = len(prediction.times), int(prediction.is_silent.sum())
        quiet = "" if not silent else ", all silent" if silent == num else f", {silent} of them silent"
        chunks = f"{num} chunk{'' if num == 1 else 's'}{quiet}"
        lines = [f"{printable(prediction.path)}  {clock(prediction.seconds)}, {chunks}"]
        spans = []
        for name, head in prediction.heads.items():
            told = told_of(head, self._about.top)
            words = [f"{head.classes[place]} {head.pooled[place]:.2f}" for place in told]
            lines.append(
                f"  {name}, {'mean' if head.kind == 'classes' else prediction.pooling}: {', '.join(words) or '-'}"
            )
            spans += [
                span for span in prediction.spans(name)
                if self._about.top is None or head.classes.index(span.name) in told
            ]  # fmt: skip
        spans.sort(key=lambda span: span.start_s)
        rows = [
            (clock(span.start_s), clock(span.end_s), span.head, span.name, f"{span.probability:.2f}") for span in spans
        ]
        return "\n".join([*lines, *_aligned(("start", "end", "head", "class", "probability"), rows)]) + "\n\n"

    def end(self, failures: Sequence[Failure]) -> str:
        """Nothing: failures were named when they happened."""
        return ""


class Csv:
    """Rows for other programs, see the top of this file."""

    suffixes = (".csv",)

    def __init__(self, about: About):
        self._about, self._is_begun = about, False

    def add(self, prediction: Prediction) -> str:
        """The rows of one recording, before the first of them the header."""
        text = io.StringIO()
        writer = csv.writer(
            text, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC
        )  # a path may hold a carriage return
        if not self._is_begun:
            writer.writerow(("recording", "part", "head", "class", "start_s", "end_s", "probability", "is_heard"))
            self._is_begun = True
        path, end_s = as_text(prediction.path), round(prediction.seconds, 3)
        for name, head in prediction.heads.items():
            places, is_heard = head.ranked[: self._about.top], head.is_heard(head.pooled)
            for place in places:
                pooled = round(float(head.pooled[place]), DIGITS)
                row = (path, "recording", name, head.classes[place], 0.0, end_s, pooled, int(is_heard[place]))
                writer.writerow(row)
            names = {head.classes[place] for place in places}
            for span in prediction.spans(name):
                if span.name in names:
                    times = round(span.start_s, 3), round(span.end_s, 3)
                    writer.writerow((path, "span", name, span.name, *times, round(span.probability, DIGITS), 1))
        return text.getvalue()

    def end(self, failures: Sequence[Failure]) -> str:
        """Nothing: a row is a recording."""
        return ""


class Json:
    """Everything, see the top of this file."""

    suffixes = (".json",)

    def __init__(self, about: About):
        self._about, self._is_begun = about, False

    def add(self, prediction: Prediction) -> str:
        """One recording, before the first of them what holds for all."""
        before = ",\n" if self._is_begun else f'{self._opening(prediction)[:-1]}, "recordings": [\n'
        self._is_begun = True
        heads = {
            name: {
                "present": head.present,
                "pooled": _rounded(head.pooled, DIGITS),
                "probabilities": _rounded(head.probabilities, DIGITS),
                "spans": [
                    {
                        "class": span.name, "start_s": round(span.start_s, 3), "end_s": round(span.end_s, 3),
                        "probability": round(span.probability, DIGITS),
                    }
                    for span in prediction.spans(name)
                ],
            }
            for name, head in prediction.heads.items()
        }  # fmt: skip
        recording = {
            "recording": as_text(prediction.path),
            "seconds": round(prediction.seconds, 3),
            "times": _rounded(prediction.times, 3),
            "is_silent": prediction.is_silent.tolist(),
            "heads": heads,
        }
        return before + json.dumps(recording, ensure_ascii=False, allow_nan=False)

    def end(self, failures: Sequence[Failure]) -> str:
        """What failed, and the closing brace."""
        failed = [{"recording": as_text(path), "reason": reason} for path, reason in failures]
        return f'\n], "failed": {json.dumps(failed, ensure_ascii=False)}}}\n'

    def _opening(self, prediction: Prediction) -> str:
        heads = {
            name: {
                "kind": head.kind,
                "classes": list(head.classes),
                "thresholds": None if head.thresholds is None else _rounded(head.thresholds, DIGITS),
            }
            for name, head in prediction.heads.items()
        }
        about = {
            "format": "luthier prediction", "version": VERSION, "run": self._about.run, "pooling": prediction.pooling,
            "chunk_seconds": self._about.chunk_seconds, "hop_seconds": self._about.hop_seconds, "heads": heads,
        }  # fmt: skip
        return json.dumps(about, ensure_ascii=False)


FORMATS: dict[str, type[Table | Json | Csv]] = {"table": Table, "json": Json, "csv": Csv}


def told_of(head: HeadPrediction, top: int | None) -> list[int]:
    """Places of the classes that a summary names, the likeliest first: the `top` likeliest, or those that are heard."""
    if top is not None:
        return head.ranked[:top]
    return [head.classes.index(name) for name in head.present]


def _rounded(values: Any, digits: int) -> list:
    """An array as nested lists of short numbers; in float64, for float32 rounds to many digits."""
    return values.astype("float64").round(digits).tolist()


def _aligned(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    if not rows:
        return []
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    return [
        "  " + "  ".join(
            cell.ljust(width) if 2 <= place < 4 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in (header, *rows)
    ]  # fmt: skip

"""MedleyDB's activations: how surely each stem of a song sounds, frame by frame."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.errors import DataError
from data.sources.sounding import MIN_SOUNDING_SECONDS

SOUNDING_FROM = 0.5
"""Confidence from which a stem sounds."""
SILENT_BELOW = 0.1
"""Confidence below which it is silent: digital silence has 0.047, and the filter of the authors makes that waver."""
STEM = re.compile(r"S\d+", re.ASCII)
"""The name of a stem in the tables."""
_ADVICE = "get it again, or remove it, for without it labels are weak"


@dataclass(frozen=True, slots=True)
class Activations:
    """The table of a song; T frames, K stems."""

    stems: tuple[str, ...]
    times: np.ndarray
    """float64 ``(T,)``, seconds."""
    confidence: np.ndarray
    """float64 ``(T, K)`` in [0, 1]."""

    @classmethod
    def read(cls, path: Path) -> "Activations":
        """Reads ``SONG_ACTIVATION_CONF.lab``: a header ``time,S01,S02`` and so on, and a row of numbers every 46 ms.

        Raises:
            DataError: it cannot be read, or holds something else.
        """
        try:
            first, _, rest = path.read_text(encoding="utf-8").partition("\n")
            header = first.strip().split(",")
            if len(header) < 2 or header[0] != "time" or not all(map(STEM.fullmatch, header[1:])):
                found = first.strip()[:60]
                raise DataError(f"{path} should begin with time,S01,S02 and so on, {found!r} found; {_ADVICE}")
            rows = rest.splitlines()
            table = np.loadtxt(rows, delimiter=",", ndmin=2) if any(rows) else np.empty((0, len(header)))
        except (OSError, ValueError) as error:  # ValueError: a cell, a row or the encoding
            raise DataError(f"{path} should be a table of confidences ({error}); {_ADVICE}") from error
        if len(table) < 2 or table.shape[1] != len(header):
            found = f"{table.shape[0]} of {table.shape[1]}"
            raise DataError(f"{path} should have rows of {len(header)} numbers, {found} found; {_ADVICE}")
        times, confidence = table[:, 0], table[:, 1:]
        is_sound = np.isfinite(table).all() and (np.diff(times) > 0).all()
        if not (is_sound and confidence.min() >= 0 and confidence.max() <= 1):
            raise DataError(f"{path} should have rising times and confidences from 0 to 1, others found; {_ADVICE}")
        return cls(tuple(header[1:]), times, confidence)

    def seconds(self, stem: str, start_s: float, end_s: float) -> float | None:
        """How long a stem sounds between two times: 0 if it is silent, None where nobody can tell."""
        if stem not in self.stems:
            return None
        first, last = np.searchsorted(self.times, (start_s, end_s))
        found = self.confidence[first:last, self.stems.index(stem)]
        frame_s = self.times[1] - self.times[0]
        sounding_s = float(np.count_nonzero(found >= SOUNDING_FROM) * frame_s)
        if sounding_s >= MIN_SOUNDING_SECONDS:
            return sounding_s
        is_covered = len(found) * frame_s > end_s - start_s - MIN_SOUNDING_SECONDS
        return 0.0 if is_covered and found.max(initial=0) < SILENT_BELOW else None

"""Suspect labels as a table for a person to correct, which `data.relabel` then applies to the pack.

One line a suspect, the surest first. ``suggested`` is what the audit believes; what a person believes goes into
``correction``, in the words of `data.correction`, and a line without one changes nothing.
"""

import csv
from collections.abc import Iterable
from pathlib import Path

from audit.findings import Suspect
from checkpoints.files import replacing

COLUMNS = ("clip", "level", "given", "suggested", "correction", "rank", "self_confidence", "neighbour_share")


def write_corrections(suspects: Iterable[Suspect], path: Path) -> None:
    """Writes a table of suspects whose column ``correction`` is empty.

    Raises:
        CheckpointError: it cannot be written.
    """
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for one in suspects:
            numbers = (f"{value:.4f}" for value in (one.rank, one.self_confidence, one.neighbour_share))
            writer.writerow([one.clip, one.level, one.given, one.suggested, "", *numbers])

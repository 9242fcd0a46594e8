"""What an audit says of every clip, as a table to go on with in any tool.

N clips of the pack.
"""

import os

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from audit.findings import Findings
from audit.neighbours import Neighbours
from audit.points import found_of
from checkpoints.files import replacing
from data.pack import Pack

NEAREST = 10
"""Neighbours that the table names."""
FROM_MANIFEST = (
    "id", "source", "recording", "group", "split", "start_s", "duration_s", "is_instrument", "family_present",
    "instrument_present", "genre_present",
)  # fmt: skip


def clip_table(pack: Pack, findings: Findings, nearest: Neighbours, occurrences: np.ndarray) -> pa.Table:
    """One row a clip, in the order of the manifest.

    Beside what the manifest says: ``neighbours`` and ``similarities``, the ids and cosines of the nearest others;
    ``occurrences``, how many clips have it among theirs; ``mean_similarity``, to its own nearest; ``findings``, what
    was found of it, as ``leak`` or ``suspect label``.

    Args:
        nearest: of every clip.
        occurrences: int64 ``(N,)``.
    """
    ids = pa.array(pack.column("id"), pa.string())
    rows, similarity = nearest.rows[:, :NEAREST], nearest.similarity[:, :NEAREST]
    is_there = rows >= 0
    offsets = pa.array(np.concatenate([[0], is_there.sum(axis=1).cumsum()]), pa.int32())
    found = found_of(findings)
    columns = {
        "neighbours": pa.ListArray.from_arrays(offsets, pc.take(ids, pa.array(rows[is_there]))),
        "similarities": pa.ListArray.from_arrays(offsets, pa.array(similarity[is_there], pa.float32())),
        "occurrences": pa.array(occurrences, pa.int64()),
        "mean_similarity": pa.array(
            np.divide(
                np.where(is_there, similarity, 0).sum(axis=1), is_there.sum(axis=1),
                out=np.full(len(pack), np.nan, np.float32), where=is_there.any(axis=1),
            ),
            pa.float32(),
        ),
        "findings": pa.array([found.get(clip, []) for clip in ids.to_pylist()], pa.list_(pa.string())),
    }  # fmt: skip
    manifest = pack.manifest.select(FROM_MANIFEST)
    return pa.table(dict(zip(manifest.column_names, manifest.columns, strict=True)) | columns)


def write_clip_table(table: pa.Table, path: str | os.PathLike) -> None:
    """Writes the table as Parquet."""
    with replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")

"""The manifest of a pack: its columns, a clip's row, and how rows are counted."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from data.clip import SPLITS, UNKNOWN, Clip, LabelSet
from data.decode import RATE
from data.pcm import Pcm

LABEL_SETS = ("family", "instrument", "genre", "qualities")
"""Levels that are a `LabelSet`: three columns each, ``_present``, ``_absent`` and ``_complete``."""

_NAMES = pa.list_(pa.field("element", pa.string()))

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("source", pa.string()),
        ("recording", pa.string()),
        ("group", pa.string()),
        ("split", pa.string()),
        ("is_split_drawn", pa.bool_()),  # its source gave none
        ("start_s", pa.float64()),
        ("duration_s", pa.float64()),
        ("num_samples", pa.int64()),
        ("shard", pa.int32()),
        ("offset", pa.int64()),  # in samples, from the start of the shard
        ("checksum", pa.string()),
        ("is_instrument", pa.bool_()),
        *[
            column
            for level in LABEL_SETS
            for column in (
                (f"{level}_present", _NAMES),  # null, like _absent: nobody said anything
                (f"{level}_absent", _NAMES),
                (f"{level}_complete", pa.bool_()),
            )
        ],
        ("timbre", pa.string()),
        ("drums", pa.bool_()),
        ("pitch", pa.int16()),
        ("velocity", pa.int16()),
        ("production", pa.string()),
        ("instrument_relevance", pa.map_(pa.string(), pa.float32())),
        ("is_weak", pa.bool_()),
        ("gain_db", pa.float32()),
        ("peak_dbfs", pa.float32()),
        ("rms_dbfs", pa.float32()),
        ("num_clipped", pa.int64()),
        ("source_rate", pa.int32()),
    ]
)
"""Unknown labels are null, never a default."""


def row_of(clip: Clip, pcm: Pcm, checksum: str, shard: int, offset: int) -> dict[str, Any]:
    """The manifest's row of a clip that lies at ``offset`` samples into shard number ``shard``.

    The split is still the one that the source gives.
    """
    labels = clip.labels
    return {
        "id": clip.id,
        "source": clip.source,
        "recording": clip.recording,
        "group": clip.group,
        "split": clip.split,
        "is_split_drawn": clip.split is None,
        "start_s": clip.start_s,
        "duration_s": len(pcm.samples) / RATE,
        "num_samples": len(pcm.samples),
        "shard": shard,
        "offset": offset,
        "checksum": checksum,
        "is_instrument": labels.is_instrument,
        **_columns_of("family", labels.family),
        **_columns_of("instrument", labels.instrument),
        **_columns_of("genre", labels.genre),
        **_columns_of("qualities", labels.qualities),
        "timbre": labels.timbre,
        "drums": labels.drums,
        "pitch": labels.pitch,
        "velocity": labels.velocity,
        "production": labels.production,
        "instrument_relevance": list(labels.relevance) or None,
        "is_weak": labels.is_weak,
        "gain_db": pcm.gain_db,
        "peak_dbfs": pcm.peak_dbfs,
        "rms_dbfs": pcm.rms_dbfs,
        "num_clipped": pcm.num_clipped,
        "source_rate": pcm.source_rate,
    }


def _columns_of(level: str, names: LabelSet) -> dict[str, Any]:
    known = names != UNKNOWN
    return {
        f"{level}_present": list(names.present) if known else None,
        f"{level}_absent": list(names.absent) if known else None,
        f"{level}_complete": names.complete,
    }


def totals(manifest: pa.Table, by: str, keys: Sequence[str] | None = None) -> dict[str, dict[str, float]]:
    """Clips and hours for each value of a column.

    Args:
        manifest: with the columns ``by`` and ``num_samples``.
        by: a column of strings.
        keys: the values to list, in order; all that occur, sorted, if None.

    Returns:
        ``{value: {"clips": int, "hours": float}}``
    """
    grouped = manifest.select([by, "num_samples"]).group_by(by).aggregate([("num_samples", "sum"), (by, "count")])
    found = {
        row[by]: {"clips": row[f"{by}_count"], "hours": round(row["num_samples_sum"] / RATE / 3600, 6)}
        for row in grouped.to_pylist()
    }
    nothing = {"clips": 0, "hours": 0.0}
    return {key: found.get(key, nothing) for key in (sorted(found) if keys is None else keys)}


def split_totals(manifest: pa.Table) -> dict[str, dict[str, float]]:
    """Clips and hours of every split, the empty ones too."""
    return totals(manifest, "split", SPLITS)


def hours_of(manifest: pa.Table) -> float:
    """Hours of sound in a manifest."""
    return round((pc.sum(manifest["num_samples"]).as_py() or 0) / RATE / 3600, 6)

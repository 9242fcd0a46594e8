"""The end of a preparation: what all clips together decide, once each of them has been read.

Splits that were left open are drawn, duplicates are dropped, and the manifest is written. Everything follows from the
rows that the units left and from the plan, so that a kill at any moment changes nothing: what was done before it is
done again or found done.
"""

import dataclasses
import io
import json
import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data import statistics, taxonomy
from data.clip import SPLITS
from data.codes import write_codes
from data.decode import RATE
from data.errors import DataError
from data.files import checksum_of, sync_folder, write_atomically
from data.leaks import spare_clips
from data.manifest import SCHEMA, hours_of, split_totals, totals
from data.pack import (
    INFO_NAME,
    MANIFEST_NAME,
    PARTIAL_NAME,
    REJECTED_NAME,
    VERSION,
    PackInfo,
    shard_name,
)
from data.plan import Options, Plan
from data.rejected import BROKEN, DUPLICATE, LEFT_OUT, SAME_SOUND, Rejected, write_rejected
from data.splits import sounds_of, split_clips

_ROWS_GROUP = 65_536  # rows of a row group in the manifest


@dataclass(frozen=True)
class Units:
    """What the units of a plan left, put together."""

    manifest: pa.Table
    rejected: list[Rejected]
    sums: dict[str, tuple[float, float, int]]
    """`data.statistics.log_mel_sums` of the clips that were measured, by id."""
    shard_bytes: list[int]


def rows_path(folder: Path, unit: int) -> Path:
    """Where a finished unit leaves its rows."""
    return folder / PARTIAL_NAME / f"rows_{unit:05d}.arrow"


def finish(folder: Path, plan: Plan, max_reject_share: float, licences: Mapping[str, str]) -> None:
    """Turns finished units into a pack.

    Raises:
        DataError: see `data.writer.write_pack`.
    """
    units = _read_units(folder, plan)
    manifest, duplicates = _settle(units.manifest, plan.options)
    rejected = [*units.rejected, *duplicates]
    counts = Counter(row.kind for row in rejected)
    write_rejected(folder, rejected)
    _check_rejects(folder, manifest.num_rows, counts, max_reject_share)
    manifest, shard_bytes = _close_gaps(folder, manifest, units.shard_bytes)
    manifest_checksum, codes_checksum = write_manifest(folder, manifest)
    mean, std = _log_mel(manifest, units.sums, plan.options.seed)
    info = PackInfo(
        version=VERSION,
        name=folder.resolve().name,
        rate=RATE,
        num_clips=manifest.num_rows,
        num_rejected=counts[BROKEN],
        num_duplicates=counts[DUPLICATE],
        num_left_out=counts[LEFT_OUT],
        hours=hours_of(manifest),
        splits=split_totals(manifest),
        sources={
            source: {**counted, "licence": licences.get(source)}
            for source, counted in totals(manifest, "source").items()
        },
        taxonomy_version=taxonomy.VERSION,
        seed=plan.options.seed,
        split_shares=dict(zip(SPLITS, plan.options.split_shares, strict=True)),
        min_seconds=plan.options.min_seconds,
        log_mel_mean=mean,
        log_mel_std=std,
        shard_bytes=shard_bytes,
        manifest_checksum=manifest_checksum,
        codes_checksum=codes_checksum,
        plan=plan.fingerprint,
    )
    write_info(folder, info)
    shutil.rmtree(folder / PARTIAL_NAME)


def write_manifest(folder: Path, manifest: pa.Table) -> tuple[str, str]:
    """Writes the manifest of a pack and its codes; returns the checksums of both."""
    buffer = io.BytesIO()
    pq.write_table(manifest, buffer, row_group_size=_ROWS_GROUP, compression="zstd")
    with write_atomically(folder / MANIFEST_NAME) as file:
        file.write(buffer.getbuffer())
    checksum = checksum_of(buffer.getbuffer())
    return checksum, write_codes(folder, manifest, checksum)


def write_info(folder: Path, info: PackInfo) -> None:
    """Writes ``pack.json``, which makes the folder a pack: the rest of it is on the disk before."""
    sync_folder(folder)
    with write_atomically(folder / INFO_NAME) as file:
        file.write(json.dumps(dataclasses.asdict(info), indent=2).encode() + b"\n")
    sync_folder(folder)


def _read_units(folder: Path, plan: Plan) -> Units:
    tables, sums, shard_bytes = [], {}, []
    rejected = [
        Rejected(LEFT_OUT if reject.is_left_out else BROKEN, reject.source, reject.recording, reject.reason)
        for reject in plan.rejects
    ]
    for unit in plan.units:
        table = pa.ipc.open_file(rows_path(folder, unit.number).read_bytes()).read_all()
        extra = {key.decode(): json.loads(value) for key, value in table.schema.metadata.items()}
        tables.append(table.replace_schema_metadata(None))
        rejected += [Rejected(*values) for values in extra["rejects"]]
        sums |= extra["log_mel_sums"]
        shard_bytes.append(extra["shard_bytes"])
    manifest = pa.concat_tables(tables) if tables else SCHEMA.empty_table()
    return Units(manifest, rejected, sums, shard_bytes)


def _settle(manifest: pa.Table, options: Options) -> tuple[pa.Table, list[Rejected]]:
    """Fills in the splits that were open, and takes out the duplicates."""
    keep_duplicates = options.duplicates == "keep"
    split = split_clips(manifest, options.seed, options.split_shares, count_duplicates=keep_duplicates)
    is_given = ~manifest["is_split_drawn"].to_numpy()
    spare, first = spare_clips(sounds_of(manifest), split, is_given, keep_duplicates)
    columns = ["source", "recording", "id", "split"]
    rows, kept_ids = manifest.select(columns).take(spare).to_pylist(), manifest["id"].take(first).to_pylist()
    duplicates = [
        Rejected(DUPLICATE, row["source"], row["recording"], SAME_SOUND + kept_id, row["id"], row["split"] or "")
        for row, kept_id in zip(rows, kept_ids, strict=True)
    ]
    place = manifest.schema.get_field_index("split")
    manifest = manifest.set_column(place, SCHEMA.field("split"), pa.array(SPLITS).take(pa.array(split)))
    if len(spare):
        manifest = manifest.take(np.delete(np.arange(manifest.num_rows), spare))
    return manifest, duplicates


def _check_rejects(folder: Path, num_clips: int, counts: Counter[str], max_reject_share: float) -> None:
    broken, total = counts[BROKEN], num_clips + counts[DUPLICATE] + counts[BROKEN]
    if total == 0:
        left_out = f"; {counts[LEFT_OUT]} were left out on purpose" if counts[LEFT_OUT] else ""
        raise DataError(f"the sources should hold clips, none found; check their folders{left_out}")
    if broken > max_reject_share * total:
        raise DataError(
            f"{broken} of {total} clips were rejected, more than the share of {max_reject_share:g} allowed; "
            f"see {folder / REJECTED_NAME} for the reasons, mend the recordings or raise --max_reject_share"
        )
    if num_clips == 0:
        raise DataError(f"all {total} clips were rejected; see {folder / REJECTED_NAME} for the reasons")


def _close_gaps(folder: Path, manifest: pa.Table, shard_bytes: list[int]) -> tuple[pa.Table, list[int]]:
    """Takes the sound of dropped clips out of the shards.

    Args:
        manifest: with the places that the clips had when the units were written.
        shard_bytes: the sizes of the shards then.

    Returns:
        The manifest with the places that the clips have now, and the sizes of the shards now.
    """
    shard, before = manifest["shard"].to_numpy(), manifest["offset"].to_numpy()
    num_samples = manifest["num_samples"].to_numpy()
    sizes = np.zeros(len(shard_bytes), np.int64)
    np.add.at(sizes, shard, num_samples)
    ends = np.cumsum(num_samples)
    after = ends - num_samples - (np.cumsum(sizes) - sizes)[shard]
    for number in np.flatnonzero(2 * sizes != shard_bytes).tolist():
        path = folder / shard_name(number)
        found = path.stat().st_size
        if found == 2 * sizes[number]:
            continue  # done before a kill
        if found != shard_bytes[number]:
            raise DataError(
                f"{path} should hold {shard_bytes[number]} bytes and holds {found}; start over with --overwrite"
            )
        rows = np.flatnonzero(shard == number)
        with open(path, "rb") as old, write_atomically(path) as new:
            for start, length in zip(2 * before[rows], 2 * num_samples[rows], strict=True):
                old.seek(start)
                new.write(old.read(length))
    place = manifest.schema.get_field_index("offset")
    return manifest.set_column(place, SCHEMA.field("offset"), pa.array(after, pa.int64())), (2 * sizes).tolist()


def _log_mel(
    manifest: pa.Table, sums: Mapping[str, tuple[float, float, int]], seed: int
) -> tuple[float | None, float | None]:
    """Mean and standard deviation over the first of the measured clips that are in the training split."""
    training = set(manifest["id"].filter(pc.equal(manifest["split"], "train")).to_pylist())
    sample = statistics.excerpts((id_ for id_ in sums if id_ in training), seed, statistics.MAX_CLIPS)
    return statistics.mean_and_std(sums[id_] for id_ in sample)

"""A pack: a folder with the manifest of clips and their sound, decoded, mono, 16 kHz, memory-mapped.

::

    manifest.parquet     one row a clip, columns in `data.manifest.SCHEMA`
    shard_00000.i16 ...  little-endian int16 samples, one clip after another
    rejected.csv         what was not taken, columns in `data.rejected.Rejected`
    pack.json            `PackInfo`; written last, so a folder that has it is whole

`data.writer.write_pack` writes one. B rows of a batch, S samples, N clips of the pack.
"""

import dataclasses
import json
import mmap
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from data.errors import DataError

VERSION = 2
INFO_NAME = "pack.json"
MANIFEST_NAME = "manifest.parquet"
REJECTED_NAME = "rejected.csv"
PARTIAL_NAME = ".partial"
"""The folder of an unfinished preparation."""


def shard_name(shard: int) -> str:
    """The file name of a shard."""
    return f"shard_{shard:05d}.i16"


def checksum_of(data: Any) -> str:
    """XXH3's 128 bits of a bytes-like object, in hexadecimal: finds damage and equal sound, keeps out no forger."""
    return xxhash.xxh3_128_hexdigest(data)


@dataclass(frozen=True)
class PackInfo:
    """What ``pack.json`` says."""

    version: int
    """Of the format on the disk."""
    name: str
    rate: int
    """Hz."""
    num_clips: int
    num_rejected: int
    """Recordings and clips that cannot be used."""
    num_duplicates: int
    """Clips dropped for having the sound of another, to the last sample."""
    num_left_out: int
    """Recordings and clips that their source left out on purpose."""
    hours: float
    splits: dict[str, dict[str, float]]
    """Clips and hours of every split."""
    sources: dict[str, dict[str, Any]]
    """Clips, hours and licence of every source."""
    taxonomy_version: int
    seed: int
    split_shares: dict[str, float]
    """Asked for where the split was left open."""
    min_seconds: float
    log_mel_mean: float | None
    """Of AST's log-mel over a sample of the training split; None without training clips."""
    log_mel_std: float | None
    shard_bytes: list[int]
    """The size of every shard, in order."""
    manifest_checksum: str
    plan: str
    """Fingerprint of what was asked for: clips, labels, options."""


class Pack:
    """A pack that is open for reading: immutable, memory-mapped, and cheap to hand to other processes."""

    def __init__(self, folder: Path, info: PackInfo):
        self.folder = folder
        self.info = info
        self._shards: list[np.ndarray | None] = [None] * len(info.shard_bytes)

    @classmethod
    def open(cls, folder: str | os.PathLike) -> "Pack":
        """Opens a pack without reading its sound.

        Raises:
            DataError: the folder is no pack, is half written, is of another version, or misses a part.
        """
        folder = Path(folder)
        info = _read_info(folder)
        for shard, expected in enumerate(info.shard_bytes):
            path = folder / shard_name(shard)
            found = path.stat().st_size if path.is_file() else None
            if found != expected:
                raise DataError(
                    f"{path} should hold {expected} bytes and "
                    f"{'is missing' if found is None else f'holds {found}'}; copy the pack again or prepare it anew"
                )
        pack = cls(folder, info)
        if len(pack.num_samples) != info.num_clips:
            raise DataError(
                f"{folder / MANIFEST_NAME} should hold {info.num_clips} clips and holds {len(pack.num_samples)}; "
                "copy the pack again or prepare it anew"
            )
        return pack

    def __reduce__(self):
        return Pack.open, (self.folder,)

    def __len__(self) -> int:
        return self.info.num_clips

    def __repr__(self) -> str:
        return f"Pack({str(self.folder)!r}, {len(self)} clips, {self.info.hours:.2f} h)"

    @property
    def fingerprint(self) -> str:
        """Of everything in the pack: the manifest, which holds the checksum of every clip's samples."""
        return f"{self.info.version}-{self.info.manifest_checksum}"

    @cached_property
    def manifest(self) -> pa.Table:
        """The whole manifest, one row a clip."""
        return self._read_manifest(None)

    @cached_property
    def _places(self) -> pa.Table:
        return self._read_manifest(["shard", "offset", "num_samples"])

    def _read_manifest(self, columns: list[str] | None) -> pa.Table:
        path = self.folder / MANIFEST_NAME
        try:
            with pq.ParquetFile(path, memory_map=True) as file:
                return file.read(columns=columns)
        except (OSError, pa.ArrowException) as error:
            raise DataError(
                f"{path} cannot be read as a manifest ({str(error).splitlines()[0]}); "
                "copy the pack again or prepare it anew"
            ) from error

    @cached_property
    def shard(self) -> np.ndarray:
        """int32 ``(N,)``: the shard of every clip."""
        return self._places["shard"].to_numpy()

    @cached_property
    def offset(self) -> np.ndarray:
        """int64 ``(N,)``: where every clip begins in its shard, in samples."""
        return self._places["offset"].to_numpy()

    @cached_property
    def num_samples(self) -> np.ndarray:
        """int64 ``(N,)``: the length of every clip."""
        return self._places["num_samples"].to_numpy()

    def rows(self, split: str) -> np.ndarray:
        """int64 row numbers of the clips of a split, in the manifest's order."""
        return np.flatnonzero(self.column("split") == split)

    def column(self, name: str) -> np.ndarray:
        """A column of the manifest, ``(N,)``.

        Numbers that are all known come as their own type; everything else as objects, with None for unknown. Lists
        come as tuples, and an unknown list as the empty one: see the ``_complete`` column of its level.

        Raises:
            DataError: there is no such column.
        """
        if name not in self.manifest.column_names:
            raise DataError(f"{self.folder} has no column {name!r}; it has {', '.join(self.manifest.column_names)}")
        values = self.manifest[name]
        if pa.types.is_primitive(values.type) and values.null_count == 0:
            return values.to_numpy()
        is_list = pa.types.is_list(values.type)
        result = np.empty(len(values), dtype=object)
        result[:] = [tuple(value or ()) for value in values.to_pylist()] if is_list else values.to_pylist()
        return result

    def _shard(self, shard: int) -> np.ndarray:
        """int16 ``(samples of the shard,)``, mapped when first asked for."""
        mapped = self._shards[shard]
        if mapped is None:
            path = self.folder / shard_name(shard)
            with open(path, "rb") as file:
                data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            # A plain array: slicing numpy's memmap class costs more than copying a short crop.
            mapped = self._shards[shard] = np.frombuffer(data, dtype="<i2")
        return mapped

    def samples(self, row: int) -> np.ndarray:
        """A clip's samples, int16 ``(num_samples,)``, a read-only view of the file."""
        start = int(self.offset[row])
        return self._shard(int(self.shard[row]))[start : start + int(self.num_samples[row])]

    def read_crops(self, rows: np.ndarray, starts: np.ndarray, num_samples: int, out: np.ndarray) -> None:
        """Copies one crop of each of some clips.

        Args:
            rows: ``(B,)`` row numbers.
            starts: ``(B,)`` first sample of each crop, counted from the start of the clip.
            num_samples: S, the length of a crop.
            out: int16 ``(B, S)``, filled; zeros behind the end of a clip.
        """
        rows, starts = np.asarray(rows), np.asarray(starts)
        if starts.size and int(starts.min()) < 0:
            raise ValueError(f"crops start at sample 0 or later, {int(starts.min())} given")
        begins = (self.offset[rows] + starts).tolist()
        counts = np.clip(self.num_samples[rows] - starts, 0, num_samples).tolist()
        for crop, shard, begin, count in zip(out, self.shard[rows].tolist(), begins, counts, strict=True):
            if count == num_samples:
                crop[:] = self._shard(shard)[begin : begin + count]
            else:
                crop[:count] = self._shard(shard)[begin : begin + count]
                crop[count:] = 0

    def verify(self) -> None:
        """Reads everything and compares checksums.

        Raises:
            DataError: names the manifest, or the first damaged clips and how many there are.
        """
        path = self.folder / MANIFEST_NAME
        if checksum_of(path.read_bytes()) != self.info.manifest_checksum:
            raise DataError(f"{path} is not what was written; copy the pack again or prepare it anew")
        ids, checksums = self.column("id"), self.column("checksum")
        damaged = [row for row in range(len(self)) if checksum_of(self.samples(row)) != checksums[row]]
        if damaged:
            named = ", ".join(f"{ids[row]} in {shard_name(int(self.shard[row]))}" for row in damaged[:5])
            more = f" and {len(damaged) - 5} more" if len(damaged) > 5 else ""
            raise DataError(
                f"{len(damaged)} of {len(self)} clips in {self.folder} are not what was written: {named}{more}; "
                "copy the pack again or prepare it anew"
            )


def _read_info(folder: Path) -> PackInfo:
    path = folder / INFO_NAME
    if not path.is_file():
        if (folder / PARTIAL_NAME).is_dir():
            raise DataError(f"{folder} is half written; run the command that prepared it again to finish it")
        found = "an empty or other folder" if folder.is_dir() else "no such folder"
        raise DataError(f"a pack was expected at {folder}, {found} found; make one with python -m data.prepare")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        version = values["version"]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} does not describe a pack; copy the pack again or prepare it anew") from error
    if version != VERSION:
        raise DataError(f"{folder} is a pack of version {version}, this code reads version {VERSION}; prepare it anew")
    expected = {field.name for field in dataclasses.fields(PackInfo)}
    if set(values) != expected:
        odd = ", ".join(sorted(set(values) ^ expected))
        raise DataError(f"{path} misses or adds the keys {odd}; copy the pack again or prepare it anew")
    return PackInfo(**values)

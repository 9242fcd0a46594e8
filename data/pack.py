"""A pack: a folder with the manifest of clips and their sound, decoded, mono, 16 kHz, memory-mapped.

Its sound may stay on an object store as well, see `data.remote`.

::

    manifest.parquet     one row a clip, columns in `data.manifest.SCHEMA`
    shard_00000.i16 ...  little-endian int16 samples, one clip after another
    codes.arrow          the manifest in numbers, see `data.codes`
    rejected.csv         what was not taken, columns in `data.rejected.Rejected`
    pack.json            `PackInfo`; written last, so a folder that has it is whole

`data.writer.write_pack` writes one. B rows of a batch, S samples, N clips of the pack.
"""

import dataclasses
import json
import mmap
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypedDict

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data.block_cache import DEFAULT_GIB
from data.blocks import BLOCK_BYTES, Blocks
from data.clip import SPLITS
from data.codes import CODES_NAME, ROWS_AT_ONCE, Codes, is_intact
from data.errors import DataError
from data.files import checksum_of, inside
from data.fitting import misfit
from data.manifest import SCHEMA
from data.object_store import is_url

VERSION = 2
INFO_NAME = "pack.json"
MANIFEST_NAME = "manifest.parquet"
REJECTED_NAME = "rejected.csv"
PARTIAL_NAME = ".partial"
"""The folder of an unfinished preparation."""
_LEADS_OUT = r"^/|(^|/)\.\.(/|$)"  # of a recording's path: absolute, or with a step up


def shard_name(shard: int) -> str:
    """The file name of a shard."""
    return f"shard_{shard:05d}.i16"


class Totals(TypedDict):
    """How much there is."""

    clips: int
    hours: float


class SourceTotals(Totals):
    """How much a source gave."""

    licence: str | None


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
    splits: dict[str, Totals]
    """Clips and hours of every split."""
    sources: dict[str, SourceTotals]
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
    codes_checksum: str
    plan: str
    """Fingerprint of what was asked for: clips, labels, options."""

    def describe_splits(self) -> str:
        """Clips and hours of every split in words."""
        return ", ".join(f"{name} {part['clips']} clips ({part['hours']:.2f} h)" for name, part in self.splits.items())


class Pack:
    """A pack that is open for reading: immutable, memory-mapped, and cheap to hand to other processes."""

    def __init__(self, folder: Path, info: PackInfo):
        self.folder = folder
        self.info = info
        self.place = str(folder)
        """What a person calls it: its folder, or its URL."""
        self._shards: list[np.ndarray | None] = [None] * len(info.shard_bytes)

    @classmethod
    def open(cls, place: str | os.PathLike, cache_gib: float = DEFAULT_GIB) -> "Pack":
        """Opens a pack without reading its sound.

        Args:
            place: its folder, or a URL that fsspec reads, such as ``s3://bucket/pack``.
            cache_gib: room on this machine for what is fetched from URLs, in GiB.

        Raises:
            DataError: there is no pack, it is half written, is of another version, misses a part, or names
                something outside itself.
        """
        if is_url(place):
            from data.remote import RemotePack  # only here, for it builds on this module

            return RemotePack.open_url(place, cache_gib)
        pack = cls._trusted(Path(place))
        for shard, expected in enumerate(pack.info.shard_bytes):
            path = inside(pack.folder, shard_name(shard))
            found = path.stat().st_size if path.is_file() else None
            if found != expected:
                raise wrong_size(path, expected, found)
        pack._check_manifest()
        return pack

    @classmethod
    def _trusted(cls, folder: Path) -> "Pack":
        return cls(folder, read_info(folder))

    def __reduce__(self):
        return Pack._trusted, (self.folder,)  # whoever sends it has opened it, and only numbers are read there

    def __len__(self) -> int:
        return self.info.num_clips

    def __repr__(self) -> str:
        return f"Pack({self.place!r}, {len(self)} clips, {self.info.hours:.2f} h)"

    @property
    def address(self) -> str:
        """What opens it from anywhere: its folder from the root on, or its URL."""
        return str(self.folder.resolve())

    @property
    def fingerprint(self) -> str:
        """Of everything in the pack: the manifest, which holds the checksum of every clip's samples."""
        return f"{self.info.version}-{self.info.manifest_checksum}"

    @cached_property
    def sound_fingerprint(self) -> str:
        """Of the clips and their samples, in order; corrected labels leave it as it is."""
        clips = zip(self.column("id"), self.column("checksum"), strict=True)
        return f"{self.info.version}-{checksum_of(chr(10).join(f'{clip} {sound}' for clip, sound in clips).encode())}"

    @cached_property
    def manifest(self) -> pa.Table:
        """The whole manifest, one row a clip: half a gigabyte for a million. `column` reads one column."""
        with self._opened_manifest() as file:
            return file.read()

    @contextmanager
    def _opened_manifest(self) -> Iterator[pq.ParquetFile]:
        path = inside(self.folder, MANIFEST_NAME)
        try:
            with pq.ParquetFile(path, memory_map=True) as file:
                yield file
        except (OSError, pa.ArrowException) as error:
            raise DataError(
                f"{path} cannot be read as a manifest ({str(error).splitlines()[0]}); "
                "copy the pack again or prepare it anew"
            ) from error

    def _batches(self, columns: list[str]) -> Iterator[pa.RecordBatch]:
        """Some columns of the manifest, in batches that do not fill the memory."""
        with self._opened_manifest() as file:
            yield from file.iter_batches(ROWS_AT_ONCE, columns=columns)

    def _check_manifest(self) -> None:
        path = self.folder / MANIFEST_NAME
        with self._opened_manifest() as file:
            found, count = file.schema_arrow, file.metadata.num_rows
        for field in SCHEMA:
            if field.name not in found.names or found.field(field.name).type != field.type:
                raise DataError(
                    f"{path} should hold a column {field.name} of {field.type}; copy the pack again or prepare it anew"
                )
        if not count:
            raise DataError(f"{path} should hold clips and holds none; copy the pack again or prepare it anew")
        if count != self.info.num_clips or count != len(self.codes):
            raise DataError(
                f"{path} should hold {self.info.num_clips} clips and holds {count}; "
                "copy the pack again or prepare it anew"
            )
        first = 0
        for batch in self._batches(["recording"]):
            recordings = batch["recording"]
            place = pc.index(pc.match_substring_regex(recordings, _LEADS_OUT), True).as_py()
            if place >= 0:
                raise DataError(
                    f"every recording should be named by a path inside its source, row {first + place} of {path} names "
                    f"{recordings[place].as_py()!r}; trust this pack no further and prepare it anew"
                )
            first += len(batch)

    @cached_property
    def codes(self) -> Codes:
        """The manifest in numbers; all that reading sound and labels takes.

        Raises:
            DataError: a clip lies outside the shards.
        """
        codes = Codes.mapped(self.folder, self.info.codes_checksum, self.info.manifest_checksum)
        codes = codes or Codes.derived(self._batches, self.info.manifest_checksum)
        shard, offset, num_samples = (codes.columns[name] for name in ("shard", "offset", "num_samples"))
        sizes = np.array([*self.info.shard_bytes, 0], np.int64) // 2  # in samples; the last is for shards out of range
        is_shard = (shard >= 0) & (shard < len(self.info.shard_bytes))
        size = sizes[np.where(is_shard, shard, -1)]
        # Less in place of more: the end of a clip may lie beyond what an int64 holds.
        bad = np.flatnonzero(~is_shard | (offset < 0) | (num_samples < 1) | (num_samples > size - offset))
        if len(bad):
            row = bad[0]
            raise DataError(
                f"every clip should lie inside the shards of {self.folder}, {len(bad)} do not: the first, row {row}, "
                f"has {num_samples[row]} samples from {offset[row]} of shard {shard[row]}; "
                "copy the pack again or prepare it anew"
            )
        return codes

    @property
    def shard(self) -> np.ndarray:
        """int32 ``(N,)``: the shard of every clip."""
        return self.codes.columns["shard"]

    @property
    def offset(self) -> np.ndarray:
        """int64 ``(N,)``: where every clip begins in its shard, in samples."""
        return self.codes.columns["offset"]

    @property
    def num_samples(self) -> np.ndarray:
        """int64 ``(N,)``: the length of every clip."""
        return self.codes.columns["num_samples"]

    @cached_property
    def blocks(self) -> Blocks:
        """Runs of clips in the shards; a function of the manifest alone, wherever the sound lies."""
        return Blocks.of(self.shard, self.offset, self.num_samples, BLOCK_BYTES)

    def rows(self, split: str) -> np.ndarray:
        """int64 row numbers of the clips of a split, in the manifest's order."""
        return np.flatnonzero(self.codes.columns["split"] == SPLITS.index(split))

    def column(self, name: str) -> np.ndarray:
        """A column of the manifest, ``(N,)``.

        Numbers that are all known come as their own type; everything else as objects, with None for unknown. Lists
        come as tuples, and an unknown list as the empty one: see the ``_complete`` column of its level.

        Raises:
            DataError: there is no such column.
        """
        with self._opened_manifest() as file:
            names = file.schema_arrow.names
            if name not in names:
                raise DataError(f"{self.folder} has no column {name!r}; it has {', '.join(names)}")
            values = file.read([name])[name]
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
            path, expected = self.folder / shard_name(shard), self.info.shard_bytes[shard]
            found = path.stat().st_size if path.is_file() else None
            if found != expected:  # it was there when the pack was opened
                raise wrong_size(path, expected, found)
            with open(path, "rb") as file:
                data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            # A plain array: slicing numpy's memmap class costs more than copying a short crop.
            mapped = self._shards[shard] = np.frombuffer(data, dtype="<i2")
        return mapped

    def samples(self, row: int) -> np.ndarray:
        """A clip's samples, int16 ``(num_samples,)``, a read-only view of the file."""
        (sound,), (start,) = self._sounds(np.array([row]))
        return sound[start : start + int(self.num_samples[row])]

    def _sounds(self, rows: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
        """Of each clip an array that it lies in, and its first sample there."""
        return [self._shard(shard) for shard in self.shard[rows].tolist()], self.offset[rows]

    def read_crops(self, rows: np.ndarray, starts: np.ndarray, num_samples: int, out: Iterable[np.ndarray]) -> None:
        """Copies one crop of each of some clips.

        Args:
            rows: ``(B,)`` row numbers.
            starts: ``(B,)`` first sample of each crop, counted from the start of the clip.
            num_samples: S, the length of a crop.
            out: int16 ``(B, S)``, or B arrays of ``(S,)``, filled; zeros behind the end of a clip.
        """
        rows, starts = np.asarray(rows), np.asarray(starts)
        if starts.size and int(starts.min()) < 0:
            raise ValueError(f"crops start at sample 0 or later, {int(starts.min())} given")
        sounds, firsts = self._sounds(rows)
        begins = (firsts + starts).tolist()
        counts = np.clip(self.num_samples[rows] - starts, 0, num_samples).tolist()
        for crop, sound, begin, count in zip(out, sounds, begins, counts, strict=True):
            if count == num_samples:
                crop[:] = sound[begin : begin + count]
            else:
                crop[:count] = sound[begin : begin + count]
                crop[count:] = 0

    def verify(self) -> None:
        """Reads everything and compares checksums.

        Raises:
            DataError: names the manifest, or the first damaged clips and how many there are.
        """
        self._verify_tables()
        ids, checksums = self.column("id"), self.column("checksum")
        damaged = [row for row in range(len(self)) if checksum_of(self.samples(row)) != checksums[row]]
        if damaged:
            named = ", ".join(f"{ids[row]} in {shard_name(int(self.shard[row]))}" for row in damaged[:5])
            more = f" and {len(damaged) - 5} more" if len(damaged) > 5 else ""
            raise DataError(
                f"{len(damaged)} of {len(self)} clips in {self.folder} are not what was written: {named}{more}; "
                "copy the pack again or prepare it anew"
            )

    def _verify_tables(self) -> None:
        for name, checksum in ((MANIFEST_NAME, self.info.manifest_checksum), (CODES_NAME, self.info.codes_checksum)):
            if not is_intact(self.folder / name, checksum):
                raise DataError(f"{self.folder / name} is not what was written; copy the pack again or prepare it anew")


def wrong_size(path: str | os.PathLike, expected: int, found: int | None) -> DataError:
    """The sentence for a shard that is missing, or not as long as it was."""
    return DataError(
        f"{path} should hold {expected} bytes and {'is missing' if found is None else f'holds {found}'}; "
        "copy the pack again or prepare it anew"
    )


def read_info(folder: Path) -> PackInfo:
    """Reads ``pack.json``.

    Raises:
        DataError: the folder is no pack, is half written, or is of another version.
    """
    path = folder / INFO_NAME
    if not path.is_file():
        if (folder / PARTIAL_NAME).is_dir():
            raise DataError(f"{folder} is half written; run the command that prepared it again to finish it")
        found = "an empty or other folder" if folder.is_dir() else "no such folder"
        raise DataError(f"a pack was expected at {folder}, {found} found; make one with python -m data.prepare")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        version = values["version"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"{path} does not describe a pack; copy the pack again or prepare it anew") from error
    if version != VERSION:
        raise DataError(f"{folder} is a pack of version {version}, this code reads version {VERSION}; prepare it anew")
    expected = {field.name for field in dataclasses.fields(PackInfo)}
    if set(values) != expected:
        odd = ", ".join(sorted(set(values) ^ expected))
        raise DataError(f"{path} misses or adds the keys {odd}; copy the pack again or prepare it anew")
    wrong = misfit(values, PackInfo) or (set(values["splits"]) != set(SPLITS) and "splits should be the three")
    if wrong:
        raise DataError(f"{path} is damaged: {wrong}; copy the pack again or prepare it anew")
    return PackInfo(**values)

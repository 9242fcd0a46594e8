"""A manifest in numbers: where every clip lies and what is known of it, mapped by all processes that read.

``codes.arrow`` is derived from ``manifest.parquet`` when a pack is prepared. It is an uncompressed Arrow file of one
batch, so that it is used where it lies, in the page cache, which forked and spawned processes share:

===================================  ==========================================================================
shard, offset, num_samples           as in the manifest
split                                int8, the place in `data.clip.SPLITS`
is_instrument, drums, is_weak        int8: 1 yes, 0 no, -1 unknown
pitch, velocity                      int16, -1 unknown
timbre                               int32, a dictionary of names in their order, -1 unknown
family, instrument, genre            int32, a dictionary of the sets that occur: a byte a label, 1 present,
                                     0 absent, -1 unknown
relevance                            int32, a dictionary likewise: a float32 a label, NaN unknown; only where
                                     the pack has any
===================================  ==========================================================================

Most clips share their set with many others: a million rows take 50 to 100 megabytes. A file that is missing,
damaged, or of another manifest or taxonomy is not used: the codes are derived again, in memory.

N clips of the pack, K sets that occur at a level, C labels of a level.
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data.clip import SPLITS
from data.files import checksum_of, write_atomically
from data.taxonomy import FAMILIES, FAMILY_OF_INSTRUMENT, GENRES

CODES_NAME = "codes.arrow"
INSTRUMENTS = tuple(FAMILY_OF_INSTRUMENT)
SETS = ("family", "instrument", "genre")
"""Levels of which a clip has a set of labels."""
ROWS_AT_ONCE = 65_536  # of the manifest: what is spread out to a byte a label stays under ten megabytes or so

_PLACES = {"shard": np.int32, "offset": np.int64, "num_samples": np.int64}
_NUMBERS = {
    "is_instrument": np.int8, "drums": np.int8, "is_weak": np.int8, "pitch": np.int16, "velocity": np.int16,
}  # fmt: skip
_KEY = b"luthier"
_VERSION = 1  # of this layout; a pack that holds another is as good, its codes are derived again
_RELEVANCE = pa.list_(pa.struct([("key", pa.string()), ("value", pa.float32())]))

Rows = Callable[[list[str]], Iterable[pa.RecordBatch]]
"""Reads some columns of a manifest, in batches."""


class Codes:
    """The columns of ``codes.arrow``, wherever they lie."""

    columns: dict[str, np.ndarray]
    """``(N,)`` for every column; those of sets count into `sets`."""
    sets: dict[str, np.ndarray]
    """``(K, C)`` for every level of `SETS`, int8, and for relevance where there is any, float32."""
    names: dict[str, tuple[str, ...]]
    """The C labels of every level, in the order of its sets."""

    def __init__(self, batch: pa.RecordBatch):
        self._batch = batch
        self.names = {name: tuple(names) for name, names in _metadata(batch.schema)["names"].items()}
        self.columns = {name: _in_place(batch.column(name)) for name in batch.schema.names}
        self.sets = {}
        for name, names in self.names.items():
            values = batch.column(name).dictionary
            dtype = np.float32 if name == "relevance" else np.int8
            flat = np.frombuffer(values.buffers()[1], dtype, len(values) * len(names))
            self.sets[name] = flat.reshape(len(values), len(names))

    def __len__(self) -> int:
        return self._batch.num_rows

    @cached_property
    def timbre_names(self) -> tuple[str, ...]:
        """The names that the column of timbres counts, sorted."""
        return tuple(self._batch.column("timbre").dictionary.to_pylist())

    @classmethod
    def mapped(cls, folder: Path, checksum: str, manifest_checksum: str) -> "Codes | None":
        """Maps the file of a pack; None if it is not what was written, or not what would be written today."""
        path = folder / CODES_NAME
        if not is_intact(path, checksum):
            return None
        try:
            with pa.memory_map(os.fspath(path)) as source:
                batch = pa.ipc.open_file(source).get_batch(0)
            found = _metadata(batch.schema)
            if (found["version"], found["manifest"]) != (_VERSION, manifest_checksum):
                return None
            names = _names(found["names"]["genre"][len(GENRES) :])
            if any(tuple(found["names"][level]) != names[level] for level in SETS):
                return None
            return _checked(cls(_validated(batch, found["names"])))
        except Exception:  # somebody forged it, and its checksum; no matter how, it is not used
            return None

    @classmethod
    def derived(cls, rows: Rows, manifest_checksum: str) -> "Codes":
        """Derives the codes from a manifest.

        Args:
            rows: reads it.
            manifest_checksum: what the file will say that it was derived from.
        """
        genres, relevant = _names_in(rows)
        names = _names(sorted(genres - set(GENRES)))
        if relevant:
            names["relevance"] = tuple(name for name in INSTRUMENTS if name in relevant)
        parts: dict[str, list] = {}
        for batch in rows([*_PLACES, *_NUMBERS, "split", "timbre"]):
            for name, dtype in (_PLACES | _NUMBERS).items():
                column = batch.column(name).cast(pa.from_numpy_dtype(dtype)).fill_null(-1)
                parts.setdefault(name, []).append(column.to_numpy(zero_copy_only=False))
            parts.setdefault("split", []).append(_places_in(SPLITS, batch.column("split")).astype(np.int8))
            parts.setdefault("timbre", []).append(batch.column("timbre").dictionary_encode())
        for level in names:
            columns = ["instrument_relevance"] if level == "relevance" else _columns_of(level)
            parts[level] = [_encoded(_spread(batch, level, names[level])) for batch in rows(columns)]
        columns = {name: np.concatenate(parts[name]) for name in (*_PLACES, *_NUMBERS, "split")}
        columns["timbre"] = _sorted_by_name(pa.chunked_array(parts["timbre"]))
        for level in names:
            columns[level] = pa.chunked_array(parts[level]).unify_dictionaries().combine_chunks()
        batch = pa.record_batch(columns)
        about = json.dumps({"version": _VERSION, "manifest": manifest_checksum, "names": names})
        return cls(batch.replace_schema_metadata({_KEY: about}))

    def write(self, folder: Path) -> str:
        """Writes the file of a pack and returns its checksum."""
        buffer = pa.BufferOutputStream()
        with pa.ipc.new_file(buffer, self._batch.schema) as writer:
            writer.write_batch(self._batch)
        content = buffer.getvalue()
        with write_atomically(folder / CODES_NAME) as file:
            file.write(content)
        return checksum_of(content)


def _validated(batch: pa.RecordBatch, names: dict[str, list[str]]) -> pa.RecordBatch:
    """The batch of a file, which is used where it lies, if its columns are what they should be; ValueError if not."""
    batch.validate(full=True)
    types = {name: pa.from_numpy_dtype(dtype) for name, dtype in (_PLACES | _NUMBERS | {"split": np.int8}).items()}
    types |= {"timbre": pa.dictionary(pa.int32(), pa.string())}
    for level in names:
        width = len(names[level]) * (4 if level == "relevance" else 1)
        types[level] = pa.dictionary(pa.int32(), pa.binary(width))
    for name, expected in types.items():
        column = batch.column(name)
        if column.type != expected or (column.null_count and name != "timbre"):
            raise ValueError(f"{name} is of type {column.type}")
    return batch


def _checked(codes: Codes) -> Codes:
    """The same codes, if they count within what they count; ValueError if not."""
    limits = {"split": (0, len(SPLITS)), "timbre": (-1, len(codes.timbre_names))}
    limits |= dict.fromkeys(("is_instrument", "drums", "is_weak"), (-1, 2))
    limits |= {level: (0, len(values)) for level, values in codes.sets.items()}
    for name, (low, high) in limits.items():
        column = codes.columns[name]
        if len(column) and not (low <= column.min() and column.max() < high):
            raise ValueError(f"{name} counts out of bounds")
    if any(not np.isin(codes.sets[level], (-1, 0, 1)).all() for level in SETS):
        raise ValueError("a set should hold 1, 0 and -1")
    return codes


def write_codes(folder: Path, manifest: pa.Table, manifest_checksum: str) -> str:
    """Derives the codes of a manifest in memory, writes them into the folder of its pack, returns their checksum."""

    def rows(columns: list[str]) -> Iterator[pa.RecordBatch]:
        for first in range(0, manifest.num_rows, ROWS_AT_ONCE):
            yield from manifest.select(columns).slice(first, ROWS_AT_ONCE).combine_chunks().to_batches()

    return Codes.derived(rows, manifest_checksum).write(folder)


def is_intact(path: Path, checksum: str) -> bool:
    """Whether a file is there and has this checksum."""
    if not path.is_file():
        return False
    with pa.memory_map(os.fspath(path)) as source:
        return checksum_of(source.read_buffer()) == checksum


def _names(more_genres: Iterable[str]) -> dict[str, tuple[str, ...]]:
    return {"family": FAMILIES, "instrument": INSTRUMENTS, "genre": (*GENRES, *more_genres)}


def _columns_of(level: str) -> list[str]:
    return [f"{level}_{part}" for part in ("complete", "absent", "present")]


def _names_in(rows: Rows) -> tuple[set[str], set[str]]:
    """All genres of a manifest, and the instruments that have a relevance in it."""
    genres, relevant = set(), set()
    for batch in rows(["genre_present", "genre_absent", "instrument_relevance"]):
        for column in ("genre_present", "genre_absent"):
            genres |= set(batch.column(column).flatten().unique().to_pylist())
        relevant |= set(batch.column("instrument_relevance").keys.unique().to_pylist())
    return genres - {None}, relevant & set(INSTRUMENTS)


def _places_in(names: tuple[str, ...], values: pa.Array) -> np.ndarray:
    """The place of every value among the names, int32, -1 where it is not among them."""
    return pc.index_in(values, pa.array(names, pa.string())).fill_null(-1).to_numpy(zero_copy_only=False)


def _spread(batch: pa.RecordBatch, level: str, names: tuple[str, ...]) -> np.ndarray:
    """A value a clip and label, ``(rows, C)``; labels that are not among the names are left out."""
    if level == "relevance":
        # By way of a list: list_parent_indices ends the process when it is given a map.
        lists = batch.column("instrument_relevance").cast(_RELEVANCE)
        flat = lists.flatten()
        table = np.full((len(lists), len(names)), np.nan, np.float32)
        known = [(lists, flat.field("key"), flat.field("value").to_numpy(zero_copy_only=False))]
    else:
        complete, absent, present = (batch.column(name) for name in _columns_of(level))
        is_complete = complete.fill_null(False).to_numpy(zero_copy_only=False)
        table = np.where(is_complete[:, None], np.int8(0), np.int8(-1)) * np.ones(len(names), np.int8)
        known = [(absent, absent.flatten(), 0), (present, present.flatten(), 1)]
    for lists, keys, values in known:
        clip, label = pc.list_parent_indices(lists).to_numpy(), _places_in(names, keys)
        table[clip[label >= 0], label[label >= 0]] = values if np.isscalar(values) else values[label >= 0]
    return table


def _encoded(table: np.ndarray) -> pa.DictionaryArray:
    """The distinct rows of a table and the number of each row's own."""
    bytes_of_row = table.dtype.itemsize * table.shape[1]
    rows = pa.Array.from_buffers(pa.binary(bytes_of_row), len(table), [None, pa.py_buffer(table)])
    return rows.dictionary_encode()


def _sorted_by_name(column: pa.ChunkedArray) -> pa.DictionaryArray:
    """The same strings, their dictionary sorted; -1 lies under what is null."""
    column = column.unify_dictionaries().combine_chunks()
    order = pc.array_sort_indices(column.dictionary).to_numpy()
    rank = np.empty(len(order) + 1, np.int32)
    rank[order], rank[-1] = np.arange(len(order)), -1
    codes = rank[column.indices.fill_null(-1).to_numpy()]
    return pa.DictionaryArray.from_arrays(pa.array(codes, mask=codes < 0), column.dictionary.take(pa.array(order)))


def _metadata(schema: pa.Schema) -> dict:
    return json.loads(schema.metadata[_KEY])


def _in_place(column: pa.Array) -> np.ndarray:
    """The numbers of a column without a copy; under a null lies the -1 that `_sorted_by_name` left there."""
    if isinstance(column, pa.DictionaryArray):
        column = column.indices
    dtype = np.dtype(column.type.to_pandas_dtype())
    return np.frombuffer(column.buffers()[1], dtype, len(column), column.offset * dtype.itemsize)

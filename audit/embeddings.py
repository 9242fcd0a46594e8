"""Embeddings of all clips of a pack on the disk, and how they come about.

::

    vectors.npy        float32 or float16 (N, E), C order, memory-mapped; row i is row i of the pack's manifest
    embeddings.json    `EmbeddingsInfo`; written last, so a folder that has it is whole

`audit.embed` makes them. Shapes: N clips, M of them, E embedding size, S samples.
"""

import dataclasses
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import xxhash

from audit.embedder import Embedder
from audit.errors import AuditError
from checkpoints.errors import CheckpointError
from checkpoints.files import cannot_write, replacing
from data.fitting import misfit
from data.object_store import is_url
from data.pack import INFO_NAME as PACK_INFO_NAME
from data.pack import Pack

VERSION = 1
INFO_NAME, VECTORS_NAME, PARTIAL_NAME = "embeddings.json", "vectors.npy", ".partial"
"""The last is the folder of what is not finished."""
DTYPES = ("float32", "float16")
ROWS_AT_ONCE = 16_384
"""Of vectors that are looked through."""
NAMED = 3
"""Clips that a sentence names."""


@dataclass(frozen=True)
class EmbeddingsInfo:
    """What ``embeddings.json`` says."""

    version: int
    run: str
    """Run folder or backbone's folder, from the folder of the embeddings on if they lie in it, else the full path; or
    an id on the Hub. Empty where no run made them."""
    backbone: str
    """Its kind."""
    backbone_checksum: str
    """`audit.embedder.Embedder.checksum`."""
    pooling: str
    layers: list[int]
    """Numbers of the layers that were averaged; empty for those that the pooling takes."""
    num_samples: int
    """Of a window."""
    precision: str
    """In which matrices were multiplied: no (float32), bf16 or fp16."""
    pack: str
    """Its folder, the full path."""
    sound_fingerprint: str
    """Of the pack; corrected labels leave it as it is."""
    count: int
    """N."""
    width: int
    """E."""
    dtype: str
    checksum: str
    """XXH3 of the vectors."""


class Embeddings:
    """Embeddings that are open for reading.

    Attributes:
        folder, info, pack: where they lie, how they came about, what they are of.
        vectors: ``(N, E)``, memory-mapped, as the backbone gave them.
    """

    def __init__(self, folder: Path, info: EmbeddingsInfo, pack: Pack, vectors: np.ndarray):
        self.folder, self.info, self.pack, self.vectors = folder, info, pack, vectors

    @classmethod
    def open(cls, folder: str | os.PathLike, pack: str | os.PathLike | None = None) -> "Embeddings":
        """Opens embeddings, after reading them once for their checksum.

        Args:
            pack: where their pack lies now, if it is not where it was.

        Raises:
            AuditError: there are none, they are half made, damaged or of another version, or their pack is gone or
                has changed.
            DataError: the pack is damaged.
        """
        folder = Path(folder)
        info = _read_info(folder)
        vectors = _mapped(folder / VECTORS_NAME)
        found = vectors.shape, vectors.dtype.name
        if found != ((info.count, info.width), info.dtype) or _checksum_of(vectors) != info.checksum:
            raise AuditError(
                f"{folder / VECTORS_NAME} is not what was written, {info.count} vectors of {info.width} {info.dtype}; "
                "copy the folder again, or delete it and run audit.embed again"
            )
        return cls(folder, info, _open_pack(folder, info, info.pack if pack is None else pack), vectors)

    def __len__(self) -> int:
        return self.info.count

    def __repr__(self) -> str:
        return f"Embeddings({str(self.folder)!r}, {self.info.count} x {self.info.width} {self.info.dtype})"

    @property
    def run(self) -> str:
        """The run folder, the backbone's folder or the id on the Hub that made them; empty if none did."""
        is_inside = self.info.run.startswith(os.pardir)
        return os.path.normpath(self.folder.resolve() / self.info.run) if is_inside else self.info.run

    def unit(self, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """A copy of some vectors, L2-normalised: float32 ``(M, E)``; zeros stay zeros."""
        vectors = np.asarray(self.vectors[rows]).astype(np.float32)
        length = np.sqrt(np.einsum("me,me->m", vectors, vectors))[:, None]
        vectors /= np.where(length, length, 1)
        return vectors

    def check_finite(self) -> None:
        """Looks for vectors that have no direction.

        Raises:
            AuditError: some hold NaN or infinite values, or are all zeros; it names the first clips.
        """
        parts = range(0, len(self), ROWS_AT_ONCE)
        found = [begin + without_direction(self.vectors[begin : begin + ROWS_AT_ONCE]) for begin in parts]
        check_direction(np.concatenate(found), self.pack, str(self.folder))

    def embedder(self, device: str = "cpu") -> Embedder:
        """What made them, to embed more sound in the same way, in float32 whatever the precision was.

        Raises:
            AuditError: no run made them, or the run has changed since.
            CheckpointError: the run is gone or damaged.
        """
        if not self.run:
            raise AuditError(f"{self.folder} names no run that made its vectors; embed the pack with audit.embed")
        embedder = Embedder.load(self.run, device, self.info.pooling, self.info.layers, self.info.num_samples)
        if embedder.checksum != self.info.backbone_checksum:
            raise AuditError(
                f"{self.run} is not the model that made {self.folder}: its weights or settings have changed since; "
                "embed the pack again"
            )
        return embedder


def without_direction(vectors: np.ndarray) -> np.ndarray:
    """Places of those vectors of ``(M, E)`` that are all zeros, or hold NaN or infinite values."""
    return np.flatnonzero(~np.isfinite(vectors).all(axis=1) | ~vectors.any(axis=1))


def check_direction(rows: np.ndarray, pack: Pack, where: str) -> None:
    """Complains of clips whose vectors have no direction.

    Raises:
        AuditError: there are any; it names the first of them and how many there are.
    """
    if len(rows):
        named = ", ".join(pack.column("id")[rows[:NAMED]])
        more = f" and {len(rows) - NAMED} more" if len(rows) > NAMED else ""
        raise AuditError(
            f"every clip should have a vector of finite numbers, not all zeros; {len(rows)} of {len(pack)} in {where} "
            f"have another: {named}{more}; embed with a run that is sound, or with --dtype float32"
        )


def write_embeddings(
    folder: str | os.PathLike, vectors: np.ndarray | Iterable[np.ndarray], pack: Pack, *, dtype: str = "float32",
    run: str = "", backbone: str = "", backbone_checksum: str = "", pooling: str = "mean", layers: Sequence[int] = (),
    num_samples: int = 0, precision: str = "no",
) -> Embeddings:  # fmt: skip
    """Writes embeddings of a whole pack, from a run or from anywhere else.

    Args:
        folder: is made; other files in it stay.
        vectors: ``(N, E)``, or parts of it in order.
        dtype: one of `DTYPES`, in which they are written.
        run, backbone, backbone_checksum, pooling, layers, num_samples, precision: see `EmbeddingsInfo`.

    Raises:
        CheckpointError: the folder cannot be written.
        ValueError: another number of vectors than the pack has clips, or vectors of several lengths.
    """
    if dtype not in DTYPES:
        raise ValueError(f"vectors are written in {' or '.join(DTYPES)}, not {dtype}")
    folder, kind = Path(folder), np.dtype(dtype).newbyteorder("<")
    blocks = iter([vectors] if isinstance(vectors, np.ndarray) else vectors)
    first = next(blocks)
    count, width, checksum = 0, first.shape[1], xxhash.xxh3_128()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(cannot_write(folder, error)) from error
    with replacing(folder / VECTORS_NAME) as temporary, open(temporary, "wb") as file:
        header = {"descr": kind.str, "fortran_order": False, "shape": (len(pack), width)}
        np.lib.format.write_array_header_1_0(file, header)
        for block in chain([first], blocks):
            if block.ndim != 2 or block.shape[1] != width:
                raise ValueError(f"vectors of length {width} were expected, an array of shape {block.shape} found")
            values = np.ascontiguousarray(block, dtype=kind)
            file.write(values.data)
            checksum.update(values.data)
            count += len(block)
        if count != len(pack):
            raise ValueError(f"a vector for each of {len(pack)} clips was expected, {count} found")
        (folder / INFO_NAME).unlink(missing_ok=True)  # it does not speak of what comes now
    info = EmbeddingsInfo(
        VERSION, _from(folder, run), backbone, backbone_checksum, pooling, list(layers), num_samples, precision,
        pack.address, pack.sound_fingerprint, count, width, dtype, checksum.hexdigest(),
    )  # fmt: skip
    with replacing(folder / INFO_NAME) as temporary:
        temporary.write_text(json.dumps(dataclasses.asdict(info), indent=2) + "\n")
    return Embeddings(folder, info, pack, _mapped(folder / VECTORS_NAME))


def _from(folder: Path, run: str) -> str:
    """How the info names a run: one that moves with the embeddings in it from there, another by its full path."""
    path = Path(run).expanduser()
    if not run or not os.path.isdir(path):  # of an id on the Hub
        return run
    path, folder = path.resolve(), folder.resolve()
    return os.path.relpath(path, folder) if folder.is_relative_to(path) and folder != path else str(path)


def _read_info(folder: Path) -> EmbeddingsInfo:
    file = folder / INFO_NAME
    if not os.path.isfile(file):  # an index may name a folder that cannot be, and os.path raises nothing then
        if os.path.isdir(folder / PARTIAL_NAME):
            raise AuditError(f"{folder} is not finished; run the audit.embed that began it again to finish it")
        found = "a folder without embeddings.json" if os.path.isdir(folder) else "no such folder"
        raise AuditError(f"embeddings were expected at {folder}, {found} found; make some with python -m audit.embed")
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        version = values["version"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise AuditError(f"{file} does not describe embeddings; copy the folder again or run audit.embed") from error
    if version != VERSION:
        raise AuditError(
            f"{folder} holds embeddings of version {version}, this code reads version {VERSION}; run audit.embed again"
        )
    odd = set(values) ^ {field.name for field in dataclasses.fields(EmbeddingsInfo)}
    if odd:
        raise AuditError(
            f"{file} misses or adds the keys {', '.join(sorted(odd))}; copy the folder again or run audit.embed again"
        )
    if wrong := misfit(values, EmbeddingsInfo):
        raise AuditError(f"{file} is damaged: {wrong}; copy the folder again or run audit.embed again")
    return EmbeddingsInfo(**values)


def _mapped(file: Path) -> np.ndarray:
    try:
        return np.load(file, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # numpy reads a header as Python, and lets through what its parser raises
        raise AuditError(f"{file} cannot be read as vectors; copy the folder again or run audit.embed again") from error


def _checksum_of(vectors: np.ndarray) -> str:
    checksum = xxhash.xxh3_128()
    for begin in range(0, len(vectors), ROWS_AT_ONCE):
        checksum.update(np.ascontiguousarray(vectors[begin : begin + ROWS_AT_ONCE]).data)
    return checksum.hexdigest()


def _open_pack(folder: Path, info: EmbeddingsInfo, place: str | os.PathLike) -> Pack:
    if not is_url(place) and not os.path.isfile(os.path.join(place, PACK_INFO_NAME)):
        raise AuditError(
            f"{folder} holds embeddings of the pack {place}, which is not there; put it back, or embed where it is now"
        )
    pack = Pack.open(place)
    if len(pack) != info.count or pack.sound_fingerprint != info.sound_fingerprint:
        raise AuditError(
            f"{place} is not the pack that {folder} was made of, or has changed since; embed it again with audit.embed"
        )
    return pack

"""Makes an index of embeddings: what finds the nearest clips.

    python -m audit.index runs/contrastive_20260101-120000/embeddings/gm
    python -m audit.index runs/contrastive_20260101-120000/embeddings/gm --kind ivfpq --recall 0.99

Reads what audit.embed wrote. Writes a folder, index-KIND beside the embeddings by default::

    index.faiss          what FAISS made, memory-mapped when it is searched; index_00000.faiss ... with --shards
    index.json           `IndexInfo`; written last, so a folder that has it is whole

An index may be larger than the memory, for a search reads no more of it than it looks at; with --shards no more than
one file of it has to fit while it is made. Exact by default. Other kinds find less: how much is measured, against exact
search, and so is the speed of both. Search parameters that are not given are the fastest that reach --recall.

Similarity is the cosine. Shapes: N clips, Q queries, E embedding size, k neighbours.
"""

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch

from audit.embeddings import Embeddings
from audit.errors import AuditError
from audit.kinds import KINDS, PARAMETERS, parameters_of
from audit.recall import CLIPS, K, Search, choose_parameters, samples_of
from audit.shards import read_shards, search_shards, write_shards
from checkpoints.config import run_command
from checkpoints.errors import CheckpointError
from checkpoints.files import cannot_write, remove, replacing
from data.errors import DataError
from data.fitting import misfit

VERSION = 2
INFO_NAME = "index.json"
RECALL = 0.98
INTERRUPTED = 130
ERRORS = (AuditError, CheckpointError, DataError, ValueError)


@dataclass(frozen=True)
class IndexInfo:
    """What ``index.json`` says."""

    version: int
    kind: str
    """One of `audit.kinds.KINDS`."""
    parameters: dict[str, int]
    """What it was built with and is searched with, see `audit.kinds.PARAMETERS`."""
    files: list[str]
    """Checksum of each file that it is in, see `data.files.checksum_of`."""
    recall_at_10: float
    """Share of the 10 nearest others that it finds."""
    queries_per_s: float
    exact_queries_per_s: float
    """Of exact search on the same machine, at the same time."""
    embeddings: str
    """Their folder, from the folder of the index on if that lies in it, else the full path."""
    checksum: str
    """Of the vectors, see `EmbeddingsInfo`."""
    backbone_checksum: str
    """Of the model that made them."""
    count: int
    """N."""
    width: int
    """E."""
    metric: str


class Index:
    """An index that is open for search; rows that it finds are rows of the pack's manifest.

    Attributes:
        folder, info, embeddings: where it lies, how it came about, what it is of.
    """

    def __init__(self, folder: Path, info: IndexInfo, embeddings: Embeddings, shards: Sequence[faiss.Index]):
        self.folder, self.info, self.embeddings, self._shards = folder, info, embeddings, shards

    @classmethod
    def open(cls, folder: str | os.PathLike, pack: str | os.PathLike | None = None) -> "Index":
        """Opens an index and the embeddings that it is of.

        Args:
            pack: where their pack lies now, if it is not where it was.

        Raises:
            AuditError: there is none, it is damaged, or its embeddings are gone or not those that it was made of.
            DataError: the pack is damaged.
        """
        folder = Path(folder)
        info = _read_info(folder)
        embeddings = Embeddings.open(Path(os.path.normpath(folder.resolve() / info.embeddings)), pack)
        found = embeddings.info
        if found.width != info.width:
            what = f"embeddings of {info.width} numbers, {embeddings.folder} has {found.width}"
        elif found.backbone_checksum != info.backbone_checksum:
            what = f"embeddings of another model than those now in {embeddings.folder}"
        elif found.checksum != info.checksum:
            what = f"embeddings that have changed since in {embeddings.folder}"
        else:
            return cls(folder, info, embeddings, _checked(read_shards(folder, info.files), folder, info))
        raise AuditError(f"{folder} is an index of {what}; make it again with python -m audit.index")

    def __len__(self) -> int:
        return self.info.count

    def search(self, unit: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The k nearest clips of each query, a clip of the pack itself among its own.

        Args:
            unit: L2-normalised, float32 ``(Q, E)``.
            k: how many of each.

        Returns:
            Cosines float32 ``(Q, k)``, -inf where none was found, and rows int64 ``(Q, k)``, -1 there.

        Raises:
            AuditError: the queries are of another size, as those of another model, or k is larger than the index.
            ValueError: k is not positive.
        """
        if unit.ndim != 2 or unit.shape[1] != self.info.width:
            raise AuditError(
                f"{self.folder} is an index of embeddings of {self.info.width} numbers, an array of shape {unit.shape} "
                "found; embed what you ask for with the model that made the index"
            )
        if k < 1:
            raise ValueError(f"k, how many neighbours, should be 1 or more, {k} found")
        if k > len(self):
            raise AuditError(f"{self.folder} holds {len(self)} clips, k of {k} found; ask for fewer")
        return search_shards(
            self._shards, self.info.kind, self.info.parameters, np.ascontiguousarray(unit, np.float32), k
        )


def fastest_device() -> torch.device:
    """Where everything is compared with everything."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def build_index(
    embeddings: Embeddings,
    folder: str | os.PathLike,
    kind: str = "exact",
    shards: int = 1,
    recall: float = RECALL,
    **parameters: int,
) -> Index:
    """Makes an index, measures it, and writes it.

    Args:
        folder: to write; an index that is there is replaced.
        kind: one of `audit.kinds.KINDS`.
        shards: files that it is made in, one after another, so that one of them fits the memory.
        recall: at 10, for which search parameters are chosen that are not given.
        parameters: some of `audit.kinds.PARAMETERS`.

    Raises:
        AuditError: parameters that do not fit the kind or the clips, embeddings without a direction, or a folder with
            something else in it.
        CheckpointError: the folder cannot be written.
        ValueError: no such kind, or a number that cannot be.
    """
    folder, count, width = Path(folder), len(embeddings), embeddings.info.width
    if kind not in KINDS:
        raise ValueError(f"the kind should be one of {', '.join(KINDS)}, {kind!r} found")
    if not 0 < recall <= 1:
        raise ValueError(f"--recall should lie in (0, 1], {recall} found")
    if count < 2:
        raise AuditError(f"an index needs two clips, {embeddings.folder} has {count}; embed a larger pack")
    if not 1 <= shards <= count:
        raise ValueError(f"--shards should lie in 1 to {count}, the number of clips, {shards} found")
    built_with = parameters_of(kind, count, width, parameters)
    _check_target(folder)
    embeddings.check_finite()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(cannot_write(folder, error)) from error
    with replacing(folder) as temporary:
        temporary.mkdir()
        files = write_shards(embeddings, temporary, kind, built_with, shards)
        written = read_shards(temporary, files)
        info = _measured(embeddings, written, files, kind, built_with, recall, _from(folder, embeddings.folder))
        (temporary / INFO_NAME).write_text(json.dumps(dataclasses.asdict(info), indent=2) + "\n")
        remove(folder / INFO_NAME)  # it does not speak of what comes now
    return Index(folder, info, embeddings, written)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command.

    Raises:
        AuditError, CheckpointError, DataError, ValueError: bad input.
    """
    args = _parser().parse_args(arguments)
    parameters = {name: getattr(args, name) for name in PARAMETERS if getattr(args, name) is not None}
    embeddings = Embeddings.open(args.embeddings)
    out = args.out or args.embeddings / f"index-{args.kind}"
    print(f"of       {len(embeddings)} clips of {embeddings.pack.place}, {embeddings.info.width} numbers each")
    info = build_index(embeddings, out, args.kind, args.shards, args.recall, **parameters).info
    with_parameters = ", ".join(f"{name} {value}" for name, value in info.parameters.items())
    print(f"kind     {info.kind}: {KINDS[info.kind].summary}" + (f" ({with_parameters})" if with_parameters else ""))
    print(f"recall   {info.recall_at_10:.3f} of the {K} nearest, of {min(CLIPS, info.count // 2)} clips")
    print(f"speed    {info.queries_per_s:.0f} queries/s, exact search {info.exact_queries_per_s:.0f}")
    print(f"wrote    {out}")
    if info.recall_at_10 < args.recall:
        print(f"note     recall is below {args.recall}; more of {', '.join(KINDS[info.kind].searching)} raises it")


def _checked(shards: list[faiss.Index], folder: Path, info: IndexInfo) -> list[faiss.Index]:
    count, widths = sum(shard.ntotal for shard in shards), {shard.d for shard in shards}
    is_other = info.kind == "exact" and not all(isinstance(shard, faiss.IndexFlat) for shard in shards)
    if is_other or (count, widths) != (info.count, {info.width}):
        raise AuditError(
            f"{folder} should hold {info.count} clips of {info.width} numbers, {count} of "
            f"{' and '.join(map(str, sorted(widths)))} found; make it again with python -m audit.index"
        )
    return shards


def _measured(
    embeddings: Embeddings,
    shards: Sequence[faiss.Index],
    files: list[str],
    kind: str,
    parameters: Mapping[str, int],
    recall: float,
    source: str,
) -> IndexInfo:
    """Chooses what was not given to search with, and tells how good that is on other clips."""

    def search_with(chosen: Mapping[str, int]) -> Search:
        return lambda unit, k: search_shards(shards, kind, chosen, unit, k)

    to_choose, to_measure = samples_of(embeddings)
    chosen = choose_parameters(KINDS[kind], parameters, recall, lambda values: to_choose.recall(search_with(values)))
    search, of = search_with(chosen), embeddings.info
    return IndexInfo(
        version=VERSION,
        kind=kind,
        parameters=chosen,
        files=files,
        recall_at_10=to_measure.recall(search),
        queries_per_s=to_measure.speed(search),
        exact_queries_per_s=to_measure.queries_per_s,
        embeddings=source,
        checksum=of.checksum,
        backbone_checksum=of.backbone_checksum,
        count=of.count,
        width=of.width,
        metric="cosine",
    )


def _from(folder: Path, embeddings: Path) -> str:
    """How the info names the embeddings: those that it lies in from there, as they move together."""
    folder, embeddings = folder.resolve(), embeddings.resolve()
    return os.path.relpath(embeddings, folder) if folder.is_relative_to(embeddings) else str(embeddings)


def _check_target(folder: Path) -> None:
    """Refuses to write over what is no index: whatever is in the folder goes."""
    if folder.exists() and not folder.is_dir():
        raise AuditError(f"a folder was expected at {folder}, a file found; choose another --out")
    if folder.is_dir() and any(folder.iterdir()) and not any(folder.glob("index*.faiss")):
        raise AuditError(f"{folder} is there already and is no index; choose another --out")


def _read_info(folder: Path) -> IndexInfo:
    file = folder / INFO_NAME
    if not file.is_file():
        found = f"a folder without {INFO_NAME}" if folder.is_dir() else "no such folder"
        raise AuditError(f"an index was expected at {folder}, {found} found; make one with python -m audit.index")
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        version = values["version"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise AuditError(f"{file} does not describe an index; make it again with python -m audit.index") from error
    if version != VERSION:
        raise AuditError(f"{folder} is an index of version {version}, this code reads version {VERSION}; make it again")
    odd = set(values) ^ {field.name for field in dataclasses.fields(IndexInfo)}
    if odd:
        raise AuditError(f"{file} misses or adds the keys {', '.join(sorted(odd))}; make it again")
    if wrong := misfit(values, IndexInfo) or _wrong_kind(values):
        raise AuditError(f"{file} is damaged: {wrong}; make it again with python -m audit.index")
    return IndexInfo(**values)


def _wrong_kind(values: Mapping[str, Any]) -> str | None:
    """What cannot be of the kind of an index and its parameters."""
    kind, parameters = values["kind"], values["parameters"]
    if kind not in KINDS or set(parameters) != set(KINDS[kind].names):
        return f"an index of kind {kind!r} with {', '.join(parameters) or 'no parameters'}"
    if not values["files"]:
        return "an index without files"
    is_odd = any(not 1 <= value < 1 << 31 for value in parameters.values())
    return "its parameters should be 1 or more" if is_odd else None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m audit.index",
        usage="%(prog)s EMBEDDINGS [flags, see --help]",
        description=__doc__,
        epilog="kinds:\n" + "\n".join(f"  {name:<6} {kind.summary}" for name, kind in KINDS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("embeddings", type=_path, metavar="EMBEDDINGS", help="folder that audit.embed wrote")
    parser.add_argument("--kind", choices=KINDS, default="exact", help="see below (default: %(default)s)")
    parser.add_argument(
        "--out", type=_path, metavar="FOLDER", help="to write (default: index-KIND in the folder of the embeddings)"
    )
    parser.add_argument(
        "--shards", type=int, default=1, metavar="N",
        help="files that it is made in, one after another, where it does not fit the memory (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--recall", type=float, default=RECALL, metavar="SHARE",
        help="at 10, for which search parameters are chosen that are not given (default: %(default)s)",
    )  # fmt: skip
    for name, explanation in PARAMETERS.items():
        kinds = ", ".join(kind for kind, one in KINDS.items() if name in one.names)
        parser.add_argument(f"--{name}", type=int, metavar="N", help=f"{explanation}; of {kinds}")
    return parser


def _path(text: str) -> Path:
    return Path(text).expanduser()


if __name__ == "__main__":
    try:
        run_command(main, ERRORS)
    except KeyboardInterrupt:
        print("interrupted; nothing was written", file=sys.stderr)
        sys.exit(INTERRUPTED)

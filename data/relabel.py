"""Applies a person's corrections to the labels of a pack; its sound stays as it is.

    python -m data.relabel packs/gm corrections.csv
    python -m data.relabel packs/gm corrections.csv --out packs/gm_corrected

The table has the columns ``clip``, ``level`` (family, instrument or genre) and ``correction``, one line a label: see
`data.correction` for what may stand there. Lines without a correction change nothing, and other columns are not read
but ``given``, what the label was when the table was made: if it is something else now, nothing is changed at all. The
audit writes such tables with its suspects in them.

With --out a new pack is made beside the old one, whose shards it shares where the disk lets it. Without, the pack gets
its new labels in place. Either way it has another fingerprint, and every change is a line of ``relabelled.csv``.
"""

import argparse
import csv
import io
import os
import shutil
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data.codes import CODES_NAME
from data.command import run
from data.correction import Correction, corrected
from data.errors import DataError
from data.files import sync_folder, write_atomically
from data.finish import write_info, write_manifest
from data.manifest import SCHEMA
from data.object_store import is_url
from data.pack import INFO_NAME, MANIFEST_NAME, REJECTED_NAME, Pack, shard_name

COLUMNS = ("clip", "level", "correction")
"""Of a table of corrections; there may be more."""
RELABELLED_NAME = "relabelled.csv"
LOG_COLUMNS = ("clip", "column", "before", "after")
_WHOLE, _HALF = ".relabelled", ".relabelled.tmp"
"""Folders in a pack: its next files, all of them written, and not yet so."""
_DELIMITERS = ",;\t"
_TREE = ("family_present", "family_absent", "instrument_present", "instrument_absent")


def read_corrections(path: Path) -> list[Correction]:
    """The lines of a table that correct something.

    Raises:
        DataError: it cannot be read, is no CSV, or misses a column.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")  # spreadsheets begin theirs with a mark
        header = text.partition("\n")[0]
        delimiter = max(_DELIMITERS, key=header.count)  # and some separate by semicolons
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        lines = [(reader.line_num, line) for line in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{path} cannot be read as a table of corrections ({error}); save it as CSV in UTF-8"
        ) from error
    missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
    if missing:
        raise DataError(f"{path} should have the columns {', '.join(COLUMNS)}, {', '.join(missing)} not found")
    return [
        Correction(number, *((line[name] or "").strip() for name in COLUMNS), (line.get("given") or "").strip())
        for number, line in lines
        if (line["correction"] or "").strip()
    ]


def relabel(
    pack: Pack, corrections: Sequence[Correction], out: Path | None = None
) -> tuple[Pack, list[dict[str, Any]]]:
    """Corrects labels of a pack.

    Args:
        pack: stays as it is if `out` is given; else it is not to be used after.
        corrections: of its clips.
        out: folder of a new pack.

    Returns:
        The pack with the new labels, and what changed, rows of `LOG_COLUMNS`; nothing is written if nothing did.

    Raises:
        DataError: a clip that there is not, a correction that does not fit, a folder that holds something, a full disk.
    """
    if out is not None and out.exists():
        raise DataError(f"{out} is there already; choose another --out")
    manifest, changes = _corrected(pack, corrections)
    if out is None:
        if changes:
            _write_into(pack, manifest, changes)
    else:
        _write_beside(pack, manifest, changes, out)
    return Pack.open(out or pack.folder), changes


def resume(folder: Path) -> None:
    """Finishes what a killed command began to put into the place of a pack's files, and clears what it did not."""
    shutil.rmtree(folder / _HALF, ignore_errors=True)
    if not (folder / _WHOLE).is_dir():
        return
    # Codes first: those of another manifest are not used, so that the pack has its old labels or its new ones.
    for name in (RELABELLED_NAME, CODES_NAME, MANIFEST_NAME, INFO_NAME):
        if (folder / _WHOLE / name).exists():
            os.replace(folder / _WHOLE / name, folder / name)
    sync_folder(folder)
    (folder / _WHOLE).rmdir()


def _corrected(pack: Pack, corrections: Sequence[Correction]) -> tuple[pa.Table, list[dict[str, Any]]]:
    """The manifest with its labels corrected, and what changed."""
    manifest = pack.manifest
    of_clip: dict[str, list[Correction]] = defaultdict(list)
    for one in corrections:
        of_clip[one.clip].append(one)
    places = pc.index_in(pa.array(list(of_clip), pa.string()), manifest["id"].combine_chunks())
    for (clip, own), place in zip(of_clip.items(), places.to_pylist(), strict=True):
        if place is None:
            raise DataError(
                f"line {own[0].line}: {pack.folder} has no clip {clip!r}; was the table made of another pack?"
            )
    rows = np.array(places.to_pylist(), np.int64)
    before = manifest.take(rows).to_pylist() if len(rows) else []
    genres = pack.codes.names["genre"]
    after = [corrected(row, own, genres) for row, own in zip(before, of_clip.values(), strict=True)]
    _part_from_timbres(manifest, rows, before, after)
    changes = [
        {"clip": old["id"], "column": name, "before": _as_text(old[name]), "after": _as_text(new[name])}
        for old, new in zip(before, after, strict=True)
        for name in SCHEMA.names
        if old[name] != new[name]
    ]
    order = np.arange(manifest.num_rows)
    order[rows] = manifest.num_rows + np.arange(len(rows))
    # In the schema without what reading a file adds to it: the same labels are the same bytes.
    tables = [manifest.cast(SCHEMA), pa.Table.from_pylist(after, SCHEMA)]
    return pa.concat_tables(tables).take(order).combine_chunks(), changes


def _part_from_timbres(manifest: pa.Table, rows: np.ndarray, before: list[dict], after: list[dict]) -> None:
    """Takes the timbre from corrected clips whose labels no longer are those of other clips of it.

    One timbre is one instrument; what is said to be another one cannot be of it.
    """
    moved = [new for old, new in zip(before, after, strict=True) if any(old[name] != new[name] for name in _TREE)]
    timbres = {row["timbre"] for row in moved} - {None}
    is_other = np.ones(manifest.num_rows, bool)
    is_other[rows] = False
    others = manifest.select(["timbre", "is_instrument", *_TREE]).filter(
        pa.array(is_other & pc.is_in(manifest["timbre"], pa.array(timbres, pa.string())).to_numpy())
    )
    labels: dict[str, list[dict]] = defaultdict(list)
    for row in [*others.to_pylist(), *after]:
        labels[row["timbre"]].append({name: row[name] for name in ("is_instrument", *_TREE)})
    for row in moved:
        own = {name: row[name] for name in ("is_instrument", *_TREE)}
        if row["is_instrument"] is False or any(other != own for other in labels[row["timbre"]]):
            row["timbre"] = None


def _write_into(pack: Pack, manifest: pa.Table, changes: list[dict[str, Any]]) -> None:
    try:
        (pack.folder / _HALF).mkdir()
        _write(pack.folder / _HALF, pack, manifest, changes)
        os.rename(pack.folder / _HALF, pack.folder / _WHOLE)  # from here on a kill leaves it to `resume`
        sync_folder(pack.folder)
    except OSError as error:
        raise DataError(f"cannot write into {pack.folder} ({error.strerror}); choose --out for a new pack") from error
    finally:
        shutil.rmtree(pack.folder / _HALF, ignore_errors=True)
    resume(pack.folder)


def _write_beside(pack: Pack, manifest: pa.Table, changes: list[dict[str, Any]], out: Path) -> None:
    temporary = out.with_name(f".{out.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        for name in (REJECTED_NAME, *(shard_name(number) for number in range(len(pack.info.shard_bytes)))):
            _share(pack.folder / name, temporary / name)
        _write(temporary, pack, manifest, changes, out.name)
        os.rename(temporary, out)
        sync_folder(out.parent)
    except OSError as error:
        raise DataError(f"cannot write {out} ({error.strerror}); free some room or choose another --out") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _share(file: Path, copy: Path) -> None:
    """One file under two names, for nobody writes into shards; two files where the disk has no such thing."""
    try:
        os.link(file, copy)
    except OSError:
        shutil.copyfile(file, copy)


def _write(
    folder: Path, pack: Pack, manifest: pa.Table, changes: list[dict[str, Any]], name: str | None = None
) -> None:
    """Writes all that is new of a pack into a folder."""
    manifest_checksum, codes_checksum = write_manifest(folder, manifest)
    log = io.StringIO(newline="")
    writer = csv.DictWriter(log, LOG_COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows([*_logged(pack.folder / RELABELLED_NAME), *changes])
    with write_atomically(folder / RELABELLED_NAME) as file:
        file.write(log.getvalue().encode())
    checksums = {"manifest_checksum": manifest_checksum, "codes_checksum": codes_checksum}
    write_info(folder, replace(pack.info, **checksums, name=name or pack.info.name))


def _logged(path: Path) -> Iterator[dict[str, str]]:
    """What earlier commands changed."""
    if path.is_file():
        with open(path, newline="", encoding="utf-8") as file:
            yield from csv.DictReader(file)


def _as_text(value: Any) -> str:
    if isinstance(value, list):
        return "; ".join(item if isinstance(item, str) else f"{item[0]} {item[1]:g}" for item in value)
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m data.relabel",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("pack", metavar="PACK", help="folder of a pack")
    parser.add_argument("corrections", type=Path, metavar="CORRECTIONS", help="table of corrections, CSV")
    parser.add_argument("--out", type=Path, help="folder of a new pack (default: the pack gets its labels in place)")
    args = parser.parse_args(arguments)
    try:
        if is_url(args.pack):
            raise DataError(f"a pack on this machine was expected, {args.pack} is none; copy it here and correct that")
        folder = Path(args.pack).expanduser()
        resume(folder)
        pack = Pack.open(folder)
        corrections = read_corrections(args.corrections.expanduser())
        found, changes = relabel(pack, corrections, args.out and args.out.expanduser())
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    clips = len({change["clip"] for change in changes})
    print(f"{len(corrections):,} corrections, {clips:,} of {len(found):,} clips changed")
    parted = sum(change["column"] == "timbre" for change in changes)
    if parted:
        print(f"{parted:,} clips are no longer of their timbre, whose other clips have other labels")
    if changes:
        print(f"changes: {found.folder / RELABELLED_NAME}")
    print(f"pack: {found.folder}")
    return 0


if __name__ == "__main__":
    run(main)

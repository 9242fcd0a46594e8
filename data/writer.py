"""Writes packs: clips are read in parallel, in units that a kill cannot damage.

A unit is a run of clips in the order of the sources and becomes one shard. A finished unit is its shard, renamed into
place, and then its rows in ``.partial/``. Once all units are there `data.finish` settles splits and duplicates, the
rows become the manifest, and ``pack.json``, written last, makes the folder a pack. Nothing depends on how many
processes took part or how often they were killed.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pyarrow as pa

from data import statistics
from data.clip import Clip, Reject
from data.codes import CODES_NAME
from data.errors import DataError
from data.files import checksum_of, sync_folder, write_atomically
from data.finish import finish, rows_path
from data.manifest import SCHEMA, row_of
from data.pack import INFO_NAME, MANIFEST_NAME, PARTIAL_NAME, REJECTED_NAME, Pack, shard_name
from data.pcm import to_pcm
from data.plan import Options, Plan, Unit, make_plan
from data.pool import call_alone, run_jobs
from data.reader import Reader
from data.rejected import BROKEN
from data.splits import SHARES, check_shares

MIN_SECONDS = 0.25
MAX_REJECT_SHARE = 0.1

Progress = Callable[[int, int], None]
"""Called with how many clips are done, and how many there are."""


def write_pack(
    clips: Iterable[Clip | Reject],
    folder: str | os.PathLike,
    *,
    processes: int | None = None,
    min_seconds: float = MIN_SECONDS,
    max_reject_share: float = MAX_REJECT_SHARE,
    seed: int = 0,
    split_shares: Sequence[float] = SHARES,
    duplicates: str = "drop",
    licences: Mapping[str, str] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Pack:
    """Writes a pack, or finishes the one that an earlier call with the same clips and options began.

    A folder that already holds the pack asked for is opened as it is.

    Args:
        clips: from the sources, in the order that they shall have in the manifest.
        folder: of the pack; made if it is not there.
        processes: that read clips; all cores by default. Does not change a byte.
        min_seconds: shorter clips are rejected.
        max_reject_share: of all clips that are not left out on purpose; more than that fails.
        seed: decides the splits that the sources left open, and the clips that the statistics are taken from.
        split_shares: train, validation and test, of the clips whose split the sources left open.
        duplicates: "drop" keeps one clip of every sound, "keep" all but those in two splits; see `data.leaks`.
        licences: the licence of every source, by its name.
        overwrite: what is in the folder may be replaced by another pack.
        progress: see `Progress`.

    Raises:
        DataError: no clips, an id twice, too many rejects, a folder that holds something else, a full disk, a process
            that died.
    """
    folder = Path(folder)
    plan = make_plan(clips, Options(seed, min_seconds, check_shares(split_shares), duplicates))
    existing = _existing(folder, plan, overwrite)
    if existing is not None:
        return existing
    processes = min(processes or os.cpu_count() or 1, max(1, len(plan.units)))
    with _locked(folder):
        _begin(folder, plan, overwrite)
        done = sum(len(unit.clips) for unit in plan.units if rows_path(folder, unit.number).exists())
        if progress:
            progress(done, plan.num_clips)
        todo = (unit for unit in plan.units if not rows_path(folder, unit.number).exists())
        write = partial(_write_unit, folder, min_seconds)
        for number in run_jobs(write, todo, processes, after_crash=partial(write, reads_alone=True)):
            done += number
            if progress:
                progress(done, plan.num_clips)
        finish(folder, plan, max_reject_share, licences or {})
    return Pack.open(folder)


def _existing(folder: Path, plan: Plan, overwrite: bool) -> Pack | None:
    """The pack in the folder if it is whole and the one asked for."""
    if not (folder / INFO_NAME).is_file():
        return None
    try:
        pack = Pack.open(folder)
    except DataError:
        if overwrite:
            return None
        raise
    if pack.info.plan == plan.fingerprint:
        shutil.rmtree(folder / PARTIAL_NAME, ignore_errors=True)
        return pack
    if overwrite:
        return None
    raise DataError(
        f"{folder} holds a pack of other clips or options; choose another --out, or replace it with --overwrite"
    )


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keeps a second preparation out of the folder; the lock ends with the process however that ends."""
    partial_folder = folder / PARTIAL_NAME
    try:
        is_ours = partial_folder.is_dir() or (folder / INFO_NAME).is_file()
        if not is_ours and folder.is_dir() and any(folder.iterdir()):
            raise DataError(f"{folder} holds files and is no pack; choose another --out")
        partial_folder.mkdir(parents=True, exist_ok=True)
        lock = (partial_folder / "lock").open("wb")
    except OSError as error:
        raise DataError(f"cannot write into {folder} ({error.strerror}); choose another --out") from error
    with lock:
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise DataError(f"{folder} is being written by another command; wait for it") from error
        yield


def _begin(folder: Path, plan: Plan, overwrite: bool) -> None:
    """Clears what is left of other plans and of killed processes, and says which plan is under way."""
    plan_path = folder / PARTIAL_NAME / "plan"
    found = plan_path.read_text(encoding="utf-8") if plan_path.exists() else None
    if found not in (None, plan.fingerprint) and not overwrite:
        raise DataError(
            f"{folder} is half written with other clips or options; run the command that began it, choose another "
            "--out, or start over with --overwrite"
        )
    if found != plan.fingerprint:
        (folder / INFO_NAME).unlink(missing_ok=True)  # first: from here on the folder is no pack
        sync_folder(folder)
        for path in (folder / PARTIAL_NAME).iterdir():
            if path.name != "lock":
                path.unlink()
        for path in [folder / MANIFEST_NAME, folder / CODES_NAME, folder / REJECTED_NAME, *folder.glob("shard_*.i16")]:
            path.unlink(missing_ok=True)
        with write_atomically(plan_path) as file:
            file.write(plan.fingerprint.encode())
    for path in [*folder.glob("*.tmp"), *(folder / PARTIAL_NAME).glob("*.tmp")]:
        path.unlink()


def _write_unit(folder: Path, min_seconds: float, unit: Unit, reads_alone: bool = False) -> int:
    """Reads the clips of a unit, writes its shard and then its rows; returns how many clips it tried.

    With ``reads_alone`` each clip is read in a process of its own, which it may crash.
    """
    to_pcm_alone = partial(call_alone, partial(to_pcm, min_seconds=min_seconds))
    rows, rejects, sums = [], [], {}
    offset = 0
    with write_atomically(folder / shard_name(unit.number)) as file, Reader() as reader:
        for clip, place in zip(unit.clips, unit.excerpts, strict=True):
            try:
                pcm = to_pcm_alone(clip.audio) if reads_alone else to_pcm(clip.audio, min_seconds, reader)
            except (DataError, OSError) as error:
                where = f"at {clip.start_s:g} s: " if clip.start_s else ""
                rejects.append((BROKEN, clip.source, clip.recording, f"{where}{error}", clip.id, clip.split or ""))
                continue
            data = pcm.samples.astype("<i2", copy=False).data
            file.write(data)
            rows.append(row_of(clip, pcm, checksum_of(data), unit.number, offset))
            if place is not None:
                sums[clip.id] = statistics.log_mel_sums(pcm.samples, place)
            offset += len(pcm.samples)
    extra = {"rejects": json.dumps(rejects), "log_mel_sums": json.dumps(sums), "shard_bytes": str(2 * offset)}
    table = pa.Table.from_pylist(rows, SCHEMA).replace_schema_metadata(extra)
    # Arrow's own format: for sixteen rows Parquet takes 4 ms to write and read, this a tenth.
    with write_atomically(rows_path(folder, unit.number)) as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    return len(unit.clips)

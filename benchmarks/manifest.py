"""Packs of many clips: how long they take to open, and what they cost each process that reads.

    python -m benchmarks.manifest
    python -m benchmarks.manifest --quick

Writes packs of synthetic rows into a temporary folder: one of NSynth's size and strings, and one of a million rows of
notes, of weakly labelled recordings with relevance and genres, and of effects. The clips of a shard all lie over each
other, so that there is little sound. Then prints

- seconds to open a pack in a new process, and that process's peak of memory, Python and pyarrow included;
- what each of several loader workers has to itself (USS) and its share of the rest (PSS), forked and spawned, while all
  of them read crops, labels, partners and backgrounds, over the same with a pack of a thousand rows;
- seconds and memory of one epoch of the global order.

Wall-clock seconds, medians over rounds; the page cache is warm.
"""

import dataclasses
import json
import multiprocessing
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.timing import goal, parse, parser, table
from data.codes import CODES_NAME, write_codes
from data.files import checksum_of
from data.labels import LabelTable
from data.loader import TrainBatches
from data.manifest import LABEL_SETS, SCHEMA
from data.mixing import Mixing
from data.opening import VERIFIED_BYTES
from data.pack import INFO_NAME, MANIFEST_NAME, VERSION, Pack, PackInfo, shard_name
from data.sampler import GlobalOrder, Share
from data.taxonomy import FAMILIES, FAMILY_OF_INSTRUMENT, GENRES

NSYNTH, MILLION, TINY = 306_000, 1_000_000, 1_000
SHARDS, SAMPLES, RATE = 256, 64_000, 16_000
ROWS_GROUP = 65_536
BATCH = 16
GOAL_SECONDS, GOAL_MB = 2.0, 300.0
GOAL_WORKER_MB = 10.0  # row numbers and an epoch's order are each worker's own
OPEN = """
import sys, time
from data.pack import Pack
peak = lambda: int(open("/proc/self/status").read().partition("VmHWM:")[2].split()[0]) / 1024
before, start = peak(), time.perf_counter()
pack = Pack.open(sys.argv[1])
pack.rows("train")
print(time.perf_counter() - start, peak(), before)
"""
WORK = """
import sys
from benchmarks.manifest import worker_memory
if __name__ == "__main__":
    print(*worker_memory(sys.argv[1], sys.argv[2], int(sys.argv[3])))
"""


def write(folder: Path, count: int, kinds: str) -> Pack:
    """A pack of `count` clips: runs of rows of some kinds in turn, n for notes, r for recordings, e for effects."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    of_kind = {"n": notes, "r": recordings, "e": effects}
    size = -(-min(count, ROWS_GROUP * len(kinds)) // len(kinds))
    with pq.ParquetWriter(folder / MANIFEST_NAME, SCHEMA, compression="zstd") as writer:
        for turn, first in enumerate(range(0, count, size)):
            numbers = np.arange(first, min(first + size, count))
            labels = of_kind[kinds[turn % len(kinds)]](numbers, generator)
            writer.write_table(rows_of(numbers * SHARDS // count, labels, generator))
    # As long as the shards of a real pack, with holes, and too long for a recipe to compare made-up checksums.
    shard_bytes = max(2 * SAMPLES * -(-count // SHARDS), VERIFIED_BYTES // SHARDS + 2)
    for shard in range(SHARDS):
        with open(folder / shard_name(shard), "wb") as file:
            file.write(generator.integers(-3000, 3000, SAMPLES, np.int16).tobytes())
            file.truncate(shard_bytes)
    table, checksum = pq.read_table(folder / MANIFEST_NAME), checksum_of((folder / MANIFEST_NAME).read_bytes())
    hours, clips = SAMPLES / RATE / 3600, Counter(table["split"].to_pylist())
    info = PackInfo(
        version=VERSION, name="synthetic", rate=RATE, num_clips=count, num_rejected=0, num_duplicates=0, num_left_out=0,
        hours=count * hours, sources={}, taxonomy_version=0, seed=0, split_shares={}, min_seconds=0.0,
        splits={name: {"clips": number, "hours": number * hours} for name, number in clips.items()},
        log_mel_mean=-4.3, log_mel_std=4.6, shard_bytes=[shard_bytes] * SHARDS, manifest_checksum=checksum,
        codes_checksum=write_codes(folder, table, checksum), plan="",
    )  # fmt: skip
    (folder / INFO_NAME).write_text(json.dumps(dataclasses.asdict(info)))
    return Pack.open(folder)


def rows_of(shard: np.ndarray, labels: dict[str, object], generator: np.random.Generator) -> pa.Table:
    """Rows of a manifest; what the labels leave out is null."""
    count = len(shard)
    numbers = {"num_samples": SAMPLES, "duration_s": SAMPLES / RATE, "source_rate": RATE}
    columns = {
        "shard": shard,
        "split": np.array(["train", "train", "train", "train", "validation", "test"])[np.arange(count) % 6],
        "checksum": [generator.bytes(16).hex() for _ in range(count)],
        "peak_dbfs": generator.random(count),
        "rms_dbfs": generator.random(count),
        **{
            name: np.full(count, numbers.get(name, 0))
            for name in (*numbers, "offset", "start_s", "gain_db", "num_clipped")
        },
        **{f"{level}_complete": np.zeros(count, bool) for level in LABEL_SETS},
        **labels,
    }
    arrays = [
        pa.nulls(count, field.type) if field.name not in columns else pa.array(columns[field.name]).cast(field.type)
        for field in SCHEMA
    ]
    return pa.Table.from_arrays(arrays, schema=SCHEMA)


def joined(*parts: np.ndarray | str) -> np.ndarray:
    """Strings end to end, row by row."""
    result = np.asarray(parts[0])
    for part in parts[1:]:
        result = np.char.add(result, part)
    return result


def lists(counts: np.ndarray, names: np.ndarray) -> pa.ListArray:
    """`counts` of the names for each row."""
    offsets = np.concatenate([[0], np.cumsum(counts)])
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(names, pa.string()))


def notes(numbers: np.ndarray, generator: np.random.Generator) -> dict[str, object]:
    """Clips like NSynth's: 1006 instruments, every name in full, complete at family and timbre."""
    count, one = len(numbers), np.ones(len(numbers), np.int64)
    instrument, pitch, velocity = numbers % 1006, 21 + numbers // 1006 % 88, 25 + numbers // 88_528 * 25 % 125
    family = np.array(FAMILIES)[instrument % 11]
    timbre = joined(family, np.char.mod("_acoustic_%03d", instrument))
    note = joined(timbre, np.char.mod("-%03d", pitch), np.char.mod("-%03d", velocity))
    qualities = np.array(["bright", "dark", "fast_decay", "percussive", "reverb"])
    num_qualities = instrument % 4
    nothing = lists(0 * one, np.array([], str))
    return {
        "id": joined("nsynth/", note), "source": np.full(count, "nsynth"),
        "recording": joined("nsynth-train/audio/", note, ".wav"), "group": joined("nsynth/", timbre),
        "is_instrument": one.astype(bool), "timbre": timbre, "pitch": pitch, "velocity": velocity,
        "production": np.full(count, "acoustic"), "is_weak": np.zeros(count, bool),
        "family_present": lists(one, family), "family_absent": nothing, "family_complete": one.astype(bool),
        "qualities_present": lists(num_qualities, qualities[np.arange(num_qualities.sum()) % 5]),
        "qualities_absent": nothing, "qualities_complete": one.astype(bool),
    }  # fmt: skip


def recordings(numbers: np.ndarray, generator: np.random.Generator) -> dict[str, object]:
    """Clips like OpenMIC's: of twenty instruments a few have a relevance, the rest is unknown; weak, with a genre."""
    count, num_known = len(numbers), generator.integers(1, 4, len(numbers))
    clip = np.repeat(np.arange(count), num_known)
    instruments = np.array(tuple(FAMILY_OF_INSTRUMENT))[3 * generator.integers(0, 20, len(clip))]
    relevance = generator.random(len(clip), np.float32)
    is_present = relevance >= 0.5
    families = np.array([FAMILY_OF_INSTRUMENT[name] for name in instruments])

    def those(names: np.ndarray, is_chosen: np.ndarray) -> pa.ListArray:
        return lists(np.bincount(clip[is_chosen], minlength=count), names[is_chosen])

    offsets = pa.array(np.concatenate([[0], np.cumsum(num_known)]), pa.int32())
    return {
        "id": np.char.mod("openmic/%06d_46080", numbers), "source": np.full(count, "openmic"),
        "recording": np.char.mod("audio/000/%06d_46080.ogg", numbers),
        "group": np.char.mod("openmic/album_%d", numbers // 4),
        "is_instrument": np.ones(count, bool), "is_weak": np.ones(count, bool),
        "instrument_present": those(instruments, is_present), "instrument_absent": those(instruments, ~is_present),
        "family_present": those(families, is_present), "family_absent": those(families, is_present & ~is_present),
        "instrument_relevance": pa.MapArray.from_arrays(offsets, pa.array(instruments), pa.array(relevance)),
        "genre_present": lists(np.ones(count, np.int64), np.array(GENRES)[numbers % len(GENRES)]),
        "genre_complete": np.ones(count, bool),
    }  # fmt: skip


def effects(numbers: np.ndarray, generator: np.random.Generator) -> dict[str, object]:
    """Clips like ESC-50's: known to hold no instrument."""
    count, nothing = len(numbers), lists(np.zeros(len(numbers), np.int64), np.array([], str))
    return {
        "id": np.char.mod("esc50/1-%06d-A-14", numbers), "source": np.full(count, "esc50"),
        "recording": np.char.mod("audio/1-%06d-A-14.wav", numbers), "group": np.char.mod("freesound/%d", numbers),
        "is_instrument": np.zeros(count, bool), "is_weak": np.zeros(count, bool),
        "family_present": nothing, "family_complete": np.ones(count, bool),
        "instrument_present": nothing, "instrument_complete": np.ones(count, bool),
    }  # fmt: skip


def run(script: str, *arguments: object) -> list[float]:
    """The numbers that a script prints in a Python of its own."""
    command = [sys.executable, "-W", "ignore", "-c", script, *map(str, arguments)]
    printed = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout
    return [float(word) for word in printed.split()]


def opened(folder: Path, rounds: int) -> tuple[float, ...]:
    """Seconds to open a pack in a new process, the peak of its memory in MB, and how much of that was there before."""
    seconds, peak, before = zip(*(run(OPEN, folder) for _ in range(rounds)), strict=True)
    return statistics.median(seconds), max(peak), max(before)


def worker_memory(folder: str, start_method: str, num_workers: int) -> tuple[float, float]:
    """USS and PSS of a loader worker in MB, medians over several that are alive at a time."""
    pack = Pack.open(folder)
    rows = pack.rows("train")
    batches = TrainBatches(
        pack, rows, GlobalOrder(len(rows), BATCH, seed=0), Share(0, 1), 2 * RATE,
        mixing=Mixing(probability=0.5, same="genre"), backgrounds=LabelTable(pack).non_instruments(rows),
    )  # fmt: skip
    loader = batches.loader(0, 1000, num_workers)
    loader.multiprocessing_context = start_method
    reading = iter(loader)
    for _ in islice(reading, 4 * num_workers):
        pass
    time.sleep(1)  # until what is read ahead has been read
    workers = [process.pid for process in multiprocessing.active_children()]
    found = [psutil.Process(pid).memory_full_info() for pid in workers]
    return tuple(statistics.median(getattr(info, name) for info in found) / 2**20 for name in ("uss", "pss"))


def epoch_of_order(count: int) -> tuple[float, float]:
    """Seconds in which all batches of an epoch are told, and MB that their order takes while it is drawn."""
    order = GlobalOrder(count, BATCH, seed=0)
    tracemalloc.start()  # numpy tells it what it allocates
    order.batch(order.steps_per_epoch)  # of another epoch
    megabytes = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    start = time.perf_counter()
    for step in range(order.steps_per_epoch):
        order.batch(step)
    return time.perf_counter() - start, megabytes


def measured(folder: Path, sizes: dict[str, tuple[int, str]], rounds: int, num_workers: int) -> list[dict[str, float]]:
    """Everything there is to say of each pack."""
    found = []
    for name, (count, kinds) in sizes.items():
        pack = write(folder / name, count, kinds)
        values = {"rows": count}
        values["manifest"], values["codes"] = (
            (pack.folder / file).stat().st_size / 2**20 for file in (MANIFEST_NAME, CODES_NAME)
        )
        values["seconds"], values["peak"], values["before"] = opened(pack.folder, rounds)
        for method in ("fork", "spawn"):
            memory = run(WORK, pack.folder, method, num_workers)
            values |= {f"{method}_uss": memory[0], f"{method}_pss": memory[1]}
        values["order"], values["order_mb"] = epoch_of_order(count)
        (pack.folder / CODES_NAME).unlink()
        values["derived"], values["derived_peak"], _ = opened(pack.folder, rounds)
        shutil.rmtree(pack.folder)
        found.append(values)
    return found


LINES = {
    "rows": "rows", "manifest.parquet, MB": "manifest", "codes.arrow, MB": "codes",
    "open, s": "seconds", "open, peak MB": "peak", "before opening, peak MB": "before",
    "open without codes.arrow, s": "derived", "open without codes.arrow, peak MB": "derived_peak",
    "forked worker, USS MB": "fork_uss", "forked worker, PSS MB": "fork_pss",
    "spawned worker, USS MB": "spawn_uss", "spawned worker, PSS MB": "spawn_pss",
    "an epoch of the order, s": "order", "an epoch of the order, MB": "order_mb",
}  # fmt: skip


def main() -> None:
    """Writes the packs, measures and prints."""
    options = parse(parser(__doc__))
    shrink, num_workers = (20, 2) if options.quick else (1, 4)
    sizes = {"tiny": (TINY, "nre"), "NSynth": (NSYNTH // shrink, "n"), "million": (MILLION // shrink, "nre")}
    with tempfile.TemporaryDirectory() as folder:
        found = measured(Path(folder), sizes, options.rounds, num_workers)
    print(f"\n{num_workers} workers, batches of {BATCH}; MB are 2^20 bytes\n")
    rows = [
        [name, *(f"{values[key]:,.{0 if key == 'rows' else 2}f}" for values in found)] for name, key in LINES.items()
    ]
    print(table(["", *sizes], rows) + "\n")
    tiny, nsynth, _ = found
    print(goal("NSynth's size, seconds to open", nsynth["seconds"], GOAL_SECONDS, at_most=True))
    print(goal("NSynth's size, peak MB of opening", nsynth["peak"], GOAL_MB, at_most=True))
    for method in ("fork", "spawn"):
        more = nsynth[f"{method}_uss"] - tiny[f"{method}_uss"]
        what = f"NSynth's size, MB that a worker ({method}) has to itself beyond the tiny pack's"
        print(goal(what, more, GOAL_WORKER_MB, at_most=True))


if __name__ == "__main__":
    main()

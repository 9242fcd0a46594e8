"""Packs at URLs: what a bounded cache fetches under each order of the clips, and how long a step waits for it.

    python -m benchmarks.remote
    python -m benchmarks.remote --latency_ms 50 --megabytes_per_s 50
    python -m benchmarks.remote --quick

Writes a pack of 4 s clips of noise, cut into blocks of 1 MiB in place of 64, and reads random 2 s crops as a training
run does. The store is a folder of this machine that answers after --latency_ms and sends --megabytes_per_s, to all that
is asked for at a time; each step takes --step_ms besides. The cache holds a quarter of the pack, or all of it. One
epoch a row: bytes fetched over those of the pack, requests, blocks that the clips of a batch come from (in the middle:
how well they are shuffled), seconds until the first batch, and from then on crops a second and the share of the time
that steps wait. Whole blocks under a full shuffle are not read but counted: what the same cache would fetch if each
block that is needed were fetched whole.
"""

import os
import statistics
import tempfile
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import data.pack
from benchmarks.reading import CROP_SECONDS, write
from benchmarks.timing import goal, parse, parser, table
from data.ahead import windows_of
from data.block_cache import FOLDER_VARIABLE
from data.decode import RATE
from data.loader import TrainBatches
from data.object_store import RemoteFolder, Span
from data.pack import Pack
from data.sampler import GlobalOrder, Share

BLOCK_BYTES = 1 << 20
HEADER = ["pack and order", "fetched", "requests", "blocks / batch", "first batch, s", "crops / s", "waiting"]


@dataclass
class Store:
    """Makes a folder answer like a store that is far away, and counts."""

    latency: float
    """Seconds."""
    rate: float
    """Bytes a second."""
    fetched: int = 0
    requests: int = 0

    @contextmanager
    def between(self) -> Iterator["Store"]:
        """While it stands between readers and their folders."""
        ranges = RemoteFolder.ranges

        def slowly(folder: RemoteFolder, spans: list[Span]) -> list[bytes]:
            size = sum(span.stop - span.start for span in spans)
            self.fetched += size
            self.requests += len(spans)
            time.sleep(self.latency + size / self.rate)
            return ranges(folder, spans)

        RemoteFolder.ranges = slowly
        try:
            yield self
        finally:
            RemoteFolder.ranges = ranges


def epoch_of(pack: Pack, shuffle_blocks: int | None, batch_size: int) -> TrainBatches:
    """The batches of a run of one epoch."""
    rows = pack.rows("train")
    order = GlobalOrder(len(rows), batch_size, 0, windows_of(pack, rows, shuffle_blocks))
    return TrainBatches(pack, rows, order, Share(0, 1), CROP_SECONDS * RATE)


def blocks_in(batches: TrainBatches) -> list[list[int]]:
    """The blocks of every batch of the epoch."""
    of_clip, order = batches.reader.pack.blocks.of_clip, batches.order
    return [np.unique(of_clip[batches.rows[order.batch(step)]]).tolist() for step in range(order.steps_per_epoch)]


def read(name: str, batches: TrainBatches, store: Store, step_seconds: float) -> tuple[list[str], float, float]:
    """Reads an epoch; a row of the table, the share of the pack that was fetched, and the share of waiting."""
    pack, steps = batches.reader.pack, batches.order.steps_per_epoch
    store.fetched = store.requests = 0
    loader, ends, waits = iter(batches.loader(0, steps, num_workers=0)), [time.perf_counter()], []
    for _ in range(steps):
        next(loader)
        waits.append(time.perf_counter() - ends[-1])
        time.sleep(step_seconds)
        ends.append(time.perf_counter())
    seconds, waited = ends[-1] - ends[1], sum(waits[1:])
    share = store.fetched / sum(pack.info.shard_bytes)
    in_middle = statistics.median(map(len, blocks_in(batches)))
    crops = (steps - 1) * batches.order.batch_size / seconds
    row = [
        name, f"{share:.2f}", f"{store.requests}", f"{in_middle:g}", f"{waits[0]:.2f}", f"{crops:.0f}",
        f"{waited / seconds:.1%}",
    ]  # fmt: skip
    return row, share, waited / seconds


def fetched_whole(pack: Pack, batch_size: int, room: int) -> float:
    """What a cache would fetch under a full shuffle if every block that is needed were fetched whole, over the pack."""
    kept: OrderedDict[int, int] = OrderedDict()
    fetched = 0
    for blocks in blocks_in(epoch_of(pack, None, batch_size)):
        for block in blocks:
            if block not in kept:
                kept[block] = int(pack.blocks.num_bytes[block])
                fetched += kept[block]
            kept.move_to_end(block)
            while sum(kept.values()) > room:
                kept.popitem(last=False)
    return fetched / sum(pack.info.shard_bytes)


def main() -> None:
    """Writes the pack, reads and prints."""
    options_of = parser(__doc__)
    options_of.add_argument("--clips", type=int, default=4000, help="clips of the pack, 128 kB each (default: 4000)")
    options_of.add_argument("--batch_size", type=int, default=64, help="crops of a batch (default: 64)")
    options_of.add_argument("--latency_ms", type=float, default=20, help="until the store answers (default: 20)")
    options_of.add_argument("--megabytes_per_s", type=float, default=200, help="that it sends (default: 200)")
    options_of.add_argument("--step_ms", type=float, default=400, help="of a step without reading (default: 400)")
    options = parse(options_of)
    if options.quick:
        options.clips, options.batch_size, options.step_ms = 640, 16, 100
    data.pack.BLOCK_BYTES = BLOCK_BYTES
    store = Store(options.latency_ms / 1000, 1e6 * options.megabytes_per_s)
    with tempfile.TemporaryDirectory() as folder:
        local = write(Path(folder) / "pack", options.clips)
        size, step = sum(local.info.shard_bytes), options.step_ms / 1000
        few, many = max(1, len(local.blocks) // 64), len(local.blocks) // 10
        rows, found = [], {}

        def read_url(name: str, cache: str, room: float, shuffle_blocks: int | None) -> None:
            os.environ[FOLDER_VARIABLE] = str(Path(folder) / cache)
            pack = Pack.open(f"file://{local.folder}", room / 2**30)
            row, *found[name] = read(name, epoch_of(pack, shuffle_blocks, options.batch_size), store, step)
            rows.append(row)

        with store.between():
            row, *found["local"] = read("on this machine", epoch_of(local, None, options.batch_size), store, step)
            rows.append(row)
            read_url("URL, all fits, first epoch", "all", size, None)
            read_url("URL, all fits, later", "all", size, None)
            read_url("URL, a quarter fits, clips alone", "alone", size / 4, None)
            whole = fetched_whole(local, options.batch_size, size // 4)
            rows.append(["  the same in whole blocks", f"{whole:.2f}", "", rows[-1][3], "", "", ""])
            for number, blocks in enumerate((few, many)):
                read_url(f"URL, --shuffle_blocks {blocks}", f"windows_{number}", size / 4, blocks)
    print(
        f"\nAn epoch of {options.clips} clips in {len(local.blocks)} blocks, batches of {options.batch_size}; a store "
        f"that answers after {options.latency_ms:g} ms and sends {options.megabytes_per_s:g} MB/s; steps of "
        f"{options.step_ms:g} ms\n"
    )
    print(table(HEADER, rows))
    fetched, waiting = found[f"URL, --shuffle_blocks {many}"]
    print("\n" + goal("windows fetch the pack, times an epoch", fetched, 1.05, at_most=True))
    print(goal("share of waiting with windows", waiting, 0.05, at_most=True))
    print(goal("share of waiting once all is there", found["URL, all fits, later"][1], 0.05, at_most=True))


if __name__ == "__main__":
    main()

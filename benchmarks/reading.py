"""Random crops from a pack against the least that any reader has to do, on one core.

    python -m benchmarks.reading
    python -m benchmarks.reading --quick

Writes a pack of 4 s clips of noise and labels into a temporary folder, then reads random 2 s crops in batches as a
training run does (`data.loader.TrainBatches`: order, crop positions, masks' keys, labels of every level) and converts
them to float32. The floor converts 2 s of int16 in memory to float32 in [-1, 1], a crop at a time. Prints crops per
CPU second (medians over interleaved rounds) and the ratio paired within rounds. The page cache is warm.
"""

import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.timing import goal, parse, parser, ratio, rounds_of, table
from data.clip import Clip, Labels, LabelSet
from data.decode import RATE
from data.loader import FULL_SCALE, TrainBatches
from data.pack import Pack
from data.sampler import GlobalOrder, Share
from data.taxonomy import FAMILY_OF_INSTRUMENT
from data.writer import write_pack

CLIP_SECONDS, CROP_SECONDS = 4, 2
GOAL = 0.5
FLOOR, CROPS, WITHOUT_FLOATS = "floor: int16 to float32 in memory", "crops, labels, float32", "crops, labels, int16"


@dataclass(frozen=True)
class Noise:
    """An `Audio` of noise."""

    seed: int

    def read(self) -> tuple[np.ndarray, int]:
        """Float32 ``(S, 1)`` and its rate."""
        noise = np.random.default_rng(self.seed).random((CLIP_SECONDS * RATE, 1), dtype=np.float32)
        return noise - 0.5, RATE


def write(folder: Path, count: int) -> Pack:
    """A pack of `count` training clips that know everything there is to know."""
    instruments = list(FAMILY_OF_INSTRUMENT.items())

    def clip(number: int) -> Clip:
        instrument, family = instruments[number % len(instruments)]
        labels = Labels(
            is_instrument=True,
            family=LabelSet((family,), complete=True),
            instrument=LabelSet((instrument,), complete=True),
            timbre=f"timbre_{number % 500}",
            genre=LabelSet(("classical",), complete=True),
            drums=False,
            pitch=number % 128,
            velocity=1 + number % 127,
        )
        return Clip(f"noise/{number}", "noise", str(number), f"noise/{number}", Noise(number), "train", labels=labels)

    return write_pack(map(clip, range(count)), folder)


def candidates_for(pack: Pack, batch_size: int) -> dict[str, Callable[[], object]]:
    """Each reads as many crops as a batch has."""
    rows = pack.rows("train")
    order = GlobalOrder(len(rows), batch_size, seed=0)
    batches = TrainBatches(pack, rows, order, Share(0, 1), CROP_SECONDS * RATE)
    steps, place = iter(range(1 << 62)), torch.device("cpu")
    memory = np.random.default_rng(0).integers(-(2**15), 2**15, (batch_size, CROP_SECONDS * RATE), dtype=np.int16)

    def floor() -> list[np.ndarray]:
        return [crop * np.float32(1 / FULL_SCALE) for crop in memory]

    return {
        FLOOR: floor,
        CROPS: lambda: batches[next(steps)].to(place),
        WITHOUT_FLOATS: lambda: batches[next(steps)],
    }


def main() -> None:
    """Writes the pack, times and prints."""
    options_of = parser(__doc__)
    options_of.add_argument("--clips", type=int, default=4000, help="clips of the pack, 128 kB each (default: 4000)")
    options_of.add_argument("--batch_size", type=int, default=64, help="crops of a batch (default: 64)")
    options = parse(options_of)
    with tempfile.TemporaryDirectory() as folder:
        pack = write(Path(folder) / "pack", options.clips)
        taken = rounds_of(candidates_for(pack, options.batch_size), options.rounds, options.seconds)
    rows = [
        [name, f"{options.batch_size / statistics.median(times):.0f}", f"{ratio(taken[FLOOR], times):.2f}"]
        for name, times in taken.items()
    ]
    print(f"\n{CROP_SECONDS} s crops of {options.clips} clips, batches of {options.batch_size}, one thread\n")
    print(table(["candidate", "crops / core-s", "of the floor"], rows))
    print("\n" + goal("crops with labels, of the floor", ratio(taken[FLOOR], taken[CROPS]), GOAL))


if __name__ == "__main__":
    main()

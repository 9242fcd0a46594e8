"""What a recipe costs over a bare loop with the same network, batch and optimizer.

    python -m benchmarks.overhead
    python -m benchmarks.overhead --recipes pretrain.mae --batch_size 32
    python -m benchmarks.overhead --device cuda --preset base
    python -m benchmarks.overhead --quick

Runs each recipe as it is, on a pack of synthetic clips, and between any two of its steps one of a bare loop
(benchmarks/bare.py): forward, loss, backward, clipping and fused AdamW of a copy of the network, on one batch that lies
ready. So what is compared are neighbours in time, and all else counts as the recipe's: reading, moving and converting
the batch, the order, learning rates, looking for bad gradients and for signals, the clock, the log with TensorBoard
and the progress bar. Left out are augmentation, evaluations and saved states: the first is work on the sound that its
flags ask for, which benchmarks/augment.py times, as benchmarks/state.py does the last.

Prints the median over blocks of ten steps, one of which is logged, of CPU seconds of the process, one thread; on
another device of wall-clock seconds.
"""

import json
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from benchmarks.manifest import write
from benchmarks.recipes import RECIPES, SMALL, add_device, command_line, launch, settings_of
from benchmarks.timing import goal, parse, parser, ratio, table
from data.augment import Augmentation

CLIPS = 1_000
BLOCK = 10
SKIPPED = 5
"""First steps, which allocate, plan and compile."""
GOAL = 0.03
NO_AUGMENTATION = {
    f"augment.{field.name}": 0.0 for field in fields(Augmentation) if field.name.endswith("_probability")
}  # fmt: skip


def blocks(seconds: Sequence[float]) -> list[float]:
    """The mean step of each whole block, the first steps left out."""
    kept = seconds[SKIPPED:]
    return [statistics.mean(kept[start : start + BLOCK]) for start in range(0, len(kept) - BLOCK + 1, BLOCK)]


def main() -> None:
    """Runs, compares and prints."""
    options_of = parser(__doc__)
    options_of.add_argument("--recipes", nargs="+", choices=RECIPES, default=RECIPES, help="recipes (default: all)")
    options_of.add_argument("--batch_size", type=int, default=16, help="clips of a step (default: 16)")
    options_of.add_argument("--preset", default="tiny", help="size of the network (default: tiny)")
    options_of.add_argument("--clip_seconds", type=float, default=2.0, help="length of a clip (default: 2)")
    add_device(options_of)
    options = parse(options_of)
    num_blocks = 1 if options.quick else options.rounds
    steps = SKIPPED + BLOCK * num_blocks
    flags = {
        "batch_size": options.batch_size, "preset": options.preset, "clip_seconds": options.clip_seconds,
        "steps": 100_000, "log_every": BLOCK, "eval_every": 0, "save_minutes": 600, "cpu_threads": 1,
        **NO_AUGMENTATION,
    }  # fmt: skip
    rows, goals = [], []
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        flags["data"] = write(folder / "pack", CLIPS, "n").folder
        for recipe in options.recipes:
            for setting in settings_of(options.device):
                file, run = folder / "seconds.json", Path(tempfile.mkdtemp(dir=folder)) / "run"
                arguments = command_line(flags | SMALL[recipe] | {"out": run})
                launch("benchmarks.bare", [str(file), str(steps), recipe, *arguments], setting)
                taken = {name: blocks(seconds) for name, seconds in json.loads(file.read_text()).items()}
                overhead = ratio(taken["recipe"], taken["bare"]) - 1
                medians = [f"{1e3 * statistics.median(taken[name]):.1f}" for name in ("recipe", "bare")]
                rows.append([recipe, str(setting), *medians, f"{overhead:+.1%}"])
                goals.append(goal(f"{recipe}, {setting}: overhead", overhead, GOAL, at_most=True))
    print(f"\n{options.preset}, batches of {options.batch_size} clips of {options.clip_seconds:g} s\n")
    print(table(["recipe", "setting", "a step of it, ms", "a bare step, ms", "overhead"], rows))
    print("\n" + "\n".join(goals))


if __name__ == "__main__":
    main()

"""What a resume costs before its first step, for a pack of a million clips.

    python -m benchmarks.resume
    python -m benchmarks.resume --recipes pretrain.mae --device cuda
    python -m benchmarks.resume --quick

Writes two packs of synthetic rows, of a thousand clips and of a million (benchmarks/manifest.py), and starts each
recipe in a process of its own: anew on the thousand, anew on the million, and once more from the state that the latter
left. What is counted are wall-clock seconds from the moment when Python has imported the recipe to its first step, that
is to the end of that step less what a later step takes: the launch of Accelerate, the pack, the network and its state,
the order, the trackers, the few clips that some recipes measure before they start. The imports stand in a column of
their own, and so do the seconds from the start of the process.

The goal is for the resumed run, all of it but the imports. Medians over rounds; the page cache is warm.
"""

import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.manifest import write
from benchmarks.recipes import RECIPES, SMALL, Setting, Times, add_device, settings_of, timed
from benchmarks.timing import goal, parse, parser, table

THOUSAND, MILLION = 1_000, 1_000_000
GOAL_SECONDS = 10.0
STEPS = 3  # the first, and two that say what a step takes
FLAGS = {"batch_size": 16, "clip_seconds": 1.0, "steps": 100_000, "eval_every": 0, "cpu_threads": 1}


def before_first_step(times: Times, step: float) -> float:
    """Seconds from the end of the imports to the beginning of the first step, where a step takes so many."""
    return times.steps[0] - times.imported - step


def measure(recipe: str, packs: Sequence[Path], folder: Path, setting: Setting) -> dict[str, float]:
    """Seconds before the first step of a recipe's runs, and of their imports."""
    thousand, million = packs
    flags = FLAGS | SMALL[recipe]
    small = timed(recipe, flags | {"data": thousand, "out": folder / "small", "save_minutes": 60}, STEPS, setting)
    # Stopped while its last step is not yet saved: the state is that of the step before.
    new = timed(recipe, flags | {"data": million, "out": folder / "large", "save_minutes": 0}, STEPS, setting)
    resumed = timed(recipe, {"resume": folder / "large", "save_minutes": 60}, STEPS, setting)
    step = min(small.step_seconds(), resumed.step_seconds())
    runs = {"small": small, "new": new, "resumed": resumed}
    found = {name: before_first_step(times, step) for name, times in runs.items()}
    imports = statistics.median(times.imported - times.started for times in runs.values())
    return found | {"imports": imports, "whole": found["resumed"] + resumed.imported - resumed.started}


def main() -> None:
    """Writes the packs, measures and prints."""
    options_of = parser(__doc__)
    options_of.set_defaults(rounds=3)
    options_of.add_argument("--recipes", nargs="+", choices=RECIPES, default=RECIPES, help="recipes (default: all)")
    add_device(options_of)
    options = parse(options_of)
    if options.quick:
        options.rounds, options.recipes = 1, options.recipes[:1]
    count = MILLION // 20 if options.quick else MILLION
    rows, goals = [], []
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        packs = [write(folder / str(size), size, "nre").folder for size in (THOUSAND, count)]
        for recipe in options.recipes:
            for setting in settings_of(options.device):
                rounds = []
                for _ in range(options.rounds):
                    runs = Path(tempfile.mkdtemp(dir=folder))
                    rounds.append(measure(recipe, packs, runs, setting))
                found = {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}
                names = ("imports", "small", "new", "resumed", "whole")
                rows.append([recipe, str(setting), *(f"{found[name]:.2f}" for name in names)])
                what = f"{recipe}, {setting}: seconds before the first step of a run resumed on {count:,} clips"
                goals.append(goal(what, found["resumed"], GOAL_SECONDS, at_most=True))
    header = [
        "recipe", "setting", "imports, s", f"new, {THOUSAND:,} clips, s", f"new, {count:,} clips, s",
        f"resumed, {count:,} clips, s", "the same with imports, s",
    ]  # fmt: skip
    print("\nseconds before the first step\n")
    print(table(header, rows) + "\n\n" + "\n".join(goals))


if __name__ == "__main__":
    main()

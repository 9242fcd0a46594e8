"""What it costs to compute in several processes: two on two cores against one with two threads.

    python -m benchmarks.processes
    python -m benchmarks.processes --device cuda
    python -m benchmarks.processes --quick

Trains with pretrain/mae.py as users do, each round once in one process and once in several, on a pack of synthetic
clips, and compares the clips a second of their steps; the first few of these are left out. On a CPU both see the same
global batch and the same cores. On CUDA a process has a GPU of its own, all there are take part, and each brings the
batch that one GPU has when it is alone.

Then trains with pretrain/contrastive.py in as many processes, on a global batch of 1,024 in parts that fit, and says
which share of a step goes into gathering: the exchange of rows and sums inside the loss, from the moment when all
processes have come to it. The time that the first one waits for the others stands beside it.

Wall-clock seconds, for two processes are on two clocks of CPU time: run it on a machine that does nothing else.
"""

import statistics
import tempfile
from itertools import count
from pathlib import Path

import torch

from benchmarks.manifest import write
from benchmarks.recipes import CONTRASTIVE, MAE, SMALL, Setting, Times, add_device, settings_of, timed
from benchmarks.timing import goal, parse, parser, ratio, table

CLIPS = 4_000
CORES = 2
GOAL = 0.85
SKIPPED = 3
CONTRASTIVE_BATCH, CONTRASTIVE_STEPS = 1_024, 4


def clips_per_second(flags: dict[str, object], steps: int, setting: Setting, processes: int, out: Path) -> float:
    """Of a run of pretrain/mae.py."""
    threads = {"cpu_threads": max(1, CORES // processes)}
    times = timed(MAE, flags | SMALL[MAE] | threads | {"out": out}, steps, setting, processes)
    return flags["batch_size"] / times.step_seconds(SKIPPED)


def gathering_of(times: Times) -> tuple[float, float, float]:
    """Seconds of a step after the first, and the shares of it that are gathering and waiting for the others."""
    steps, seconds = len(times.steps) - 1, times.steps[-1] - times.steps[0]
    exchanged, waited = (spent[-1] - spent[0] for spent in (times.exchanged, times.waited))
    return seconds / steps, exchanged / seconds, waited / seconds


def main() -> None:
    """Runs, compares and prints."""
    options_of = parser(__doc__)
    options_of.set_defaults(rounds=3)
    options_of.add_argument("--batch_size", type=int, default=32, help="clips of a step of the first run (default: 32)")
    options_of.add_argument("--grad_cache", type=int, default=64, help="clips in memory of the second (default: 64)")
    options_of.add_argument("--preset", default="tiny", help="size of the network (default: tiny)")
    add_device(options_of)
    options = parse(options_of)
    is_cpu = options.device == "cpu"
    processes = CORES if is_cpu else torch.cuda.device_count()
    if processes < 2:
        options_of.error(f"two GPUs or more were expected, {processes} found; leave out --device cuda")
    rounds, steps, large = (1, SKIPPED + 2, 64) if options.quick else (options.rounds, SKIPPED + 30, CONTRASTIVE_BATCH)
    flags = {"preset": options.preset, "steps": 100_000, "eval_every": 0, "save_minutes": 600}
    contrastive = flags | SMALL[CONTRASTIVE] | {
        "objective": "supcon", "clip_seconds": 1.0, "batch_size": large, "cpu_threads": 1,
        "grad_cache": min(options.grad_cache, large // processes),
    }  # fmt: skip
    compared, gathering, goals = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        folder, runs = Path(folder), count()
        pack = {"data": write(folder / "pack", CLIPS, "n").folder}
        for setting in settings_of(options.device):
            taken: dict[int, list[float]] = {1: [], processes: []}
            for _ in range(rounds):
                for number, rates in taken.items():
                    batch = {"batch_size": options.batch_size * (1 if is_cpu else number)}
                    out = folder / f"run_{next(runs)}"
                    rates.append(clips_per_second(flags | pack | batch, steps, setting, number, out))
            found = ratio(taken[processes], taken[1]) / (1 if is_cpu else processes)
            medians = [f"{statistics.median(rates):.1f}" for rates in taken.values()]
            compared.append([str(setting), *medians, f"{found:.2f}"])
            goals.append(goal(f"{setting}: {processes} processes over one on as much hardware", found, GOAL))
            out = {"out": folder / f"run_{next(runs)}"}
            times = timed(CONTRASTIVE, contrastive | pack | out, CONTRASTIVE_STEPS, setting, processes)
            seconds, exchanged, waited = gathering_of(times)
            gathering.append([str(setting), f"{large:,}", f"{seconds:.2f}", f"{exchanged:.2%}", f"{waited:.2%}"])
    print(f"\n{options.preset}, {rounds} round(s) of {steps - SKIPPED} steps\n")
    header = ["pretrain/mae.py", "one process, clips/s", f"{processes} processes, clips/s", "ratio"]
    print(table(header, compared) + "\n")
    print(table(["pretrain/contrastive.py", "batch", "a step, s", "gathering", "waiting for others"], gathering))
    print("\n" + "\n".join(goals))


if __name__ == "__main__":
    main()

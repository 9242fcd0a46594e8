"""Rounds of timing that survive other load on the machine.

Candidates take turns in every round, so that a slow moment hits them all; what counts is CPU time of the process, and
ratios are taken within a round before their median is.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import torch
from threadpoolctl import threadpool_limits


def parser(description: str | None) -> argparse.ArgumentParser:
    """A command line with what every benchmark takes."""
    built = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    built.add_argument("--rounds", type=int, default=7, help="interleaved rounds, of which medians are taken")
    built.add_argument("--seconds", type=float, default=1.0, help="seconds a candidate runs in a round, at least once")
    built.add_argument("--quick", action="store_true", help="two short rounds, to see that it runs")
    return built


def parse(built: argparse.ArgumentParser) -> argparse.Namespace:
    """Reads the command line and keeps torch, and whatever else is loaded, to one core."""
    options = built.parse_args()
    if options.quick:
        options.rounds, options.seconds = 2, 0.1
    torch.set_num_threads(1)
    threadpool_limits(1)
    return options


def rounds_of(
    candidates: Mapping[str, Callable[[], object]],
    rounds: int,
    seconds: float,
    clock: Callable[[], float] | None = None,
) -> dict[str, list[float]]:
    """Seconds a call of each candidate takes, one number a round; CPU seconds of the process unless a clock is given.

    Every candidate is called twice before the first round, and as often in a round as `seconds` allows.
    """
    clock = clock or time.process_time
    repeats = {}
    for name, call in candidates.items():
        call()  # first calls allocate, plan and compile
        start = clock()
        call()
        repeats[name] = max(1, round(seconds / max(clock() - start, 1e-9)))
    taken: dict[str, list[float]] = {name: [] for name in candidates}
    for number in range(rounds):
        names = list(candidates)
        for name in names[number % len(names) :] + names[: number % len(names)]:  # nobody is always first
            call, start = candidates[name], clock()
            for _ in range(repeats[name]):
                call()
            taken[name].append((clock() - start) / repeats[name])
    return taken


def ratio(slow: Sequence[float], fast: Sequence[float]) -> float:
    """How many times faster the second is: the median over rounds of the ratio within each."""
    return statistics.median(one / other for one, other in zip(slow, fast, strict=True))


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, first column to the left, the others to the right."""
    widths = [max(len(row[place]) for row in [header, *rows]) for place in range(len(header))]

    def line(row: Sequence[str]) -> str:
        cells = [
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        return f"| {' | '.join(cells)} |"

    rule = [("-" * width) if place == 0 else ("-" * (width - 1) + ":") for place, width in enumerate(widths)]
    return "\n".join([line(header), line(rule), *map(line, rows)])


def goal(what: str, found: float, wanted: float, at_most: bool = False) -> str:
    """A line that says whether a goal is met."""
    met = found <= wanted if at_most else found >= wanted
    bound = "at most" if at_most else "at least"
    return f"{'met ' if met else 'MISSED'} {what}: {found:.3g}, goal {bound} {wanted:g}"

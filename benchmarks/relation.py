"""The relation between all clips of a batch, on one core.

    python -m benchmarks.relation
    python -m benchmarks.relation --quick

Batches in which each clip names one to four instruments, every second with a complete list, with families, genres,
timbres and clips that are no instruments: of 20 instruments, of all that there are, and of 20 with every fourth clip
weak. Prints CPU milliseconds of a batch and nanoseconds of a pair (medians over interleaved rounds), and beside them
the rules of the set levels with Python sets, a pair at a time, on a smaller batch.
"""

import statistics

import torch
from torch import Tensor

from benchmarks.timing import goal, parse, parser, rounds_of, table
from data.labels import INSTRUMENTS
from data.relation import relation
from data.taxonomy import FAMILIES, FAMILY_OF_INSTRUMENT, GENRES

GOAL_MS = 20.0
FEW, ALL, WEAK, PEER = "20 instruments", "all instruments", "20 instruments, weak", "Python sets"


def labels(size: int, instruments: int, weak: float = 0.0) -> dict[str, Tensor]:
    """A batch as `LabelTable.take` gives it."""
    generator = torch.Generator().manual_seed(0)

    def chance(probability: float) -> Tensor:
        return torch.rand(size, generator=generator) < probability

    known = torch.randperm(len(INSTRUMENTS), generator=generator)[:instruments]
    named = known[torch.randint(instruments, (size, 4), generator=generator)]  # (B, 4), often the same twice
    families = torch.tensor([FAMILIES.index(FAMILY_OF_INSTRUMENT[name]) for name in INSTRUMENTS])
    genres = torch.randint(len(GENRES), (size, 1), generator=generator)
    is_complete, is_none = chance(0.5), chance(0.1)

    def level(names: tuple[str, ...], places: Tensor, is_closed: Tensor) -> Tensor:
        values = torch.where(is_closed, 0, -1)[:, None].repeat(1, len(names)).scatter_(1, places, 1)
        return values.to(torch.int8)

    batch = {
        "instrument": level(INSTRUMENTS, named, is_complete),
        "family": level(FAMILIES, families[named], is_complete),
        "genre": level(GENRES, genres, chance(0.7)),
        "timbre": torch.randint(-size, size // 4, (size,), generator=generator).clamp(min=-1),
        "is_instrument": (~is_none).long(),
        "is_weak": chance(weak).long(),
    }
    for name in ("instrument", "family"):
        batch[name][is_none] = 0
    return batch


def pairs_of_sets(batch: dict[str, Tensor]) -> list[list[int]]:
    """Every pair at every set level: 1 same, 0 different, -1 unknown."""
    found = []
    for level in ("instrument", "family", "genre"):
        present = [set((row == 1).nonzero()[:, 0].tolist()) for row in batch[level]]
        absent = [set((row == 0).nonzero()[:, 0].tolist()) for row in batch[level]]
        found += [
            [1 if mine & theirs else 0 if mine <= not_theirs and theirs <= not_mine else -1
             for theirs, not_theirs in zip(present, absent, strict=True)]
            for mine, not_mine in zip(present, absent, strict=True)
        ]  # fmt: skip
    return found


def main() -> None:
    """Times and prints."""
    options_of = parser(__doc__)
    options_of.add_argument("--batch_size", type=int, default=2048, help="clips of a batch (default: 2048)")
    options_of.add_argument("--peer_batch_size", type=int, default=128, help="clips for the peer (default: 128)")
    options = parse(options_of)
    size, few = options.batch_size, options.peer_batch_size
    batches = {FEW: labels(size, 20), ALL: labels(size, len(INSTRUMENTS)), WEAK: labels(size, 20, weak=0.25)}
    smaller = labels(few, 20)
    candidates = {name: (lambda batch=batch: relation(batch)) for name, batch in batches.items()}
    taken = rounds_of({**candidates, PEER: lambda: pairs_of_sets(smaller)}, options.rounds, options.seconds)
    rows = []
    for name, times in taken.items():
        clips = few if name == PEER else size
        seconds = statistics.median(times)
        rows.append([name, f"{clips}", f"{1e3 * seconds:.1f}", f"{1e9 * seconds / clips**2:.1f}"])
    print(f"\none thread, {len(INSTRUMENTS)} instruments in the taxonomy\n")
    print(table(["clips of", "clips", "CPU ms", "ns / pair"], rows))
    print(
        "\n" + goal(f"{size} clips of 20 instruments, ms", 1e3 * statistics.median(taken[FEW]), GOAL_MS, at_most=True)
    )


if __name__ == "__main__":
    main()

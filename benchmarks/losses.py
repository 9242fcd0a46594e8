"""Losses over the label tree against pytorch-metric-learning's flat ones, on one core.

    python -m benchmarks.losses
    python -m benchmarks.losses --quick

Forward and backward on random unit embeddings of 128 dimensions, of 32 timbres in 8 families; a third level, of 16
instruments, stands between them where three are named. Everything from labels to gradient counts, so the relations of
all pairs too. At batch 512 every triplet there is: ours with one margin and with margins from the tree, and
`TripletMarginLoss` over all triplets, which knows one margin. At batch 1,024 supervised contrastive terms for one and
for three levels, and for three where a fifth of the labels is unknown, against `SupConLoss`, which knows one level. The
floor of both is the product of all pairs and its gradient.

Prints steps per CPU second (medians over interleaved rounds), ratios paired within rounds, the difference between the
gradients of the two flat triplet losses and of each from float64, and the most memory that a step at batch 4,096 takes
beyond what the process had before, each in a process of its own.
"""

import multiprocessing
import resource
import statistics
import sys
from collections.abc import Callable

import psutil
import torch
from pytorch_metric_learning.losses import SupConLoss, TripletMarginLoss
from torch import Tensor
from torch.nn.functional import normalize

from benchmarks.timing import goal, parse, parser, ratio, rounds_of, table
from losses.contrastive import combine_levels, level_losses, scaled_similarity
from losses.triplet import all_triplets, euclidean, label_classes, tree_classes

SIZE, MARGIN, TEMPERATURE = 128, 0.2, 0.1
TIMBRES, INSTRUMENTS, FAMILIES = 32, 16, 8
TIMES_TRIPLETS, TIMES_SUPCON, GRADIENT, GIB_A_LEVEL = 10.0, 1.0, 1e-6, 1.0
FLOOR = "floor: pairs and gradient"
PEER_TRIPLETS, PEER_SUPCON = "TripletMarginLoss, all triplets", "SupConLoss"
FLAT, TREE, TREE_3 = "all triplets, one margin", "all triplets, tree margins", "all triplets, three levels"
ONE_LEVEL, LEVELS, UNKNOWN = "supcon, one level", "supcon, three levels", "supcon, three levels, partly unknown"
NUM_LEVELS = {FLAT: 1, TREE: 2, TREE_3: 3, ONE_LEVEL: 1, LEVELS: 3}

Loss = Callable[[Tensor], Tensor]


def candidates_for(batch_size: int) -> dict[str, Loss]:
    """Each takes unit embeddings ``(B, E)`` of the same labels to its mean loss."""
    timbre = torch.arange(batch_size) % TIMBRES
    levels = [timbre, timbre * INSTRUMENTS // TIMBRES, timbre * FAMILIES // TIMBRES]
    is_self = torch.eye(batch_size, dtype=torch.bool)
    is_unknown = torch.rand(3, batch_size, generator=torch.Generator().manual_seed(0)) < 0.2
    peers = TripletMarginLoss(margin=MARGIN), SupConLoss(temperature=TEMPERATURE)

    def same(level: Tensor) -> Tensor:
        return (level[:, None] == level).to(torch.int8)

    def flat(unit: Tensor) -> Tensor:
        return all_triplets(euclidean(unit, unit), label_classes(same(timbre), is_self, MARGIN)).mean()

    def tree(unit: Tensor, has_instruments: bool) -> Tensor:
        timbres, instruments, families = map(same, levels)
        # Pairs part at depth 0, 1, 2 or 3; without instruments at 0, 2 or 3.
        depth = 3 - families - (instruments if has_instruments else timbres) - timbres
        return all_triplets(euclidean(unit, unit), tree_classes(depth, depth, is_self, MARGIN)).mean()

    def supcon(unit: Tensor, relations: list[Tensor]) -> Tensor:
        losses = level_losses(scaled_similarity(unit, unit, TEMPERATURE), relations, is_self)
        return combine_levels([loss.mean() for loss in losses])

    def partly_unknown() -> list[Tensor]:
        return [
            same(level).masked_fill(unknown[:, None] | unknown, -1)
            for level, unknown in zip(levels, is_unknown, strict=True)
        ]

    return {
        FLOOR: lambda unit: (unit @ unit.T).sum(),
        PEER_TRIPLETS: lambda unit: peers[0](unit, timbre),
        FLAT: flat,
        TREE: lambda unit: tree(unit, has_instruments=False),
        TREE_3: lambda unit: tree(unit, has_instruments=True),
        PEER_SUPCON: lambda unit: peers[1](unit, timbre),
        ONE_LEVEL: lambda unit: supcon(unit, [same(timbre)]),
        LEVELS: lambda unit: supcon(unit, [same(level) for level in levels]),
        UNKNOWN: lambda unit: supcon(unit, partly_unknown()),
    }


def embeddings_of(batch_size: int) -> Tensor:
    """float32 ``(B, E)``, of unit length."""
    return normalize(torch.randn(batch_size, SIZE, generator=torch.Generator().manual_seed(0)), dim=1)


def step_of(loss: Loss, embeddings: Tensor) -> Callable[[], Tensor]:
    """Forward and backward, through the normalisation that the peers do too; returns the gradient."""
    leaf = embeddings.clone().requires_grad_()

    def step() -> Tensor:
        leaf.grad = None
        loss(normalize(leaf, dim=1)).backward()
        return leaf.grad

    return step


def gradient_errors(batch_size: int) -> dict[str, float]:
    """Largest differences of an entry between the gradients of the flat triplet losses, and the largest entry."""
    losses, embeddings = candidates_for(batch_size), embeddings_of(batch_size)
    ours, theirs = (step_of(losses[name], embeddings)() for name in (FLAT, PEER_TRIPLETS))
    exact = step_of(losses[PEER_TRIPLETS], embeddings.double())()
    return {
        "between": (ours - theirs).abs().max().item(),
        "ours": (ours - exact).abs().max().item(),
        "theirs": (theirs - exact).abs().max().item(),
        "largest": exact.abs().max().item(),
    }


def extra_peak_gib(name: str, batch_size: int) -> float:
    """The most memory that one step takes in a fresh process, beyond what that held before, in GiB."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_extra_peak_gib, (name, batch_size))


def _extra_peak_gib(name: str, batch_size: int) -> float:
    torch.set_num_threads(1)
    step_of(candidates_for(TIMBRES)[name], embeddings_of(TIMBRES))()  # loads what torch loads when it is first used
    step = step_of(candidates_for(batch_size)[name], embeddings_of(batch_size))
    before = psutil.Process().memory_info().rss
    step()
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss: bytes there, KiB elsewhere
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit - before) / 2**30


def report(taken: dict[str, list[float]], peer: str, batch_size: int) -> None:
    """Prints a table."""
    rows = [
        [name, f"{1 / statistics.median(times):.3g}", f"{ratio(taken[peer], times):.2f}",
         f"{ratio(times, taken[FLOOR]):.1f}"]
        for name, times in taken.items()
    ]  # fmt: skip
    print(f"\nbatch {batch_size}, {SIZE} dimensions, forward and backward, one thread\n")
    print(table(["candidate", "steps / core-s", f"x {peer.partition(',')[0]}", "floors"], rows))


def main() -> None:
    """Measures, compares and prints."""
    options_of = parser(__doc__)
    options_of.add_argument("--triplet_batch", type=int, default=512, help="rows of a batch (default: 512)")
    options_of.add_argument("--supcon_batch", type=int, default=1024, help="rows of a batch (default: 1024)")
    options_of.add_argument("--large_batch", type=int, default=4096, help="rows where memory counts (default: 4096)")
    options = parse(options_of)
    # First, while this process is small: a child's peak begins where its parent stands.
    peaks = {name: extra_peak_gib(name, options.large_batch) for name in NUM_LEVELS}
    errors = gradient_errors(options.triplet_batch)

    def time_all(batch_size: int, peer: str, names: list[str]) -> dict[str, list[float]]:
        losses, embeddings = candidates_for(batch_size), embeddings_of(batch_size)
        steps = {name: step_of(losses[name], embeddings) for name in (FLOOR, peer, *names)}
        taken = rounds_of(steps, options.rounds, options.seconds)
        report(taken, peer, batch_size)
        return taken

    triplets = time_all(options.triplet_batch, PEER_TRIPLETS, [FLAT, TREE, TREE_3])
    supcon = time_all(options.supcon_batch, PEER_SUPCON, [ONE_LEVEL, LEVELS, UNKNOWN])
    print(f"\nbatch {options.large_batch}, a step in a process of its own\n")
    rows = [[name, f"{peak:.2f}", f"{peak / NUM_LEVELS[name]:.2f}"] for name, peak in peaks.items()]
    print(table(["candidate", "extra peak, GiB", "a level"], rows))
    print(
        f"\ngradients of all triplets with one margin, largest difference of an entry: {errors['between']:.1e} from "
        f"TripletMarginLoss's; from its in float64 {errors['ours']:.1e}, its own in float32 {errors['theirs']:.1e}; "
        f"the largest entry is {errors['largest']:.1e}\n"
    )
    print(goal("tree margins, times TripletMarginLoss", ratio(triplets[PEER_TRIPLETS], triplets[TREE]), TIMES_TRIPLETS))
    print(goal("one margin, difference of gradients", errors["between"], GRADIENT, at_most=True))
    print(goal("three levels of supcon, times SupConLoss", ratio(supcon[PEER_SUPCON], supcon[LEVELS]), TIMES_SUPCON))
    for name, peak in peaks.items():
        print(goal(f"{name}, GiB a level", peak / NUM_LEVELS[name], GIB_A_LEVEL, at_most=True))


if __name__ == "__main__":
    main()

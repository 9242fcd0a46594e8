"""Saving the state of a `base` run: how long it takes, and its share of the time at the default interval.

    python -m benchmarks.state
    python -m benchmarks.state --folder /a/slower/disk

Saves the whole masked autoencoder and AdamW's moments with `checkpoints.state.save_state`, checksums and fsync
included. Wall-clock seconds (medians over rounds), for the disk is not on the CPU's clock; beside them plain writes of
as many bytes, flushed, which is what the disk allows.
"""

import os
import statistics
import tempfile
import time
from pathlib import Path

import torch

from backbones.ast_encoder import AstBackbone
from backbones.mae import DECODERS, MaskedAutoencoder
from benchmarks.timing import goal, parse, parser, rounds_of, table
from checkpoints.state import Progress, save_state
from pretrain.mae import Config

PRESET, FRAMES = "base", 1024
GOAL_SECONDS, GOAL_SHARE = 5.0, 0.02
SAVE, PLAIN = "save_state", "plain write and fsync"


def trained_model() -> tuple[MaskedAutoencoder, torch.optim.Optimizer]:
    """A model and an optimizer that has moments for every parameter."""
    model = MaskedAutoencoder(AstBackbone.untrained(PRESET, FRAMES, mean=0.0, std=1.0), **DECODERS[PRESET])
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    optimizer.zero_grad()
    return model, optimizer


def main() -> None:
    """Times and prints."""
    options_of = parser(__doc__)
    options_of.add_argument("--folder", type=Path, help="where to save (default: the system's temporary folder)")
    options = parse(options_of)
    model, optimizer = trained_model()
    progress, generators = Progress(0, {"preset": PRESET}), {"cpu.0": torch.get_rng_state()}
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        states = Path(folder) / "state"

        def save() -> None:
            progress.step += 1
            save_state(states, progress, model, optimizer, generators)

        save()
        num_bytes = sum(file.stat().st_size for file in states.rglob("*.*"))
        content = os.urandom(num_bytes)

        def plain() -> None:
            with open(Path(folder) / "plain", "wb") as file:
                file.write(content)
                os.fsync(file.fileno())

        taken = rounds_of({SAVE: save, PLAIN: plain}, options.rounds, seconds=0, clock=time.perf_counter)
    seconds = statistics.median(taken[SAVE])
    rows = [[name, f"{statistics.median(times):.2f}", f"{max(times):.2f}"] for name, times in taken.items()]
    print(f"\n{PRESET}, {num_bytes / 1e6:.0f} MB\n")
    print(table(["", "median s", "longest s"], rows))
    minutes = Config().save_minutes
    print("\n" + goal("seconds to save", seconds, GOAL_SECONDS, at_most=True))
    print(goal(f"share of the time at every {minutes:g} min", seconds / (60 * minutes), GOAL_SHARE, at_most=True))


if __name__ == "__main__":
    main()

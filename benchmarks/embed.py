"""What embedding a pack costs beyond the forward passes of the backbone.

    python -m benchmarks.embed
    python -m benchmarks.embed --preset base --clips 128
    python -m benchmarks.embed --quick

Writes a pack of 4 s clips of noise and an untrained AST into a temporary folder. The command is all of
`audit.embed`: it loads the run, reads the pack, hears two windows of every clip, writes the vectors block by block and
then in one file, and reads that for its checksum. Bare are the forward passes of the same batches, which lie ready on
the device as floats. Prints seconds (medians over interleaved rounds; of one core's CPU, or by the clock on a GPU) and
the ratio paired within rounds.
"""

import io
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import torch

from audit.embed import BATCH_OF_GPU, Config, main
from audit.embedder import BATCH, Embedder
from backbones.ast_encoder import PRESETS, AstBackbone
from backbones.log_mel import RATE, frames_of
from benchmarks.reading import write
from benchmarks.timing import goal, parse, parser, ratio, rounds_of, table
from checkpoints.weights import save_backbone
from data.pack import Pack
from data.windows import windows_of

WINDOW = 2 * RATE
GOAL = 1.1
COMMAND, BARE = "python -m audit.embed", "bare forward passes"


def untrained(preset: str, folder: Path) -> Path:
    """The folder of an AST that hears two seconds."""
    torch.manual_seed(0)
    save_backbone(AstBackbone.untrained(preset, frames_of(WINDOW), -4.0, 4.0), folder)
    return folder


def candidates_for(run: Path, pack: Pack, folder: Path, device: torch.device) -> dict[str, Callable[[], object]]:
    """Each hears the whole pack once."""
    embedder = Embedder.load(run, device, num_samples=WINDOW)
    batch_size = BATCH if device.type == "cpu" else BATCH_OF_GPU
    ready = [windows.to(device).waveform for windows in windows_of(pack, np.arange(len(pack)), WINDOW, batch_size)]
    numbers = itertools.count()

    def command() -> None:
        out = folder / str(next(numbers))
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            main(Config(str(run), pack.folder, out, clip_seconds=WINDOW / RATE, cpu_threads=1))

    @torch.no_grad()
    def bare() -> None:
        for waveform in ready:
            tokens = embedder.frozen.backbone(waveform).tokens
        tokens[0, 0, 0].item()  # waits for a GPU

    return {COMMAND: command, BARE: bare}


def measure() -> None:
    """Runs all of it."""
    built = parser(__doc__)
    built.add_argument("--preset", choices=PRESETS, default="tiny", help="of the AST")
    built.add_argument("--clips", type=int, default=256, help="of the pack")
    options = parse(built)
    count = 16 if options.quick else options.clips
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run, pack = untrained(options.preset, folder / "run"), write(folder / "pack", count)
        candidates = candidates_for(run, pack, folder, device)
        clock = None if device.type == "cpu" else time.perf_counter
        taken = rounds_of(candidates, options.rounds, options.seconds, clock)
    rows = []
    for candidate, seconds in taken.items():
        median = statistics.median(seconds)
        rows.append([candidate, f"{median:.3f}", f"{count / median:.1f}"])
    print(f"{options.preset} AST, {count} clips of 4 s in windows of {WINDOW / RATE:g} s, {device}\n")
    print(table(["", "seconds", "clips a second"], rows))
    print()
    print(goal("cost of embedding by the bare forward passes", ratio(taken[COMMAND], taken[BARE]), GOAL, at_most=True))


if __name__ == "__main__":
    measure()

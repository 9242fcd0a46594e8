"""How fast a fine-tuned network hears, and how much memory a concert takes.

    python -m benchmarks.predict
    python -m benchmarks.predict --preset base --seconds 10
    python -m benchmarks.predict --quick

An untrained AST with linear heads for all of the taxonomy hears recordings in stereo at 44.1 kHz (FLAC) in chunks of
4 s, as `finetune.predict` does by default. Speed is seconds of sound a second on --cores cores in steady state: after
two calls, with the network loaded, medians over interleaved rounds. It is taken from the clock on the wall, so the
machine should have nothing else to do; beside it stands what the CPU time of one call would give, which bears other
load better but does not see a core that waits. Memory is that of a fresh process that hears three hours (with --quick
three minutes), its picture and its JSON included, at its highest, beyond what it held with the network loaded and a
short recording heard. The default takes about fifteen minutes, most of it the three hours.
"""

import multiprocessing
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import soundfile
import torch

from backbones.ast_encoder import PRESETS, AstBackbone
from backbones.log_mel import frames_of
from benchmarks.timing import goal, parse, parser, rounds_of, table
from checkpoints.figures import save
from data.decode import RATE, seconds_of
from data.taxonomy import FAMILIES, FAMILY_OF_INSTRUMENT, GENRES
from finetune.heads import HeadSpec
from finetune.model import FineTuned
from finetune.outputs import About, Json
from finetune.predict import predict
from finetune.streaming import Spectrogram, blocks_of
from finetune.timeline import timeline

SOURCE_RATE = 44_100
CHUNK_SECONDS = 4.0
SONG_SECONDS = 60
TIMES_REAL_TIME, GIB = 30.0, 1.0
"""Goals: of the small AST on two cores with overlapping chunks, and of three hours."""
SPECS = [
    HeadSpec("instrument", "binary", tuple(FAMILY_OF_INSTRUMENT)),
    HeadSpec("family", "binary", FAMILIES),
    HeadSpec("genre", "binary", GENRES),
    HeadSpec("drums", "binary", ("drums",)),
    HeadSpec("pitch", "classes", tuple(map(str, range(128)))),
    HeadSpec("is_instrument", "binary", ("is_instrument",)),
]
DEFAULT, APART, READING, PICTURE = (
    "half overlap (default)",
    "no overlap",
    "decoding and resampling alone",
    "and the picture",
)


def untrained(preset: str) -> FineTuned:
    """A network that hears `CHUNK_SECONDS`."""
    torch.manual_seed(0)
    size = round(CHUNK_SECONDS * RATE)
    backbone = AstBackbone.untrained(preset, frames_of(size), mean=-4.0, std=4.0)
    return FineTuned(backbone, None, "head", "mean", SPECS, "linear", 64, 1, size).eval()


def write_recording(path: Path, seconds: float) -> Path:
    """Partials that decay, over and over: no part of it is silent, and it costs little room."""
    at = np.arange(10 * SOURCE_RATE) / SOURCE_RATE
    partials = sum(np.sin(2 * np.pi * 110 * k * at) / k for k in range(1, 9)) * np.exp(-(at % 0.5) * 4)
    block = 0.2 * np.stack([partials, np.roll(partials, 5000)], axis=1)
    with soundfile.SoundFile(path, "w", SOURCE_RATE, 2, format="FLAC", compression_level=0.2) as file:
        left = round(seconds * SOURCE_RATE)
        while left:
            file.write(block[:left])
            left -= min(left, len(block))
    return path


def peak_above_model(preset: str, hours: float, cores: int = 1, hop_seconds: float = CHUNK_SECONDS / 2) -> float:
    """GiB that a fresh process holds at most while it hears a recording, beyond what it held with the network."""
    with tempfile.TemporaryDirectory() as folder:
        path = write_recording(Path(folder, "concert.flac"), hours * 3600)
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            return pool.apply(_peak_above_model, (preset, path, cores, hop_seconds))


def _peak_above_model(preset: str, path: Path, cores: int, hop_seconds: float) -> float:
    torch.set_num_threads(cores)
    model = untrained(preset)
    short = write_recording(path.with_name("short.flac"), CHUNK_SECONDS / 2)
    save(
        timeline(predict(model, short, with_spectrogram=True)), path.with_name("short.png")
    )  # loads what is loaded late
    before = psutil.Process().memory_info().rss
    found = predict(model, path, with_spectrogram=True, hop_seconds=hop_seconds)
    save(timeline(found), path.with_name("concert.png"))
    Json(About("untrained", CHUNK_SECONDS, hop_seconds, None)).add(found)
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss: bytes there, KiB elsewhere
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit - before) / 2**30


def speeds(preset: str, path: Path, rounds: int, seconds: float, cores: int) -> list[float]:
    """Prints a table; returns how many times faster than real time the default is, a number a round."""
    model, length = untrained(preset), seconds_of(path)

    def picture() -> None:
        list(Spectrogram(length).listen(blocks_of(path, length)))

    candidates = {
        DEFAULT: lambda: predict(model, path),
        APART: lambda: predict(model, path, hop_seconds=CHUNK_SECONDS),
        READING: lambda: list(blocks_of(path, length)),
        PICTURE: picture,
    }
    taken = rounds_of(candidates, rounds, seconds, time.perf_counter)
    rows = []
    for name, times in taken.items():
        start = time.process_time()
        candidates[name]()
        by_cpu = length * cores / (time.process_time() - start)
        rows.append([name, f"{length / statistics.median(times):.1f}", f"{by_cpu:.1f}"])
    print(table(["", "times real time", "by CPU time"], rows))
    return [length / each for each in taken[DEFAULT]]


def main() -> None:
    """Runs both parts."""
    built = parser(__doc__)
    built.add_argument("--preset", choices=PRESETS, default="small", help="of the AST")
    built.add_argument("--cores", type=int, default=2, help="that torch may use")
    options = parse(built)
    torch.set_num_threads(options.cores)
    with tempfile.TemporaryDirectory() as folder:
        length = 8 if options.quick else SONG_SECONDS
        path = write_recording(Path(folder, "song.flac"), length)
        print(f"{options.preset} AST, {options.cores} cores, chunks of {CHUNK_SECONDS:g} s, {length} s of sound\n")
        found = speeds(options.preset, path, options.rounds, options.seconds, options.cores)
    hours = 0.05 if options.quick else 3.0
    memory = peak_above_model(options.preset, hours, options.cores)
    what = f"times real time on {options.cores} cores, {options.preset} AST, {DEFAULT}"
    print()
    print(goal(what, statistics.median(found), TIMES_REAL_TIME))
    print(goal(f"GiB above the network on {hours:g} hours", memory, GIB, at_most=True))


if __name__ == "__main__":
    main()

"""Speed of `data.prepare` against bare decoding and resampling.

    python benchmarks/prepare.py
    python benchmarks/prepare.py --formats ogg --recordings 5000 --rounds 7

Renders 10 s recordings, mono, as ogg and mp3 of 44.1 kHz and as 24-bit wav of 96 kHz, and then runs for each format,
interleaved, (a) soundfile's decode and soxr HQ to 16 kHz in one process, nothing else done, (b) ``python -m
data.prepare`` with one process, (c) the same with two. Times of (b) and (c) begin with the command's start and end with
the pack on the disk, statistics included; (a) is timed from its first file. Starting Python and the imports cost (b)
half a second of CPU, 2 to 3 % of what the default number of recordings takes; with 500 it would be 7 %, and the ratio
would tell of nothing else. The default takes about three minutes a format on two idle cores. Prints medians over the
rounds, and the ratios b / a (goal 0.9) and c / a (goal 1.7) of clips per second, and how much memory the largest
process took.
"""

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
import soxr

SECONDS = 10
FORMATS = {
    "ogg": (44_100, {"format": "OGG", "subtype": "VORBIS"}),
    "mp3": (44_100, {"format": "MP3", "bitrate_mode": "VARIABLE", "compression_level": 0.3}),
    "wav": (96_000, {"format": "WAV", "subtype": "PCM_24"}),
}
DISTINCT = 16
ROOT = Path(__file__).parents[1]
GOALS = {"b": 0.9, "c": 1.7}


def render(folder: Path, file_format: str, count: int) -> None:
    """Writes recordings that cost what music costs: decaying partials over noise; a few of them, linked."""
    rng = np.random.default_rng(0)
    rate, options = FORMATS[file_format]
    at = np.arange(SECONDS * rate) / rate
    for number in range(count):
        path = folder / f"{number:06d}.{file_format}"
        if number >= DISTINCT:
            os.link(folder / f"{number % DISTINCT:06d}.{file_format}", path)
            continue
        base = rng.uniform(60, 600)
        partials = sum(np.sin(2 * np.pi * base * k * at + rng.uniform(0, 6)) / k for k in range(1, 9))
        sound = 0.1 * partials * np.exp(-(at % 0.5) * 4) + 0.01 * rng.standard_normal(len(at))
        soundfile.write(path, sound, rate, **options)


def bare(recordings: list[Path]) -> tuple[float, float]:
    """Decodes and resamples everything; returns wall and CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    for path in recordings:
        samples, rate = soundfile.read(path, dtype="float32")
        soxr.resample(samples, rate, 16_000, quality="HQ")
    return time.perf_counter() - wall, time.process_time() - cpu


def prepare(folder: Path, out: Path, processes: int) -> tuple[float, float]:
    """Runs the command; returns wall and CPU seconds, those of its processes included."""
    shutil.rmtree(out, ignore_errors=True)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    wall = time.perf_counter()
    options = [f"--out={out}", f"--processes={processes}", "--duplicates=keep"]
    subprocess.run(
        [sys.executable, "-m", "data.prepare", f"folder={folder}", *options],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    wall = time.perf_counter() - wall
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(file_format: str, count: int, rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Wall and CPU seconds of every run, by its letter."""
    with tempfile.TemporaryDirectory() as temporary:
        folder, out = Path(temporary) / "recordings", Path(temporary) / "pack"
        folder.mkdir()
        render(folder, file_format, count)
        recordings = sorted(folder.iterdir())
        runs = {
            "a": lambda: bare(recordings),
            "b": lambda: prepare(folder, out, 1),
            "c": lambda: prepare(folder, out, 2),
        }
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
        runs["c"]()  # warms up: page cache, compiled modules
        for _ in range(rounds):
            for name, run in runs.items():
                times[name].append(run())
    return times


def main() -> None:
    """Runs the rounds and prints a table for each format."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=list(FORMATS), help="which (default: all)")
    parser.add_argument("--recordings", type=int, default=1500, help="how many (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="one round of few recordings, to see that it runs")
    args = parser.parse_args()
    count, rounds = (64, 1) if args.quick else (args.recordings, args.rounds)
    labels = {"a": "a  bare decode + soxr HQ", "b": "b  prepare, 1 process", "c": "c  prepare, 2 processes"}
    for file_format in args.formats:
        times = measure(file_format, count, rounds)
        print(f"{file_format}: {count} recordings of {SECONDS} s, {rounds} rounds, {os.cpu_count()} cores")
        print(f"{'':<28}{'clips/s':>10}{'clips/CPU-s':>14}{'wall / a':>12}{'CPU / a':>12}{'goal':>8}")
        for name, label in labels.items():
            rates = [[count / seconds[kind] for seconds in times[name]] for kind in (0, 1)]
            # Of each round its own ratio: what disturbs the machine for minutes disturbs a, b and c alike.
            ratios = [[a[kind] / own[kind] for a, own in zip(times["a"], times[name], strict=True)] for kind in (0, 1)]
            row = [statistics.median(values) for values in (*rates, *ratios)]
            print(
                f"{label:<28}{row[0]:>10.1f}{row[1]:>14.1f}{row[2]:>12.2f}{row[3]:>12.2f}{GOALS.get(name, 1.0):>8.1f}"
            )
    print(f"largest process: {resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024:.0f} MB")


if __name__ == "__main__":
    main()

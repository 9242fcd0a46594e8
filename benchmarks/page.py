"""How fast the page of an audit opens, and whether its map can be panned without stutter.

    python -m benchmarks.page
    python -m benchmarks.page --quick

A page of 20,000 points (with --quick 2,000) with the room for sound used up, and with findings of every kind, is opened
in a headless Chromium. Opening is the time from the request to the first picture of the map, and to the end of the
file, medians over --rounds fresh browsers' windows. Panning is a mouse that drags the map for a few seconds: the time
between two frames of the browser, and what drawing one takes of it. It is the clock on the wall that counts, so the
machine should have nothing else to do; a graphics card would only help.
"""

import os
import shutil
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from audit.findings import (
    Change,
    Comparison,
    Confusion,
    Duplicates,
    Findings,
    Neighbour,
    Pair,
    Place,
    Query,
    Score,
    Shortcut,
    Suspect,
)
from audit.map import MOST_POINTS
from audit.media import HEIGHT, MEGABYTES, WIDTH, Media, in_base64
from audit.page import render
from audit.points import NEIGHBOURS_SHOWN, Level, Points
from audit.sound import encoded
from audit.spectrograms import spectrogram_png
from benchmarks.timing import goal, parse, parser, table
from data.taxonomy import FAMILIES, FAMILY_OF_INSTRUMENT

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

SECONDS_TO_OPEN = 3.0
SECONDS_OF_FRAME = 1 / 30
"""Goals: of the file of 20,000 points, and of 95 % of the frames while the map is dragged."""
MOVES = 150
"""Of the mouse that drags."""


@contextmanager
def opened_chromium() -> Iterator["Browser"]:
    """Debian's Chromium without a window.

    Raises:
        FileNotFoundError: it is not installed.
    """
    from playwright.sync_api import sync_playwright  # a dependency of tests and benchmarks alone

    executable = shutil.which("chromium")
    if executable is None:
        raise FileNotFoundError("chromium was expected and is not installed; apt-get install chromium brings it")
    sandbox = [] if os.geteuid() else ["--no-sandbox"]  # root may not have one
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--mute-audio", *sandbox])
        yield browser
        browser.close()


def example_findings(clips: Sequence[str], files: Sequence[str] = (), most: int = 100) -> Findings:
    """Findings of every kind about some clips, at most so many of a kind; nothing in them is true."""
    random = np.random.default_rng(0)
    count = min(most, len(clips))

    def near(number: int = 5) -> tuple[Neighbour, ...]:
        return tuple(
            Neighbour(clips[place], 0.99 - 0.01 * rank)
            for rank, place in enumerate(random.integers(0, len(clips), number))
        )

    def some() -> list[str]:
        return [clips[place] for place in random.choice(len(clips), count, replace=False)]

    def pairs(splits: tuple[str, str], groups: tuple[str, str]) -> tuple[Pair, ...]:
        ends = zip(some(), some(), strict=True)
        return tuple(
            Pair(one, two, 0.998, 0.987, bool(place % 4), splits, groups) for place, (one, two) in enumerate(ends)
        )

    scores = tuple(
        Score(level, measure, value, value - 0.02, value + 0.02, None if measure == "v_measure" else 0.1, len(clips))
        for level, value in (("family", 0.7), ("instrument", 0.5))
        for measure in ("purity@10", "map_at_r", "v_measure")
    )
    share = random.dirichlet(np.full(len(FAMILIES), 0.3), len(FAMILIES))
    return Findings(
        about={"run": "runs/example", "backbone": "ast", "pack": "packs/example", "clips": len(clips), "k": 10},
        scores=scores,
        tree_distance={"nearest": 0.8, "10 nearest": 1.2, "chance": 2.9},
        confusion=Confusion(FAMILIES, tuple(map(tuple, share.tolist())), (len(clips),) * len(FAMILIES)),
        hubs=tuple(Place(clip, 80.0, near()) for clip in some()),
        hubness=2.1,
        outliers=tuple(Place(clip, 0.31, near()) for clip in some()),
        duplicates=Duplicates(
            0.97, "An example has no reason.",
            count, pairs(("train", "train"), ("a", "a")),
            count, pairs(("train", "test"), ("a", "b")),
            count, pairs(("train", "train"), ("a", "b")),
        ),
        suspects=tuple(
            Suspect(clip, "family", "string", "reed", 0.1, 0.05, 0.2, near()) for clip in some()
        ),
        shortcuts=(Shortcut("pitch", "r2", 0.8, 0.0, len(clips), "How well a ridge probe tells the pitch."),),
        queries=(Query(clips[0], clips[0], near(10)), *(Query(name, None, near(10)) for name in files)),
        comparison=Comparison("runs/other", scores, 0.5, tuple(Change(clip, 0.1, near(), near()) for clip in some())),
        notes=("Nothing here is true.",),
    )  # fmt: skip


def example_points(count: int) -> Points:
    """Points in a cloud a family."""
    random = np.random.default_rng(0)
    instruments = tuple(FAMILY_OF_INSTRUMENT)
    instrument = random.integers(0, len(instruments), count)
    family = np.array([FAMILIES.index(FAMILY_OF_INSTRUMENT[name]) for name in instruments])[instrument]
    place = random.random((len(FAMILIES), 2))[family] + 0.05 * random.standard_normal((count, 2))
    place = (place - place.min()) / np.ptp(place)

    def level(names: Sequence[str], codes: np.ndarray) -> Level:
        return Level(tuple(names), tuple((number,) for number in range(len(names))), codes.astype(np.int32))

    names = [instruments[place] for place in instrument]
    return Points(
        clips=tuple(f"example/recording-{number // 40:04d}/{name}/{number:06d}" for number, name in enumerate(names)),
        place=place.astype(np.float32),
        levels={
            "family": level(FAMILIES, family),
            "instrument": level(instruments, instrument),
            "split": level(("train", "validation", "test"), random.integers(0, 3, count)),
            "source": level(("example",), np.zeros(count)),
        },
        numbers={"pitch": random.integers(20, 100, count).astype(np.float32)},
        neighbours=random.integers(0, count, (count, NEIGHBOURS_SHOWN)).astype(np.int32),
        similarity=np.full((count, NEIGHBOURS_SHOWN), 0.9, np.float32),
    )  # fmt: skip


def example_media(clips: Sequence[str], megabytes: float) -> Media:
    """Fifty sounds in turn, for as many clips as find room."""
    random = np.random.default_rng(0)
    time = np.arange(32_000) / 16_000
    sounds = [(0.3 * np.sin(2 * np.pi * hz * time)).astype(np.float32) for hz in random.uniform(80, 2000, 50)]
    files = [(encoded(sound, 16_000), spectrogram_png(sound, 16_000, WIDTH, HEIGHT)) for sound in sounds]
    size = statistics.mean(in_base64(sound) + in_base64(picture) for sound, picture in files)
    chosen = clips[: int(megabytes * 1e6 / size)]
    given = {clip: files[place % len(files)] for place, clip in enumerate(chosen)}
    return Media(
        {clip: sound for clip, (sound, _) in given.items()}, {c: picture for c, (_, picture) in given.items()}, 0
    )


def opening(browser: "Browser", path: Path, rounds: int) -> tuple[list[float], list[float]]:
    """Seconds until the map is drawn, and until the whole file is read; a number a round."""
    drawn, whole = [], []
    for _ in range(rounds):
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(path.as_uri(), wait_until="load")
        drawn.append(page.evaluate("performance.getEntriesByName('drawn')[0].startTime") / 1000)
        whole.append(page.evaluate("performance.getEntriesByType('navigation')[0].loadEventStart") / 1000)
        page.close()
    return drawn, whole


def dragging(page: "Page", moves: int = MOVES) -> tuple[list[float], list[float]]:
    """Drags the map about; seconds between frames, and seconds that drawing each took."""
    box = page.locator("#map-canvas").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.evaluate(
        """() => {
          window.frames_ = []; window.draws_ = [];
          const tick = (time) => { frames_.push(time); requestAnimationFrame(tick); };
          requestAnimationFrame(tick);
          const draw = clipMap.draw.bind(clipMap);
          clipMap.draw = () => { const start = performance.now(); draw(); draws_.push(performance.now() - start); };
        }"""
    )
    page.mouse.move(x, y)
    page.mouse.down()
    for move in range(moves):
        angle = 2 * np.pi * move / 50
        page.mouse.move(x + 150 * np.sin(angle), y + 100 * np.sin(2 * angle))
    page.mouse.up()
    frames, draws = page.evaluate("[frames_, draws_]")
    return (np.diff(frames) / 1000).tolist(), [milliseconds / 1000 for milliseconds in draws]


def main() -> None:
    """Writes the page, opens it, drags it."""
    options = parse(parser(__doc__))
    count = 2000 if options.quick else MOST_POINTS
    points = example_points(count)
    media = example_media(points.clips, MEGABYTES / 10 if options.quick else MEGABYTES)
    text = render(example_findings(points.clips), points, media)
    with tempfile.TemporaryDirectory() as folder, opened_chromium() as browser:
        path = Path(folder, "report.html")
        path.write_text(text, encoding="utf-8")
        print(f"{count} points, {len(media.sounds)} sounds, {path.stat().st_size / 1e6:.1f} MB\n")
        drawn, whole = opening(browser, path, options.rounds)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(path.as_uri(), wait_until="load")
        frames, draws = dragging(page, MOVES // 5 if options.quick else MOVES)
    measured = {
        "until the map is drawn": drawn, "until the file is read": whole, "between frames": frames, "drawing": draws,
    }  # fmt: skip
    rows = [
        [name, *(f"{1000 * value:.0f}" for value in (*np.quantile(times, (0.5, 0.95)), max(times)))]
        for name, times in measured.items()
    ]
    print(table(["ms", "median", "95 %", "most"], rows))
    print()
    print(goal(f"seconds to open {count} points", statistics.median(whole), SECONDS_TO_OPEN, at_most=True))
    worst = float(np.quantile(frames, 0.95))
    print(goal("seconds between frames while panned, 95 % of them", worst, SECONDS_OF_FRAME, at_most=True))


if __name__ == "__main__":
    main()

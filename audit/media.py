"""The sounds of a page and their pictures, as many as find room: those that findings name before those of the map.

S samples, M points of the map.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from audit.findings import Findings
from audit.points import Points, clips_named, rows_of
from audit.sound import QUALITY, encoded
from audit.spectrograms import spectrogram_png
from data.decode import FULL_SCALE, RATE
from data.pack import Pack

MEGABYTES = 32.0
"""That sounds and pictures may add to a page."""
SECONDS, POINT_SECONDS = 5.0, 2.0
"""Of a clip that findings name, and of one that is only on the map; what is longer is cut."""
POINT_QUALITY = 0.0
WIDTH, HEIGHT = 160, 56
"""Of a picture, in points; the page shows it in this size."""
CELLS = 48
"""The map's sides are cut into as many: wherever a person clicks there is a sound nearby."""
AT_ONCE = 64


@dataclass(frozen=True)
class Media:
    """What can be heard and seen on a page; keys are ids of clips, and names of files that were asked for."""

    sounds: dict[str, bytes]
    """Ogg files."""
    pictures: dict[str, bytes]
    """PNG files."""
    num_left_out: int
    """Clips named in findings that found no room."""


def gather_media(
    findings: Findings,
    points: Points,
    pack: Pack,
    files: Mapping[str, np.ndarray] | None = None,
    megabytes: float = MEGABYTES,
) -> Media:
    """Encodes sounds until the room is used up: files that were asked for, clips that findings name in the order of
    `audit.points.clips_named`, then points of the map, evenly over its area.

    Args:
        findings: of the audit.
        points: of the page.
        pack: the clips' sound.
        files: float32 `(S,)` at 16 kHz of each query that is a file, by its name.
        megabytes: 10^6 bytes that sounds and pictures take in the page, there in base 64.
    """
    files = files or {}
    named = clips_named(findings)
    wanted = list(dict.fromkeys([*files, *named]))
    others = [points.clips[place] for place in evenly(points.place)]
    row_of = dict(zip(named + others, rows_of(pack, named + others).tolist(), strict=True))

    def make(name: str) -> tuple[bytes, bytes]:
        waveform = files[name] if name in files else pack.samples(row_of[name]).astype(np.float32) / FULL_SCALE
        seconds, quality = (SECONDS, QUALITY) if name in is_wanted else (POINT_SECONDS, POINT_QUALITY)
        picture = spectrogram_png(waveform[: round(seconds * RATE)], RATE, WIDTH, HEIGHT)
        return encoded(waveform, RATE, seconds, quality=quality), picture

    is_wanted = set(wanted)
    names = wanted + [name for name in others if name not in is_wanted]
    room = round(megabytes * 1e6)
    sounds: dict[str, bytes] = {}
    pictures: dict[str, bytes] = {}
    with tqdm(total=room, unit="B", unit_scale=True, desc="sound", disable=None) as bar:
        for name, (sound, picture) in _made(make, names):
            size = in_base64(sound) + in_base64(picture)
            if size > room:
                break
            room -= size
            bar.update(size)
            sounds[name], pictures[name] = sound, picture
    return Media(sounds, pictures, len(is_wanted - sounds.keys()))


def evenly(place: np.ndarray) -> np.ndarray:
    """An order of points in which every beginning is spread over the whole map: one of each cell, then another.

    Args:
        place: float32 `(M, 2)` in [0, 1].

    Returns:
        int64 `(M,)`.
    """
    random = np.random.default_rng(0).permutation(len(place))
    column, row = np.clip((place[random] * CELLS).astype(np.int64), 0, CELLS - 1).T
    cell = column * CELLS + row
    by_cell = np.argsort(cell, kind="stable")
    first = np.searchsorted(cell[by_cell], cell[by_cell])
    turn = np.empty(len(place), np.int64)
    turn[by_cell] = np.arange(len(place)) - first  # how many of its cell come before a point
    return random[np.argsort(turn, kind="stable")]


def in_base64(file: bytes) -> int:
    """Bytes that a file takes in base 64."""
    return -(-len(file) // 3) * 4


def _made(
    make: Callable[[str], tuple[bytes, bytes]], names: Sequence[str]
) -> Iterator[tuple[str, tuple[bytes, bytes]]]:
    """Names in order, each with its sound and picture, made on all cores, some at a time: little of it in vain."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(names), AT_ONCE):
            some = names[start : start + AT_ONCE]
            yield from zip(some, pool.map(make, some), strict=True)

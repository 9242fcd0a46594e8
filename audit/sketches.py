"""A short description of each clip's sound, alike for clips that sound alike, to say which are worth comparing.

Two of them, both blind to loudness:

* the **sketch**, how the power of the first seconds is spread over time and frequency, from where the sound sets in. It
  hardly changes with noise, a codec or a pause before it;
* the **keys**, where in each quarter of a clip the largest and the smallest sample lie. Equal clips have equal keys
  however loud they are, and other clips hardly ever; so equal clips are found without comparing each with all.

Shapes: N clips of the pack, T slices, F bands, D = T * F.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache

import faiss
import numpy as np
import scipy.fft
import torch
from tqdm import tqdm

from data.decode import RATE
from data.pack import Pack

SLICES, SAMPLES, BANDS = 16, 4000, 16
"""T slices of a quarter of a second: the first four seconds."""
ONSET = 5
"""A sound sets in where it first reaches one in so many of its peak; noise in a pause before it does not."""
LOW_HZ = 60.0
PARTS = 4
"""Of a clip, each with a key."""
LEAST_RANGE = 64
"""Between the smallest and the largest sample of a part, in steps of int16: below, many clips have the same key."""
EXACT_UP_TO = 20_000
"""Clips whose sketches are all compared with each other."""
CELLS_SEARCHED, ROUNDS = 2, 10
LEARNED_FROM = 40
"""Sketches a cell, which FAISS asks for."""
_AT_ONCE = 64


@dataclass(frozen=True)
class Sketches:
    """Of all clips of a pack."""

    unit: np.ndarray
    """float16 ``(N, D)``, of length 1; zeros for silence."""
    keys: np.ndarray
    """int64 ``(N, PARTS)``; -1 where a part is all but silent."""


def sketches_of(pack: Pack) -> Sketches:
    """Listens to every clip once, with a progress bar."""
    unit = np.zeros((len(pack), SLICES * BANDS), np.float16)
    keys = np.full((len(pack), PARTS), -1)

    def fill(start: int) -> int:
        rows = range(start, min(start + _AT_ONCE, len(pack)))
        for row in rows:
            samples = pack.samples(row)
            unit[row], keys[row] = sketch_of(samples), keys_of(samples)
        return len(rows)

    with ThreadPoolExecutor(torch.get_num_threads()) as pool, tqdm(total=len(pack), desc="listen", unit="clip") as bar:
        for count in pool.map(fill, range(0, len(pack), _AT_ONCE)):
            bar.update(count)
    return Sketches(unit, keys)


def nearest_sketches(sketches: Sketches, k: int, seed: int = 0) -> np.ndarray:
    """The clips whose sketches are most alike, int64 ``(N, k + 1)``; -1 where there is none, or the clip itself.

    Of many clips only those are looked through that fall into the same few cells of k-means: copies do, nearly always.
    """
    count, width = sketches.unit.shape
    unit = sketches.unit.astype(np.float32)
    if count <= EXACT_UP_TO:
        index = faiss.IndexFlatIP(width)
    else:
        cells = round(2 * count**0.5)
        index = faiss.IndexIVFFlat(faiss.IndexFlatIP(width), width, cells, faiss.METRIC_INNER_PRODUCT)
        index.cp.seed, index.cp.niter, index.nprobe = seed + 1, ROUNDS, CELLS_SEARCHED
        sample = np.random.default_rng(seed).choice(count, min(count, LEARNED_FROM * cells), replace=False)
        index.train(unit[np.sort(sample)])
    index.add(unit)
    _, rows = index.search(unit, min(k + 1, count))
    return np.where(rows == np.arange(count)[:, None], -1, rows)


def sketch_of(samples: np.ndarray) -> np.ndarray:
    """Roots of the power in T slices and F bands of int16 ``(S,)``: float32 ``(D,)`` of length 1.

    The roots let quiet bands and slices have a say; a logarithm would give noise in a pause as much as the sound.
    """
    loudness = np.abs(samples.astype(np.int32))
    heard = samples[int((loudness >= loudness.max(initial=0) / ONSET).argmax()) :][: SLICES * SAMPLES]
    slices = np.zeros((SLICES, SAMPLES), np.float32)
    slices.reshape(-1)[: len(heard)] = heard
    slices *= _window()
    spectrum = scipy.fft.rfft(slices, axis=1)
    power = np.square(spectrum.real) + np.square(spectrum.imag)
    roots = np.sqrt(np.add.reduceat(power, _edges(), axis=1)).reshape(-1)
    length = np.linalg.norm(roots)
    return roots / length if length else roots


def keys_of(samples: np.ndarray) -> np.ndarray:
    """A number for each part of int16 ``(S,)`` that other loudness leaves as it is, int64 ``(PARTS,)``."""
    keys = np.full(PARTS, -1)
    size = len(samples) // PARTS
    for part in range(PARTS if size else 0):
        own = samples[part * size : (part + 1) * size]
        high, low = int(own.argmax()), int(own.argmin())
        if int(own[high]) - int(own[low]) >= LEAST_RANGE:
            keys[part] = hash((len(samples), part, high, low)) & (1 << 62) - 1
    return keys


@cache
def _window() -> np.ndarray:
    return np.hanning(SAMPLES).astype(np.float32)


@cache
def _edges() -> np.ndarray:
    """First point of the spectrum of each band, on a logarithmic scale up to the Nyquist frequency."""
    hz = np.geomspace(LOW_HZ, RATE / 2, BANDS + 1)[:-1]
    return (hz * SAMPLES / RATE).round().astype(np.int64)

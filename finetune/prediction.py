"""What the heads of a network say of a recording: chunk by chunk, as spans of time, and of all of it together.

Shapes: T chunks, C classes of a head.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np


def _mean(probabilities: np.ndarray) -> np.ndarray:
    return probabilities.mean(axis=0)


def _max(probabilities: np.ndarray) -> np.ndarray:
    return probabilities.max(axis=0)


def _noisy_or(probabilities: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):  # of a certain chunk: log(0), and a certain recording
        return -np.expm1(np.log1p(-probabilities.astype(np.float64)).sum(axis=0))


def _attention(probabilities: np.ndarray) -> np.ndarray:
    total = probabilities.sum(axis=0)
    return np.square(probabilities).sum(axis=0) / np.where(total > 0, total, 1)


POOLINGS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "mean": _mean,
    "max": _max,
    "noisy_or": _noisy_or,
    "attention": _attention,
}
"""Probabilities ``(T, C)`` of the chunks to ``(C,)`` of the recording; p_t is a class's probability in chunk t.

- ``mean``: sum_t p_t / T. The one that thresholds were chosen with. A short solo in a long piece drowns in it.
- ``max``: max_t p_t. Finds the short solo, and the one chunk that is mistaken.
- ``noisy_or``: 1 - prod_t (1 - p_t), the chance that at least one chunk is right if they erred independently
  (Viola, Platt and Zhang 2005, "Multiple instance boosting for object detection", section 2.1). They do not, least of
  all where they overlap, and it saturates: 200 chunks of 0.02 make 0.98. For recordings of a few chunks.
- ``attention``: sum_t a_t p_t with a_t = p_t / sum_t p_t, so that a chunk counts for a class as much as the network
  trusts it to; nothing is learned for it. Called linear softmax in Wang, Li and Metze 2019 (arXiv 1810.09050, table 1),
  who found it the best of five for telling what sounds and when. Between mean and max.
"""


def pool_over_time(probabilities: np.ndarray, pooling: str) -> np.ndarray:
    """Chunks to a recording: ``(T, C)`` to float32 ``(C,)``; zeros of no chunks.

    Raises:
        ValueError: no such pooling.
    """
    if pooling not in POOLINGS:
        raise ValueError(f"pooling over time is one of {', '.join(POOLINGS)}, not {pooling}")
    if not len(probabilities):
        return np.zeros(probabilities.shape[1], np.float32)
    return POOLINGS[pooling](probabilities).astype(np.float32)


class Span(NamedTuple):
    """A stretch of time in which a class is heard in every chunk."""

    start_s: float
    end_s: float
    head: str
    name: str
    """Of the class."""
    probability: float
    """The mean over the chunks."""


@dataclass(frozen=True)
class HeadPrediction:
    """What one head says."""

    name: str
    kind: str
    """``binary``: of each class whether it sounds; ``classes``: which one of them."""
    classes: tuple[str, ...]
    probabilities: np.ndarray
    """Of every chunk, float32 ``(T, C)``; zeros where it is silent."""
    pooled: np.ndarray
    """Of the recording, float32 ``(C,)``: the chunks that are not silent, pooled over time. For ``classes`` always
    their mean, which is a distribution again."""
    thresholds: np.ndarray | None
    """Float32 ``(C,)``, from which on a class counts as heard; None for ``classes``."""

    def is_heard(self, probabilities: np.ndarray) -> np.ndarray:
        """Which classes count as heard, bool of the shape ``(..., C)`` of some probabilities; of zeros none does."""
        if self.thresholds is not None:
            return (probabilities >= self.thresholds) & (probabilities > 0)
        largest = np.arange(len(self.classes)) == probabilities.argmax(axis=-1)[..., None]
        return largest & (probabilities > 0)

    @property
    def present(self) -> list[str]:
        """The classes that are heard in the recording, the likeliest first."""
        is_heard = self.is_heard(self.pooled)
        return [self.classes[place] for place in self.ranked if is_heard[place]]

    @property
    def ranked(self) -> list[int]:
        """Places of all classes, the likeliest in the recording first."""
        return np.argsort(-self.pooled, kind="stable").tolist()


@dataclass(frozen=True)
class Prediction:
    """What is heard in a recording."""

    path: Path
    times: np.ndarray
    """Where each chunk begins and ends in seconds, float64 ``(T, 2)``; they may overlap."""
    is_silent: np.ndarray
    """Bool ``(T,)``: chunks in which nothing sounds. The network is not asked about them, every class has the
    probability 0 there, and they take no part in pooling."""
    heads: dict[str, HeadPrediction]
    pooling: str
    """How chunks became a recording, one of `POOLINGS`."""
    spectrogram: np.ndarray | None = None
    """Log-mel of the recording, float32 ``(F, X)``, at the resolution of a picture; where it was asked for."""

    @property
    def seconds(self) -> float:
        """The length of the recording."""
        return float(self.times[-1, 1])

    @property
    def present(self) -> dict[str, list[str]]:
        """By head, the classes that are heard in the recording, the likeliest first."""
        return {name: head.present for name, head in self.heads.items()}

    @property
    def edges(self) -> np.ndarray:
        """Float64 ``(T + 1,)`` seconds: the stretch that each chunk answers for, which do not overlap.

        It reaches half way to the middle of the chunks before and behind; that of the first begins with the recording,
        that of the last ends with it. Chunks without overlap answer for themselves.
        """
        middles = self.times.mean(axis=1)
        return np.concatenate([[0.0], (middles[1:] + middles[:-1]) / 2, [self.seconds]])

    def spans(self, head: str) -> list[Span]:
        """When which class of a head is heard: neighbouring chunks in which it is, as one; in order of time."""
        of = self.heads[head]
        is_heard, edges = of.is_heard(of.probabilities), self.edges
        found = []
        for place, name in enumerate(of.classes):
            change = np.flatnonzero(np.diff(is_heard[:, place], prepend=False, append=False))
            for start, stop in change.reshape(-1, 2):
                mean = float(of.probabilities[start:stop, place].mean())
                found.append(Span(float(edges[start]), float(edges[stop]), head, name, mean))
        return sorted(found, key=lambda span: (span.start_s, -span.probability))

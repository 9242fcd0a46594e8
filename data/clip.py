"""What a source hands over: clips, where their sound comes from, and what is known about them.

A source is one file in ``data/sources/``: a function from a folder to an iterator of `Clip` and `Reject`.
"""

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, slots=True)
class LabelSet:
    """Which labels of one level are known to sound in a clip, and which are known not to.

    A label in neither tuple is unknown, unless the list is complete: then every label not present is absent.
    """

    present: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    complete: bool = False


UNKNOWN = LabelSet()
NOTHING = LabelSet(complete=True)  # a dog bark: no family and no instrument, and we know it


@dataclass(frozen=True, slots=True)
class Labels:
    """Everything that may be known about a clip; ``None`` and `UNKNOWN` mean that nobody said."""

    is_instrument: bool | None = None
    family: LabelSet = UNKNOWN
    instrument: LabelSet = UNKNOWN
    timbre: str | None = None
    genre: LabelSet = UNKNOWN
    drums: bool | None = None
    pitch: int | None = None
    """MIDI note number, 0 to 127."""
    velocity: int | None = None
    """MIDI velocity, 1 to 127."""
    production: str | None = None
    """How the sound was made, in NSynth's words: acoustic, electronic or synthetic."""
    qualities: LabelSet = UNKNOWN
    relevance: tuple[tuple[str, float], ...] = ()
    """Instruments with how sure the annotators were that each sounds, in [0, 1]; only where a data set says it."""
    is_weak: bool = False
    """What is present is known of a longer stretch, of which this clip is a part: it may be silent here. What is absent
    there is absent here."""


class Audio(Protocol):
    """Where a clip's sound comes from; must pickle, for it is read in another process."""

    def read(self) -> tuple[np.ndarray, int]:
        """Returns the clip's samples, float32 ``(S, channels)`` in [-1, 1], and its rate in Hz.

        Raises:
            DataError: the sound cannot be read; the sentence becomes the reason in ``rejected.csv``.
        """


@dataclass(frozen=True, slots=True)
class Clip:
    """One row of a manifest before it has a place in a pack."""

    id: str
    """Unique in a pack; begins with the source's name, as in ``nsynth/guitar_acoustic_014-060-100``."""
    source: str
    recording: str
    """The recording's path relative to the source's folder, or a name for what is rendered."""
    group: str
    """What a split may not cut; unique over sources, as in ``nsynth/guitar_acoustic_014``."""
    audio: Audio
    split: str | None = None
    """One of `SPLITS`; None leaves it to `prepare`, which decides by group."""
    start_s: float = 0.0
    labels: Labels = field(default_factory=Labels)


@dataclass(frozen=True, slots=True)
class Reject:
    """A recording or clip that could not be used, and why."""

    source: str
    recording: str
    reason: str
    is_left_out: bool = False
    """Left out on purpose, as by a label: named and counted, but no fault that counts against the share allowed."""

"""Where clips come from: one file a source, a function from its options to an iterator of `Clip` and `Reject`.

A new source is a file with ``clips(options)``, a dataclass of options whose fields become flags of `data.prepare`,
and a line in `SOURCES`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from data.clip import Clip, Reject
from data.sources import folder, gm, nsynth


@dataclass(frozen=True, slots=True)
class Source:
    """A source by its name on the command line."""

    clips: Callable[[Any], Iterator[Clip | Reject]]
    options: type
    """A dataclass with a docstring under each field; a field ``folder`` is what stands behind ``NAME=``."""
    licence: str


SOURCES = {
    "gm": Source(gm.clips, gm.GmOptions, "that of the SoundFont; the default, TimGM6mb, is GPL-2.0"),
    "folder": Source(folder.clips, folder.FolderOptions, folder.LICENCE),
    "nsynth": Source(nsynth.clips, nsynth.NsynthOptions, nsynth.LICENCE),
}

"""Where clips come from: one file a source, a function from its options to an iterator of `Clip` and `Reject`.

A new source is a file with ``clips(options)``, a dataclass of options whose fields become flags of `data.prepare`,
and a line in `SOURCES`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from data.clip import Clip, Reject
from data.sources import (
    esc50,
    folder,
    fsd50k,
    gm,
    irmas,
    medleydb,
    mir,
    musan,
    musicnet,
    nsynth,
    openmic,
    urbansound8k,
)


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
    "openmic": Source(openmic.clips, openmic.OpenmicOptions, openmic.LICENCE),
    "irmas": Source(irmas.clips, irmas.IrmasOptions, irmas.LICENCE),
    "medleydb": Source(medleydb.clips, medleydb.MedleydbOptions, medleydb.LICENCE),
    "musicnet": Source(musicnet.clips, musicnet.MusicnetOptions, musicnet.LICENCE),
    "esc50": Source(esc50.clips, esc50.Esc50Options, esc50.LICENCE),
    "fsd50k": Source(fsd50k.clips, fsd50k.Fsd50kOptions, fsd50k.LICENCE),
    "musan": Source(musan.clips, musan.MusanOptions, musan.LICENCE),
    "urbansound8k": Source(urbansound8k.clips, urbansound8k.UrbanSound8kOptions, urbansound8k.LICENCE),
    "mir": Source(mir.clips, mir.MirOptions, mir.LICENCE),
}

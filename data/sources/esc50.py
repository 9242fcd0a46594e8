"""The source ``esc50``: 2,000 clips of 50 classes of everyday sound, 40 of each (Piczak 2015).

    DIR/audio/{FOLD}-{CLIP_ID}-{TAKE}-{TARGET}.wav
    DIR/meta/esc50.csv      filename,fold,target,category,esc10,src_file,take

Every clip is 5 s at 44.1 kHz, mono, cut by hand from a recording on Freesound, whose number is ``src_file``; 2.8 hours.
All classes are sounds that no instrument makes but one: ``church_bells`` leaves it open, for a peal may be music.

Licence: Creative Commons Attribution-NonCommercial 3.0; the clips marked ``esc10`` Attribution. The file LICENSE names
every author. Citation: Karol J. Piczak, "ESC: Dataset for Environmental Sound Classification", ACM Multimedia 2015.
Where: https://github.com/karolpiczak/ESC-50

Traps:

- The five folds are for cross-validation and are no splits: a clip's split is drawn by its Freesound recording.
- Several clips may come from one recording; they are one group, as are clips of it in FSD50K and UrbanSound8K.
- Shorter events were padded with silence of all zeros, and some recordings were band-limited in ways that follow the
  class (the README's caveats).
- ESC-US, the unlabelled part of the first release, holds some of the same recordings (karolpiczak/ESC-50 issue 10).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from data.clip import Clip, Reject
from data.errors import DataError
from data.sources.freesound import KNOWN, Listed, check_kinds, clips_of, freesound_id_of, labels_of_clip
from data.sources.table import rows, standing_at

LICENCE = "CC BY-NC 3.0; the clips of ESC-10 CC BY"
_TABLE = "meta/esc50.csv"
_COLUMNS = ("filename", "category", "src_file")


@dataclass(frozen=True, slots=True)
class Esc50Options:
    """Where ESC-50 was unpacked, and what is taken."""

    folder: Path
    """With ``audio`` and ``meta`` in it."""
    kinds: tuple[str, ...] = KNOWN
    """Kinds of clips to take, of non_instrument, instrument and unclear; the first two if none is given."""

    def __post_init__(self):
        check_kinds(self.kinds)


def clips(options: Esc50Options) -> Iterator[Clip | Reject]:
    """Lists the clips, sorted by name.

    Raises:
        DataError: the folder is not laid out as ESC-50, or its table cannot be used.
    """
    folder = Path(options.folder)
    if not (folder / _TABLE).is_file():
        raise DataError(
            f"ESC-50 was expected in {folder} ({_TABLE} and audio/), {_TABLE} not found; give the folder ESC-50-master"
        )
    yield from clips_of("esc50", folder, "audio", _listed(folder / _TABLE), _TABLE, options.kinds)


def _listed(table: Path) -> Iterator[Listed]:
    for where, row in rows(table, _COLUMNS, "ESC-50"):
        with standing_at(where):
            labels, why_unclear = labels_of_clip("esc50", (row["category"],))
            clip = Listed(row["filename"], freesound_id_of(row["src_file"]), labels, why_unclear)
        yield clip

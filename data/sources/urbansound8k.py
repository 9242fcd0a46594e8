"""The source ``urbansound8k``: 8,732 slices of city sounds in 10 classes (Salamon, Jacoby and Bello 2014).

    DIR/audio/fold1 ... fold10/{fsID}-{classID}-{occurrenceID}-{sliceID}.wav
    DIR/metadata/UrbanSound8K.csv   slice_file_name,fsID,start,end,salience,fold,classID,class

A slice is at most 4 s of a field recording on Freesound, whose number is ``fsID``, at that recording's own rate, depth
and number of channels; 8.75 hours. Nine classes are sounds that no instrument makes; ``street_music`` is music by
nobody knows which instruments.

Licence: Creative Commons Attribution-NonCommercial 3.0; FREESOUNDCREDITS.txt names every author. Citation: Justin
Salamon, Christopher Jacoby and Juan Pablo Bello, "A Dataset and Taxonomy for Urban Sound Research", ACM Multimedia
2014. Where: https://urbansounddataset.weebly.com/urbansound8k.html

Traps:

- The ten folds are for cross-validation and are no splits: a slice's split is drawn by its Freesound recording.
- Slices of one occurrence are cut every 0.5 s, so most share seven eighths of their samples with the next.
- ``salience`` 2 is a sound in the background of others, which nobody named and which may be music: such slices are
  unclear. In the foreground, too, only the class was looked for.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from data.clip import Clip, Labels, Reject
from data.errors import DataError
from data.sources.freesound import KNOWN, Listed, check_kinds, clips_of, freesound_id_of, labels_of_clip
from data.sources.table import rows, standing_at

LICENCE = "CC BY-NC 3.0"
_TABLE = "metadata/UrbanSound8K.csv"
_COLUMNS = ("slice_file_name", "fsID", "salience", "fold", "class")
_FOLDS = {str(number): number for number in range(1, 11)}
_FOREGROUND, _BACKGROUND = "1", "2"


@dataclass(frozen=True, slots=True)
class UrbanSound8kOptions:
    """Where UrbanSound8K was unpacked, and what is taken."""

    folder: Path
    """With ``audio`` and ``metadata`` in it."""
    kinds: tuple[str, ...] = KNOWN
    """Kinds of clips to take, of non_instrument, instrument and unclear; the first two if none is given."""

    def __post_init__(self):
        check_kinds(self.kinds)


def clips(options: UrbanSound8kOptions) -> Iterator[Clip | Reject]:
    """Lists the slices, fold by fold and sorted by name.

    Raises:
        DataError: the folder is not laid out as UrbanSound8K, or its table cannot be used.
    """
    folder = Path(options.folder)
    table = folder / _TABLE
    if not table.is_file():
        raise DataError(
            f"UrbanSound8K was expected in {folder} ({_TABLE} and audio/fold1 to fold10), {_TABLE} not found; give the "
            "folder that holds them"
        )
    folds: dict[int, list[Listed]] = defaultdict(list)
    for where, row in rows(table, _COLUMNS, "UrbanSound8K"):
        with standing_at(where):
            folds[_fold(row["fold"])].append(_listed(row))
    for fold in sorted(folds):
        yield from clips_of("urbansound8k", folder, f"audio/fold{fold}", folds[fold], _TABLE, options.kinds)


def _fold(cell: str) -> int:
    if cell not in _FOLDS:
        raise DataError(f"a fold from 1 to 10 was expected, {cell!r} found; unpack it again")
    return _FOLDS[cell]


def _listed(row: dict[str, str]) -> Listed:
    labels, why_unclear = labels_of_clip("urbansound8k", (row["class"],))
    if row["salience"] not in (_FOREGROUND, _BACKGROUND):
        raise DataError(f"a salience of 1 or 2 was expected, {row['salience']!r} found; unpack it again")
    if row["salience"] == _BACKGROUND and not labels.is_instrument:
        labels, why_unclear = Labels(), f"{row['class']} is in the background of something that nobody named"
    return Listed(row["slice_file_name"], freesound_id_of(row["fsID"]), labels, why_unclear)

"""The source ``musicnet``: 330 recordings of classical chamber and solo music, with the time of every note.

    DIR/musicnet/train_data/{ID}.wav     DIR/musicnet/train_labels/{ID}.csv     320 recordings
    DIR/musicnet/test_data/{ID}.wav      DIR/musicnet/test_labels/{ID}.csv      10 recordings
    DIR/musicnet_metadata.csv            id,composer,composition,movement,ensemble,...,catalog_name,seconds

34 hours at 44.1 kHz, mono, 32-bit float; 10 composers, 11 instruments. A row of a label file is a note:
``start_time,end_time,instrument,note,start_beat,end_beat,note_value``. Its times are samples at 44.1 kHz, its
instrument is a General MIDI program counted from 1 (41 is the violin), its ``end_beat`` is a duration.

Recordings are cut into clips. In each an instrument is present, absent or unknown by how long its notes sound there,
see `data.sources.sounding`; every instrument of a piece is labelled, so all others are absent. Clips without a note
(applause, a pause) are left out. The genre is classical throughout.

The group is the composition, by composer and catalogue number, so that its movements, and its recordings by several
players, stay together. The ten published test recordings are the test split; of the published training compositions a
share becomes the validation split.

Licence: Creative Commons Attribution 4.0. Citation: John Thickstun, Zaid Harchaoui and Sham M. Kakade, "Learning
Features of Music from Scratch", ICLR 2017, arXiv 1611.09827. Where: https://zenodo.org/records/5120004
(musicnet.tar.gz and musicnet_metadata.csv)

Errata and traps:

- Scores were aligned to the recordings by dynamic time warping; the authors estimate that 4 % of the labels are wrong.
  Maman and Bermano 2022 (arXiv 2204.13668) publish better aligned notes. A clip of seconds hardly notices.
- Nearly all test recordings are movements of compositions whose other movements are published for training.
- Older papers test on 1819, 2303 and 2382 alone. Other archives (musicnet.npz, musicnet.h5) hold the same recordings;
  the former keeps its labels as pickled objects. Neither is read.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.clip import Clip, Labels, LabelSet, Reject
from data.cutting import check_cut
from data.decode import AudioFile, seconds_of
from data.errors import DataError
from data.sources.listing import sizes
from data.sources.sounding import cut_by_time, labels_in
from data.sources.table import rows, standing_at
from data.sources.validation import check_share, training_split
from data.taxonomy import meaning_of

LICENCE = "CC BY 4.0"
METADATA = "musicnet_metadata.csv"
LABEL_RATE = 44_100
"""Hz, of the times in the label files."""
_GENRE = LabelSet(("classical",), complete=True)
_MAX_SAMPLE = 2**40


@dataclass(frozen=True, slots=True)
class MusicnetOptions:
    """Where MusicNet was unpacked, and how it is cut."""

    folder: Path
    """With musicnet_metadata.csv, and the folder musicnet or what is in it: train_data, train_labels and so on."""
    clip_seconds: float = 10.0
    """Longer recordings are cut into clips of this length."""
    hop_seconds: float | None = None
    """From the beginning of a clip to that of the next; no overlap if not given."""
    validation_share: float = 0.1
    """Share of the published training groups that is kept for validation; 0 trains on all of them."""
    seed: int = 0

    def __post_init__(self):
        check_cut(self.clip_seconds, self.hop_seconds)
        check_share(self.validation_share)


def clips(options: MusicnetOptions) -> Iterator[Clip | Reject]:
    """Lists the clips of training and then of testing recordings, sorted by number.

    Raises:
        DataError: the folder is not laid out as MusicNet, or one of its tables cannot be used (with the line).
    """
    folder = Path(options.folder)
    roots = [root for root in (folder, folder / "musicnet") if _parts(root)]
    if not roots:
        raise DataError(
            f"MusicNet was expected in {folder} (train_data, train_labels, test_data, test_labels), none of them "
            "found; give the folder that musicnet.tar.gz was unpacked into"
        )
    groups = _read_groups(folder, roots[0])
    for part in _parts(roots[0]):
        yield from _clips_of_part(folder, roots[0], part, groups, options)


def _parts(root: Path) -> list[str]:
    return [part for part in ("train", "test") if (root / f"{part}_data").is_dir()]


def _read_groups(folder: Path, root: Path) -> dict[str, str]:
    """The group of every recording, by its number."""
    path = next((place / METADATA for place in (folder, root) if (place / METADATA).is_file()), folder / METADATA)
    return {
        row["id"]: f"musicnet/{row['composer']}/{row['catalog_name'] or row['composition']}"
        for _, row in rows(path, ("id", "composer", "composition", "catalog_name"), "MusicNet")
    }


def _clips_of_part(
    folder: Path, root: Path, part: str, groups: dict[str, str], options: MusicnetOptions
) -> Iterator[Clip | Reject]:
    audio, labels = root / f"{part}_data", root / f"{part}_labels"
    wavs, tables = sizes(audio, ".wav"), sizes(labels, ".csv")
    for number in sorted({Path(name).stem for name in (*wavs, *tables)}):
        path = audio / f"{number}.wav"
        recording = path.relative_to(folder).as_posix()
        if path.name not in wavs:
            yield Reject("musicnet", recording, f"missing: it has labels in {part}_labels/, and is not in {part}_data/")
        elif f"{number}.csv" not in tables:
            yield Reject("musicnet", recording, f"not named in {part}_labels/, so nothing is known about it")
        elif number not in groups:
            yield Reject("musicnet", recording, f"not named in {METADATA}, so nobody knows its composition")
        else:
            group = groups[number]
            is_test = part == "test"
            whole = Clip(
                id=f"musicnet/{number}",
                source="musicnet",
                recording=recording,
                group=group,
                audio=AudioFile(path, wavs[path.name]),
                split="test" if is_test else training_split(group, options.validation_share, options.seed),
                labels=Labels(genre=_GENRE),
            )
            yield from _clips_of_recording(whole, labels / f"{number}.csv", options)


def _clips_of_recording(whole: Clip, table: Path, options: MusicnetOptions) -> Iterator[Clip | Reject]:
    try:
        seconds = seconds_of(whole.audio.path)
    except DataError as error:
        yield Reject("musicnet", whole.recording, str(error))
        return
    spans = _read_spans(table)

    def labels_between(start_s: float, end_s: float) -> Labels | None:
        return labels_in("musicnet", {program: _overlap(found, start_s, end_s) for program, found in spans.items()})

    yield from cut_by_time(whole, seconds, options.clip_seconds, options.hop_seconds, labels_between)


def _read_spans(path: Path) -> dict[str, np.ndarray]:
    """When each instrument sounds: float64 ``(N, 2)`` of beginnings and ends in seconds, apart and in order."""
    notes: dict[str, list[tuple[int, int]]] = {}
    for where, row in rows(path, ("start_time", "end_time", "instrument"), "MusicNet"):
        program = row["instrument"]
        with standing_at(where):
            start, end = _sample(row["start_time"]), _sample(row["end_time"])
            if end < start:
                raise DataError(f"a note should end after its start, {start} to {end} found; unpack MusicNet again")
            if program not in notes:
                meaning_of("musicnet", program)
                notes[program] = []
        notes[program].append((start, end))
    return {program: _union(np.array(found)) / LABEL_RATE for program, found in notes.items()}


def _sample(cell: str) -> int:
    if not (cell.isascii() and cell.isdigit()) or int(cell) > _MAX_SAMPLE:
        raise DataError(f"a time in samples was expected, {cell!r} found; unpack MusicNet again")
    return int(cell)


def _union(notes: np.ndarray) -> np.ndarray:
    """Joins notes ``(N, 2)`` that overlap or touch, so that a chord counts once."""
    notes = notes[np.argsort(notes[:, 0], kind="stable")]
    ends = np.maximum.accumulate(notes[:, 1])
    first = np.flatnonzero(np.append(True, notes[1:, 0] > ends[:-1]))
    last = np.append(first[1:], len(notes)) - 1
    return np.stack([notes[first, 0], ends[last]], axis=1)


def _overlap(spans: np.ndarray, start_s: float, end_s: float) -> float:
    """Seconds of ``(N, 2)`` that lie between two times."""
    return float(np.maximum(np.minimum(spans[:, 1], end_s) - np.maximum(spans[:, 0], start_s), 0).sum())

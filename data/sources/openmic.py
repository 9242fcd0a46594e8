"""The source ``openmic``: OpenMIC-2018, 20,000 clips of 10 s with labels for some of 20 instruments (Humphrey et al.).

    DIR/openmic-2018-aggregated-labels.csv      sample_key, instrument, relevance, num_responses
    DIR/openmic-2018-metadata.csv               what the Free Music Archive says of the tracks
    DIR/partitions/split01_train.csv            14,915 keys, one a line, no header
    DIR/partitions/split01_test.csv              5,085
    DIR/audio/000/000046_3840.ogg               KEY[:3]/KEY.ogg, Ogg Vorbis, mostly 44.1 kHz stereo
    DIR/class-map.json, DIR/openmic-2018.npz    the labels again, with VGGish features; read where the CSV is absent

DIR may also be the folder that ``openmic-2018/`` was unpacked in. A key is a track of the Free Music Archive and the
place of the clip in it in milliseconds; no two clips are of one track.

Labels: about 41,000 of the 400,000 that 20 classes could have, so that nine in ten are unknown and stay so. The
relevance of each is kept where the taxonomy has the one instrument ("guitar" and "bass" are families, "drums" a kit or
its parts); from 0.5 on the label is present, below it absent, as in the authors' baseline. ``drums`` says whether there
are drums. Genres are the archive's, through `data.taxonomy`.

Splits: the published test split is kept. There is no published validation: a share of the artists published for
training is kept for it (``--validation_share``). The group is the artist (the track where the metadata has none); the
published splits were drawn by artist.

Licence: Creative Commons Attribution 4.0 for the data set; each track has a Creative Commons licence of its own, named
in the metadata, some of them non-commercial or without derivatives. Citation: Eric J. Humphrey, Simon Durand and Brian
McFee, "OpenMIC-2018: An Open Data-set for Multiple Instrument Recognition", ISMIR 2018. From
https://zenodo.org/records/1432913.

Errata and traps:

- Ten tracks were corrupt in the archive's download when the clips were judged; the authors list them and have corrected
  three labels that suffered from it (README of cosmir/openmic-2018). They are left out, and named.
- A few artists have two ids and a few tracks were uploaded twice (cosmir/openmic-2018 issue 24). The pairs known there
  are on one side of the published splits, but are two groups here.
- Unobserved is not negative: dense 0/1 tables that circulate take it for that.
- ``track_genres`` is a list of dicts in Python's notation, not JSON. The .npz keeps its keys in a pickle: see
  `data.sources.openmic_npz`.
"""

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from data.clip import UNKNOWN, Clip, Labels, LabelSet, Reject
from data.decode import AudioFile
from data.errors import DataError
from data.sources.listing import folders, sizes
from data.sources.openmic_npz import read_npz
from data.sources.table import rows, standing_at
from data.sources.validation import check_share, training_split
from data.taxonomy import genres_of, labels_of, meaning_of

LICENCE = "CC BY 4.0; each track has a Creative Commons licence of its own, named in openmic-2018-metadata.csv"
PRESENT_FROM = 0.5
"""Relevance from which an instrument counts as present."""
CORRUPT_TRACKS = frozenset((
    "071826", "071827", "087435", "095253", "095259", "095263", "102144", "113025", "113604", "138485",
))  # fmt: skip

_LABELS, _NPZ, _METADATA = "openmic-2018-aggregated-labels.csv", "openmic-2018.npz", "openmic-2018-metadata.csv"
_PARTITIONS = {"train": "partitions/split01_train.csv", "test": "partitions/split01_test.csv"}
_KEY = re.compile(r"\d{6}_\d+", re.ASCII)
_AGAIN = "unpack OpenMIC again"
_MAX_GENRES_CHARS = 20_000
"""Of a cell of ``track_genres``; a genre has about 130, a track a handful of genres."""


@dataclass(frozen=True, slots=True)
class OpenmicOptions:
    """Where OpenMIC-2018 was unpacked."""

    folder: Path
    """With openmic-2018-aggregated-labels.csv, openmic-2018-metadata.csv, partitions and audio in it."""
    validation_share: float = 0.1
    """Share of the published training groups that is kept for validation; 0 trains on all of them."""
    seed: int = 0

    def __post_init__(self):
        check_share(self.validation_share)


@dataclass(frozen=True, slots=True)
class _Track:
    """What the metadata says of a clip's track."""

    artist: str = ""
    genre: LabelSet = UNKNOWN


def clips(options: OpenmicOptions) -> Iterator[Clip | Reject]:
    """Lists the clips, sorted by key.

    Raises:
        DataError: the folder is not laid out as OpenMIC-2018, or one of its tables cannot be used (with the line).
    """
    folder = Path(options.folder)
    if (folder / "openmic-2018").is_dir():
        folder = folder / "openmic-2018"
    _check_layout(folder)
    splits = _read_partitions(folder)
    relevances = _read_relevances(folder)
    tracks = _read_metadata(folder / _METADATA)
    # Recordings are looked up among the names on the disk, so that no key in a table leads out of the folder.
    audio = {
        f"audio/{place.name}/{name}": AudioFile(place / name, size)
        for place in folders(folder / "audio")
        for name, size in sizes(place, ".ogg").items()
    }
    for key in sorted(splits.keys() | relevances.keys()):
        recording = f"audio/{key[:3]}/{key}.ogg"
        file = audio.pop(recording, None)
        if key[:6] in CORRUPT_TRACKS:
            yield Reject("openmic", recording, "left out: its track was corrupt when it was labelled", is_left_out=True)
        elif file is None:
            yield Reject("openmic", recording, "missing: named in a table, not in audio/")
        elif key not in splits:
            yield Reject("openmic", recording, "not named in partitions/, so nobody knows its split")
        elif key not in relevances:
            yield Reject("openmic", recording, "no label names it")
        else:
            track = tracks.get(key, _Track())
            group = f"openmic/artist_{track.artist}" if track.artist else f"openmic/track_{key[:6]}"
            split = splits[key]
            yield Clip(
                id=f"openmic/{key}",
                source="openmic",
                recording=recording,
                group=group,
                audio=file,
                split=training_split(group, options.validation_share, options.seed) if split == "train" else split,
                labels=replace(_labels(relevances[key]), genre=track.genre),
            )
    for stray in sorted(audio):
        yield Reject("openmic", stray, "not named in partitions/ or the labels, so nothing is known about it")


def _check_layout(folder: Path) -> None:
    missing = [name for name in (_METADATA, *_PARTITIONS.values(), "audio") if not (folder / name).exists()]
    if not (folder / _LABELS).exists() and not (folder / _NPZ).exists():
        missing.insert(0, _LABELS)
    if missing:
        raise DataError(
            f"OpenMIC-2018 was expected in {folder}, {', '.join(missing)} not found; "
            "give the folder openmic-2018 as it was unpacked"
        )


def _check_key(key: str, where: str) -> str:
    if not _KEY.fullmatch(key):
        raise DataError(f"{where}: a key as 000046_3840 was expected, {key[:40]!r} found; {_AGAIN}")
    return key


def _read_partitions(folder: Path) -> dict[str, str]:
    """The published split of every key."""
    splits: dict[str, str] = {}
    for split, name in _PARTITIONS.items():
        path = folder / name
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path} should be a list of keys ({error}); {_AGAIN}") from error
        for number, key in enumerate(lines, start=1):
            if splits.setdefault(_check_key(key, f"{path}, line {number}"), split) != split:
                raise DataError(f"{path}, line {number}: {key} is in both splits; {_AGAIN}")
    return splits


def _read_relevances(folder: Path) -> dict[str, dict[str, float]]:
    """For every key, its labels and their relevance."""
    relevances: dict[str, dict[str, float]] = {}
    if not (folder / _LABELS).exists():
        names = _read_class_map(folder / "class-map.json")
        keys, relevance, is_known = read_npz(folder / _NPZ, len(names))
        for key, values, known in zip(keys, relevance.tolist(), is_known.tolist(), strict=True):
            found = {name: value for name, value, is_observed in zip(names, values, known, strict=True) if is_observed}
            relevances[_check_key(key, str(folder / _NPZ))] = found
        return relevances
    path = folder / _LABELS
    for where, row in rows(path, ("sample_key", "instrument", "relevance"), "OpenMIC"):
        name, text = row["instrument"], row["relevance"]
        with standing_at(where):
            meaning_of("openmic", name)
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not 0 <= value <= 1:
            raise DataError(f"{where}: a relevance from 0 to 1 was expected, {text[:40]!r} found; {_AGAIN}")
        # Of two rows for one label the last counts, as where the authors make the .npz.
        relevances.setdefault(_check_key(row["sample_key"], where), {})[name] = value
    return relevances


def _read_class_map(path: Path) -> list[str]:
    """The labels in the order of the columns of the .npz."""
    try:
        places = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"OpenMIC's classes were expected in {path} ({error}); {_AGAIN}") from error
    numbers = list(places.values()) if isinstance(places, dict) else [None]
    if not all(isinstance(number, int) for number in numbers) or sorted(numbers) != list(range(len(numbers))):
        raise DataError(f"{path} should number OpenMIC's classes from 0, something else found; {_AGAIN}")
    for name in places:
        with standing_at(str(path)):
            meaning_of("openmic", name)
    return sorted(places, key=places.get)


def _read_metadata(path: Path) -> dict[str, _Track]:
    tracks = {}
    for where, row in rows(path, ("sample_key", "artist_id", "track_genres"), "OpenMIC"):
        with standing_at(where):
            genre = genres_of("openmic", _genre_titles(row["track_genres"]))
        tracks[_check_key(row["sample_key"], where)] = _Track(row["artist_id"].strip(), genre)
    return tracks


def _genre_titles(cell: str) -> list[str]:
    """The titles in a cell such as ``[{'genre_id': '76', 'genre_title': 'Experimental Pop'}]``, or in an empty one."""
    if not cell.strip():
        return []
    try:
        if len(cell) > _MAX_GENRES_CHARS:
            raise ValueError("too long")
        titles = [genre["genre_title"] for genre in ast.literal_eval(cell)]
    except (ValueError, SyntaxError, TypeError, KeyError, MemoryError, RecursionError) as error:
        raise DataError(f"track_genres should be a list of dicts with genre_title, {cell[:40]!r} found") from error
    if not all(isinstance(title, str) for title in titles):
        raise DataError(f"track_genres should have strings as genre_title, {cell[:40]!r} found")
    return titles


def _labels(relevance: dict[str, float]) -> Labels:
    present = [name for name, value in relevance.items() if value >= PRESENT_FROM]
    absent = [name for name, value in relevance.items() if value < PRESENT_FROM]
    instruments = {name: meaning_of("openmic", name).instrument for name in sorted(relevance)}
    return replace(
        labels_of("openmic", present, absent),
        drums=relevance["drums"] >= PRESENT_FROM if "drums" in relevance else None,
        relevance=tuple((instrument, relevance[name]) for name, instrument in instruments.items() if instrument),
    )

"""The source ``mir``: any data set of mirdata or soundata that has recordings with instruments, genres or tags.

    pip install 'luthier[mir]'
    python -m data.prepare mir=~/mir_datasets/tinysol --out packs/tinysol
    python -m data.prepare mir=/data/solos --mir_dataset medley_solos_db --out packs/solos

mirdata has some 60 data sets of music, soundata some 25 of other sounds; both name their tracks and clips in an index,
with paths below the data set's folder, and give each its attributes. Nothing is downloaded here, not even the index:
the packages fetch it to a folder of their own, or it may lie in DIR.

One adapter serves all, through the tables below of what data sets call the same thing. Labels mean what ``mir`` in
`data.taxonomy` says: exactly as published, or else in lower case with spaces. A name that it does not know stops the
preparation, with all such names, unless ``--mir_unmapped unknown`` takes them for labels that say nothing here.
Instruments are present; others are absent only in `SOLO` data sets, whose recordings hold what is named and nothing
else. Recordings longer than a clip are cut, and their labels are weak.

A published split is kept. The group is the player, singer, artist, song or piece where the data set names one (for
TinySOL, where one player plays each instrument, the instrument), else the recording.

Licence: that of the data set; ``mirdata.initialize(NAME).license()`` tells it. Citations: Rachel M. Bittner, Magdalena
Fuentes, David Rubinstein, Andreas Jansson, Keunwoo Choi and Thor Kell, "mirdata: Software for Reproducible Usage of
Datasets", ISMIR 2019; Magdalena Fuentes, Justin Salamon, Pablo Zinemanas, Martin Rocamora, Genis Plaja, Iran R. Roman,
Marius Miron, Xavier Serra and Juan Pablo Bello, "Soundata: A Python Library for Reproducible Use of Audio Datasets",
2021, arXiv 2109.12690; and ``.cite()`` of the data set.

Traps:

- What has a source of its own (`OWN_SOURCE`) is read by that, which knows more of it.
- Medley-solos-DB shares recordings with MedleyDB and does not say which: do not put both into one pack.
- Good-sounds has every sound by several microphones, under one player.
- Slakh2100 names classes of General MIDI: its "Piano" may be a harpsichord, its "Organ" an accordion.
- Tags of users (Freesound, Jamendo) are free text, and say little here.
"""

import importlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from data.clip import UNKNOWN, Clip, Labels, LabelSet, Reject
from data.cutting import check_cut, cut
from data.decode import AudioFile, seconds_of
from data.errors import DataError
from data.files import inside
from data.sources.medleydb import group_of
from data.sources.sounding import drums_of
from data.taxonomy import ALIASES, GENRE_ALIASES, genres_of, labels_of

LICENCE = "that of the data set, as mirdata or soundata tells it"
UNMAPPED = ("refuse", "unknown")
SOLO = frozenset((
    "good_sounds", "idmt_smt_audio_effects", "medley_solos_db", "phenicx_anechoic", "slakh", "tinysol",
))  # fmt: skip
"""Data sets whose recordings hold the instrument that is named and no other."""
OWN_SOURCE = {
    "esc50": "esc50", "fsd50k": "fsd50k", "irmas": "irmas", "openmic2018": "openmic", "urbansound8k": "urbansound8k",
}  # fmt: skip

# What data sets call the same thing; of each line, the first that a track has.
AUDIO = ("audio_path", "audio_paths", "audio_path_mono", "audio_mix_path", "audio_mic_path")
INSTRUMENTS = ("instrument", "instrument_full", "instruments", "predominant_melodic_instruments")
TAGS = ("tags", "tag")
GENRES = ("genre", "genres", "style")
PITCH = ("pitch_id", "midinote")
SPLIT = ("split", "subset", "data_split")
GROUP = (
    "sound_info.player", "singer_id", "singer", "player_id", "musician", "drummer", "artist_id", "artist", "artists",
    "mtrack_id", "song_id", "piece", "work", "canonical_title", "instrument_full",
)  # fmt: skip
SPLIT_OF_NAME = {
    "train": "train", "training": "train", "valid": "validation", "validation": "validation", "test": "test",
    "evaluation": "test",
}  # fmt: skip
"""Names of published splits; any other, as the number of a fold, leaves the split open."""

GROUP_OF: dict[str, Callable[[str], str]] = {
    "fsdnoisy18k": "freesound/{}".format, "medleydb_melody": group_of, "medleydb_pitch": group_of,
}  # fmt: skip
"""Data sets that share recordings with a source of its own, and the group that a recording has there."""


@dataclass(frozen=True, slots=True)
class MirOptions:
    """Which data set of mirdata or soundata, where it lies and how it is cut."""

    folder: Path
    """What mirdata calls data_home."""
    mir_dataset: str | None = None
    """Its name in mirdata or soundata, as medley_solos_db; the name of the folder if not given."""
    mir_unmapped: str = "refuse"
    """What becomes of labels that the taxonomy does not know: refuse (the data set) or unknown (they say nothing)."""
    clip_seconds: float = 10.0
    """Longer recordings are cut into clips of this length."""
    hop_seconds: float | None = None
    """From the beginning of a clip to that of the next; no overlap if not given."""

    def __post_init__(self):
        check_cut(self.clip_seconds, self.hop_seconds)
        if self.mir_unmapped not in UNMAPPED:
            raise DataError(f"--mir_unmapped should be one of {', '.join(UNMAPPED)}, {self.mir_unmapped!r} found")


@dataclass(frozen=True, slots=True)
class _Track:
    """What a track of mirdata, or a clip of soundata, says of itself."""

    id: str
    paths: tuple[str, ...]
    instruments: tuple[str, ...]
    tags: tuple[str, ...]
    genres: tuple[str, ...]
    pitch: int | None
    split: str | None
    group: str


def clips(options: MirOptions) -> Iterator[Clip | Reject]:
    """Lists the clips of the data set's tracks, sorted by name.

    Raises:
        DataError: mirdata or soundata is not installed, knows no such data set, or cannot read it; it has no labels, or
            some that the taxonomy does not know.
    """
    folder = Path(options.folder)
    if not folder.is_dir():
        raise DataError(f"the folder of a data set was expected at {folder}, no folder found; check the path")
    name = options.mir_dataset or folder.resolve().name
    package, data_set = _open(name, folder)
    tracks = list(_tracks(package, name, data_set))
    if not any(track.instruments or track.tags or track.genres for track in tracks):
        raise DataError(f"{package} names no instruments, genres or tags in {name}; take it as folder={folder}")
    if options.mir_unmapped == "refuse":
        _check_mapped(package, name, tracks)
    for track in tracks:
        if not track.paths:
            yield Reject("mir", f"{name}/{track.id}", "missing: the index names no recording")
        labels = _labels(track, is_solo=name in SOLO)
        for path in track.paths:
            yield from _clips_of_recording(folder, name, track, path, labels, options)


def _open(name: str, folder: Path) -> tuple[str, Any]:
    """The package that knows a data set, and the data set."""
    if name in OWN_SOURCE:
        raise DataError(f"{name} has a source of its own; give it as {OWN_SOURCE[name]}={folder}")
    package = _package_of(name)
    try:
        data_set = importlib.import_module(package).initialize(name, data_home=str(folder))
    except ImportError as error:
        raise DataError(f"{package} needs more for {name} ({error}); pip install '{package}[{name}]'") from error
    index = Path(data_set.index_path)
    if (folder / index.name).is_file():
        data_set.index_path = str(folder / index.name)
    elif not index.is_file():
        fetch = f"python -c \"import {package}; {package}.initialize('{name}').download(['index'])\""
        raise DataError(
            f"{package}'s index of {name} was expected at {index} or in {folder}, not found; fetch it with {fetch}"
        )
    return package, data_set


def _package_of(name: str) -> str:
    known: list[str] = []
    for package in ("mirdata", "soundata"):
        try:
            known += importlib.import_module(package).list_datasets()
        except ImportError as error:
            raise DataError(f"the source mir needs {package} ({error}); pip install 'luthier[mir]'") from error
        if name in known:
            return package
    close = get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"perhaps {' or '.join(close)}" if close else "see mirdata.list_datasets() and soundata.list_datasets()"
    raise DataError(f"--mir_dataset should name a data set of mirdata or soundata, {name!r} found; {hint}")


def _tracks(package: str, name: str, data_set: Any) -> Iterator[_Track]:
    try:
        ids, open_track = (
            (data_set.track_ids, data_set.track) if package == "mirdata" else (data_set.clip_ids, data_set.clip)
        )
        for track_id in sorted(ids):
            yield _read_track(str(track_id), open_track(track_id))
    except DataError:
        raise
    except Exception as error:  # each of the 90 loaders has its own ways to fail on files that are not as published
        words = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{package} cannot read {name} ({words}); unpack the data set again") from error


def _read_track(track_id: str, track: Any) -> _Track:
    groups = _names(_first(track, GROUP))
    splits = _names(_first(track, SPLIT))
    return _Track(
        id=track_id,
        paths=_names(_first(track, AUDIO)),
        instruments=_names(_first(track, INSTRUMENTS)),
        tags=_names(_first(track, TAGS)),
        genres=_names(_first(track, GENRES)),
        pitch=_pitch(_first(track, PITCH)),
        split=SPLIT_OF_NAME.get(splits[0].lower()) if splits else None,
        group=";".join(groups) or track_id,
    )


def _first(track: Any, attributes: Iterable[str]) -> Any:
    """The first of some attributes that a track has and that is not empty; a dot looks into a table."""
    for attribute in attributes:
        attribute, _, key = attribute.partition(".")
        # Not hasattr: it would take a table that cannot be read for a missing attribute.
        if attribute in vars(track) or hasattr(type(track), attribute):
            value = getattr(track, attribute)
            if key:
                value = (value or {}).get(key)
            if value is not None and value != "" and value != []:
                return value
    return None


def _names(value: Any) -> tuple[str, ...]:
    """One name, several, or soundata's tags, as names."""
    value = getattr(value, "labels", value)
    if value is None:
        return ()
    several = value if isinstance(value, list | tuple | set) else [value]
    return tuple(dict.fromkeys(name for name in (str(name).strip() for name in several) if name))


def _pitch(value: Any) -> int | None:
    return value if isinstance(value, int) and 0 <= value <= 127 else None


def _known(name: str, *tables: dict) -> str | None:
    """A name as the first table that knows it has it."""
    ways = (name, name.lower(), name.lower().replace("_", " "))
    return next((way for table in tables for way in ways if way in table), None)


def _check_mapped(package: str, name: str, tracks: list[_Track]) -> None:
    instruments, genres = ALIASES["mir"], GENRE_ALIASES["mir"]
    unmapped: dict[str, list[str]] = {"instruments": [], "genres": [], "tags": []}
    for kind, tables in (("instruments", (instruments,)), ("genres", (genres,)), ("tags", (instruments, genres))):
        names = {label for track in tracks for label in getattr(track, kind)}
        unmapped[kind] = sorted(label for label in names if _known(label, *tables) is None)
    if any(unmapped.values()):
        found = "; ".join(f"{kind} {', '.join(map(repr, labels))}" for kind, labels in unmapped.items() if labels)
        raise DataError(
            f"the taxonomy should know all labels of {name} in {package}, not known are {found}: add them to mir in "
            "data/aliases.py, or take them as unknown with --mir_unmapped unknown"
        )


def _labels(track: _Track, is_solo: bool) -> Labels:
    instruments, genres = ALIASES["mir"], GENRE_ALIASES["mir"]
    named = [_known(name, instruments) for name in (*track.instruments, *track.tags)]
    styles = [_known(name, genres) for name in (*track.genres, *track.tags)]
    present = tuple(dict.fromkeys(name for name in named if name is not None))
    is_complete = is_solo and bool(present) and None not in named
    labels = labels_of("mir", present, complete=is_complete)
    return replace(labels, genre=_genres(styles), drums=drums_of(labels), pitch=track.pitch)


def _genres(names: list[str | None]) -> LabelSet:
    known = [name for name in names if name is not None]
    found = genres_of("mir", known) if known else UNKNOWN
    return replace(found, complete=found.complete and None not in names)


def _clips_of_recording(
    folder: Path, name: str, track: _Track, path: str, labels: Labels, options: MirOptions
) -> Iterator[Clip | Reject]:
    file = inside(folder, os.path.relpath(path, folder))
    recording = f"{name}/{file.relative_to(folder).as_posix()}"
    try:
        if not file.is_file():
            raise DataError(f"missing: named in the index of {name}, not in the folder")
        seconds = seconds_of(file)
    except DataError as error:
        yield Reject("mir", recording, str(error))
        return
    whole = Clip(
        id=f"mir/{name}/{track.id}" if len(track.paths) == 1 else f"mir/{name}/{track.id}/{file.stem}",
        source="mir",
        recording=recording,
        group=GROUP_OF.get(name, f"mir/{name}/{{}}".format)(track.group),
        audio=AudioFile.of(file),
        split=track.split,
        labels=labels,
    )
    yield from cut(whole, seconds, options.clip_seconds, options.hop_seconds)

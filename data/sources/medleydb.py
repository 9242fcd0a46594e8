"""The source ``medleydb``: 196 songs as mixes and as the stems they were mixed from (Bittner et al. 2014, 2016).

    DIR/Audio/{SONG}/{SONG}_MIX.wav                      the mix
    DIR/Audio/{SONG}/{SONG}_STEMS/{SONG}_STEM_01.wav     what one instrument, or one section, contributes to it
    DIR/Audio/{SONG}/{SONG}_RAW/...                      what single microphones recorded: not read
    DIR/Metadata/{SONG}_METADATA.yaml                    genre, has_bleed, excerpt, the instrument of every stem, ...
    DIR/Annotations/.../{SONG}_ACTIVATION_CONF.lab       time,S01,S02,...: every 46 ms, how surely each stem sounds

Version 1 has 122 songs, version 2 adds 74; 44.1 kHz, 16 bit, stereo. SONG is ``Artist_Title``. The audio comes without
its tables, which are in ``medleydb/data`` of https://github.com/marl/medleydb (version 1 used to have its YAML beside
the mix). So files are found by name wherever they lie below DIR; a clone of that repository in it will do.

Recordings are cut into clips:

- A mix holds the instruments of its stems and no others. With activations each clip has those that sound in it: an
  instrument is present if the confidence of its stem is 0.5 or more for half a second or longer, absent if it stays
  below 0.1, and unknown in between (softly, or hardly ever); see `data.sources.medleydb_activations` and
  `data.sources.sounding`. Clips of a mix in which nothing sounds, and of a stem that is silent in them, are left out.
  Without activations labels are weak.
- A stem holds its own instrument and, if there is no bleed between the microphones, no other. Of a stem with bleed only
  what sounds is said, never what does not.

Splits are left open. The group is the artist, as users of MedleyDB split it: mixes, stems and songs of an artist stay
together. So do the songs of six composers that two students of NYU sang.

Licence: Creative Commons Attribution NonCommercial ShareAlike 4.0. Citation: Rachel Bittner, Justin Salamon, Mike
Tierney, Matthias Mauch, Chris Cannam and Juan P. Bello, "MedleyDB: A Multitrack Dataset for Annotation-Intensive MIR
Research", ISMIR 2014; Rachel Bittner, Julia Wilkins, Hanna Yip and Juan P. Bello, "MedleyDB 2.0: New Data and a System
for Sustainable Data Collection", ISMIR 2016. Where: https://medleydb.weebly.com, on request.

Errata and traps:

- Some stems have bleed though their song says that it has none (marl/medleydb issue 21): `BLEEDS`.
- Two songs had another name in the first release: `PUBLISHED_AS`.
- The activations come from the loudness of the stems and were not corrected by hand; songs with bleed may have none.
- "Main System" is the room with everybody in it, "fx/processed sound" and "sampler" may be anything (a voice, drums):
  their labels stay open, and so does what else sounds in such a mix.
- ``excerpt`` says whether a song is whole, which changes nothing here. Stems may be silent for minutes.
- All 35 songs of Music Delta are one group, though their players differ.
- Stems of songs without activations have silent clips, which are rejected: raise ``--max_reject_share`` or take mixes.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from data.clip import Clip, Labels, LabelSet, Reject
from data.cutting import check_cut, cut
from data.decode import AudioFile, seconds_of
from data.errors import DataError
from data.files import inside
from data.sources.medleydb_activations import STEM, Activations
from data.sources.sounding import cut_by_time, drums_of, labels_in
from data.sources.table import standing_at
from data.taxonomy import genres_of, labels_of, meaning_of

LICENCE = "CC BY-NC-SA 4.0"
TAKE = ("both", "mixes", "stems")
PUBLISHED_AS = {
    "CroqueMadame_Pilot(Lakelot)": "CroqueMadame_Pilot",
    "Phoenix_BrokenPledge-ChicagoReel": "Phoenix_BrokenPledgeChicagoReel",
}
BLEEDS = frozenset((
    "BrandonWebster_DontHearAThing_STEM_02.wav", "ClaraBerryAndWooldog_Boys_STEM_05.wav",
    "LizNelson_ImComingHome_STEM_02.wav", "Lushlife_ToynbeeSuite_STEM_12.wav",
))  # fmt: skip
_SAME_SINGERS = ("Debussy", "Handel", "Mozart", "Schubert", "Schumann", "Wolf")
_YES_NO = {"yes": True, "no": False, True: True, False: False}


@dataclass(frozen=True, slots=True)
class MedleydbOptions:
    """Where MedleyDB was unpacked, what is taken and how it is cut."""

    folder: Path
    """With Audio, Metadata and Annotations somewhere in it."""
    medleydb_take: str = "both"
    """What to take: mixes, stems or both."""
    clip_seconds: float = 10.0
    """Longer recordings are cut into clips of this length."""
    hop_seconds: float | None = None
    """From the beginning of a clip to that of the next; no overlap if not given."""

    def __post_init__(self):
        check_cut(self.clip_seconds, self.hop_seconds)
        if self.medleydb_take not in TAKE:
            raise DataError(f"--medleydb_take should be one of {', '.join(TAKE)}, {self.medleydb_take!r} found")


@dataclass(frozen=True, slots=True)
class _Stem:
    name: str
    """As in the columns of the activations: S01."""
    path: Path
    instruments: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Song:
    """What the metadata of a song says."""

    mix: Path
    stems: tuple[_Stem, ...]
    genre: LabelSet
    has_bleed: bool


def clips(options: MedleydbOptions) -> Iterator[Clip | Reject]:
    """Lists the clips of each song, sorted by name: of its mix, then of its stems.

    Raises:
        DataError: no songs in the folder, or metadata or activations that cannot be used.
    """
    root = Path(options.folder)
    songs, metadata, activations = _find(root)
    if not songs:
        raise DataError(
            f"MedleyDB was expected in {root} (Audio/SONG/SONG_MIX.wav or SONG_STEMS, Metadata, Annotations), no song "
            "found; give the folder that it was unpacked into"
        )
    for name, folder in sorted(songs.items()):
        if name not in metadata:
            reason = f"no {name}_METADATA.yaml, so nothing is known about it"
            yield Reject("medleydb", folder.relative_to(root).as_posix(), reason)
            continue
        song = _read_song(metadata[name], folder)
        sounding = Activations.read(activations[name]) if name in activations else None
        if options.medleydb_take != "stems":
            yield from _clips_of_mix(root, name, song, sounding, options)
        if options.medleydb_take != "mixes":
            yield from _clips_of_stems(root, name, song, sounding, options)


def group_of(artist: str) -> str:
    """The group of an artist's songs, by the first half of their names."""
    return "medleydb/NYU_singers" if artist in _SAME_SINGERS else f"medleydb/{artist}"


def _find(root: Path) -> tuple[dict[str, Path], dict[str, Path], dict[str, Path]]:
    """The folder, the metadata and the activations of every song; links are followed, each folder is entered once."""
    songs: dict[str, Path] = {}
    tables: dict[str, dict[str, Path]] = {"_METADATA.yaml": {}, "_ACTIVATION_CONF.lab": {}}
    seen = {os.path.realpath(root)}
    for parent, folders, files in os.walk(root, followlinks=True):
        here = Path(parent)
        if f"{here.name}_MIX.wav" in files or f"{here.name}_STEMS" in folders:
            songs.setdefault(PUBLISHED_AS.get(here.name, here.name), here)
        for name in sorted(files):
            for ending, found in tables.items():
                if name.endswith(ending) and not name.startswith("."):
                    song = name.removesuffix(ending)
                    found.setdefault(PUBLISHED_AS.get(song, song), here / name)
        entered = []
        for name in sorted(folders, reverse=True):  # Metadata before Audio: the tables of the repository are the newer
            real = os.path.realpath(here / name)
            if real not in seen and not name.startswith((".", "__")) and not name.endswith(("_RAW", "_STEMS")):
                seen.add(real)
                entered.append(name)
        folders[:] = entered
    return songs, tables["_METADATA.yaml"], tables["_ACTIVATION_CONF.lab"]


def _read_song(path: Path, folder: Path) -> _Song:
    try:
        metadata = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, RecursionError, yaml.YAMLError) as error:
        words = " ".join(str(error).split())
        raise DataError(f"{path} should be the metadata of a song in YAML ({words}); get it again") from error
    with standing_at(str(path)):
        stems = _field(metadata, "stems", dict)
        stem_folder = inside(folder, _field(metadata, "stem_dir", str))
        has_bleed = metadata.get("has_bleed")
        if not isinstance(has_bleed, str | bool) or has_bleed not in _YES_NO:
            raise DataError(f"has_bleed should be yes or no, {has_bleed!r} found; get it again")
        return _Song(
            mix=inside(folder, _field(metadata, "mix_filename", str)),
            stems=tuple(_read_stem(name, stems[name], stem_folder) for name in sorted(stems, key=str)),
            genre=genres_of("medleydb", [_field(metadata, "genre", str)]),
            has_bleed=_YES_NO[has_bleed],
        )


def _read_stem(name: Any, fields: Any, folder: Path) -> _Stem:
    if not isinstance(name, str) or not STEM.fullmatch(name):
        raise DataError(f"a stem should have a name like S01, {name!r} found; get it again")
    with standing_at(f"stem {name}"):
        path = inside(folder, _field(fields, "filename", str))
        instruments = _field(fields, "instrument", str | list)
        instruments = tuple(dict.fromkeys([instruments] if isinstance(instruments, str) else map(str, instruments)))
        for instrument in instruments:
            meaning_of("medleydb", instrument)
    return _Stem(name, path, instruments)


def _field(fields: Any, name: str, kind: Any) -> Any:
    value = fields.get(name) if isinstance(fields, dict) else None
    if not isinstance(value, kind) or not value:
        raise DataError(f"the field {name!r} was expected, found {value!r}; get it again")
    return value


def _clips_of_mix(
    root: Path, name: str, song: _Song, sounding: Activations | None, options: MedleydbOptions
) -> Iterator[Clip | Reject]:
    instruments = tuple(dict.fromkeys(instrument for stem in song.stems for instrument in stem.instruments))
    labels = labels_of("medleydb", instruments, complete=True)

    def labels_between(start_s: float, end_s: float) -> Labels | None:
        return labels_in("medleydb", _seconds_of_instruments(song.stems, sounding, start_s, end_s))

    by_time = labels_between if sounding else None
    yield from _clips_of_recording(root, name, song.mix, replace(labels, genre=song.genre), by_time, options)


def _seconds_of_instruments(
    stems: tuple[_Stem, ...], sounding: Activations, start_s: float, end_s: float
) -> dict[str, float | None]:
    """How long each instrument sounds: as long as the stem that has the most of it."""
    found: dict[str, list[float | None]] = {}
    for stem in stems:
        seconds = sounding.seconds(stem.name, start_s, end_s)
        if len(stem.instruments) > 1 and seconds:
            seconds = None  # one of them sounds, nobody knows which
        for instrument in stem.instruments:
            found.setdefault(instrument, []).append(seconds)
    longest = {name: max(filter(None, seconds), default=0.0) for name, seconds in found.items()}
    return {name: longest[name] or (None if None in seconds else 0.0) for name, seconds in found.items()}


def _clips_of_stems(
    root: Path, name: str, song: _Song, sounding: Activations | None, options: MedleydbOptions
) -> Iterator[Clip | Reject]:
    folder = song.stems[0].path.parent
    if not folder.is_dir():
        yield Reject("medleydb", folder.relative_to(root).as_posix(), "missing: the folder of the song's stems")
        return
    for stem in song.stems:
        is_clean = not song.has_bleed and stem.path.name not in BLEEDS
        labels = replace(labels_of("medleydb", stem.instruments, complete=is_clean), genre=song.genre)
        by_time = partial(_labels_of_stem, labels, stem, sounding) if sounding else None
        yield from _clips_of_recording(root, name, stem.path, labels, by_time, options)


def _labels_of_stem(labels: Labels, stem: _Stem, sounding: Activations, start_s: float, end_s: float) -> Labels | None:
    seconds = sounding.seconds(stem.name, start_s, end_s)
    if seconds == 0:
        return None
    return replace(labels, drums=drums_of(labels), is_weak=seconds is None or len(stem.instruments) > 1)


def _clips_of_recording(
    root: Path,
    name: str,
    path: Path,
    labels: Labels,
    labels_between: Callable[[float, float], Labels | None] | None,
    options: MedleydbOptions,
) -> Iterator[Clip | Reject]:
    """Cuts a recording, by time where that is known; ``labels`` are those of the whole."""
    recording = path.relative_to(root).as_posix()
    try:
        if not path.is_file():
            raise DataError(f"missing: named in {name}_METADATA.yaml, not in {path.parent.name}/")
        seconds = seconds_of(path)
    except DataError as error:
        yield Reject("medleydb", recording, str(error))
        return
    whole = Clip(
        id=f"medleydb/{path.stem}",
        source="medleydb",
        recording=recording,
        group=group_of(name.split("_", 1)[0]),
        audio=AudioFile.of(path),
        labels=replace(labels, drums=drums_of(labels)),
    )
    if labels_between is None:
        yield from cut(whole, seconds, options.clip_seconds, options.hop_seconds)
    else:
        yield from cut_by_time(whole, seconds, options.clip_seconds, options.hop_seconds, labels_between)

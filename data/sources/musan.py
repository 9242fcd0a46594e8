"""The source ``musan``: speech, noise and music, 109 hours in long recordings (Snyder, Chen and Povey 2015).

    DIR/speech/librivox/speech-librivox-0000.wav ...     also us-gov; 60 hours
    DIR/noise/free-sound/noise-free-sound-0000.wav ...   also sound-bible; 930 recordings, 6 hours
    DIR/music/fma/music-fma-0000.wav ...                 also fma-western-art, hd-classical, jamendo, rfm; 42 hours
    DIR/PART/FOLDER/ANNOTATIONS                          what is known of the recordings of a folder

All are 16 kHz, 16 bit, mono; some noises are shorter than a tenth of a second, speech and music take minutes, so they
are cut into clips. Speech and noise are known to hold no instrument.

Music, taken only if asked for with ``--musan_parts music``, is known to hold some, but not which. A line of its
ANNOTATIONS is ``id genre[,genre] vocals artist [composer]``, as in ``music-hd-0039 westernart,romantic N Kevin_MacLoad
Erik_Satie``: vocals Y is a voice somewhere in the recording, N is no voice in any of its clips. The group is the
artist, or the recording where none is named.

Licence: Creative Commons Attribution 4.0 as a whole; each recording Creative Commons or public domain, as the file
LICENSE of its folder says. Citation: David Snyder, Guoguo Chen and Daniel Povey, "MUSAN: A Music, Speech, and Noise
Corpus", 2015, arXiv 1510.08484. Where: https://www.openslr.org/17

Errata and traps:

- Noise has no labels of what is heard: the ANNOTATIONS of free-sound lists the files that are background noise, and
  that is all. Music in it, if any, is marked nowhere.
- The noise of free-sound comes from Freesound under new names: what of it is in FSD50K, ESC-50 or UrbanSound8K too only
  the sound tells. Nor does anything say which recordings of speech share a speaker.
- Artists occur in several folders of music, and Kevin MacLeod in two spellings. Not every recording of music has an
  annotation; the LICENSE files have no word on ``noise-sound-bible-0000`` and ``music-fma-wa-0071``.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from data.clip import Clip, Labels, LabelSet, Reject
from data.cutting import check_cut, cut
from data.decode import AudioFile, seconds_of
from data.errors import DataError
from data.sources.listing import folders, sizes
from data.taxonomy import GENRE_ALIASES, genres_of, labels_of

LICENCE = "CC BY 4.0 as a whole; each recording Creative Commons or public domain"
PARTS = ("speech", "noise", "music")
_NOTHING = replace(labels_of("musan", ("speech", "noise"), complete=True), drums=False)
_MISSPELT = {"Kevin_MacLoad": "Kevin_MacLeod"}


@dataclass(frozen=True, slots=True)
class MusanOptions:
    """Where MUSAN was unpacked, what is taken and how it is cut."""

    folder: Path
    """With ``speech``, ``noise`` and ``music`` in it, or those of them that are asked for."""
    musan_parts: tuple[str, ...] = ("speech", "noise")
    """Parts of MUSAN to take, of speech, noise and music; the first two if none is given."""
    clip_seconds: float = 10.0
    """Longer recordings are cut into clips of this length."""
    hop_seconds: float | None = None
    """From the beginning of a clip to that of the next; clips do not overlap if it is not given."""

    def __post_init__(self):
        check_cut(self.clip_seconds, self.hop_seconds)
        for part in self.musan_parts:
            if part not in PARTS:
                raise DataError(f"--musan_parts should be one of {', '.join(PARTS)}, {part!r} found")


def clips(options: MusanOptions) -> Iterator[Clip | Reject]:
    """Lists the clips, part by part and sorted by name.

    Raises:
        DataError: the folder is not laid out as MUSAN, or annotations cannot be used.
    """
    folder = Path(options.folder)
    for part in options.musan_parts:
        if not (folder / part).is_dir():
            raise DataError(
                f"MUSAN was expected in {folder} ({', '.join(PARTS)}), {part} not found; give the folder musan that "
                "its archive holds, or other --musan_parts"
            )
    for part in dict.fromkeys(options.musan_parts):
        for place in folders(folder / part):
            yield from _clips_of_folder(place, part, options)


def _clips_of_folder(place: Path, part: str, options: MusanOptions) -> Iterator[Clip | Reject]:
    annotations = _read_annotations(place / "ANNOTATIONS") if part == "music" else {}
    unannotated = (labels_of("musan", (part,)) if part == "music" else _NOTHING, None)
    for name, size in sizes(place, ".wav").items():
        stem = name.removesuffix(".wav")
        place_in_musan = f"{part}/{place.name}/{stem}"
        recording = f"{place_in_musan}.wav"
        labels, artist = annotations.get(stem, unannotated)
        try:
            seconds = seconds_of(place / name)
        except DataError as error:
            yield Reject("musan", recording, str(error))
            continue
        whole = Clip(
            id=f"musan/{place_in_musan}",
            source="musan",
            recording=recording,
            group=f"musan/artist/{artist}" if artist else f"musan/{place_in_musan}",
            audio=AudioFile(place / name, size),
            labels=labels,
        )
        yield from cut(whole, seconds, options.clip_seconds, options.hop_seconds)


def _read_annotations(path: Path) -> dict[str, tuple[Labels, str]]:
    """The labels and the artist of the annotated recordings of a folder of music."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise DataError(f"annotations were expected at {path} ({error.strerror}); unpack MUSAN again") from error
    annotations = {}
    for number, line in enumerate(lines, start=1):
        cells = line.split()
        if not cells:
            continue
        if len(cells) < 4 or cells[2] not in ("Y", "N"):
            raise DataError(
                f"{path}, line {number}: id, genres, Y or N for vocals and artist were expected, {line!r} found; "
                "unpack MUSAN again"
            )
        stem, genres, vocals, artist = cells[:4]
        sounds, silent = (("music", "vocals"), ()) if vocals == "Y" else (("music",), ("vocals",))
        labels = replace(labels_of("musan", sounds, silent), genre=_genres(genres.split(",")))
        annotations[stem] = labels, _MISSPELT.get(artist, artist)
    return annotations


def _genres(names: list[str]) -> LabelSet:
    """What is known of the genres; names of subgenres that the taxonomy does not know say nothing."""
    known = [name for name in names if name in GENRE_ALIASES["musan"]]
    genres = genres_of("musan", known)
    return genres if len(known) == len(names) else replace(genres, complete=False)

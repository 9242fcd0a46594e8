"""The source ``irmas``: excerpts of recorded music with eleven instruments (Bosch et al. 2012), training and testing.

    DIR/IRMAS-TrainingData/cel/008__[cel][nod][cla]0058__1.wav              6,705 excerpts of 3 s
    DIR/IRMAS-TestingData-Part1/Part1/NAME-8.wav with NAME-8.txt               807 of 5 to 20 s
    DIR/IRMAS-TestingData-Part2/IRTestingData-Part2/...                      1,301
    DIR/IRMAS-TestingData-Part3/Part3/...                                      766

All are 44.1 kHz, 16 bit, stereo. The instruments: cello (cel), clarinet (cla), flute (flu), acoustic and electric
guitar (gac, gel), organ (org), piano (pia), saxophone (sax), trumpet (tru), violin (vio), singing voice (voi).

Training: folder and first tag name the predominant instrument; others may sound, so that it is present and the list is
not complete. A tag ``[dru]`` or ``[nod]`` (about a quarter of the files, those with a number in front) says whether
there are drums; without it nobody said. The last tag is the genre: ``cou_fol``, ``cla``, ``pop_roc``, ``lat_sou`` or
``jaz_blu``; ``[cla]`` in first place is the clarinet, in last place classical music. The number behind the tags is the
recording, of which up to three excerpts were taken: the group.

Testing: the ``.txt`` beside an excerpt has a label a line, each followed by a tab; one to five of the eleven. The rest
of the eleven is absent, instruments beyond them are unknown, as are drums and genre. The excerpts of a song (the name
without its number) are a group; no song is in two parts. All three parts are the published test split. There is no
published validation: a share of the training recordings is kept for it (``--validation_share``).

Licence: Creative Commons Attribution-NonCommercial-ShareAlike 3.0. Citation: Juan J. Bosch, Jordi Janer, Ferdinand
Fuhrmann and Perfecto Herrera, "A Comparison of Sound Segregation Techniques for Predominant Instrument Recognition in
Musical Audio Signals", ISMIR 2012. From https://zenodo.org/records/1290750.

Errata and traps, most of them seen in the MD5 sums of mirdata 0.3.3's index:

- Recordings are numbered through all classes, and a few numbers occur twice with the same excerpts (that index, keyed
  by number and excerpt, has lost 45 files). The group is the number alone: at worst two recordings share a group.
- 19 recordings were published twice under two numbers, byte for byte; such pairs are one group here. Three of them (672
  and 757, 673 and 758, 674 and 759) are acoustic guitar under one number and electric guitar under the other, the first
  pair with drums and without.
- Ten test excerpts of "06 - Lali Puna - Faking the Books" repeat ten others of it (15 to 17 are 2 to 4, 19 to 25 are
  6 to 12), with other labels. `prepare` keeps the first of equal sounds and names the rest; ``--duplicates keep``
  keeps them all, for the published test split.
- What is listed for testing is predominant too. That the rest of the eleven is silent is how everybody evaluates, and
  not what the annotators were asked.
- Training and testing differ in length, in the number of instruments and in genre (mirdata issue 289).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from data.clip import Clip, Labels, Reject
from data.decode import AudioFile
from data.errors import DataError
from data.sources.listing import folders, sizes
from data.sources.validation import check_share, training_split
from data.taxonomy import ALIASES, GENRE_ALIASES, genres_of, labels_of

LICENCE = "CC BY-NC-SA 3.0"
TRAINING = "IRMAS-TrainingData"
TESTING = ("IRMAS-TestingData-Part1", "IRMAS-TestingData-Part2", "IRMAS-TestingData-Part3")
INSTRUMENTS = tuple(ALIASES["irmas"])
DRUMS = {"dru": True, "nod": False}

_NAME = re.compile(r"(?:\d+__)?((?:\[\w+\])+)(\d+)__\d+\.wav")
_EXCERPT = re.compile(r"-\d+$")
_REPEATED = {
    "0757": "0672", "0758": "0673", "0759": "0674", "0760": "0675", "0761": "0676", "0762": "0708", "0763": "0709",
    "0765": "0711", "0766": "0712", "0767": "0713", "0768": "0714", "0769": "0715", "0770": "0716", "0771": "0717",
    "0772": "0718", "0773": "0719", "0774": "0670", "0858": "0856", "2312": "2311",
}  # fmt: skip
"""Number of a recording to the number under which the same recording was published before."""


@dataclass(frozen=True, slots=True)
class IrmasOptions:
    """Where IRMAS was unpacked."""

    folder: Path
    """With IRMAS-TrainingData and IRMAS-TestingData-Part1 to 3, or some of them, or one of these itself."""
    validation_share: float = 0.1
    """Share of the published training groups that is kept for validation; 0 trains on all of them."""
    seed: int = 0

    def __post_init__(self):
        check_share(self.validation_share)


def clips(options: IrmasOptions) -> Iterator[Clip | Reject]:
    """Lists training and then testing excerpts, sorted by path.

    Raises:
        DataError: the folder is not laid out as IRMAS.
    """
    folder = Path(options.folder)
    name = folder.resolve().name
    if name in (TRAINING, *TESTING):
        found = {name: folder}
    else:
        found = {name: folder / name for name in (TRAINING, *TESTING) if (folder / name).is_dir()}
    if not found:
        raise DataError(
            f"IRMAS was expected in {folder} ({TRAINING}, {', '.join(TESTING)}), none of them found; "
            "give the folder that they were unpacked into"
        )
    for name, place in found.items():
        yield from _training_clips(place, options) if name == TRAINING else _testing_clips(name, place)


def _training_clips(folder: Path, options: IrmasOptions) -> Iterator[Clip | Reject]:
    classes = folders(folder)
    for place in classes:
        if place.name not in INSTRUMENTS:
            raise DataError(
                f"{folder} should have a folder for each of {', '.join(INSTRUMENTS)}, {place.name!r} found; "
                "move it elsewhere"
            )
    if not classes:
        raise DataError(f"{folder} should have a folder for each of {', '.join(INSTRUMENTS)}, none found; unpack it")
    for place in classes:
        for name, size in sizes(place, ".wav").items():
            recording = f"{TRAINING}/{place.name}/{name}"
            try:
                number, labels = _read_name(name, place.name)
            except DataError as error:
                yield Reject("irmas", recording, str(error))
                continue
            group = f"irmas/train/{_REPEATED.get(number, number)}"
            yield Clip(
                id=f"irmas/{recording}",
                source="irmas",
                recording=recording,
                group=group,
                audio=AudioFile(place / name, size),
                split=training_split(group, options.validation_share, options.seed),
                labels=labels,
            )


def _read_name(name: str, folder: str) -> tuple[str, Labels]:
    """The number of the recording and what the tags in its name say."""
    match = _NAME.fullmatch(name)
    if not match:
        raise DataError("its name says nothing: one as [cel][nod][cla]0058__1.wav was expected")
    tags, number = match.groups()
    instrument, *others = tags[1:-1].split("][")
    if instrument != folder:
        raise DataError(f"its name and its folder differ: {instrument} and {folder}")
    drums = [tag for tag in others if tag in DRUMS]
    genres = [tag for tag in others if tag in GENRE_ALIASES["irmas"]]
    if len(drums) > 1 or len(genres) > 1 or len(drums) + len(genres) < len(others):
        raise DataError(f"its name has other tags than one for drums and one for the genre: {tags}")
    labels = replace(
        labels_of("irmas", (instrument,)),
        genre=genres_of("irmas", genres),
        drums=DRUMS[drums[0]] if drums else None,
    )
    return number, labels


def _testing_clips(part: str, folder: Path) -> Iterator[Clip | Reject]:
    is_empty = True
    for place in (folder, *folders(folder)):
        files = sizes(place, ".wav", ".txt")
        for stem in sorted({name[:-4] for name in files}):
            is_empty = False
            recording = "/".join((part, *place.relative_to(folder).parts, f"{stem}.wav"))
            size = files.get(f"{stem}.wav")
            if size is None:
                yield Reject("irmas", recording, f"missing: there are labels for it, {stem}.txt")
                continue
            try:
                labels = _read_labels(place / f"{stem}.txt")
            except DataError as error:
                yield Reject("irmas", recording, str(error))
                continue
            yield Clip(
                id=f"irmas/{recording}",
                source="irmas",
                recording=recording,
                group=f"irmas/test/{_EXCERPT.sub('', stem)}",
                audio=AudioFile(place / f"{stem}.wav", size),
                split="test",
                labels=labels,
            )
    if is_empty:
        raise DataError(f"{folder} should have excerpts (.wav) with their labels (.txt), none found; unpack it again")


def _read_labels(path: Path) -> Labels:
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise DataError(f"its labels cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"its labels are no text: {error.reason} at byte {error.start}") from error
    present = tuple(dict.fromkeys(line.strip() for line in lines if line.strip()))
    unknown = [label for label in present if label not in INSTRUMENTS]
    if unknown or not present:
        found = repr(unknown[0][:40]) if unknown else "none"
        raise DataError(f"its labels should be some of {', '.join(INSTRUMENTS)}: {found} found")
    return labels_of("irmas", present, absent=[label for label in INSTRUMENTS if label not in present])

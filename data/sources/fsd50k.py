"""The source ``fsd50k``: 51,197 clips of 200 classes of sound, instruments among them (Fonseca et al. 2022).

    DIR/FSD50K.dev_audio/{FREESOUND_ID}.wav                     40,966 clips, 80.4 hours
    DIR/FSD50K.eval_audio/{FREESOUND_ID}.wav                    10,231 clips, 27.9 hours
    DIR/FSD50K.ground_truth/dev.csv                             fname,labels,mids,split (train or val)
    DIR/FSD50K.ground_truth/eval.csv                            fname,labels,mids
    DIR/FSD50K.metadata/{dev,eval}_clips_info_FSD50K.json       title, tags, licence and uploader of each clip

A clip is a whole Freesound recording of 0.3 to 30 s, 44.1 kHz, 16 bit, mono. Its labels hold for the clip as a whole.
The published splits are kept: ``train`` and ``val`` of dev.csv, and all of eval.csv as test.

The labels of dev are right and may be incomplete, those of eval are complete for the 200 classes. So a guitar of dev
says nothing of a violin, and one of eval says that there is none. Labels come with their parents in AudioSet's tree; a
parent is dropped where a child explains it, so that a bicycle's bell is not taken for a musical ``Bell``.

Licence: Creative Commons Attribution 4.0 as a whole, and each clip as its uploader chose (CC0, CC BY, CC BY-NC or CC
Sampling+), of which ``--fsd50k_licences`` makes a choice. Citation: Eduardo Fonseca, Xavier Favory, Jordi Pons,
Frederic Font and Xavier Serra, "FSD50K: An Open Dataset of Human-Labeled Sound Events", IEEE/ACM TASLP 30, 2022, arXiv
2010.00475. Where: https://zenodo.org/record/4060432

Traps:

- No uploader is in both dev and eval; train and val share some.
- Where the labels of dev are incomplete, a clip that is taken for no instrument may hold one.
- Only 200 classes: a sitar is a ``Plucked_string_instrument``, and no class is a synthesizer.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from data.clip import Clip, Labels, Reject
from data.errors import DataError
from data.sources.freesound import KNOWN, Listed, check_kinds, clips_of, freesound_id_of, labels_of_clip
from data.sources.table import rows, standing_at
from data.taxonomy import ALIASES

LICENCE = "CC BY 4.0 as a whole; each clip CC0, CC BY, CC BY-NC or CC Sampling+"
LICENCES = ("cc0", "cc-by", "cc-by-nc", "cc-sampling+")
_SPLIT_OF_NAME = {"train": "train", "val": "validation"}
_LICENCE_OF_ADDRESS = {"zero": "cc0", "by": "cc-by", "by-nc": "cc-by-nc", "sampling+": "cc-sampling+"}
_ADDRESS = re.compile(r"^https?://creativecommons\.org/(?:licenses|publicdomain)/([^/]+)/")

_CHILDREN = {
    "Bell": {"Bicycle_bell", "Chime", "Church_bell", "Cowbell"},
    "Brass_instrument": {"Trumpet"},
    "Chime": {"Wind_chime"},
    "Cymbal": {"Crash_cymbal", "Hi-hat"},
    "Drum": {"Bass_drum", "Snare_drum", "Tabla"},
    "Guitar": {"Acoustic_guitar", "Bass_guitar", "Electric_guitar"},
    "Human_voice": {
        "Crying_and_sobbing", "Laughter", "Screaming", "Shout", "Sigh", "Singing", "Speech", "Whispering",
    },
    "Keyboard_(musical)": {"Organ", "Piano"},
    "Mallet_percussion": {"Glockenspiel", "Marimba_and_xylophone"},
    "Music": {"Musical_instrument"},
    "Musical_instrument": {
        "Accordion", "Bowed_string_instrument", "Brass_instrument", "Harmonica", "Harp", "Keyboard_(musical)",
        "Percussion", "Plucked_string_instrument", "Scratching_(performance_technique)",
        "Wind_instrument_and_woodwind_instrument",
    },
    "Percussion": {
        "Cymbal", "Drum", "Drum_kit", "Gong", "Mallet_percussion", "Rattle_(instrument)", "Tambourine",
    },
    "Plucked_string_instrument": {"Guitar"},
    "Singing": {"Female_singing", "Male_singing"},
    "Strum": {"Acoustic_guitar", "Bass_guitar", "Electric_guitar"},
}  # fmt: skip
"""Labels that mean more than they say where a child stands beside them; a strum is one of the guitar that is named."""


@dataclass(frozen=True, slots=True)
class Fsd50kOptions:
    """Where FSD50K was unpacked, and what is taken."""

    folder: Path
    """With FSD50K.ground_truth, and FSD50K.dev_audio, FSD50K.eval_audio or both."""
    kinds: tuple[str, ...] = KNOWN
    """Kinds of clips to take, of non_instrument, instrument and unclear; the first two if none is given."""
    fsd50k_licences: tuple[str, ...] = ()
    """Licences of the clips to take, of cc0, cc-by, cc-by-nc and cc-sampling+; all if none is given."""

    def __post_init__(self):
        check_kinds(self.kinds)
        for licence in self.fsd50k_licences:
            if licence not in LICENCES:
                raise DataError(f"--fsd50k_licences should be one of {', '.join(LICENCES)}, {licence!r} found")


def clips(options: Fsd50kOptions) -> Iterator[Clip | Reject]:
    """Lists the clips of dev and then of eval, each sorted by name.

    Raises:
        DataError: the folder is not laid out as FSD50K, or its tables cannot be used.
    """
    folder = Path(options.folder)
    parts = [part for part in ("dev", "eval") if (folder / f"FSD50K.{part}_audio").is_dir()]
    if not parts:
        raise DataError(
            f"FSD50K was expected in {folder} (FSD50K.ground_truth with FSD50K.dev_audio or FSD50K.eval_audio), no "
            "recordings found; give the folder that its archives were unpacked into"
        )
    for part in parts:
        table = f"FSD50K.ground_truth/{part}.csv"
        listed = _listed(folder, part, folder / table, options.fsd50k_licences)
        yield from clips_of("fsd50k", folder, f"FSD50K.{part}_audio", listed, table, options.kinds)


def _listed(folder: Path, part: str, table: Path, licences: tuple[str, ...]) -> Iterator[Listed]:
    licence_of_id = _licences(folder / "FSD50K.metadata" / f"{part}_clips_info_FSD50K.json") if licences else {}
    columns = ("fname", "labels", "split") if part == "dev" else ("fname", "labels")
    known = cache(_labels)  # there are far fewer combinations of labels than clips
    for where, row in rows(table, columns, "FSD50K"):
        with standing_at(where):
            freesound_id = freesound_id_of(row["fname"])
            labels, why_unclear = known(row["labels"], part == "eval")
            licence = licence_of_id.get(freesound_id, "none known")
            clip = Listed(
                file=f"{freesound_id}.wav",
                freesound_id=freesound_id,
                labels=labels,
                why_unclear=why_unclear,
                why_left_out=f"licence: {licence}" if licences and licence not in licences else "",
                split=_split(row["split"]) if part == "dev" else "test",
            )
        yield clip


def _split(cell: str) -> str:
    if cell not in _SPLIT_OF_NAME:
        raise DataError(f"the split train or val was expected, {cell!r} found; unpack it again")
    return _SPLIT_OF_NAME[cell]


def _labels(cell: str, is_complete: bool) -> tuple[Labels, str]:
    names = dict.fromkeys(cell.split(","))
    specific = tuple(name for name in names if names.keys().isdisjoint(_CHILDREN.get(name, ())))
    absent = tuple(name for name in ALIASES["fsd50k"] if name not in names) if is_complete else ()
    return labels_of_clip("fsd50k", specific, absent)


def _licences(path: Path) -> dict[str, str]:
    """The licence of every clip, by the number of its recording."""
    try:
        clips_info = json.loads(path.read_text(encoding="utf-8"))
        return {freesound_id: _licence(info["license"]) for freesound_id, info in clips_info.items()}
    except OSError as error:
        raise DataError(
            f"the licences of FSD50K's clips were expected in {path} ({error.strerror}); unpack FSD50K.metadata, or "
            "leave --fsd50k_licences out"
        ) from error
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} should be a table from clip to its licence and more, something else found; unpack it again"
        ) from error


def _licence(address: str) -> str:
    """One of `LICENCES`, or the address if it is that of another."""
    match = _ADDRESS.match(address)
    return _LICENCE_OF_ADDRESS.get(match.group(1), address) if match else address

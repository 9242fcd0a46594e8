"""The source ``nsynth``: 305,979 single notes of 1,006 instruments in eleven families (Engel et al. 2017).

    DIR/nsynth-train/examples.json    DIR/nsynth-train/audio/*.wav    289,205 notes
    DIR/nsynth-valid/...                                               12,678
    DIR/nsynth-test/...                                                 4,096

Every note is 4 s at 16 kHz, mono: 3 s held, 1 s released, over the pitches of a piano where the instrument has them,
at MIDI velocities 25, 50, 75, 100 and 127. Family, instrument, pitch, velocity, source and qualities are known and
complete. NSynth's "instrument" (``guitar_acoustic_014``) is one preset or player: our timbre, and the group of splits.

Licence: Creative Commons Attribution 4.0. Citation: Jesse Engel, Cinjon Resnick, Adam Roberts, Sander Dieleman, Douglas
Eck, Karen Simonyan and Mohammad Norouzi, "Neural Audio Synthesis of Musical Notes with WaveNet Autoencoders", 2017,
arXiv 1704.01279.

Errata and traps:

- 71 test notes of ``brass_acoustic_046`` are noise (magenta/magenta issue 2092), and many of them are one and the same
  waveform; other notes occur twice as well (embeddings-benchmark/mteb pull requests 5109 and 5111 found 2,970 waveforms
  in 3,002 test rows). `prepare` keeps one clip of each sound, in test before validation before train, and names the
  others in ``rejected.csv``; ``--duplicates keep`` keeps them, for the split that others report on. The noise that is
  no copy is kept.
- The test split has ten of the eleven families. About 0.8 % of its pitches lie outside 21 to 108 (magenta issue 1143).
- The published training instruments are in no other split; validation and test are not promised to be disjoint from
  each other. The published splits are kept, and `data.leaks` says what instruments they share.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.clip import Clip, Labels, LabelSet, Reject
from data.decode import AudioFile
from data.errors import DataError
from data.sources.listing import sizes
from data.taxonomy import FAMILIES

LICENCE = "CC BY 4.0"
SPLIT_OF_FOLDER = {"nsynth-train": "train", "nsynth-valid": "validation", "nsynth-test": "test"}
PRODUCTIONS = ("acoustic", "electronic", "synthetic")


@dataclass(frozen=True, slots=True)
class NsynthOptions:
    """Where NSynth was unpacked."""

    folder: Path
    """With the published splits in it, or one of these splits itself."""


def clips(options: NsynthOptions) -> Iterator[Clip | Reject]:
    """Lists the notes in the order of ``examples.json``, sorted by name.

    Raises:
        DataError: the folder is not laid out as NSynth, or its ``examples.json`` cannot be used.
    """
    folder = Path(options.folder)
    if (folder / "examples.json").is_file():
        folders = [folder]
    else:
        folders = [folder / name for name in SPLIT_OF_FOLDER if (folder / name / "examples.json").is_file()]
    if not folders:
        raise DataError(
            f"NSynth was expected in {folder} ({', '.join(SPLIT_OF_FOLDER)}, each with examples.json and audio/), "
            "none of them found; give the folder that they were unpacked into"
        )
    for split_folder in folders:
        yield from _clips_of_split(split_folder)


def _clips_of_split(folder: Path) -> Iterator[Clip | Reject]:
    name = folder.resolve().name
    split = SPLIT_OF_FOLDER.get(name)
    examples = _read_examples(folder / "examples.json")
    left = sizes(folder / "audio", ".wav")
    for note in sorted(examples):
        labels = _labels(examples[note], f"{folder / 'examples.json'}, note {note}")
        recording = f"{name}/audio/{note}.wav"
        size = left.pop(f"{note}.wav", None)
        if size is None:
            yield Reject("nsynth", recording, "missing: named in examples.json, not in audio/")
            continue
        yield Clip(
            id=f"nsynth/{note}",
            source="nsynth",
            recording=recording,
            group=f"nsynth/{labels.timbre}",
            audio=AudioFile(folder / "audio" / f"{note}.wav", size),
            split=split,
            labels=labels,
        )
    for stray in left:
        yield Reject("nsynth", f"{name}/audio/{stray}", "not named in examples.json, so nothing is known about it")


def _read_examples(path: Path) -> dict[str, dict[str, Any]]:
    try:
        examples = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path} should be NSynth's table of notes, but it breaks off or is damaged at line {error.lineno}, "
            f"column {error.colno}; unpack it again"
        ) from error
    except (OSError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"{path} cannot be read ({error}); unpack it again") from error
    if not isinstance(examples, dict) or not all(isinstance(note, dict) for note in examples.values()):
        raise DataError(f"{path} should be a table from note to its fields, something else found; unpack it again")
    return examples


def _labels(note: dict[str, Any], where: str) -> Labels:
    try:
        family, production = note["instrument_family_str"], note["instrument_source_str"]
        if family not in FAMILIES or production not in PRODUCTIONS:
            raise ValueError(f"family {family!r}, source {production!r}")
        pitch, velocity = int(note["pitch"]), int(note["velocity"])
        if not (0 <= pitch <= 127 and 0 <= velocity <= 127):
            raise ValueError(f"pitch {pitch}, velocity {velocity}")
        return Labels(
            is_instrument=True,
            family=LabelSet((family,), complete=True),
            timbre=str(note["instrument_str"]),
            pitch=pitch,
            velocity=velocity,
            production=production,
            qualities=LabelSet(tuple(str(quality) for quality in note["qualities_str"]), complete=True),
        )
    except KeyError as error:
        raise DataError(f"{where}: the field {error} was expected, not found; unpack it again") from error
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{where}: NSynth's fields were expected, found {error}; unpack it again") from error

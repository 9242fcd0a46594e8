"""The source ``irmas``, on folders laid out as the published ones."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from data.clip import UNKNOWN, Clip, LabelSet, Reject
from data.errors import DataError
from data.pcm import to_pcm
from data.sources.irmas import IrmasOptions, clips
from data.writer import write_pack

TRAINING = (
    "cel/008__[cel][nod][cla]0058__1.wav",
    "cel/008__[cel][nod][cla]0058__2.wav",
    "cel/[cel][pop_roc]0103__1.wav",
    "cla/[cla][cla]0189__2.wav",
    "gac/168__[gac][dru][cou_fol]0674__1.wav",
    "gel/041__[gel][dru][cou_fol]0759__1.wav",
    "sax/[sax][jaz_blu]1633__3.wav",
    "sax/[sax][lat_sou]1633__1.wav",
    "tru/[tru][jaz_blu]0058__3.wav",
    "voi/009__[voi][dru]2450__1.wav",
)
TESTING = {
    "IRMAS-TestingData-Part1/Part1/02 - And The Body Will Die-8": "gel\t\nvoi\t\n",
    "IRMAS-TestingData-Part1/Part1/02 - And The Body Will Die-10": "gel\t\n",
    "IRMAS-TestingData-Part2/IRTestingData-Part2/01. Another World-3": "pia\t\r\n\r\ncla\t\r\n",
    "IRMAS-TestingData-Part3/Part3/01 - Canto das três raças-9": "voi\t\ngac\t\nflu\t\n",
}
REAL = Path(__file__).parents[4] / "shared" / "data" / "irmas"


def write(path: Path, seed: int = 0) -> None:
    """0.3 s of noise, 44.1 kHz, 16 bit, stereo."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).uniform(-0.5, 0.5, (13_230, 2))
    soundfile.write(path, noise, 44_100, subtype="PCM_16")


@pytest.fixture
def irmas(tmp_path):
    """Ten excerpts for training, four for testing."""
    folder = tmp_path / "IRMAS"
    for number, name in enumerate((*TRAINING, *(f"{name}.wav" for name in TESTING))):
        write(folder / (f"IRMAS-TrainingData/{name}" if name in TRAINING else name), number)
    for name, labels in TESTING.items():
        (folder / f"{name}.txt").write_bytes(labels.encode())
    (folder / "IRMAS-TrainingData" / "README.txt").write_text("IRMAS")
    (folder / "IRMAS-TrainingData" / "cel" / "._[cel][cla]0001__1.wav").write_text("what a Mac adds")
    return folder


def found(folder, **options) -> dict[str, Clip | Reject]:
    return {item.recording.split("/", 1)[1]: item for item in clips(IrmasOptions(folder, **options))}


def rejects(folder) -> dict[str, str]:
    return {name: item.reason for name, item in found(folder).items() if isinstance(item, Reject)}


@pytest.mark.parametrize(
    ("name", "instrument", "family", "drums", "genre"),
    [
        ("cel/008__[cel][nod][cla]0058__1.wav", "cello", "string", False, "classical"),
        ("cel/[cel][pop_roc]0103__1.wav", "cello", "string", None, "pop_rock"),
        ("cla/[cla][cla]0189__2.wav", "clarinet", "reed", None, "classical"),
        ("gac/168__[gac][dru][cou_fol]0674__1.wav", "acoustic_guitar", "guitar", True, "country_folk"),
        ("sax/[sax][jaz_blu]1633__3.wav", "saxophone", "reed", None, "jazz_blues"),
        ("sax/[sax][lat_sou]1633__1.wav", "saxophone", "reed", None, "latin_soul"),
        ("voi/009__[voi][dru]2450__1.wav", "voice", "vocal", True, None),
    ],
)
def test_what_the_name_of_a_training_excerpt_says(irmas, name, instrument, family, drums, genre):
    labels = found(irmas)[name].labels
    assert labels.is_instrument is True
    assert labels.instrument == LabelSet((instrument,))  # predominant: others may sound
    assert labels.family == LabelSet((family,))
    assert labels.drums is drums
    assert labels.genre == (UNKNOWN if genre is None else LabelSet((genre,), complete=True))


def test_a_test_excerpt_has_all_its_instruments_and_not_the_rest_of_the_eleven(irmas):
    items = found(irmas)
    labels = items["Part1/02 - And The Body Will Die-8.wav"].labels
    assert labels.instrument.present == ("electric_guitar", "voice")
    assert set(labels.instrument.absent) == {
        "cello", "clarinet", "flute", "acoustic_guitar", "organ", "piano", "saxophone", "trumpet", "violin",
    }  # fmt: skip
    assert not labels.instrument.complete  # a banjo may sound
    assert (labels.genre, labels.drums) == (UNKNOWN, None)
    assert items["IRTestingData-Part2/01. Another World-3.wav"].labels.instrument.present == ("piano", "clarinet")


def test_an_absent_violin_says_nothing_of_the_strings(irmas):
    labels = found(irmas)["Part1/02 - And The Body Will Die-8.wav"].labels
    assert labels.family.present == ("guitar", "vocal")
    assert "string" not in labels.family.absent


def test_excerpts_of_a_recording_or_a_song_are_one_group(irmas):
    items = found(irmas)
    groups = {name: clip.group for name, clip in items.items()}
    assert groups["cel/008__[cel][nod][cla]0058__1.wav"] == groups["cel/008__[cel][nod][cla]0058__2.wav"]
    assert groups["tru/[tru][jaz_blu]0058__3.wav"] == "irmas/train/0058"  # the same number in another class
    assert groups["gel/041__[gel][dru][cou_fol]0759__1.wav"] == "irmas/train/0674"  # published twice
    assert groups["cla/[cla][cla]0189__2.wav"] == "irmas/train/0189"
    song = "Part1/02 - And The Body Will Die-"
    assert groups[f"{song}8.wav"] == groups[f"{song}10.wav"] == "irmas/test/02 - And The Body Will Die"
    assert groups["IRTestingData-Part2/01. Another World-3.wav"] == "irmas/test/01. Another World"


def test_published_splits_with_a_share_of_the_training_groups_for_validation(irmas):
    items = found(irmas, validation_share=0.4, seed=1)
    splits = {item.split for name, item in items.items() if name in TRAINING}
    assert splits == {"train", "validation"}
    of_group: dict[str, set[str]] = {}
    for item in items.values():
        of_group.setdefault(item.group, set()).add(item.split)
    assert all(len(splits) == 1 for splits in of_group.values())
    assert all(item.split == "test" for name, item in items.items() if name not in TRAINING)
    assert {item.split for name, item in found(irmas, validation_share=0).items() if name in TRAINING} == {"train"}


def test_it_becomes_a_pack(irmas, tmp_path):
    pack = write_pack(clips(IrmasOptions(irmas, validation_share=0)), tmp_path / "pack", processes=1)
    assert [pack.info.splits[split]["clips"] for split in ("train", "test")] == [10, 4]
    assert set(pack.num_samples) == {4_800}
    rows = {row["recording"].split("/", 1)[1]: row for row in pack.manifest.to_pylist()}
    assert rows["Part3/01 - Canto das três raças-9.wav"]["instrument_present"] == ["voice", "acoustic_guitar", "flute"]


def test_some_parts_or_one_of_them(irmas):
    whole = {item.id for item in found(irmas).values()}
    part = found(irmas / "IRMAS-TestingData-Part2")
    assert list(part) == ["IRTestingData-Part2/01. Another World-3.wav"]
    assert {item.id for item in part.values()} < whole  # named as in the whole
    assert set(found(irmas / "IRMAS-TrainingData")) == set(TRAINING)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("cel/cello 1.wav", "its name says nothing: one as [cel][nod][cla]0058__1.wav was expected"),
        ("cel/[cel][cla]__1.wav", "its name says nothing: one as [cel][nod][cla]0058__1.wav was expected"),
        ("cel/[cla][cla]0150__1.wav", "its name and its folder differ: cla and cel"),
        ("cel/[cel][rock]0150__1.wav", "its name has other tags than one for drums and one for the genre: [cel][rock]"),
        (
            "cel/[cel][dru][nod]0150__1.wav",
            "its name has other tags than one for drums and one for the genre: [cel][dru][nod]",
        ),
    ],
)
def test_a_training_excerpt_that_is_named_otherwise_is_rejected(irmas, name, reason):
    write(irmas / "IRMAS-TrainingData" / name)
    assert rejects(irmas) == {name: reason}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"gel\t\nbanjo\t\n", "voi: 'banjo' found"),
        (b"gel voi\n", "voi: 'gel voi' found"),
        (b"\n", "voi: none found"),
        (b"\xff\xfe\x00", "its labels are no text: invalid start byte at byte 0"),
        (None, "its labels cannot be read: No such file or directory"),
    ],
)
def test_a_test_excerpt_without_usable_labels_is_rejected(irmas, content, reason):
    labels = irmas / "IRMAS-TestingData-Part1/Part1/02 - And The Body Will Die-8.txt"
    labels.unlink() if content is None else labels.write_bytes(content)
    ((name, found_reason),) = rejects(irmas).items()
    assert name == "Part1/02 - And The Body Will Die-8.wav"
    assert found_reason.endswith(reason)


def test_labels_without_their_excerpt_and_links_to_nowhere_are_named(irmas, tmp_path):
    part = irmas / "IRMAS-TestingData-Part1" / "Part1"
    (part / "02 - And The Body Will Die-8.wav").unlink()
    assert rejects(irmas) == {
        "Part1/02 - And The Body Will Die-8.wav": "missing: there are labels for it, 02 - And The Body Will Die-8.txt"
    }
    (part / "02 - And The Body Will Die-8.wav").symlink_to(tmp_path / "nowhere")
    with pytest.raises(DataError, match="cannot be read: No such file"):
        found(irmas)["Part1/02 - And The Body Will Die-8.wav"].audio.read()


def test_folders_that_are_not_irmas(irmas, tmp_path):
    with pytest.raises(DataError, match=r"IRMAS was expected in .* none of them found; give the folder"):
        list(clips(IrmasOptions(tmp_path / "nowhere")))
    (irmas / "IRMAS-TrainingData" / "guitar").mkdir()
    with pytest.raises(DataError, match=r"a folder for each of cel, .*, 'guitar' found; move it elsewhere"):
        list(clips(IrmasOptions(irmas)))
    (tmp_path / "other" / "IRMAS-TrainingData").mkdir(parents=True)
    with pytest.raises(DataError, match=r"a folder for each of cel, .*, none found; unpack it"):
        list(clips(IrmasOptions(tmp_path / "other")))
    (tmp_path / "third" / "IRMAS-TestingData-Part1" / "Part1").mkdir(parents=True)
    with pytest.raises(DataError, match=r"should have excerpts \(\.wav\) with their labels \(\.txt\), none found"):
        list(clips(IrmasOptions(tmp_path / "third")))
    with pytest.raises(DataError, match="--validation_share should be"):
        IrmasOptions(irmas, validation_share=2)


@pytest.mark.skipif(not REAL.is_dir(), reason="the published files are not here")
def test_published_files():
    training, testing = clips(IrmasOptions(REAL, validation_share=0))
    assert training.recording == "IRMAS-TrainingData/cla/[cla][cla]0189__2.wav"
    assert training.labels.instrument == LabelSet(("clarinet",))
    assert training.labels.genre == LabelSet(("classical",), complete=True)
    assert (training.group, training.split, training.labels.drums) == ("irmas/train/0189", "train", None)
    assert testing.labels.instrument.present == ("electric_guitar", "voice")
    assert len(testing.labels.instrument.absent) == 9
    assert (testing.group, testing.split) == ("irmas/test/02 - And The Body Will Die", "test")
    assert [len(to_pcm(clip.audio, 0.25).samples) for clip in (training, testing)] == [48_000, 32_000]

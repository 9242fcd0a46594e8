"""The source ``fsd50k``, on folders laid out as the published one."""

import json

import numpy as np
import pytest
import soundfile

from data.clip import NOTHING, UNKNOWN, LabelSet, Reject
from data.errors import DataError
from data.sources.fsd50k import _CHILDREN, Fsd50kOptions, _labels, clips
from data.taxonomy import ALIASES
from data.writer import write_pack

GUITAR = "Electric_guitar,Guitar,Plucked_string_instrument,Musical_instrument,Music"
BAND = f"Electric_guitar,Bass_drum,Snare_drum,{GUITAR.partition(',')[2]},Drum,Percussion"
DEV = {
    "64760": (GUITAR, "train"),
    "345111": (GUITAR, "val"),
    "51690": ("Bird,Wild_animals,Animal", "train"),
    "100": ("Bicycle_bell,Alarm,Bicycle,Vehicle,Bell", "train"),
    "200": ("Bell", "train"),
    "300": ("Applause,Crowd,Human_group_actions", "val"),
    "400": ("Speech,Human_voice", "train"),
    "500": (BAND, "train"),
}
EVAL = {
    "37199": GUITAR,
    "100032": "Bark,Dog,Domestic_animals_and_pets,Animal",
    "263455": BAND,
    "600": "Female_singing,Singing,Human_voice",
    "700": "Bark,Chime,Dog,Domestic_animals_and_pets,Animal,Bell",
}
LICENCES = {
    "64760": "http://creativecommons.org/licenses/sampling+/1.0/",
    "345111": "http://creativecommons.org/publicdomain/zero/1.0/",
    "51690": "http://creativecommons.org/licenses/by/3.0/",
    "100": "http://creativecommons.org/licenses/by-nc/3.0/",
    "37199": "https://creativecommons.org/licenses/by/4.0/",
    "100032": "http://creativecommons.org/licenses/by-nd/3.0/",
}


def info(freesound_id: str, licence: str) -> dict:
    return {"title": f"{freesound_id}.wav", "description": "", "tags": [], "license": licence, "uploader": "somebody"}


@pytest.fixture
def fsd50k(tmp_path):
    """Eight clips of dev and five of eval, half a second long."""
    folder = tmp_path / "FSD50K"
    for name in ("dev_audio", "eval_audio", "ground_truth", "metadata"):
        (folder / f"FSD50K.{name}").mkdir(parents=True)
    dev = [f'{name},"{labels}","{"/m/0" * 3}",{split}' for name, (labels, split) in DEV.items()]
    (folder / "FSD50K.ground_truth" / "dev.csv").write_text("\n".join(("fname,labels,mids,split", *dev)) + "\n")
    evaluation = [f'{name},"{labels}","/m/0"' for name, labels in EVAL.items()]
    (folder / "FSD50K.ground_truth" / "eval.csv").write_text("\n".join(("fname,labels,mids", *evaluation)) + "\n")
    rng = np.random.default_rng(0)
    for part, names in (("dev", DEV), ("eval", EVAL)):
        infos = {name: info(name, LICENCES[name]) for name in names if name in LICENCES}
        (folder / "FSD50K.metadata" / f"{part}_clips_info_FSD50K.json").write_text(json.dumps(infos))
        for name in names:
            soundfile.write(folder / f"FSD50K.{part}_audio" / f"{name}.wav", rng.uniform(-0.5, 0.5, 22_050), 44_100)
    return folder


def by_id(folder, **options):
    found = clips(Fsd50kOptions(folder, **options))
    return {item.id.removeprefix("fsd50k/"): item for item in found if not isinstance(item, Reject)}


def left_out(folder, **options):
    found = clips(Fsd50kOptions(folder, **options))
    return {
        item.recording.split("/")[1]: item.reason for item in found if isinstance(item, Reject) and item.is_left_out
    }


def test_published_splits_and_groups(fsd50k):
    found = by_id(fsd50k)
    assert {name: clip.split for name, clip in found.items()} == {
        "100": "train", "345111": "validation", "400": "train", "500": "train", "51690": "train", "64760": "train",
        "100032": "test", "263455": "test", "37199": "test", "600": "test",
    }  # fmt: skip
    assert found["64760"].recording == "FSD50K.dev_audio/64760.wav"
    assert all(clip.group == f"freesound/{name}" for name, clip in found.items())


@pytest.mark.parametrize("name", ["51690", "100", "400", "100032"])
def test_sounds_of_no_instrument_are_known_to_be_that(fsd50k, name):
    labels = by_id(fsd50k)[name].labels
    assert (labels.is_instrument, labels.family, labels.instrument) == (False, NOTHING, NOTHING)
    assert labels.drums is False


def test_labels_of_dev_say_what_sounds_and_nothing_of_the_rest(fsd50k):
    found = by_id(fsd50k)
    guitar, band = found["64760"].labels, found["500"].labels
    assert guitar.is_instrument is True
    assert (guitar.family, guitar.instrument) == (LabelSet(("guitar",)), LabelSet(("electric_guitar",)))
    assert guitar.drums is None
    assert band.family == LabelSet(("guitar", "percussion"))
    assert band.instrument == LabelSet(("electric_guitar", "kick_drum", "snare_drum"))
    assert band.drums is True


def test_labels_of_eval_say_what_does_not_sound(fsd50k):
    found = by_id(fsd50k)
    guitar, band, voice = (found[name].labels for name in ("37199", "263455", "600"))
    assert guitar.instrument.present == ("electric_guitar",)
    assert {"acoustic_guitar", "violin", "piano", "snare_drum", "voice"} <= set(guitar.instrument.absent)
    assert {"brass", "flute", "reed", "percussion", "mallet"} <= set(guitar.family.absent)
    assert (guitar.drums, band.drums, voice.drums) == (False, True, False)
    # The 200 classes have no synthesizer: what none of them names is left open.
    assert not {"synth_lead", "synth_bass"} & set(guitar.instrument.absent)
    assert not guitar.instrument.complete
    assert not guitar.family.complete
    assert "percussion" in band.family.present
    assert "percussion" not in band.family.absent
    assert voice.instrument.present == ("voice",)
    assert voice.family.present == ("vocal",)
    assert "guitar" in voice.family.absent


def test_labels_that_leave_it_open_are_left_out_or_kept_as_unknown(fsd50k):
    assert left_out(fsd50k) == {
        "200.wav": "unclear: Bell leaves open whether an instrument sounds",
        "300.wav": "unclear: Crowd leaves open whether an instrument sounds",
        "700.wav": "unclear: Chime leaves open whether an instrument sounds",
    }
    kept = by_id(fsd50k, kinds=("unclear",))
    assert set(kept) == {"200", "300", "700"}
    assert {clip.labels.is_instrument for clip in kept.values()} == {None}
    assert kept["200"].labels.instrument == UNKNOWN
    assert "violin" in kept["700"].labels.instrument.absent  # eval: nobody plays one
    assert not kept["700"].labels.instrument.present


def test_instruments_can_be_left_out(fsd50k):
    found = by_id(fsd50k, kinds=("non_instrument",))
    assert set(found) == {"51690", "100", "400", "100032"}
    assert left_out(fsd50k, kinds=("non_instrument",))["64760.wav"] == "instrument: not asked for"


def test_a_choice_of_licences(fsd50k):
    free = {"fsd50k_licences": ("cc0", "cc-by")}
    assert set(by_id(fsd50k, **free)) == {"345111", "51690", "37199"}
    reasons = left_out(fsd50k, **free)
    assert reasons["64760.wav"] == "licence: cc-sampling+"
    assert reasons["100.wav"] == "licence: cc-by-nc"
    assert reasons["100032.wav"] == "licence: http://creativecommons.org/licenses/by-nd/3.0/"
    assert reasons["500.wav"] == "licence: none known"
    with pytest.raises(DataError, match=r"--fsd50k_licences should be one of cc0, .*, 'gpl' found"):
        Fsd50kOptions(fsd50k, fsd50k_licences=("gpl",))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, r"licences of FSD50K's clips were expected in .*\(No such file.*unpack FSD50K.metadata"),
        ("{", "should be a table from clip to its licence and more"),
        ("[1]", "should be a table from clip to its licence and more"),
        ('{"64760": {"title": ""}}', "should be a table from clip to its licence and more"),
        ('{"64760": {"license": null}}', "should be a table from clip to its licence and more"),
    ],
)
def test_damaged_licences(fsd50k, content, words):
    path = fsd50k / "FSD50K.metadata" / "dev_clips_info_FSD50K.json"
    path.unlink() if content is None else path.write_text(content)
    by_id(fsd50k)  # nobody asked
    with pytest.raises(DataError, match=words):
        by_id(fsd50k, fsd50k_licences=("cc0",))


def test_it_becomes_a_pack_and_listing_opens_no_recording(fsd50k, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("data.decode.soundfile.SoundFile", None)
        found = list(clips(Fsd50kOptions(fsd50k)))
    pack = write_pack(found, tmp_path / "pack", processes=1)
    assert [pack.info.splits[split]["clips"] for split in ("train", "validation", "test")] == [5, 1, 4]
    assert (tmp_path / "pack" / "rejected.csv").read_text().count("unclear: ") == 3


def test_one_part_alone(fsd50k):
    (fsd50k / "FSD50K.dev_audio").rename(fsd50k / "elsewhere")
    assert {clip.split for clip in by_id(fsd50k).values()} == {"test"}
    (fsd50k / "FSD50K.eval_audio").rename(fsd50k / "there")
    with pytest.raises(DataError, match=r"FSD50K was expected in .* no recordings found"):
        by_id(fsd50k)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (",train", ",test", r"dev.csv, line 2: the split train or val was expected, 'test' found"),
        ("64760,", "a64760,", r"dev.csv, line 2: the number of a Freesound recording was expected, 'a64760' found"),
        ("Bird,", "Brid,", r"dev.csv, line 4: .*'Brid'.*Bird"),
        (",split", ",part", r"should have a column 'split'"),
    ],
)
def test_a_damaged_table_is_said_with_its_place(fsd50k, old, new, words):
    table = fsd50k / "FSD50K.ground_truth" / "dev.csv"
    table.write_text(table.read_text().replace(old, new, 1))
    with pytest.raises(DataError, match=words):
        by_id(fsd50k)


def test_no_ground_truth(fsd50k):
    (fsd50k / "FSD50K.ground_truth" / "eval.csv").unlink()
    with pytest.raises(DataError, match=r"FSD50K's table was expected at .*eval.csv"):
        by_id(fsd50k)


@pytest.mark.parametrize(
    ("cell", "families", "instruments"),
    [
        ("Accordion,Conversation,Musical_instrument,Music,Speech,Human_voice", ("organ",), ("accordion",)),
        (
            "Accordion,Glockenspiel,Musical_instrument,Music,Mallet_percussion,Percussion",
            ("organ", "mallet"),
            ("accordion", "glockenspiel"),
        ),
        (
            "Electric_guitar,Strum,Guitar,Plucked_string_instrument,Musical_instrument,Music",
            ("guitar",),
            ("electric_guitar",),
        ),
        ("Strum,Guitar,Plucked_string_instrument,Musical_instrument,Music", (), ()),  # a bass guitar may be strummed
        ("Alarm,Engine,Train,Music,Rail_transport,Vehicle", (), ()),
        ("Bark,Drum,Dog,Domestic_animals_and_pets,Animal,Percussion,Musical_instrument,Music", ("percussion",), ()),
    ],
)
def test_parents_say_nothing_beyond_their_children(cell, families, instruments):
    labels, why_unclear = _labels(cell, False)
    assert labels.is_instrument is True
    assert (labels.family.present, labels.instrument.present, why_unclear) == (families, instruments, "")


@pytest.mark.parametrize(
    ("cell", "name"),
    [
        ("Bark,Church_bell,Cricket,Dog,Domestic_animals_and_pets,Animal,Bell,Insect,Wild_animals", "Church_bell"),
        ("Bark,Human_voice,Dog,Domestic_animals_and_pets,Animal", "Human_voice"),
        ("Bell,Train,Rail_transport,Vehicle", "Bell"),
    ],
)
def test_labels_that_no_child_explains_leave_it_open(cell, name):
    labels, why_unclear = _labels(cell, True)
    assert labels.is_instrument is None
    assert why_unclear == f"{name} leaves open whether an instrument sounds"


def test_the_tree_names_published_labels():
    assert set(_CHILDREN).union(*_CHILDREN.values()) <= set(ALIASES["fsd50k"])
    assert len(ALIASES["fsd50k"]) == 200

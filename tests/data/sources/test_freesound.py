"""What the data sets from Freesound share: recordings that are in several of them never cross splits."""

import re
from pathlib import Path

import numpy as np
import pytest
import soundfile

from data.clip import Labels, Reject
from data.sources import SOURCES, esc50, fsd50k, urbansound8k
from data.sources.freesound import Listed, clips_of, labels_of_clip
from data.taxonomy import ALIASES
from data.writer import write_pack


@pytest.fixture
def write(tmp_path):
    """``write(path, text)``, or half a second of noise that sounds like nothing else."""
    rng = np.random.default_rng(0)

    def write(path, text=None):
        path = tmp_path / path
        path.parent.mkdir(parents=True, exist_ok=True)
        if text is None:
            soundfile.write(path, rng.uniform(-0.5, 0.5, 22_050), 44_100)
        else:
            path.write_text(text)

    return write


def test_a_recording_in_three_data_sets_stays_in_its_published_split(write, tmp_path):
    numbers = [100032, *range(200_000, 200_030)]
    header = "filename,fold,target,category,esc10,src_file,take\n"
    write("esc50/meta/esc50.csv", header + "".join(f"1-{n}-A-0.wav,1,0,dog,True,{n},A\n" for n in numbers))
    header = "slice_file_name,fsID,start,end,salience,fold,classID,class\n"
    rows = "".join(f"{n}-3-0-0.wav,{n},0.0,0.5,1,5,3,dog_bark\n" for n in numbers)
    write("urbansound8k/metadata/UrbanSound8K.csv", header + rows)
    write("fsd50k/FSD50K.ground_truth/eval.csv", 'fname,labels,mids\n100032,"Bark,Dog","/m/0bt9lr,/m/05tny_"\n')
    write("fsd50k/FSD50K.eval_audio/100032.wav")
    for n in numbers:
        write(f"esc50/audio/1-{n}-A-0.wav")
        write(f"urbansound8k/audio/fold5/{n}-3-0-0.wav")
    found = [
        *esc50.clips(esc50.Esc50Options(tmp_path / "esc50")),
        *fsd50k.clips(fsd50k.Fsd50kOptions(tmp_path / "fsd50k")),
        *urbansound8k.clips(urbansound8k.UrbanSound8kOptions(tmp_path / "urbansound8k")),
    ]
    rows = write_pack(found, tmp_path / "pack", processes=1).manifest.select(["source", "group", "split"]).to_pylist()
    splits = {}
    for row in rows:
        splits.setdefault(row["group"], set()).add(row["split"])
    assert splits["freesound/100032"] == {"test"}
    assert sorted(row["source"] for row in rows if row["group"] == "freesound/100032") == [
        "esc50", "fsd50k", "urbansound8k",
    ]  # fmt: skip
    assert {len(found) for found in splits.values()} == {1}
    assert {"train"} in splits.values()


@pytest.mark.parametrize("source", ["esc50", "fsd50k", "urbansound8k"])
def test_every_label_alone_makes_a_clip_one_of_three_kinds(source):
    for name, meaning in ALIASES[source].items():
        labels, why_unclear = labels_of_clip(source, (name,))
        assert labels.is_instrument is meaning.is_instrument
        assert (why_unclear == "") == (meaning.is_instrument is not None)


def test_one_label_that_leaves_it_open_is_enough_and_one_instrument_is_too():
    assert labels_of_clip("fsd50k", ("Dog", "Crowd"))[0].is_instrument is None
    assert labels_of_clip("fsd50k", ("Dog", "Crowd", "Piano"))[0].is_instrument is True
    assert labels_of_clip("fsd50k", ()) == (Labels(), "no label at all leaves open whether an instrument sounds")


def test_what_nobody_wants_need_not_be_there(write, tmp_path):
    write("audio/1.wav")
    listed = [Listed("1.wav", "1", Labels(is_instrument=False)), Listed("2.wav", "2", Labels(is_instrument=True))]
    kept, left_out = clips_of("esc50", tmp_path, "audio", listed, "table.csv", ("non_instrument",))
    assert kept.id == "esc50/1"
    assert left_out == Reject("esc50", "audio/2.wav", "instrument: not asked for", is_left_out=True)


@pytest.mark.parametrize(
    ("source", "title"), [("esc50", "ESC-50"), ("fsd50k", "FSD50K"), ("urbansound8k", "UrbanSound8K")]
)
def test_the_documentation_lists_every_label_under_its_kind(source, title):
    page = (Path(__file__).parents[3] / "docs" / "data.md").read_text(encoding="utf-8")
    section = page.split(f"\n### {title}\n")[1].split("\n### ")[0]
    for word, is_instrument in (("Non-instrument", False), ("Instrument", True), ("Unclear", None)):
        paragraph = section.split(f"**{word}:**")[1].split("\n\n")[0]
        listed = re.findall(r"`([^`]+)`", paragraph)
        assert sorted(listed) == sorted(
            name for name, meaning in ALIASES[source].items() if meaning.is_instrument is is_instrument
        )


def test_the_documentation_has_a_row_of_every_source_in_each_of_its_tables():
    page = (Path(__file__).parents[3] / "docs" / "data.md").read_text(encoding="utf-8")
    for name in SOURCES:
        assert len(re.findall(rf"^\| `{name}(?:=DIR)?` \|", page, re.MULTILINE)) == 3

"""The source ``urbansound8k``, on folders laid out as the published one."""

import numpy as np
import pytest
import soundfile

from data.clip import NOTHING, UNKNOWN, Reject
from data.errors import DataError
from data.sources.urbansound8k import UrbanSound8kOptions, clips
from data.writer import write_pack

HEADER = "slice_file_name,fsID,start,end,salience,fold,classID,class"
ROWS = (
    "100032-3-0-0.wav,100032,0.0,0.317551,1,5,3,dog_bark",
    "100263-2-0-117.wav,100263,58.5,62.5,1,5,2,children_playing",
    "100263-2-0-121.wav,100263,60.5,64.5,1,5,2,children_playing",
    "100648-1-0-0.wav,100648,4.823402,5.471927,2,10,1,car_horn",
    "101848-9-0-0.wav,101848,0.0,4.0,1,7,9,street_music",
    "102853-8-0-0.wav,102853,0.0,4.0,1,7,8,siren",
)


@pytest.fixture
def urbansound8k(tmp_path):
    """Six slices of five recordings, each with a rate and a number of channels of its own."""
    folder = tmp_path / "UrbanSound8K"
    (folder / "metadata").mkdir(parents=True)
    (folder / "metadata" / "UrbanSound8K.csv").write_text("\r\n".join((HEADER, *ROWS)) + "\r\n")
    rng = np.random.default_rng(0)
    for number, row in enumerate(ROWS):
        name, fold = row.split(",")[0], row.split(",")[5]
        (folder / "audio" / f"fold{fold}").mkdir(parents=True, exist_ok=True)
        rate = (44_100, 48_000, 96_000, 8_000, 22_050, 11_025)[number]
        sound = rng.uniform(-0.5, 0.5, (rate // 2, 1 + number % 2))
        soundfile.write(folder / "audio" / f"fold{fold}" / name, sound, rate, subtype="PCM_24")
    return folder


def by_id(folder, **options):
    return {item.id: item for item in clips(UrbanSound8kOptions(folder, **options)) if not isinstance(item, Reject)}


def rejects(folder, **options):
    return [item for item in clips(UrbanSound8kOptions(folder, **options)) if isinstance(item, Reject)]


def test_labels_groups_and_order(urbansound8k):
    found = by_id(urbansound8k)
    assert [name.removeprefix("urbansound8k/") for name in found] == [
        "100032-3-0-0", "100263-2-0-117", "100263-2-0-121", "101848-9-0-0", "102853-8-0-0",
    ]  # fmt: skip
    dog = found["urbansound8k/100032-3-0-0"]
    assert (dog.recording, dog.group, dog.split) == ("audio/fold5/100032-3-0-0.wav", "freesound/100032", None)
    assert (dog.labels.is_instrument, dog.labels.family, dog.labels.instrument) == (False, NOTHING, NOTHING)
    slices = [clip.group for name, clip in found.items() if "100263" in name]
    assert slices == ["freesound/100263"] * 2


def test_street_music_is_music_by_nobody_knows_whom(urbansound8k):
    labels = by_id(urbansound8k)["urbansound8k/101848-9-0-0"].labels
    assert (labels.is_instrument, labels.family, labels.instrument, labels.drums) == (True, UNKNOWN, UNKNOWN, None)
    assert "instrument: not asked for" in [reject.reason for reject in rejects(urbansound8k, kinds=("non_instrument",))]


def test_what_is_in_the_foreground_of_a_car_horn_nobody_said(urbansound8k):
    (reject,) = rejects(urbansound8k)
    assert (reject.recording, reject.is_left_out) == ("audio/fold10/100648-1-0-0.wav", True)
    assert reject.reason == "unclear: car_horn is in the background of something that nobody named"
    kept = by_id(urbansound8k, kinds=("unclear",))
    assert list(kept) == ["urbansound8k/100648-1-0-0"]
    labels = kept["urbansound8k/100648-1-0-0"].labels
    assert (labels.is_instrument, labels.family, labels.instrument, labels.drums) == (None, UNKNOWN, UNKNOWN, None)


def test_it_becomes_a_pack_whatever_the_rates(urbansound8k, tmp_path):
    pack = write_pack(clips(UrbanSound8kOptions(urbansound8k)), tmp_path / "pack", processes=1)
    assert pack.info.num_clips == 5
    assert set(pack.manifest["source_rate"].to_pylist()) == {44_100, 48_000, 96_000, 22_050, 11_025}
    split_of_group = {}
    for group, split in zip(pack.manifest["group"].to_pylist(), pack.manifest["split"].to_pylist(), strict=True):
        assert split_of_group.setdefault(group, split) == split


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            "1,5,3,dog_bark",
            "1,11,3,dog_bark",
            r"UrbanSound8K.csv, line 2: a fold from 1 to 10 was expected, '11' found",
        ),
        ("1,5,3,dog_bark", "3,5,3,dog_bark", r"line 2: a salience of 1 or 2 was expected, '3' found"),
        ("dog_bark", "wolf", r"line 2: .*'wolf'"),
        ("100032,", "../,", r"line 2: the number of a Freesound recording was expected, '../' found"),
    ],
)
def test_a_damaged_table_is_said_with_its_place(urbansound8k, old, new, words):
    table = urbansound8k / "metadata" / "UrbanSound8K.csv"
    table.write_text(table.read_text().replace(old, new, 1))
    with pytest.raises(DataError, match=words):
        list(clips(UrbanSound8kOptions(urbansound8k)))


def test_wrong_folders(urbansound8k):
    with pytest.raises(DataError, match=r"UrbanSound8K was expected in .*UrbanSound8K.csv not found"):
        list(clips(UrbanSound8kOptions(urbansound8k / "audio")))
    (urbansound8k / "audio" / "fold7").rename(urbansound8k / "audio" / "seven")
    with pytest.raises(DataError, match=r"recordings were expected in .*fold7"):
        list(clips(UrbanSound8kOptions(urbansound8k)))

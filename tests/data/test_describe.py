"""What `data.describe` says of a pack, for a person and as JSON."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from data import describe
from data.clip import Labels, LabelSet, Reject
from data.writer import write_pack

ROOT = Path(__file__).parents[2]


def test_describe_says_what_is_in_a_pack(toy_pack, tmp_path):
    arguments = [toy_pack.folder, "--verify", "--json", "--out", tmp_path / "figures"]
    result = subprocess.run(
        [sys.executable, "-m", "data.describe", *map(str, arguments)], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert (report["clips"], report["verified"]) == (120, True)
    assert report["labels"]["family"]["unknown_share"] == pytest.approx(1 / 3)
    assert sum(report["labels"]["family"]["clips"]["string"].values()) == 40
    assert report["labels"]["genre"] == {"unknown_share": 1.0, "clips": {}}
    assert report["rms_dbfs"]["median"] == pytest.approx(-9.03, abs=0.01)
    assert report["duration_s"]["min"] == 0.5
    assert (tmp_path / "figures" / "describe.png").read_bytes().startswith(b"\x89PNG")
    assert report["figure"] == str(tmp_path / "figures" / "describe.png")


def test_describe_names_the_problems(make_clips, tmp_path, capsys):
    clips = [replace(clip, split="train") for clip in make_clips(20)]
    clips.append(replace(clips[0], id="toy/again", group="other", split="test"))  # the same sound, the other side
    loud, quiet = clips[3].audio, clips[4].audio
    clips[3] = replace(clips[3], audio=replace(loud, amplitude=3.0))
    clips[4] = replace(clips[4], audio=replace(quiet, amplitude=0.0005))
    found = [*clips, Reject("toy", "x", "silent: peak -inf dBFS")]
    folder = write_pack(found, tmp_path / "pack", processes=1).folder
    assert describe.main([str(folder)]) == 0
    text = capsys.readouterr().out
    for words in (
        "the validation split is empty",
        "dropped as duplicates 1, named in",
        "sounds in train and test: 1 (toy/0000 = toy/again), 1 train and 1 test clips; dropped from train\n",
        "clipped clips: 1, 5.0% (toy/0003)",
        "clips below -60 dBFS RMS: 1 (toy/0004)",
        "family labels that occur in train and not in validation: 2 (brass, string)",
        "rejected recordings or clips: 1 (see rejected.csv)",
        f"figure: {folder / 'describe.png'}",
    ):
        assert words in text


@pytest.mark.parametrize("damage", ["flip", "gone"])
def test_describe_refuses_damaged_packs(copied_pack, damage, capsys):
    shard = copied_pack / "shard_00000.i16"
    content = bytearray(shard.read_bytes())
    content[100] ^= 4
    shard.write_bytes(content) if damage == "flip" else shard.unlink()
    assert describe.main([str(copied_pack), "--verify"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert ("toy/0000" if damage == "flip" else "is missing") in error
    assert not (copied_pack / "describe.png").exists()


def test_shares_of_drawn_splits_by_label(make_clips, tmp_path, capsys):
    violins, flutes = ((make_clips(count, labels=Labels(instrument=LabelSet((name,)), drums=False)))
                       for count, name in ((100, "violin"), (112, "flute")))  # fmt: skip
    given = [replace(clip, split="test") for clip in make_clips(115)[112:]]
    clips = [*violins, *flutes[100:110], *given]
    report = describe.describe(write_pack(clips, tmp_path / "pack", processes=1))["drawn_splits"]
    assert report["asked"] == {"train": 0.8, "validation": 0.1, "test": 0.1}
    assert report["all"]["clips"] == 110
    # Two groups of flutes: too few to reach three splits, so that both train.
    assert report["labels"]["instrument"]["flute"] == {
        "clips": 10, "train": 1.0, "validation": 0.0, "test": 0.0, "off": 0.2,
    }  # fmt: skip
    violin = report["labels"]["instrument"]["violin"]
    assert violin["clips"] == 100
    assert violin["train"] + violin["validation"] + violin["test"] == pytest.approx(1)
    assert violin["off"] == pytest.approx(max(abs(violin[split] - share) for split, share in report["asked"].items()))
    assert set(report["labels"]) == {"source", "instrument"}
    assert describe.main([str(tmp_path / "pack")]) == 0
    text = capsys.readouterr().out
    assert "asked for                      80.0%       10.0%       10.0%\n" in text
    assert "3 labels are off by" in text
    assert "  instrument flute            100.0%        0.0%        0.0%\n" in text
    assert "leaks: none found" in text


def test_leaks_of_given_splits_are_told(make_clips, tmp_path, capsys):
    clips = [replace(clip, split=("train", "test")[number % 2]) for number, clip in enumerate(make_clips(20))]
    clips[19] = replace(clips[19], audio=clips[4].audio)  # 19 tests, 4 trains
    assert describe.main([str(write_pack(clips, tmp_path / "pack", processes=1).folder), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["leaks"] == [
        {
            "what": "group",
            "splits": ["train", "test"],
            "count": 4,
            "clips": {"train": 9, "test": 10},
            "examples": ["toy/0", "toy/1", "toy/2"],
            "dropped_from": None,
        },
        {
            "what": "sound",
            "splits": ["train", "test"],
            "count": 1,
            "clips": {"train": 1, "test": 1},
            "examples": ["toy/0004 = toy/0019"],
            "dropped_from": "train",
        },
    ]
    assert report["rejected"] == {"duplicate": {"same sound as another clip": 1}}
    assert report["drawn_splits"] is None
    assert describe.main([str(tmp_path / "pack")]) == 0
    text = capsys.readouterr().out
    assert "groups in train and test: 4 (toy/0, toy/1, toy/2 and 1 more), 9 train and 10 test clips\n" in text
    assert "no split was drawn\n" in text


def test_a_pack_without_its_list_of_rejects_is_an_error(copied_pack, capsys):
    (copied_pack / "rejected.csv").unlink()
    assert describe.main([str(copied_pack)]) == 2
    assert capsys.readouterr().err.startswith("error: ")

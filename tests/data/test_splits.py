"""Which split every clip gets: given, drawn, and what goes together."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from data.clip import SPLITS, Labels, LabelSet
from data.errors import DataError
from data.manifest import SCHEMA, row_of
from data.pcm import Pcm
from data.splits import SHARES, check_shares, known_labels, split_clips

PCM = Pcm(np.zeros(16_000, np.int16), 0.0, -6.0, -9.0, 0, 16_000)
GENRES = ("classical", "jazz_blues")


@pytest.fixture
def table(make_clips):
    """``table(clips, sounds={})``: the manifest of clips, each a sound of its own but those named by number."""

    def make(clips, sounds=None) -> pa.Table:
        rows = [row_of(clip, PCM, (sounds or {}).get(number, f"sound of {clip.id}"), 0, 0)
                for number, clip in enumerate(clips)]  # fmt: skip
        return pa.Table.from_pylist(rows, SCHEMA)

    return make


def drawn(manifest, seed=0, shares=SHARES, count_duplicates=False) -> list[str]:
    return [SPLITS[place] for place in split_clips(manifest, seed, shares, count_duplicates)]


def of_group(clips, splits) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for clip, split in zip(clips, splits, strict=True):
        found.setdefault(clip.group, set()).add(split)
    return found


def labelled(make_clips, count: int) -> list:
    """Groups of one to nine clips with labels of every kind, some unknown."""
    rng = np.random.default_rng(5)
    sizes = rng.integers(1, 10, count)
    group = np.repeat(np.arange(count), sizes)[:count]
    instruments = ("violin", "cello", "trumpet", "flute", "piano", "organ")
    clips = make_clips(count)
    for number in range(count):
        kinds = np.random.default_rng(int(group[number]))
        names = tuple(kinds.choice(instruments, 2, replace=False).tolist())
        labels = Labels(
            is_instrument=[True, True, False, None][kinds.integers(4)],
            instrument=LabelSet(names if kinds.random() < 0.8 else ()),
            genre=LabelSet((GENRES[kinds.integers(2)],)),
            drums=[True, False, None][kinds.integers(3)],
        )
        clips[number] = replace(
            clips[number], group=f"toy/{group[number]}", source=f"toy{group[number] % 3}", labels=labels
        )
    return clips


def test_no_group_is_cut_and_every_label_comes_to_its_share(make_clips, table):
    clips = labelled(make_clips, 2000)
    manifest = table(clips)
    splits = drawn(manifest)
    assert all(len(found) == 1 for found in of_group(clips, splits).values())
    clip, label, names = known_labels(manifest)
    assert {level for level, _ in names} == {"clips", "source", "is_instrument", "instrument", "genre", "drums"}
    assert [name for level, name in names if level in ("is_instrument", "drums")] == ["false", "true", "true"]
    counts = np.zeros((len(names), 3))
    np.add.at(counts, (label, [SPLITS.index(splits[row]) for row in clip]), 1)
    assert counts[0].sum() == 2000
    off = np.abs(counts / counts.sum(axis=1, keepdims=True) - SHARES).max(axis=1)
    assert off.max() < 0.02


def test_the_order_of_clips_decides_nothing_and_the_seed_does(make_clips, table):
    clips = labelled(make_clips, 300)
    expected = dict(zip((clip.id for clip in clips), drawn(table(clips)), strict=True))
    order = np.random.default_rng(0).permutation(len(clips))
    shuffled = [clips[number] for number in order]
    assert dict(zip((clip.id for clip in shuffled), drawn(table(shuffled)), strict=True)) == expected
    assert drawn(table(clips), seed=1) != list(expected.values())


def test_given_splits_stay_and_their_groups_follow(make_clips, table):
    clips = make_clips(50)
    clips[3] = replace(clips[3], split="test")
    clips[20] = replace(clips[20], split="validation")
    splits = drawn(table(clips))
    assert splits[:5] == ["test"] * 5
    assert splits[20:25] == ["validation"] * 5
    # The drawn ones are divided among themselves: eight groups, at 80/10/10 one each outside train.
    others = splits[5:20] + splits[25:]
    assert [others.count(split) for split in SPLITS] == [30, 5, 5]


def test_a_given_split_that_cuts_a_group_is_kept_and_open_clips_join_the_earlier(make_clips, table):
    clips = make_clips(5)
    clips[1], clips[2] = replace(clips[1], split="test"), replace(clips[2], split="validation")
    assert drawn(table(clips)) == ["validation", "test", "validation", "validation", "validation"]


def test_groups_that_share_a_recording_go_together(make_clips, table):
    apart = 0
    for seed in range(30):
        clips = make_clips(100)
        clips[7] = replace(clips[7], recording=clips[42].recording)  # groups 1 and 8
        clips[43] = replace(clips[43], recording=clips[90].recording)  # groups 8 and 18
        clips[60] = replace(clips[60], source="other", recording=clips[0].recording)  # another source's, so another
        splits = of_group(clips, drawn(table(clips), seed))
        assert splits["toy/1"] == splits["toy/8"] == splits["toy/18"]
        assert all(len(found) == 1 for found in splits.values())
        apart += splits["toy/0"] != splits["toy/12"]
    assert apart


@pytest.mark.parametrize("count_duplicates", [True, False])
def test_groups_that_share_a_sound_go_together(make_clips, table, count_duplicates):
    for seed in range(10):
        clips = make_clips(100)
        splits = drawn(table(clips, {3: "same", 77: "same", 78: "too", 50: "too"}), seed, SHARES, count_duplicates)
        found = of_group(clips, splits)
        assert found["toy/0"] == found["toy/15"] == found["toy/10"]
    clips[77] = replace(clips[77], split="test")
    splits = drawn(table(clips, {3: "same", 77: "same"}), 0, SHARES, count_duplicates)
    assert splits[:5] == splits[75:80] == ["test"] * 5


def test_duplicates_count_once_unless_they_are_kept(make_clips, table):
    # Ten groups; the first is twenty times the same sound and else like the others.
    clips = make_clips(20, group="toy/many") + make_clips(29)[20:]
    clips = [replace(clip, group=clip.group if number < 20 else clip.id) for number, clip in enumerate(clips)]
    manifest = table(clips, dict.fromkeys(range(20), "same"))
    found = {drawn(manifest, seed)[0] for seed in range(60)}
    assert found == set(SPLITS)
    assert {drawn(manifest, seed, SHARES, True)[0] for seed in range(60)} == {"train"}


def test_asked_shares(make_clips, table):
    manifest = table(make_clips(100))
    assert {split: drawn(manifest, 0, (0.5, 0.5, 0.0)).count(split) for split in SPLITS} == {
        "train": 50, "validation": 50, "test": 0,
    }  # fmt: skip
    assert set(drawn(manifest, 0, (0.0, 0.0, 1.0))) == {"test"}
    for shares in ((0.8, 0.1), (0.8, 0.1, 0.2), (1.1, -0.1, 0.0), (float("nan"), 0.5, 0.5)):
        with pytest.raises(DataError, match="--split_shares should be the shares of train, validation, test"):
            check_shares(shares)

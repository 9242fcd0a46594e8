"""Where the clips of a recording begin and end."""

import itertools

import pytest

from data.clip import Clip, Labels
from data.cutting import STRETCH_SECONDS, check_cut, cut, excerpts
from data.decode import AudioFile
from data.errors import DataError
from data.plan import MIN_CLIPS, Options, make_plan


@pytest.mark.parametrize(
    ("seconds", "clip_seconds", "hop_seconds", "expected"),
    [
        (2, 3, None, [(0, None)]),
        (3, 3, None, [(0, None)]),
        (3.99, 3, None, [(0, None)]),
        (4, 3, None, [(0, 3), (3, None)]),
        (7.5, 3, 3, [(0, 3), (3, 3), (6, None)]),
        (7, 3, 2, [(0, 3), (2, 3), (4, None)]),
        (7.9, 3, 2, [(0, 3), (2, 3), (4, None)]),
        (8, 3, 2, [(0, 3), (2, 3), (4, 3), (6, None)]),
    ],
)
def test_clips_follow_each_other_and_the_last_takes_a_short_rest(seconds, clip_seconds, hop_seconds, expected):
    assert excerpts(seconds, clip_seconds, hop_seconds) == expected


@pytest.mark.parametrize("hop_seconds", [None, 0.7, 1.1, 2.5])
@pytest.mark.parametrize("seconds", [0.1, 2.5, 9.99, 100.4, 1234.5])
def test_nothing_is_lost_and_no_clip_is_longer_than_asked_by_a_second(seconds, hop_seconds):
    places = excerpts(seconds, 2.5, hop_seconds)
    ends = [seconds if duration is None else start + duration for start, duration in places]
    assert places[0][0] == 0
    assert ends[-1] == seconds
    assert all(end - start < 3.5 for (start, _), end in zip(places, ends, strict=True))
    assert all(following[0] <= end + 1e-9 for end, following in zip(ends, places[1:], strict=False))


@pytest.mark.parametrize(
    ("clip_seconds", "hop_seconds", "words"),
    [
        (0.5, None, "--clip_seconds should be from 1 to 599, 0.5 found"),
        (float("nan"), None, "--clip_seconds should be from 1 to 599, nan found"),
        (600, None, "--clip_seconds should be from 1 to 599, 600 found"),
        (10, 0, r"--hop_seconds should be from 0.01 to --clip_seconds \(10\), 0 found"),
        (10, 11, r"--hop_seconds should be from 0.01 to --clip_seconds \(10\), 11 found"),
    ],
)
def test_lengths_that_make_no_sense(clip_seconds, hop_seconds, words):
    with pytest.raises(DataError, match=words):
        check_cut(clip_seconds, hop_seconds)


@pytest.fixture
def recording(write_wav, make_tone) -> Clip:
    return Clip(
        "s/a", "s", "a.wav", "s/g", AudioFile.of(write_wav("a.wav", make_tone(1, 440))), labels=Labels(drums=True)
    )


def test_what_is_not_longer_than_a_clip_stays_as_it_is(recording):
    assert list(cut(recording, 4.0, 10.0)) == [recording]


def test_parts_are_named_by_their_start_and_weak(recording):
    parts = list(cut(recording, 25.0, 10.0, 7.5))
    assert [part.id for part in parts] == ["s/a@0", "s/a@7.5", "s/a@15"]
    assert {part.labels for part in parts} == {Labels(drums=True, is_weak=True)}
    assert [(part.audio.start_s, part.audio.duration_s) for part in parts] == [(0, 10), (7.5, 10), (15, None)]


def test_a_stretch_is_decoded_from_its_first_clip_and_lies_in_one_unit(recording):
    parts = list(cut(recording, 3600.0, 10.0, 7.0))
    for part in parts:
        first = min(
            other.start_s for other in parts if other.start_s // STRETCH_SECONDS == part.start_s // STRETCH_SECONDS
        )
        assert part.audio.decode_from_s == first
    units = make_plan(parts, Options()).units
    assert [clip for unit in units for clip in unit.clips] == parts
    assert len(units) == 6
    for unit, following in itertools.pairwise(units):
        assert len(unit.clips) >= MIN_CLIPS
        assert unit.clips[-1].audio.decode_from_s != following.clips[0].audio.decode_from_s

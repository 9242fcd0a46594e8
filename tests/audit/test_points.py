"""What a page tells of clips."""

from dataclasses import replace

import numpy as np
import pytest

from audit.findings import Query
from audit.neighbours import Neighbours
from audit.points import Level, clips_named, found_of, points_of, rows_of
from benchmarks.page import example_findings
from data.labels import LabelTable


@pytest.fixture(scope="module")
def findings(toy_pack):
    return example_findings(toy_pack.column("id").tolist(), most=4)


@pytest.fixture(scope="module")
def neighbours(toy_pack) -> Neighbours:
    count = len(toy_pack)
    rows = (np.arange(count)[:, None] + [1, 2, 3]) % count
    rows[0, 2] = -1
    return Neighbours(np.tile(np.float32([0.9, 0.8, 0.7]), (count, 1)), rows)


def labels_of(level: Level, place: int) -> set[str] | None:
    code = level.codes[place]
    return None if code < 0 else {level.names[one] for one in level.sets[code]}


def test_clips_are_named_once_and_the_most_important_first(findings):
    named = clips_named(findings)
    assert len(named) == len(set(named))
    assert named[0] == findings.queries[0].clip
    after = list(dict.fromkeys(neighbour.clip for neighbour in findings.queries[0].neighbours))
    assert [clip for clip in named[1:] if clip in after] == [clip for clip in after if clip != named[0]]
    assert {pair.second for pair in findings.duplicates.leaks} <= set(named)
    assert {neighbour.clip for change in findings.comparison.changes for neighbour in change.before} <= set(named)
    assert None not in clips_named(replace(findings, queries=(Query("take.wav", None, ()),)))


def test_a_clip_says_everything_that_was_found_of_it(findings):
    found = found_of(findings)
    for hub in findings.hubs:
        assert "hub" in found[hub.clip]
    for pair in findings.duplicates.leaks:
        assert "leak" in found[pair.first]
        assert "leak" in found[pair.second]
    assert all(len(kinds) == len(set(kinds)) for kinds in found.values())
    assert list(found) == clips_named(findings)


def test_rows_are_found_by_id(toy_pack):
    assert rows_of(toy_pack, ["toy/0007", "toy/0000", "toy/0007"]).tolist() == [7, 0, 7]
    with pytest.raises(ValueError, match="'toy/none' is none"):
        rows_of(toy_pack, ["toy/0007", "toy/none"])


def test_points_hold_the_map_first_and_then_whatever_is_named(toy_pack, findings, neighbours):
    rows = np.array([4, 0, 50])
    place = np.array([[0, 0], [1, 0.5], [0.2, 0.1]], np.float32)
    points = points_of(toy_pack, findings, rows, place, neighbours)
    ids = toy_pack.column("id")
    assert points.clips[:3] == tuple(ids[rows])
    assert len(set(points.clips)) == len(points.clips)
    assert set(clips_named(findings)) <= set(points.clips)
    assert [points.clips[one] for one in points.neighbours[0]] == list(ids[[5, 6, 7]])
    assert points.neighbours[1, 2] == -1
    assert points.similarity.shape == (3, 3)
    assert np.array_equal(points.place, place)


def test_labels_are_those_of_the_pack(toy_pack, findings, neighbours):
    rows = np.arange(30)
    points = points_of(toy_pack, findings, rows, np.zeros((30, 2)), neighbours)
    table, known = LabelTable(toy_pack), rows_of(toy_pack, points.clips)
    names = np.array(table.names["family"])
    for place, row in enumerate(known):
        values = table.column("family", np.array([row]))[0]
        expected = None if (values != 0).all() and (values != 1).all() else set(names[values == 1])
        assert labels_of(points.levels["family"], place) == expected
        assert labels_of(points.levels["split"], place) == {toy_pack.column("split")[row]}
        assert labels_of(points.levels["source"], place) == {"toy"}
    pitch = np.array([np.nan if value is None else value for value in toy_pack.column("pitch")[known]])
    assert np.array_equal(points.numbers["pitch"], pitch.astype(np.float32), equal_nan=True)
    assert np.allclose(points.numbers["seconds"], toy_pack.column("duration_s")[known])
    kinds = found_of(findings)
    assert labels_of(points.levels["finding"], 3) == set(kinds.get("toy/0003", []))

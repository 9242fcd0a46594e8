"""What neighbours have in common, against slow versions and small cases by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from audit.bootstrap import intervals
from audit.neighbours import Neighbours
from audit.purity import LEVELS, agreement, answerable, confusion, purity, random_others, tree_distance
from audit.ranking import average_precision_at_r, map_at_r
from data.clip import NOTHING, Labels, LabelSet
from data.depth import depths
from data.labels import LabelTable
from data.relation import LEVELS as RELATED
from data.relation import relation
from data.writer import write_pack
from losses.retrieval import retrieval


def labels_of(number: int) -> Labels:
    """Strings and brass of several instruments, genres, effects, and clips of which little is known."""
    match number % 6:
        case 0:
            return Labels(family=LabelSet(("string",), complete=True), instrument=LabelSet(("violin",), complete=True))
        case 1:
            return Labels(family=LabelSet(("brass",), complete=True), genre=LabelSet(("classical",), complete=True))
        case 2:
            names = LabelSet(("violin", "trumpet"), complete=True)
            families = LabelSet(("string", "brass"), complete=True)
            return Labels(family=families, instrument=names, genre=LabelSet(("jazz_blues",), complete=True))
        case 3:
            return Labels(is_instrument=False, family=NOTHING, instrument=NOTHING)
        case 4:
            return Labels(is_instrument=True, timbre=f"player {number % 5}")
    return Labels(instrument=LabelSet(("cello",)), is_weak=number % 4 == 1)


@pytest.fixture(scope="module")
def pack(make_clips, tmp_path_factory):
    clips = []
    for number, clip in enumerate(make_clips(80)):
        source = ("one", "two")[number % 7 == 0]
        values = {"id": f"{source}/{number:03d}", "source": source, "group": f"g{number // 3}"}
        clips.append(replace(clip, **values, labels=labels_of(number)))
    return write_pack(clips, tmp_path_factory.mktemp("packs") / "mixed", processes=1, seed=1)


@pytest.fixture(scope="module")
def group(pack) -> np.ndarray:
    return np.unique(pack.column("group").astype(str), return_inverse=True)[1]


@pytest.fixture(scope="module")
def others(pack, group) -> Neighbours:
    """Ten neighbours of other groups drawn at random, some missing."""
    rows = random_others(group, 10, 5)
    rows[3:20, 7:] = -1
    rows[40] = -1
    return Neighbours(np.zeros(rows.shape, np.float32), rows)


def related(pack) -> dict[str, np.ndarray]:
    """Of all pairs, at all levels of an audit."""
    source = pack.column("source")
    found = {level: values.numpy() for level, values in relation(LabelTable(pack).take(np.arange(len(pack)))).items()}
    return found | {"source": (source[:, None] == source).astype(np.int8)}


def test_agreement_is_the_relation_of_clips(pack, others):
    whole = relation(LabelTable(pack).take(np.arange(len(pack))))
    queries = np.array([40, 2, 3, 2, 79])
    found = agreement(LabelTable(pack), queries, others.rows[queries])
    for level in RELATED:
        assert found[level].dtype == np.int8
        for place, query in enumerate(queries):
            for column, row in enumerate(others.rows[query]):
                expected = whole[level][query, row] if row >= 0 else -1
                assert found[level][place, column] == expected, level


def slow_answerable(pack, group, level: str) -> np.ndarray:
    same = related(pack)[level] == 1
    return np.array([(same[row] & (group != group[row])).any() for row in range(len(pack))])


def test_a_clip_is_asked_if_another_group_has_the_same(pack, group):
    found = answerable(pack, group)
    for level in LEVELS:
        assert np.array_equal(found[level], slow_answerable(pack, group, level)), level
        assert found[level].sum() > 0
    assert not found["genre"].all()


def test_purity_is_the_mean_share_of_known_neighbours(pack, group, others):
    whole = related(pack)
    scores = {(score.level, score.measure): score for score in purity(pack, others, at=(1, 4, 10, 50))}
    assert {measure for _, measure in scores} == {"purity@1", "purity@4", "purity@10"}
    for level in LEVELS:
        asked = slow_answerable(pack, group, level)
        for k in (1, 4, 10):
            shares, chances = [], []
            for row in np.flatnonzero(asked):
                known = [whole[level][row, other] for other in others.rows[row, :k] if other >= 0]
                known = [value for value in known if value >= 0]
                if known:
                    shares.append(np.mean([value == 1 for value in known]))
                    everyone = whole[level][row][group != group[row]]
                    chances.append((everyone == 1).sum() / (everyone >= 0).sum())
            score = scores[level, f"purity@{k}"]
            assert score.value == pytest.approx(np.mean(shares))
            assert score.clips == len(shares)
            assert score.chance == pytest.approx(np.mean(chances), abs=0.005)
            assert score.low <= score.value <= score.high


def test_one_source_has_no_score(toy_pack):
    rows = random_others(np.arange(len(toy_pack)) // 5, 3, 0)
    scores = purity(toy_pack, Neighbours(np.zeros(rows.shape, np.float32), rows))
    assert {score.level for score in scores} == {"family"}  # nobody knows instruments or genres


def test_tree_distance_takes_the_middle_of_what_is_possible(pack, group, others):
    labels = relation(LabelTable(pack).take(np.arange(len(pack))))
    low, high = depths(labels)
    middle = ((low + high).double() / 2).masked_fill(labels["family"] == -1, float("nan")).numpy()
    found = tree_distance(pack, others)
    chance = np.nanmean(np.where(group[:, None] != group, middle, np.nan))
    for name, rows in (("nearest", others.rows[:, :1]), ("10 nearest", others.rows)):
        query, column = np.nonzero(rows >= 0)
        assert found[name] == pytest.approx(np.nanmean(middle[query, rows[query, column]]))
    assert found["chance"] == pytest.approx(chance, abs=0.01)
    assert list(found) == ["nearest", "10 nearest", "chance"]


def test_confusion_gives_each_clip_one_vote(pack, others):
    names = [{0: "string", 1: "brass", 3: "no instrument"}.get(number % 6) for number in range(80)]
    found = confusion(pack, others)
    assert found.names == ("brass", "string", "no instrument")
    for row, name in enumerate(found.names):
        votes = []
        for clip in np.flatnonzero([own == name for own in names]):
            theirs = [names[other] for other in others.rows[clip] if other >= 0 and names[other]]
            if theirs:
                votes.append([theirs.count(column) / len(theirs) for column in found.names])
        assert found.clips[row] == len(votes)
        assert found.share[row] == pytest.approx(np.mean(votes, axis=0))
        assert sum(found.share[row]) == pytest.approx(1)


def test_one_family_has_no_confusion(make_clips, tmp_path):
    clips = make_clips(4, labels=Labels(family=LabelSet(("string",), complete=True)))
    pack = write_pack(clips, tmp_path / "pack", processes=1, seed=1)
    rows = np.array([[1], [0], [3], [2]])
    assert confusion(pack, Neighbours(np.ones(rows.shape, np.float32), rows)) is None


def test_random_others_are_of_other_groups():
    group = np.repeat(np.arange(3), [1, 90, 9])
    drawn = random_others(group, 40, 1)
    assert (drawn >= 0).mean() > 0.95
    assert (group[drawn] != group[:, None])[drawn >= 0].all()
    assert np.bincount(group[drawn[0]], minlength=3).tolist() == pytest.approx([0, 36, 4], abs=4)
    assert (random_others(np.zeros(5, int), 2, 0) == -1).all()


# mAP@R


class Vectors:
    """Embeddings of a pack, at random."""

    def __init__(self, pack):
        vectors = np.random.default_rng(3).normal(size=(len(pack), 6)).astype(np.float32)
        self.pack, self._unit = pack, vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def unit(self, rows=slice(None)) -> np.ndarray:
        return self._unit[rows].copy()


def test_map_at_r_is_that_of_retrieval(pack, group):
    embeddings, whole = Vectors(pack), related(pack)
    similarity = torch.from_numpy(embeddings.unit() @ embeddings.unit().T).double()
    is_other = torch.from_numpy(group[:, None] != group)
    scores = {score.level: score for score in map_at_r(embeddings)}
    assert set(scores) == set(LEVELS)
    for level in LEVELS:
        known = torch.from_numpy(whole[level] >= 0) & is_other
        expected = retrieval(similarity, torch.from_numpy(whole[level] == 1), known)
        assert scores[level].value == pytest.approx(expected["map_at_r"], rel=1e-9), level
        assert scores[level].clips == int((torch.from_numpy(whole[level] == 1) & known).any(dim=1).sum())
        assert scores[level].low <= scores[level].value <= scores[level].high


def test_map_at_r_of_a_sample_is_near_that_of_all(pack, monkeypatch):
    embeddings = Vectors(pack)
    whole = {score.level: score for score in map_at_r(embeddings)}
    monkeypatch.setattr("audit.ranking.ASKED", 50)
    monkeypatch.setattr("audit.ranking.PAIRS", 1)
    sample = {score.level: score for score in map_at_r(embeddings)}
    assert sample["family"].clips < whole["family"].clips
    assert sample["family"].value == pytest.approx(whole["family"].value, abs=0.1)


def test_expected_average_precision_is_that_of_random_orders():
    generator = np.random.default_rng(0)
    related = np.array([1] * 4 + [0] * 9 + [-1] * 5, np.int8)
    found = np.mean([average_precision_at_r(generator.permutation(related))[0] for _ in range(20_000)])
    assert average_precision_at_r(related)[1] == pytest.approx(found, abs=0.005)
    assert average_precision_at_r(np.array([-1, 1, 1, 0])) == (1.0, pytest.approx((1 + (1 + 1 / 2) / 2) / 3))
    assert average_precision_at_r(np.array([0, 1]))[0] == 0
    with pytest.raises(ValueError, match="neighbour that is the same"):
        average_precision_at_r(np.array([0, -1]))


# Intervals


def test_intervals_are_wider_where_groups_say_the_same_thing_again():
    generator = np.random.default_rng(0)
    of_group = generator.random(40)
    values = np.repeat(of_group, 25)[:, None]
    mean, low, high = intervals(values, np.repeat(np.arange(40), 25))[:, 0]
    assert mean == pytest.approx(of_group.mean())
    error = of_group.std() / np.sqrt(40)
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.15)
    alone = intervals(values, np.arange(1000))[:, 0]
    assert alone[2] - alone[1] < (high - low) / 3


def test_intervals_cover_the_truth_as_often_as_they_say():
    generator = np.random.default_rng(1)
    group = np.repeat(np.arange(60), 4)
    hits = 0
    for _ in range(100):
        chance = np.repeat(generator.beta(2, 2, 60), 4)
        _, low, high = intervals((generator.random(240) < chance).astype(float)[:, None], group)[:, 0]
        hits += low <= 0.5 <= high
    assert 87 <= hits <= 100


def test_unknown_values_and_single_groups():
    values = np.array([[0.5, np.nan, 1.0], [0.7, np.nan, np.nan], [0.9, np.nan, np.nan]])
    found = intervals(values, np.array([3, 3, 8]))
    assert found[0].tolist() == [pytest.approx(0.7), pytest.approx(np.nan, nan_ok=True), 1.0]
    assert np.isnan(found[:, 1]).all()
    assert found[1:, 2].tolist() == [0, 1]  # one group says nothing of others
    assert found[1, 0] == pytest.approx(0.6)
    assert found[2, 0] == pytest.approx(0.9)

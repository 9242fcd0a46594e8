"""k-means against classes that it can find, and classes that it cannot."""

from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.cluster import MiniBatchKMeans
from sklearn.metrics import v_measure_score

from audit import clustering
from audit.clustering import classes_of, v_measures
from data.clip import Labels, LabelSet
from data.labels import INSTRUMENTS
from data.taxonomy import FAMILIES
from data.writer import write_pack


@pytest.fixture(scope="module")
def pack(make_clips, tmp_path_factory):
    """Violins, cellos and trumpets, and clips of two instruments, of an unnamed one, or of which nothing is known."""
    clips = []
    for number in range(100):
        family, instrument = (("string", "violin"), ("string", "cello"), ("brass", "trumpet"))[number % 3]
        families, instruments = LabelSet((family,), complete=True), LabelSet((instrument,), complete=True)
        labels = Labels(family=families, instrument=instruments)
        if number == 90:
            labels = Labels(instrument=LabelSet(("violin", "trumpet"), complete=True))
        if number == 91:
            labels = Labels(family=families)
        if number > 94:
            labels = Labels()
        clips += make_clips(number + 1, labels=labels)[-1:]
    return write_pack(clips, tmp_path_factory.mktemp("packs") / "classes", processes=1, seed=1)


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(clustering, "CLIPS", 300)


def test_classes_are_of_clips_of_one_instrument(pack):
    classes = classes_of(pack)
    names = [None if place < 0 else FAMILIES[place] for place in classes["family"]]
    instruments = [None if place < 0 else INSTRUMENTS[place] for place in classes["instrument"]]
    assert names[:3] == ["string", "string", "brass"]
    assert instruments[:3] == ["violin", "cello", "trumpet"]
    assert (names[90], instruments[90]) == (None, None)
    assert (names[91], instruments[91]) == ("string", None)
    assert names[95:] == [None] * 5


def embeddings_of(pack, centres: dict[str, float], level: str, names: tuple[str, ...]) -> SimpleNamespace:
    """Clips scattered about a place of their class."""
    generator = np.random.default_rng(0)
    own = [centres.get(names[place], 0.0) for place in classes_of(pack)[level]]
    return SimpleNamespace(pack=pack, vectors=np.array(own)[:, None] + generator.normal(size=(len(pack), 4)) * 0.1)


def test_the_v_measure_is_one_where_classes_lie_apart(pack):
    apart = embeddings_of(pack, {"violin": 0.0, "cello": 10.0, "trumpet": 20.0}, "instrument", INSTRUMENTS)
    scores = {score.level: score for score in v_measures(apart)}
    assert set(scores) == {"family", "instrument"}
    assert scores["instrument"].value > 0.85  # k-means may begin with two centres in one class
    assert scores["instrument"].clips == 93
    assert scores["family"].clips == 94
    for score in scores.values():
        assert score.measure == "v_measure"
        assert 0 <= score.low <= score.value <= score.high <= 1
        assert score.chance < 0.05


def test_the_v_measure_is_that_of_chance_where_embeddings_know_nothing(pack):
    nothing = embeddings_of(pack, {}, "instrument", INSTRUMENTS)
    for score in v_measures(nothing):
        assert score.value < 0.15


def test_rounds_are_those_of_the_protocol(pack, monkeypatch):
    monkeypatch.setattr(clustering, "ROUNDS", 2)
    embeddings = embeddings_of(pack, {"string": 0.05, "brass": -0.05}, "family", FAMILIES)
    classes = classes_of(pack)["family"]
    rows = np.flatnonzero(classes >= 0)
    generator, expected = np.random.default_rng(4), []
    for _ in range(2):
        drawn = rows[generator.integers(len(rows), size=300)]
        model = MiniBatchKMeans(2, batch_size=512, init="k-means++", n_init=1, random_state=4)
        found = model.fit_predict(embeddings.vectors[drawn].astype(np.float32))
        expected.append(v_measure_score(classes[drawn], found))
        generator.permutation(found)
    assert v_measures(embeddings, seed=4)[0].value == pytest.approx(np.mean(expected))


def test_one_class_has_no_score(make_clips, tmp_path):
    clips = make_clips(4, labels=Labels(family=LabelSet(("string",), complete=True)))
    pack = write_pack(clips, tmp_path / "pack", processes=1, seed=1)
    assert v_measures(SimpleNamespace(pack=pack, vectors=np.ones((4, 2)))) == []

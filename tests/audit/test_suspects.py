"""Wrong labels among clips whose embedding is known, and the table that a person corrects."""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from audit.corrections import COLUMNS, write_corrections
from audit.embeddings import Embeddings, write_embeddings
from audit.neighbours import Neighbours
from audit.suspects import find_suspects
from data.clip import NOTHING, Labels, LabelSet
from data.pack import Pack
from data.relabel import main as relabel
from data.taxonomy import FAMILY_OF_INSTRUMENT
from data.writer import write_pack

INSTRUMENTS = ("violin", "cello", "trumpet", "flute", "piano", "organ")
GROUPS, IN_GROUP = 8, 6
WRONG = 14  # 5 % of 288


def labels_of(name: str) -> Labels:
    if name == "none":
        return Labels(is_instrument=False, family=NOTHING, instrument=NOTHING)
    family = LabelSet((FAMILY_OF_INSTRUMENT[name],), complete=True)
    return Labels(is_instrument=True, family=family, instrument=LabelSet((name,), complete=True))


@pytest.fixture(scope="module")
def write_named(make_clips, tmp_path_factory) -> Callable[[list[Labels], list[str]], Pack]:
    """``write_named(labels, groups)``: a pack of clips with these labels."""

    def write(labels: list[Labels], groups: list[str]) -> Pack:
        clips = [
            make_clips(number + 1, labels=labels[number], group=groups[number])[-1] for number in range(len(labels))
        ]
        return write_pack(clips, tmp_path_factory.mktemp("packs") / "named", processes=1, duplicates="keep")

    return write


@pytest.fixture(scope="module")
def mislabelled(write_named) -> tuple[Pack, np.ndarray, dict[str, str]]:
    """A pack, vectors of its clips, and the true names of those whose label is wrong."""
    generator = np.random.default_rng(0)
    true = np.repeat(np.arange(len(INSTRUMENTS) + 0), GROUPS * IN_GROUP)
    group = np.repeat(np.arange(len(INSTRUMENTS) * GROUPS), IN_GROUP)
    given = true.copy()
    wrong = generator.choice(len(true), WRONG, replace=False)
    given[wrong] = (true[wrong] + generator.integers(1, len(INSTRUMENTS), WRONG)) % len(INSTRUMENTS)
    names = (*INSTRUMENTS[:-1], "none")  # the last are no instruments
    centre, own = generator.normal(size=(len(names), 24)), 0.4 * generator.normal(size=(group.max() + 1, 24))
    vectors = centre[true] + own[group] + 0.4 * generator.normal(size=(len(true), 24))
    pack = write_named([labels_of(names[one]) for one in given], [f"toy/{one}" for one in group])
    ids = pack.column("id")
    return pack, vectors.astype(np.float32), {ids[row]: names[true[row]] for row in wrong}


def neighbours_of(embeddings: Embeddings, k: int) -> Neighbours:
    unit = embeddings.unit()
    similarity = unit @ unit.T
    np.fill_diagonal(similarity, -np.inf)
    rows = np.argsort(-similarity, axis=1, kind="stable")[:, :k]
    return Neighbours(np.take_along_axis(similarity, rows, axis=1), rows)


def opened(pack: Pack, vectors: np.ndarray, folder: Path) -> tuple[Embeddings, Neighbours]:
    embeddings = write_embeddings(folder / "embeddings", vectors, pack)
    return embeddings, neighbours_of(embeddings, 20)


def test_wrong_labels_come_first(mislabelled, tmp_path):
    pack, vectors, wrong = mislabelled
    suspects, notes = find_suspects(*opened(pack, vectors, tmp_path))
    of_instruments = [one for one in suspects if one.level == "instrument"]
    found = {one.clip for one in of_instruments}
    assert len(found & wrong.keys()) >= 0.9 * WRONG
    assert len(found & wrong.keys()) >= 0.7 * len(found)
    assert all(one.suggested == wrong[one.clip] for one in of_instruments if one.clip in wrong)
    assert sum(one.clip in wrong for one in of_instruments[:WRONG]) >= 0.9 * WRONG
    families = [one for one in suspects if one.level == "family"]
    expected = {FAMILY_OF_INSTRUMENT.get(name, name) for name in wrong.values()}
    assert {one.suggested for one in families if one.clip in wrong} <= expected
    assert [one.rank for one in suspects] == sorted(one.rank for one in suspects)
    one = of_instruments[0]
    assert one.rank == pytest.approx((one.self_confidence + one.neighbour_share) / 2, abs=1e-6)
    assert len(one.neighbours) == 10
    assert one.neighbours[0].similarity >= one.neighbours[1].similarity
    assert any(note.startswith("instrument: no more than ") for note in notes)
    assert any(note.startswith("genre: two labels of 10 clips each are needed") for note in notes)


def test_right_labels_are_left_alone(mislabelled, write_named, tmp_path):
    pack, vectors, wrong = mislabelled
    ids, names = pack.column("id"), pack.column("instrument_present")
    right = [wrong.get(clip, (name or ("none",))[0]) for clip, name in zip(ids, names, strict=True)]
    clean = write_named([labels_of(name) for name in right], pack.column("group").tolist())
    suspects, notes = find_suspects(*opened(clean, vectors, tmp_path), levels=["instrument"])
    assert len(suspects) <= 3
    assert len(notes) == 1


def test_an_embedding_that_knows_nothing_suspects_nobody(mislabelled, tmp_path):
    pack, vectors, _ = mislabelled
    noise = np.random.default_rng(1).normal(size=vectors.shape).astype(np.float32)
    suspects, notes = find_suspects(*opened(pack, noise, tmp_path), levels=["instrument"])
    assert suspects == []
    assert "too badly apart to judge 288 labels" in notes[0]


def test_the_surest_are_told_and_the_others_counted(mislabelled, tmp_path):
    pack, vectors, _ = mislabelled
    embeddings, neighbours = opened(pack, vectors, tmp_path)
    every, _ = find_suspects(embeddings, neighbours, ["instrument"])
    some, notes = find_suspects(embeddings, neighbours, ["instrument"], most=5)
    assert some == every[:5]
    assert f"the surest 5 of {len(every)} suspect labels are told" in notes[1]


def test_clips_of_several_are_judged_name_by_name(write_named, tmp_path):
    generator = np.random.default_rng(0)
    combinations = np.array([[1, 1, 1, 0], [1, 1, 0, 1], [0, 1, 1, 1], [0, 0, 1, 1]], bool)
    sounds = combinations[np.arange(160) % 4]
    given = sounds.copy()
    wrong = np.array([0, 1, 2, 5, 6])
    given[wrong, 0] ^= True
    labels = []
    for row in given:
        names = tuple(name for name, is_on in zip(INSTRUMENTS, row, strict=False) if is_on)
        families = tuple(dict.fromkeys(FAMILY_OF_INSTRUMENT[name] for name in names))
        labels.append(Labels(True, LabelSet(families, complete=True), LabelSet(names, complete=True)))
    pack = write_named(labels, [f"toy/{number}" for number in range(160)])
    vectors = sounds @ generator.normal(size=(4, 16)) + 0.5 * generator.normal(size=(160, 16))
    suspects, _ = find_suspects(*opened(pack, vectors.astype(np.float32), tmp_path), levels=["instrument"])
    ids = pack.column("id")
    found = {(one.clip, one.given, one.suggested) for one in suspects}
    expected = {
        (ids[row], "violin", "no violin") if given[row, 0] else (ids[row], "no violin", "also violin") for row in wrong
    }
    assert len(found & expected) >= len(expected) - 1
    assert len(found) <= 2 * len(expected)


def test_a_level_that_there_is_not(mislabelled, tmp_path):
    pack, vectors, _ = mislabelled
    with pytest.raises(ValueError, match="levels should be of family, instrument, genre, found pitch"):
        find_suspects(*opened(pack, vectors, tmp_path), levels=["pitch"])


def test_what_is_suggested_can_be_applied_as_it_stands(mislabelled, tmp_path):
    pack, vectors, wrong = mislabelled
    suspects, _ = find_suspects(*opened(pack, vectors, tmp_path), levels=["instrument"])
    path = tmp_path / "corrections.csv"
    write_corrections(suspects, path)
    with open(path, newline="") as file:
        lines = list(csv.DictReader(file))
    assert tuple(lines[0]) == COLUMNS
    assert [line["clip"] for line in lines] == [one.clip for one in suspects]
    assert {line["correction"] for line in lines} == {""}
    assert relabel([str(pack.folder), str(path), "--out", str(tmp_path / "same")]) == 0
    assert Pack.open(tmp_path / "same").fingerprint == pack.fingerprint
    for line in lines:
        line["correction"] = line["suggested"]
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(lines)
    assert relabel([str(pack.folder), str(path), "--out", str(tmp_path / "better")]) == 0
    better = Pack.open(tmp_path / "better")
    names = dict(zip(better.column("id"), better.column("instrument_present"), strict=True))
    corrected = {one.clip for one in suspects} & wrong.keys()
    assert all((names[clip] or ("none",))[0] == wrong[clip] for clip in corrected)

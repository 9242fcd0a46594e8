"""What is planted is what is said to be."""

import numpy as np
import pytest

from audit.findings import Duplicates, Pair, Suspect
from benchmarks.faults import ALTERATIONS, Planted, altered, plant, score_of_duplicates, score_of_suspects, swaps
from data.labels import LabelTable


def test_swapped_clips_keep_the_counts_of_names_and_change_every_one():
    names = np.repeat([0, 1, 2, -1], [60, 30, 10, 20])
    for seed in range(5):
        to, of = swaps(names, 20, np.random.default_rng(seed))
        assert sorted(to) == sorted(of)
        assert len(set(to.tolist())) == 20
        assert (names[to] != names[of]).all()
        assert (names[to] >= 0).all()


def test_planted_pack(toy_pack, tmp_path):
    planted = plant(toy_pack, tmp_path / "planted", seed=3)
    pack = planted.pack
    pack.verify()
    assert len(pack) == 124  # twice 2 % of 120
    before, after = (LabelTable(one).single_family[:120] for one in (toy_pack, pack))
    ids = pack.column("id").tolist()
    assert {ids[row] for row in np.flatnonzero(before != after)} == planted.swapped
    assert len(planted.swapped) == 4
    splits, groups = pack.column("split"), pack.column("group")
    for copy, (clip, kind) in planted.copies.items():
        one, other = ids.index(copy), ids.index(clip)
        assert splits[one] != splits[other]
        assert groups[one] != groups[other]
        assert np.array_equal(pack.samples(one), pack.samples(other)) == (kind == "exact")


@pytest.mark.parametrize("kind", ALTERATIONS)
def test_an_altered_clip_sounds_the_same(kind, make_tone):
    samples = (make_tone(1.0, 440) * 32767).astype(np.int16)
    found = altered(samples, kind, np.random.default_rng(0))
    assert found.dtype == np.int16
    assert not np.array_equal(found, samples[: len(found)])
    spectra = [np.abs(np.fft.rfft(one[:12000].astype(float))) for one in (samples, found)]
    assert np.corrcoef(*spectra)[0, 1] > 0.99


def test_scores(toy_pack):
    planted = Planted(
        toy_pack,
        frozenset(["a", "b"]),
        {"x": ("a", "exact"), "y": ("c", "gain"), "z": ("c", "noise"), "w": ("d", "mp3")},
    )

    def pair(first: str, second: str) -> Pair:
        return Pair(first, second, 1.0, 1.0, False, ("train", "test"), ("", ""))

    leaks = tuple(pair(*names) for names in (("a", "x"), ("c", "y"), ("y", "z"), ("e", "z"), ("f", "g"), ("q", "w")))
    found = Duplicates(0.9, "", 0, (), len(leaks), leaks, 0, ())
    before = {frozenset("ce"), frozenset("fg")}
    scores = score_of_duplicates(planted, found, before)
    assert scores == {"precision": 4 / 5, "exact": 1.0, "gain": 1.0, "noise": 0.0, "mp3": 0.0}
    suspects = [Suspect(clip, "family", "", "", 0.1, 0.1, 0.1, ()) for clip in ("a", "k", "x")]
    assert score_of_suspects(planted, suspects, "family") == pytest.approx(
        {"precision": 2 / 3, "recall": 2 / 3, "r_precision": 2 / 3}
    )
    assert score_of_suspects(planted, suspects, "instrument")["recall"] == 0

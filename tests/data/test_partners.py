"""Who is mixed into whom: drawn from the clip's key, evenly, from the right clips."""

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest

from data.clip import Labels, LabelSet
from data.labels import LabelTable
from data.mixing import Mixing
from data.partners import Partners, draw_backgrounds, others
from data.sampler import keys_of, uniform_of
from data.writer import write_pack

GENRES = [("jazz_blues",), ("classical",), ("jazz_blues", "classical"), (), ("klezmer",)]
NUM_CLIPS = 60
"""Of five kinds in turn; of the last, klezmer, only the first two are left."""


def genres_of(row: int) -> tuple[str, ...]:
    return () if row % 5 == 4 and row > 9 else GENRES[row % 5]


@pytest.fixture(scope="module")
def labels(make_clips, tmp_path_factory) -> LabelTable:
    clips = [
        replace(clip, labels=Labels(genre=LabelSet(genres_of(row))))
        for row, clip in enumerate(make_clips(NUM_CLIPS, split="train"))
    ]
    return LabelTable(write_pack(clips, tmp_path_factory.mktemp("genres") / "pack", processes=1))


ROWS = np.arange(NUM_CLIPS)[::-1].copy()  # the split's own order is not that of the pack


def draws(
    labels: LabelTable, mixing: Mixing, epochs: int = 200, rows: np.ndarray = ROWS
) -> dict[int, list[np.ndarray]]:
    """Partners of every clip, by its row, one entry an epoch."""
    partners = Partners(labels, rows, mixing)
    found = {row: [] for row in rows.tolist()}
    for epoch in range(epochs):
        for row, drawn in zip(rows.tolist(), partners.draw(0, epoch, np.arange(len(rows))).rows, strict=True):
            assert (np.sort(drawn >= 0) == (drawn >= 0)[::-1]).all()  # those there are come first
            found[row].append(drawn[drawn >= 0])
    return found


def test_partners_are_others_and_none_comes_twice(labels):
    for row, drawn in draws(labels, Mixing(probability=1.0)).items():
        for partners in drawn:
            assert row not in partners
            assert len(set(partners)) == len(partners) in (1, 2, 3)


@pytest.mark.parametrize(("clips", "counts"), [((2, 2), [1]), ((2, 4), [1, 2, 3]), ((3, 4), [2, 3])])
def test_shares_and_counts_are_those_asked_for(labels, clips, counts):
    found = draws(labels, Mixing(probability=0.3, clips=clips))
    number = np.array([len(partners) for drawn in found.values() for partners in drawn])
    mixed = number > 0
    assert abs(mixed.mean() - 0.3) < 5 * (0.3 * 0.7 / len(number)) ** 0.5
    assert set(number[mixed]) == set(counts)
    for count in counts:
        share = 1 / len(counts)
        assert abs((number[mixed] == count).mean() - share) < 5 * (share * (1 - share) / mixed.sum()) ** 0.5 + 1e-9


def test_every_other_clip_is_as_likely(labels):
    found = draws(labels, Mixing(probability=1.0, clips=(4, 4)), epochs=400)
    for row in (0, 30, 59):
        for place in range(3):
            count = np.bincount([partners[place] for partners in found[row]], minlength=NUM_CLIPS)
            assert count[row] == 0
            expected = 400 / (NUM_CLIPS - 1)
            # Chi-square with 58 degrees of freedom: mean 58, deviation 10.8; 112 is five deviations.
            assert ((np.delete(count, row) - expected) ** 2 / expected).sum() < 112


def test_picks_are_all_orders_of_the_others():
    """Each of the 24 ordered picks of three among four others has its share."""
    uniform = uniform_of(keys_of(0, 0, np.arange(24_000), 3))
    for own in range(5):
        picks = others(np.full(24_000, 5), np.full(24_000, own), uniform)
        found, count = np.unique(picks, axis=0, return_counts=True)
        assert [tuple(pick) for pick in found] == list(permutations([n for n in range(5) if n != own], 3))
        # Chi-square with 23 degrees of freedom: mean 23, deviation 6.8; 57 is five deviations.
        assert ((count - 1000) ** 2 / 1000).sum() < 57


def test_one_genre_where_it_is_known_and_there_are_others(labels):
    found = draws(labels, Mixing(probability=1.0, clips=(2, 4), same="genre"))
    for row, drawn in found.items():
        genres = set(genres_of(row))
        seen = {int(partner) for partners in drawn for partner in partners}
        if genres in ({"jazz_blues"}, {"classical"}):
            assert seen == {other for other in range(NUM_CLIPS) if genres <= set(genres_of(other))} - {row}
        elif genres == {"jazz_blues", "classical"}:
            kinds = [[genres_of(partner) for partner in partners] for partners in drawn]
            assert all(set.intersection(*map(set, kind)) for kind in kinds)  # one genre a mix
            assert {("jazz_blues",), ("classical",)} <= {genre for kind in kinds for genre in kind}
        elif genres == {"klezmer"}:  # there is one other: enough for a mix of two, and for no larger one
            assert all(set(partners) == {13 - row} for partners in drawn if len(partners) == 1)
            assert any(13 - row not in partners for partners in drawn)
            assert len(seen) > 40
        else:
            assert len(seen) > 50


@pytest.mark.parametrize("same", ["family", "instrument"])
def test_one_family_or_instrument(make_clips, tmp_path, same):
    names = {"family": ("string", "brass"), "instrument": ("violin", "trumpet")}
    clips = [
        replace(clip, labels=Labels(**{level: LabelSet((names[level][row % 2],)) for level in names}))
        for row, clip in enumerate(make_clips(NUM_CLIPS, split="train"))
    ]
    table = LabelTable(write_pack(clips, tmp_path / "pack", processes=1))
    for row, drawn in draws(table, Mixing(probability=1.0, clips=(2, 4), same=same)).items():
        seen = {int(partner) for partners in drawn for partner in partners}
        assert seen == {other for other in range(NUM_CLIPS) if other % 2 == row % 2} - {row}


def test_partners_depend_on_seed_epoch_and_clip_alone(labels):
    partners = Partners(labels, ROWS, Mixing(probability=0.7, same="genre"))
    whole = partners.draw(3, 5, np.arange(NUM_CLIPS))
    order = np.random.default_rng(0).permutation(NUM_CLIPS)
    for part in np.split(order, [7, 8, 40]):
        for found, expected in zip(partners.draw(3, 5, part), whole, strict=True):
            assert np.array_equal(found, expected[part])
    for other in (partners.draw(3, 6, np.arange(NUM_CLIPS)), partners.draw(4, 5, np.arange(NUM_CLIPS))):
        assert not np.array_equal(other.rows, whole.rows)
        assert not set(other.keys) & set(whole.keys)
    of_views = keys_of(3, 5, ROWS, 40)
    assert not set(of_views.ravel()) & {*whole.keys, *whole.start_keys.ravel()}


def test_fewer_clips_at_most_leave_the_first_partners_alone(labels):
    large = Partners(labels, ROWS, Mixing(probability=1.0, clips=(4, 4))).draw(0, 0, np.arange(NUM_CLIPS))
    small = Partners(labels, ROWS, Mixing(probability=1.0, clips=(2, 2))).draw(0, 0, np.arange(NUM_CLIPS))
    assert np.array_equal(small.rows, large.rows[:, :1])
    assert np.array_equal(small.start_keys, large.start_keys[:, :1])
    assert np.array_equal(small.keys, large.keys)


@pytest.mark.parametrize("same", ["anything", "genre"])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_split_of_few_clips_gives_what_it_has(labels, size, same):
    mixing = Mixing(probability=1.0, clips=(4, 4), same=same)
    for row, drawn in draws(labels, mixing, epochs=20, rows=ROWS[:size]).items():
        for partners in drawn:
            assert set(partners) == set(ROWS[:size]) - {row}


def test_backgrounds_are_drawn_evenly_and_by_clip():
    rows, backgrounds = np.arange(20_000), np.array([5, 7, 100])
    found, keys = draw_backgrounds(1, 2, rows, backgrounds)
    assert all(abs((found == row).mean() - 1 / 3) < 5 * (2 / 9 / 20_000) ** 0.5 for row in backgrounds)
    again, same_keys = draw_backgrounds(1, 2, rows[::-7], backgrounds)
    assert np.array_equal(again, found[::-7])
    assert np.array_equal(same_keys, keys[::-7])
    assert not np.array_equal(draw_backgrounds(1, 3, rows, backgrounds)[0], found)

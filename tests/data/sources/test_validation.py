"""The share of a training split that is kept for validation."""

import pytest

from data.errors import DataError
from data.sources.validation import check_share, training_split

GROUPS = [f"irmas/train/{number:04d}" for number in range(4000)]


def kept(share: float, seed: int = 0) -> set[str]:
    return {group for group in GROUPS if training_split(group, share, seed) == "validation"}


def test_the_share_is_met_and_grows_without_moving_anybody_back():
    assert kept(0) == set()
    assert len(kept(0.1)) == pytest.approx(400, abs=60)  # three standard deviations of a draw
    assert kept(0.1) < kept(0.3)


def test_another_seed_is_another_draw():
    assert kept(0.1) == kept(0.1)
    assert len(kept(0.1) & kept(0.1, seed=1)) < 80


def test_names_that_are_not_utf_8_are_drawn_too():
    assert training_split("irmas/train/\udcff", 0.5, 0) in ("train", "validation")


@pytest.mark.parametrize("share", [-0.1, 1, float("nan")])
def test_what_is_no_share(share):
    with pytest.raises(DataError, match="--validation_share should be from 0 to below 1"):
        check_share(share)

"""Which clips of a pack take part."""

import numpy as np
import pytest

from data.errors import DataError
from data.selection import selected_rows


class NamedClips:
    """What is asked of a pack here."""

    place = "packs/some"
    ids = ("gm/font/band/rock/1", "gm/font/note/2", "gm/noise/hiss/3", "gmx/font/band/4")

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, split: str) -> np.ndarray:
        return {"train": np.array([0, 1, 2]), "test": np.array([3])}[split]

    def column(self, name: str) -> np.ndarray:
        assert name == "id"
        return np.array(self.ids, dtype=object)


@pytest.mark.parametrize(
    ("sources", "rows"),
    [([], [0, 1, 2]), (["gm"], [0, 1, 2]), (["gm/*/band"], [0]), (["gm/*/band", "gm/noise/"], [0, 2])],
)
def test_clips_are_chosen_by_how_their_ids_begin(sources, rows):
    assert selected_rows(NamedClips(), "train", sources).tolist() == rows


def test_without_a_split_all_clips_are_there():
    assert selected_rows(NamedClips(), None, []).tolist() == [0, 1, 2, 3]


def test_a_source_of_another_split_only_gives_nothing():
    assert selected_rows(NamedClips(), "train", ["gmx"]).tolist() == []


def test_a_source_that_no_clip_is_from_is_named_beside_those_there_are():
    with pytest.raises(DataError, match=r"begin with nsynth/ .* ids such as gm/font/band, gm/font/note"):
        selected_rows(NamedClips(), "train", ["nsynth"])

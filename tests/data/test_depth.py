"""The depth at which two clips part, from what is known of them."""

import pytest
import torch

from data.clip import NOTHING, Labels, LabelSet
from data.depth import depths
from data.labels import LabelTable
from data.relation import relation
from data.writer import write_pack


def note(family: str, timbre: str, instrument: str | None = None) -> Labels:
    named = LabelSet((instrument,), complete=True) if instrument else LabelSet()
    return Labels(is_instrument=True, family=LabelSet((family,), complete=True), instrument=named, timbre=timbre)


CLIPS = {
    "guitar_a": note("guitar", "guitar_a"),
    "guitar_a_again": note("guitar", "guitar_a"),
    "guitar_b": note("guitar", "guitar_b"),
    "violin_a": note("string", "violin_a", "violin"),
    "violin_b": note("string", "violin_b", "violin"),
    "cello": note("string", "cello", "cello"),
    "bark": Labels(is_instrument=False, family=NOTHING, instrument=NOTHING),
    "siren": Labels(is_instrument=False, family=NOTHING, instrument=NOTHING),
    "unlabelled": Labels(),
    "music": Labels(is_instrument=True),
}


@pytest.fixture(scope="module")
def bounds(make_clips, tmp_path_factory):
    made = make_clips(len(CLIPS))
    clips = [
        type(clip)(**{key: getattr(clip, key) for key in clip.__slots__} | {"id": f"toy/{name}", "labels": labels})
        for clip, (name, labels) in zip(made, CLIPS.items(), strict=True)
    ]
    pack = write_pack(clips, tmp_path_factory.mktemp("depth") / "pack", processes=1)
    places = {id_.removeprefix("toy/"): row for row, id_ in enumerate(pack.column("id"))}
    low, high = depths(relation(LabelTable(pack).take(torch.arange(len(pack)).numpy())))
    return lambda a, b: (low[places[a], places[b]].item(), high[places[a], places[b]].item())


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ("guitar_a", "guitar_a_again", (0, 0)),
        ("guitar_a", "guitar_b", (1, 2)),
        ("violin_a", "violin_b", (1, 1)),
        ("violin_a", "cello", (2, 2)),
        ("violin_a", "guitar_a", (3, 3)),
        ("violin_a", "bark", (4, 4)),
        ("bark", "siren", (0, 4)),
        ("unlabelled", "violin_a", (0, 4)),
        ("unlabelled", "unlabelled", (0, 4)),
        ("music", "violin_a", (0, 3)),
        ("music", "bark", (4, 4)),
    ],
)
def test_by_hand(bounds, a, b, expected):
    assert bounds(a, b) == expected
    assert bounds(b, a) == expected


def test_every_combination_of_relations_gives_an_interval():
    values = torch.cartesian_prod(*[torch.tensor([-1, 0, 1], dtype=torch.int8)] * 4)
    relations = dict(zip(("timbre", "instrument", "family", "is_instrument"), values.T[..., None], strict=True))
    low, high = depths(relations)
    assert low.dtype == high.dtype == torch.int8
    assert (low <= high).all()
    assert low.min() >= 0
    assert high.max() <= 4

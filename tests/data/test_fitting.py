"""Values that fit their annotations, and those that do not."""

from dataclasses import dataclass
from typing import TypedDict

import pytest

from data.fitting import misfit


class Counts(TypedDict):
    clips: int
    hours: float


@dataclass
class Described:
    name: str
    count: int
    hours: float
    mean: float | None
    sizes: list[int]
    splits: dict[str, Counts]
    more: dict[str, list[int]]


GOOD = {
    "name": "toy", "count": 3, "hours": 1, "mean": None, "sizes": [1, 2], "more": {"a": [3]},
    "splits": {"train": {"clips": 1, "hours": 0.5}},
}  # fmt: skip


def test_what_fits():
    assert misfit(GOOD, Described) is None
    assert misfit(GOOD | {"mean": 0.5, "hours": 2.5, "sizes": [], "splits": {}}, Described) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("name", None), ("name", "a\0b"), ("name", "\ud800"), ("count", True), ("count", 1.0), ("count", 1 << 63),
        ("hours", float("nan")), ("hours", float("inf")), ("hours", 1 << 200), ("hours", "1"), ("mean", "x"),
        ("sizes", None), ("sizes", [None]), ("sizes", {"0": 1}), ("splits", []), ("splits", {"train": {"clips": 1}}),
        ("splits", {"train": {"clips": 1, "hours": None}}), ("more", None),
    ],
)  # fmt: skip
def test_what_does_not(name, value):
    assert misfit(GOOD | {name: value}, Described).startswith(f"{name} should be of type ")

"""What pictures of an embedding show, read back from their axes."""

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize

from checkpoints.figures import save
from data.taxonomy import FAMILIES, GENRES
from pretrain.embedding_figures import COLOURS, MARKERS, distance_histogram, embedding_map, family_distances


def unit_of(rows: int) -> Tensor:
    return normalize(torch.randn(rows, 4, generator=torch.Generator().manual_seed(0)), dim=1)


def labels_of(families: list[int], genres: list[int], num_genres: int = len(GENRES)) -> dict[str, Tensor]:
    """One family (12 for no instrument) and one genre a clip, -1 for unknown."""
    family = torch.full((len(families), len(FAMILIES)), -1, dtype=torch.int8)
    genre = torch.full((len(families), num_genres), -1, dtype=torch.int8)
    for row, (of_family, of_genre) in enumerate(zip(families, genres, strict=True)):
        if 0 <= of_family < len(FAMILIES):
            family[row, of_family] = 1
        if of_genre >= 0:
            genre[row, of_genre] = 1
    is_instrument = (torch.tensor(families) != len(FAMILIES)).long()
    return {"family": family, "genre": genre, "is_instrument": is_instrument}


def legend_of(axis: Axes) -> list[str]:
    return [text.get_text() for text in axis.get_legend().get_texts()]


def points_of(axis: Axes) -> dict[str, np.ndarray]:
    return {points.get_label(): points.get_offsets().data for points in axis.collections}


def test_a_map_names_every_family_and_genre_and_shows_every_clip(tmp_path):
    families = [*range(13), -1] * 2
    genres = [-1] * 20 + [0, 1, 1, 4, 9, 10, 4, 0]
    labels = labels_of(families, genres, num_genres=11)
    labels["family"][0, 5] = 1  # two families sound
    figure = embedding_map(unit_of(28).numpy(), labels, 40)
    left, right = figure.axes
    assert legend_of(left) == [name.replace("_", " ") for name in FAMILIES] + [
        "not an instrument",
        "unknown or several",
    ]
    assert legend_of(right) == ["country folk", "classical", "jazz blues", "another genre"]
    assert {name: len(points) for name, points in points_of(left).items()} == {
        **dict.fromkeys(legend_of(left), 2), "bass": 1, "unknown or several": 3,
    }  # fmt: skip
    assert {name: len(points) for name, points in points_of(right).items()} == {
        "country folk": 2, "classical": 2, "jazz blues": 2, "another genre": 2,
    }  # fmt: skip
    assert "after 40 steps" in figure.get_suptitle()
    with Image.open(save(figure, tmp_path / "map.png")) as picture:
        assert picture.size > (1000, 500)


def test_labels_are_told_apart_by_colour_and_by_marker():
    assert len(set(COLOURS)) == len(FAMILIES)
    assert len({(to_hex(colour), MARKERS[place % len(MARKERS)]) for place, colour in enumerate(COLOURS)}) == 12
    rgb = np.array([[int(colour[start : start + 2], 16) for start in (1, 3, 5)] for colour in COLOURS], float)
    apart = np.linalg.norm(rgb[:, None] - rgb, axis=2) + 1e9 * np.eye(12)
    assert apart.min() > 50
    saturation = rgb.max(axis=1) - rgb.min(axis=1)
    assert saturation.min() > 40, "no colour is the grey of what is unknown"


@pytest.mark.parametrize("rows", [1, 4, 5, 7])
@pytest.mark.parametrize("is_constant", [False, True])
def test_few_or_equal_clips_make_a_map_too(rows, is_constant):
    unit = unit_of(1).expand(rows, -1) if is_constant else unit_of(rows)
    (axis,) = embedding_map(unit.numpy(), labels_of([0] * rows, [-1] * rows), 1).axes
    assert np.isfinite(points_of(axis)["bass"]).all()
    assert len(points_of(axis)["bass"]) == rows


def test_neighbours_are_near_on_the_map():
    generator = torch.Generator().manual_seed(1)
    unit = normalize(torch.eye(3).repeat_interleave(12, 0) + 0.05 * torch.randn(36, 3, generator=generator), dim=1)
    families = [0] * 12 + [3] * 12 + [7] * 12
    (axis,) = embedding_map(unit.numpy(), labels_of(families, [-1] * 36), 1).axes
    points = list(points_of(axis).values())
    flat, label = np.concatenate(points), np.repeat(np.arange(3), 12)
    distance = np.linalg.norm(flat[:, None] - flat, axis=2) + 1e9 * np.eye(36)
    assert (label[distance.argmin(axis=1)] == label).all()


def numbers_of(figure: Figure) -> dict[tuple[int, int], str]:
    return {
        (round(text.get_position()[1]), round(text.get_position()[0])): text.get_text() for text in figure.axes[0].texts
    }


def test_the_matrix_holds_mean_distances_between_groups():
    unit = np.array([[1, 0], [1, 0], [0, 1], [0, 1], [-1, 0], [0.6, 0.8]])
    family, group = np.array([2, 2, 2, 5, 5, -1]), np.array([0, 0, 1, 2, 3, 4])
    figure = family_distances(unit, family, group, 7)
    root = 2**0.5
    expected = {(0, 0): root, (0, 1): (2 * root + 0 + 2 * 2 + root) / 6, (1, 1): root}
    expected[1, 0] = expected[0, 1]
    assert numbers_of(figure) == {place: f"{value:.2f}" for place, value in expected.items()}
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == [FAMILIES[2], FAMILIES[5]]


@pytest.mark.parametrize("family", [[-1, -1, -1], [3, -1, -1], [3, 3, 3]])
def test_a_matrix_of_nothing_is_an_empty_picture(family, tmp_path):
    figure = family_distances(unit_of(3).numpy(), np.array(family), np.zeros(3, int), 7)
    assert numbers_of(figure) == {}
    assert save(figure, tmp_path / "families.png").is_file()


def test_a_family_of_one_group_has_no_distance_to_itself():
    figure = family_distances(unit_of(3).numpy(), np.array([0, 0, 1]), np.array([0, 0, 1]), 7)
    assert set(numbers_of(figure)) == {(0, 1), (1, 0)}


def test_a_histogram_has_a_curve_for_each_depth(tmp_path):
    unit = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    depth = torch.tensor([[-1, 0, 3], [0, -1, 0], [3, 0, -1]], dtype=torch.int8)
    figure = distance_histogram(unit, depth, 7)
    (axis,) = figure.axes
    assert legend_of(axis) == ["same timbre\nmean 1.41, 2 pairs", "other family\nmean 2.00, 1 pairs"]
    for curve in axis.patches:
        values, edges, _ = curve.get_data()
        assert (values * np.diff(edges)).sum() == pytest.approx(1)
    assert axis.get_xlim() == (0, pytest.approx(2))
    assert save(figure, tmp_path / "distances.png").is_file()


@pytest.mark.parametrize("rows", [1, 5])
def test_a_histogram_of_nothing_known_or_of_equal_clips(rows):
    unit = unit_of(1).expand(rows, -1)
    nothing = torch.full((rows, rows), -1, dtype=torch.int8)
    assert distance_histogram(unit, nothing, 7).axes[0].get_legend() is None
    distance_histogram(unit, nothing.clamp(min=3), 7).canvas.draw()

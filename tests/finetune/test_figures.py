"""What the pictures of heads show, read back from their axes."""

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import average_precision_score, confusion_matrix
from torch import Tensor

from checkpoints.figures import save
from finetune.figures import class_bars, confusion, figures_of
from finetune.heads import HeadSpec
from finetune.scores import Predictions
from finetune.targets import Target

FAMILY = HeadSpec("family", "binary", ("string", "brass", "synth_lead", "organ"))
GENRE = HeadSpec("genre", "classes", ("classical", "pop_rock", "jazz_blues", "world"))
DRUMS = HeadSpec("drums", "binary", ("drums",))


@pytest.fixture
def predictions() -> Predictions:
    """60 clips; no organ ever, not everything known; no clip of world music, of some no genre known."""
    generator = torch.Generator().manual_seed(0)
    value = (torch.rand(60, 4, generator=generator) < 0.4).float()
    value[:, 3] = 0
    family = 0.3 * value + 0.7 * torch.rand(60, 4, generator=generator)
    is_known = torch.rand(60, 4, generator=generator) < 0.8
    genre = torch.rand(60, 4, generator=generator)
    of_genre = torch.randint(0, 3, (60,), generator=generator)
    return Predictions(
        {"family": family, "genre": genre / genre.sum(1, keepdim=True), "drums": family[:, :1]},
        {
            "family": Target(value, is_known),
            "genre": Target(of_genre, torch.rand(60, generator=generator) < 0.8),
            "drums": Target(value[:, :1], is_known[:, :1]),
        },
    )


def labels_of(axis, side: str) -> list[str]:
    return [text.get_text() for text in getattr(axis, f"get_{side}ticklabels")()]


def test_a_head_of_one_class_shows_what_each_class_is_taken_for(predictions):
    axis = confusion(predictions, GENRE).axes[0]
    target = predictions.targets["genre"]
    truth = target.value[target.is_known].numpy()
    guess = predictions.probabilities["genre"].argmax(1)[target.is_known].numpy()
    expected = confusion_matrix(truth, guess, labels=range(4), normalize="true")
    assert np.allclose(axis.images[0].get_array(), expected[:3], atol=1e-6)
    counts = np.bincount(truth)
    assert labels_of(axis, "y") == [f"classical ({counts[0]})", f"pop rock ({counts[1]})", f"jazz blues ({counts[2]})"]
    assert labels_of(axis, "x") == ["classical", "pop rock", "jazz blues", "world"], "world is heard where it is not"


def test_a_binary_head_shows_what_is_heard_where_a_class_sounds(predictions):
    axis = confusion(predictions, FAMILY).axes[0]
    probability, (value, is_known) = predictions.probabilities["family"], predictions.targets["family"]
    expected = np.empty((3, 3))
    for row in range(3):
        for column in range(3):
            rows = [
                clip for clip in range(60)
                if is_known[clip, row] and value[clip, row]
                and (row == column or not (is_known[clip, column] and value[clip, column]))
            ]  # fmt: skip
            expected[row, column] = np.mean([probability[clip, column].item() for clip in rows])
    assert np.allclose(axis.images[0].get_array(), expected, atol=1e-6)
    sounding = (is_known & (value == 1)).sum(0).tolist()
    assert labels_of(axis, "y") == [f"string ({sounding[0]})", f"brass ({sounding[1]})", f"synth lead ({sounding[2]})"]
    written = {text.get_text() for text in axis.texts}
    assert f"{expected[0, 0]:.2f}"[1:] in written


def test_classes_that_always_sound_together_leave_their_cell_empty():
    both = Target(torch.tensor([[1.0, 1.0, 0, 0]] * 4), torch.ones(4, 4, dtype=torch.bool))
    table = confusion(Predictions({"family": torch.full((4, 4), 0.25)}, {"family": both}), FAMILY).axes[0].images[0]
    found = np.ma.filled(table.get_array(), np.nan)
    assert np.isnan(found).tolist() == [[False, True], [True, False]]
    assert found[0, 0] == 0.25


def test_bars_are_average_precisions_from_the_best_to_the_worst_with_their_counts(predictions):
    axis = class_bars(predictions, FAMILY).axes[0]
    value, is_known = predictions.targets["family"]
    expected = {}
    for place, name in enumerate(("string", "brass", "synth lead")):
        known = is_known[:, place]
        truth, probability = value[known, place], predictions.probabilities["family"][known, place]
        count = f"{int(truth.sum())} of {int(known.sum())}"
        expected[name] = (average_precision_score(truth, probability), count)
    order = sorted(expected, key=lambda name: -expected[name][0])
    assert labels_of(axis, "y") == order
    assert [bar.get_width() for bar in axis.patches] == pytest.approx([expected[name][0] for name in order], abs=1e-6)
    assert [text.get_text() for text in axis.texts][:3] == [expected[name][1] for name in order]
    assert axis.get_xlabel().endswith(": organ")


def test_every_head_of_several_classes_is_drawn_and_written(predictions, tmp_path):
    figures = figures_of(predictions, [FAMILY, GENRE, DRUMS])
    assert list(figures) == ["confusion_family", "classes_family", "confusion_genre"]
    for name, figure in figures.items():
        with Image.open(save(figure, tmp_path / f"{name}.png")) as picture:
            assert min(picture.size) > 150
    unknown = Target(predictions.targets["family"].value, torch.zeros(60, 4, dtype=torch.bool))
    assert figures_of(Predictions({"family": predictions.probabilities["family"]}, {"family": unknown}), [FAMILY]) == {}


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_head_without_a_class_to_score_is_drawn_too(value, tmp_path):
    target = Target(torch.full((3, 4), value), torch.ones(3, 4, dtype=torch.bool))
    for figure in figures_of(Predictions({"family": torch.rand(3, 4)}, {"family": target}), [FAMILY]).values():
        assert save(figure, tmp_path / "figure.png").stat().st_size > 0


def pitches(num_clips: int) -> tuple[Tensor, Target]:
    generator = torch.Generator().manual_seed(2)
    value = torch.randint(0, 88, (num_clips,), generator=generator)
    return torch.rand(num_clips, 88, generator=generator), Target(value, torch.ones(num_clips, dtype=torch.bool))


def test_many_classes_have_no_numbers_and_every_other_name():
    probability, target = pitches(600)
    spec = HeadSpec("pitch", "classes", tuple(map(str, range(21, 109))))
    axis = confusion(Predictions({"pitch": probability}, {"pitch": target}), spec).axes[0]
    assert len(axis.texts) == 0
    assert 40 <= len(labels_of(axis, "x")) <= 64
    assert max(axis.figure.get_size_inches()) < 20

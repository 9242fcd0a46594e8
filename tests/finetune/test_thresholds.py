"""Thresholds against all there are, and where there is little to choose from."""

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score
from torch import Tensor

from finetune.heads import HeadSpec
from finetune.scores import Predictions, score
from finetune.targets import Target
from finetune.thresholds import best_threshold, choose_thresholds

FAMILY = HeadSpec("family", "binary", ("string", "brass", "reed"))
PITCH = HeadSpec("pitch", "classes", ("48", "60"))


def chosen(probability: Tensor, value: Tensor, is_known: Tensor | None = None) -> Tensor:
    is_known = torch.ones_like(value, dtype=torch.bool) if is_known is None else is_known
    return choose_thresholds(Predictions({"family": probability}, {"family": Target(value, is_known)}), [FAMILY])[
        "family"
    ]


@pytest.mark.parametrize("seed", range(20))
def test_no_other_threshold_has_a_larger_f1(seed):
    generator = torch.Generator().manual_seed(seed)
    present = torch.rand(40, generator=generator) < 0.3
    score = ((0.3 * present + 0.7 * torch.rand(40, generator=generator)) * 30).round() / 30
    threshold = best_threshold(score.double(), present)
    others = np.array([threshold, *np.linspace(0, 1.01, 400)])
    heard, sounds = score.numpy() >= others[:, None], present.numpy()
    f1 = 2 * (heard & sounds).sum(1) / (heard.sum(1) + sounds.sum())
    assert f1[0] == pytest.approx(f1.max(), abs=1e-9)
    assert f1[0] == pytest.approx(f1_score(sounds, heard[0]))
    assert 0 < threshold < 1
    lower, upper = score[score < threshold], score[score >= threshold]
    below = lower.max().item() if len(lower) else 0.0
    assert threshold == pytest.approx((below + upper.min().item()) / 2, abs=1e-6), "midway between its neighbours"


def test_of_equally_good_thresholds_that_with_most_room_is_taken():
    # With 3 present, F1 is 2 / 4 after one clip is heard, 4 / 8 after five and 6 / 12 after nine; less between.
    present = torch.tensor([1, 0, 0, 0, 1, 0, 0, 0, 1, 0]).bool()
    score = torch.tensor([0.95, 0.9, 0.85, 0.8, 0.75, 0.45, 0.4, 0.35, 0.3, 0.25], dtype=torch.float64)
    assert best_threshold(score, present) == pytest.approx((0.75 + 0.45) / 2)
    score[5:] += 0.25  # now the gap under the first is as narrow as the others, but that under the last of all
    score[9] = 0.01
    assert best_threshold(score, present) == pytest.approx((0.55 + 0.01) / 2)


def test_equal_scores_are_heard_together():
    score = torch.tensor([0.8, 0.6, 0.6, 0.6, 0.2], dtype=torch.float64)
    present = torch.tensor([1, 1, 1, 0, 0]).bool()
    assert best_threshold(score, present) == pytest.approx(0.4), "the 0 among the 0.6 cannot be told from the rest"
    same = torch.full((6,), 0.3, dtype=torch.float64)
    assert best_threshold(same, torch.tensor([1, 1, 1, 0, 0, 0]).bool()) == pytest.approx(0.15)


@pytest.mark.parametrize(
    ("upper", "lower"), [(0.5, 0.49999997), (1.0, 0.9), (0.1, 0.0), (1e-9, 0.0), (3e-38, 0.0), (1.0, 0.99999994)]
)
def test_neighbours_stay_apart_however_close_they_are(upper, lower):
    score = torch.tensor([upper] * 4 + [lower] * 3)
    value = torch.tensor([1.0] * 4 + [0.0] * 3)
    threshold = chosen(score[:, None].expand(7, 3), value[:, None].expand(7, 3))
    assert threshold.dtype == torch.float32
    assert ((threshold > 0) & (threshold < 1)).all()
    if upper < 1 or lower < 0.9999:
        assert torch.equal(score >= threshold[0], value == 1)


def test_a_class_with_few_positives_or_no_negative_has_the_thresholds_of_all_together():
    generator = torch.Generator().manual_seed(3)
    value = (torch.rand(60, 3, generator=generator) < 0.4).float()
    probability = 0.4 * value + 0.6 * torch.rand(60, 3, generator=generator)
    is_known = torch.rand(60, 3, generator=generator) < 0.8
    value[:, 1] = 0
    value[:2, 1], is_known[:2, 1] = 1, True  # brass in two clips
    is_known[:, 2] &= value[:, 2] == 1  # of the reeds only where they sound
    threshold = chosen(probability, value, is_known)
    shared = best_threshold(probability[is_known].double(), value[is_known] == 1)
    assert threshold[1] == threshold[2] == pytest.approx(shared)
    own = best_threshold(probability[is_known[:, 0], 0].double(), value[is_known[:, 0], 0] == 1)
    assert threshold[0] == pytest.approx(own)
    assert own != pytest.approx(shared)
    # The shared one has the largest micro F1 of all that are shared.
    predictions = Predictions({"family": probability}, {"family": Target(value, is_known)})
    micro = [
        score(predictions, [FAMILY], {"family": torch.full((3,), float(other))})["family_f1_micro"]
        for other in (shared, *np.linspace(0.01, 0.99, 60))
    ]
    assert micro[0] == pytest.approx(max(micro))


@pytest.mark.parametrize("present", [0, 2, 5])
def test_a_head_that_cannot_choose_keeps_a_half(present):
    value = torch.zeros(5, 3)
    value[:present] = 1
    is_known = torch.zeros(5, 3, dtype=torch.bool)
    is_known[:, 0] = True
    assert chosen(torch.rand(5, 3), value, is_known).tolist() == [0.5] * 3
    assert chosen(torch.rand(5, 3), value, torch.zeros_like(is_known)).tolist() == [0.5] * 3


def test_what_nobody_knows_chooses_nothing():
    generator = torch.Generator().manual_seed(4)
    value = (torch.rand(50, 3, generator=generator) < 0.5).float()
    probability, is_known = torch.rand(50, 3, generator=generator), torch.rand(50, 3, generator=generator) < 0.6
    first = chosen(probability, value, is_known)
    assert torch.equal(first, chosen(torch.where(is_known, probability, 0.99), value, is_known))
    assert torch.equal(first, chosen(probability, torch.where(is_known, value, 1 - value), is_known))


def test_heads_that_answer_one_class_have_no_thresholds():
    predictions = Predictions(
        {"pitch": torch.full((4, 2), 0.5)}, {"pitch": Target(torch.zeros(4).long(), torch.ones(4).bool())}
    )
    assert choose_thresholds(predictions, [PITCH]) == {}

"""Calibration and late fusion: probabilities that hold, and two who know different things know more."""

import pytest
import torch
from torch import Tensor

from finetune.calibration import fit_stack, logits_of, probabilities_of
from finetune.ensemble import FUSIONS, headline, learn_fusion
from finetune.heads import HeadSpec
from finetune.scores import Predictions
from finetune.targets import Target

SPEC = HeadSpec("instrument", "binary", ("violin", "flute"))
PITCH = HeadSpec("pitch", "classes", ("60", "61", "62"))


def draw(count: int, seed: int) -> tuple[Tensor, Target]:
    """Log-odds, and answers drawn by them; a tenth is unknown."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(count, 2, generator=generator)
    value = (torch.rand(count, 2, generator=generator) < logits.sigmoid()).float()
    is_known = torch.rand(count, 2, generator=generator) < 0.9
    return logits, Target(torch.where(is_known, value, 0.0), is_known)


def test_the_scale_and_the_bias_are_found():
    logits, target = draw(4000, seed=0)
    stack = fit_stack(SPEC, (4 * logits + 3)[None], target)
    torch.testing.assert_close(stack((4 * logits + 3)[None]), logits, atol=0.35, rtol=0.15)


def test_what_holds_already_hardly_changes():
    logits, target = draw(4000, seed=1)
    torch.testing.assert_close(stack_of_one(SPEC, logits, target).sigmoid(), logits.sigmoid(), atol=0.03, rtol=0)


def stack_of_one(spec: HeadSpec, logits: Tensor, target: Target) -> Tensor:
    return fit_stack(spec, logits[None], target)(logits[None])


def test_unknown_answers_do_not_count():
    logits, target = draw(200, seed=2)
    other = Target(torch.where(target.is_known, target.value, 1.0), target.is_known)
    ours, theirs = (stack_of_one(SPEC, logits, one) for one in (target, other))
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("answers", [[], [1.0], [0.0] * 5])
def test_a_class_of_few_clips_stays_finite_and_in_order(answers):
    logits = torch.linspace(-3, 3, 8)[:, None].expand(8, 2)
    value, is_known = torch.zeros(8, 2), torch.zeros(8, 2, dtype=torch.bool)
    value[: len(answers), 0], is_known[: len(answers), 0] = torch.tensor(answers), True
    found = stack_of_one(SPEC, logits, Target(value, is_known))
    assert torch.isfinite(found).all()
    assert (found.diff(dim=0) > 0).all()
    if not answers:
        torch.testing.assert_close(found, logits, atol=1e-3, rtol=1e-3)


def test_a_class_of_which_nothing_is_known_borrows_from_the_others():
    logits, target = draw(4000, seed=0)
    target.is_known[:, 1] = False
    weight = fit_stack(SPEC, 4 * logits[None], target).weight
    torch.testing.assert_close(weight[0, 1], weight[0, 0], atol=0.02, rtol=0)
    assert weight[0, 0] == pytest.approx(0.25, abs=0.03)


def test_one_class_of_many_keeps_adding_up_to_one():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(500, 3, generator=generator)
    truth = torch.multinomial(logits.softmax(dim=1), 1, generator=generator)[:, 0]
    found = stack_of_one(PITCH, 5 * logits, Target(truth, torch.ones(500, dtype=torch.bool)))
    torch.testing.assert_close(found.softmax(dim=1), logits.softmax(dim=1), atol=0.1, rtol=0)


@pytest.mark.parametrize("spec", [SPEC, PITCH])
def test_logits_and_probabilities_are_inverse(spec):
    logits = torch.randn(5, len(spec.classes))
    probability = probabilities_of(spec, logits)
    torch.testing.assert_close(probabilities_of(spec, logits_of(spec, probability)), probability)
    certain = torch.tensor([[0.0, 1.0, 0.0][: len(spec.classes)]])
    assert torch.isfinite(logits_of(spec, certain)).all()


def two_parts(count: int, seed: int) -> tuple[Predictions, Predictions]:
    """Two who hear half of what tells each, the second far too sure of itself."""
    generator = torch.Generator().manual_seed(seed)
    parts = torch.randn(2, count, 2, generator=generator)
    value = (torch.rand(count, 2, generator=generator) < (3 * parts.sum(dim=0)).sigmoid()).float()
    target = {"instrument": Target(value, torch.ones_like(value, dtype=torch.bool))}
    logits = parts[0], 8 * parts[1]
    return tuple(Predictions({"instrument": own.sigmoid()}, target) for own in logits)


@pytest.mark.parametrize("method", FUSIONS)
def test_both_together_know_more_than_either(method):
    fuse = learn_fusion(*two_parts(400, seed=0), [SPEC], method)
    first, second = two_parts(1000, seed=1)
    both = fuse(first, second)
    assert headline(SPEC, both) > max(headline(SPEC, first), headline(SPEC, second)) + 0.04
    probability, value = both.probabilities["instrument"], both.targets["instrument"].value
    assert probability.mean() == pytest.approx(value.mean().item(), abs=0.05)


@pytest.mark.parametrize("method", FUSIONS)
def test_one_who_knows_nothing_does_little_harm(method):
    def parts(count: int, seed: int) -> tuple[Predictions, Predictions]:
        first, _ = two_parts(count, seed)
        noise = torch.rand(count, 2, generator=torch.Generator().manual_seed(seed + 100))
        return first, Predictions({"instrument": noise}, first.targets)

    fuse = learn_fusion(*parts(400, seed=0), [SPEC], method)
    first, second = parts(1000, seed=1)
    assert headline(SPEC, fuse(first, second)) > headline(SPEC, first) - 0.02


def test_a_head_of_which_nothing_is_known_scores_nothing():
    nothing = Target(torch.zeros(3, 2), torch.zeros(3, 2, dtype=torch.bool))
    assert headline(SPEC, Predictions({"instrument": torch.rand(3, 2)}, {"instrument": nothing})) == 0.0

"""Scores against slow loops over their definitions, and against scikit-learn where everything is known."""

import math

import numpy as np
import pytest
import torch
from sklearn import metrics
from torch import Tensor

from finetune.heads import HeadSpec
from finetune.scores import Predictions, class_scores, describe, ranking_precision, score, score_table
from finetune.targets import Target

FAMILY = HeadSpec("family", "binary", ("string", "brass", "reed", "organ"))
DRUMS = HeadSpec("drums", "binary", ("drums",))
PITCH = HeadSpec("pitch", "classes", ("48", "55", "60", "67", "72"))
HALF = {"family": torch.full((4,), 0.5), "drums": torch.full((1,), 0.5)}


def drawn(num_clips: int, known_share: float = 1.0, seed: int = 0, num_classes: int = 4) -> tuple[Tensor, Target]:
    """Probabilities with ties, on one side of 0.5 more often where the class sounds."""
    generator = torch.Generator().manual_seed(seed)
    value = (torch.rand(num_clips, num_classes, generator=generator) < 0.4).float()
    noise = torch.rand(num_clips, num_classes, generator=generator)
    probability = ((0.35 * value + 0.65 * noise) * 20).round() / 20
    is_known = torch.rand(num_clips, num_classes, generator=generator) < known_share
    return probability, Target(value, is_known)


def pitches(num_clips: int, known_share: float = 1.0) -> tuple[Tensor, Target]:
    generator = torch.Generator().manual_seed(1)
    value = torch.randint(0, 4, (num_clips,), generator=generator)  # "72" never occurs
    logits = torch.randn(num_clips, 5, generator=generator)
    logits[torch.arange(num_clips), value] += 1.0
    return logits.softmax(1), Target(value, torch.rand(num_clips, generator=generator) < known_share)


def f1_of(heard: list[bool], sounds: list[bool]) -> float:
    right = sum(a and b for a, b in zip(heard, sounds, strict=True))
    return 2 * right / (sum(heard) + sum(sounds)) if sum(heard) + sum(sounds) else 0.0


def slow_scores(probability: Tensor, target: Target, thresholds: Tensor) -> dict[str, float]:
    """Every score from its definition, in loops over what is known."""
    said = [[int(v) if k else None for v, k in zip(*row, strict=True)] for row in zip(*target, strict=True)]
    scores, f1s, precisions, areas, flat = probability.tolist(), [], [], [], []
    for place in range(probability.shape[1]):
        pairs = [
            (row[place], known[place]) for row, known in zip(scores, said, strict=True) if known[place] is not None
        ]
        heard = [(p >= thresholds[place].item(), y == 1) for p, y in pairs]
        flat += heard
        positives, negatives = ([p for p, y in pairs if y == wanted] for wanted in (1, 0))
        if not positives or not negatives:
            continue
        f1s.append(f1_of(*zip(*heard, strict=True)))
        # Average precision: over distinct scores from above, the gain in recall times the precision there.
        total, last = 0.0, 0.0
        for cut in sorted({p for p, _ in pairs}, reverse=True):
            above = [y for p, y in pairs if p >= cut]
            recall = sum(above) / len(positives)
            total, last = total + (recall - last) * sum(above) / len(above), recall
        precisions.append(total)
        wins = sum((p > n) + 0.5 * (p == n) for p in positives for n in negatives)
        areas.append(wins / len(positives) / len(negatives))
    ranks = []
    for row, known in zip(scores, said, strict=True):
        present, others = ([p for p, y in zip(row, known, strict=True) if y == wanted] for wanted in (1, 0))
        if present and others:
            shares = [sum(q >= p for q in present) / sum(q >= p for q in present + others) for p in present]
            ranks.append(sum(shares) / len(shares))
    return {
        "map": np.mean(precisions), "auc": np.mean(areas), "f1_macro": np.mean(f1s),
        "f1_micro": f1_of(*zip(*flat, strict=True)), "lrap": np.mean(ranks),
        "hamming": np.mean([heard == sounds for heard, sounds in flat]), "classes": len(f1s), "known": len(flat),
    }  # fmt: skip


@pytest.mark.parametrize("known_share", [1.0, 0.5, 0.1])
def test_scores_are_those_of_their_definitions_and_the_unknown_counts_nowhere(known_share):
    probability, target = drawn(90, known_share)
    target.is_known[:, 3] &= target.value[:, 3] == 0  # of an organ only that it is silent
    thresholds = torch.tensor([0.5, 0.35, 0.6, 0.45])
    expected = slow_scores(probability, target, thresholds)
    found = score(Predictions({"family": probability}, {"family": target}), [FAMILY], {"family": thresholds})
    assert found == pytest.approx({f"family_{key}": value for key, value in expected.items()}, abs=1e-6)
    assert found["family_classes"] == 3
    # Whatever stands where nobody knows changes nothing.
    value = torch.where(target.is_known, target.value, 1 - target.value)
    likely = torch.where(target.is_known, probability, 1 - probability)
    again = Predictions({"family": probability}, {"family": Target(value, target.is_known)})
    assert score(again, [FAMILY], {"family": thresholds}) == found
    again = Predictions({"family": likely}, {"family": target})
    assert score(again, [FAMILY], {"family": thresholds}) == found


def test_fully_known_labels_score_as_in_scikit_learn():
    probability, target = drawn(200)
    has_ranking = (target.value.sum(1) > 0) & (target.value.sum(1) < 4)
    predictions = Predictions({"family": probability}, {"family": target}).select(has_ranking)
    truth, likely = predictions.targets["family"].value.numpy(), predictions.probabilities["family"].numpy()
    heard = likely >= 0.5
    assert score(predictions, [FAMILY], HALF) == pytest.approx(
        {
            "family_map": metrics.average_precision_score(truth, likely),
            "family_auc": metrics.roc_auc_score(truth, likely),
            "family_f1_macro": metrics.f1_score(truth, heard, average="macro"),
            "family_f1_micro": metrics.f1_score(truth, heard, average="micro"),
            "family_lrap": metrics.label_ranking_average_precision_score(truth, likely),
            "family_hamming": 1 - metrics.hamming_loss(truth, heard),
            "family_classes": 4,
            "family_known": truth.size,
        },
        abs=1e-6,
    )


@pytest.mark.parametrize("known_share", [1.0, 0.3])
def test_one_class_of_many_scores_as_in_scikit_learn_on_what_is_known(known_share):
    probability, target = pitches(150, known_share)
    assert (probability.argmax(1) == 4).any()
    found = score(Predictions({"pitch": probability}, {"pitch": target}), [PITCH], {})
    truth, guess = target.value[target.is_known].numpy(), probability.argmax(1)[target.is_known].numpy()
    recall = [np.mean(guess[truth == place] == place) for place in np.unique(truth)]
    chroma = np.array([0, 7, 0, 7, 0])
    assert found == pytest.approx(
        {
            "pitch_accuracy": metrics.accuracy_score(truth, guess),
            "pitch_accuracy_balanced": np.mean(recall),
            "pitch_accuracy_chroma": np.mean(chroma[guess] == chroma[truth]),
            "pitch_classes": 4,
            "pitch_known": len(truth),
        },
        abs=1e-6,
    )
    assert found["pitch_accuracy_chroma"] > found["pitch_accuracy"]


def test_a_class_is_heard_where_its_probability_reaches_its_threshold():
    probability = torch.tensor([[0.3], [0.3], [0.29]])
    target = Target(torch.tensor([[1.0], [1.0], [0.0]]), torch.ones(3, 1, dtype=torch.bool))
    predictions = Predictions({"drums": probability}, {"drums": target})
    assert score(predictions, [DRUMS], {"drums": torch.tensor([0.3])})["drums_f1_macro"] == 1.0
    assert score(predictions, [DRUMS], {"drums": torch.tensor([0.31])})["drums_f1_macro"] == 0.0
    assert "drums_lrap" not in score(predictions, [DRUMS], HALF), "one class cannot be ranked"


def test_perfect_and_reversed_answers_score_1_and_0():
    _, target = drawn(40)
    for probability, expected in ((target.value, 1.0), (1 - target.value, 0.0)):
        found = score(Predictions({"family": probability}, {"family": target}), [FAMILY], HALF)
        names = ("auc", "f1_macro", "f1_micro", "hamming", *(["map", "lrap"] if expected else []))
        assert {name: found[f"family_{name}"] for name in names} == dict.fromkeys(names, expected)


def test_a_clip_of_which_nothing_can_be_ranked_does_not_count():
    probability = torch.tensor([[0.9, 0.8, 0.1], [0.1, 0.2, 0.3], [0.1, 0.2, 0.3], [0.9, 0.5, 0.1]])
    value = torch.tensor([[0.0, 1, 0], [1, 1, 1], [0, 0, 0], [0.0, 1, 0]])
    is_known = torch.ones(4, 3, dtype=torch.bool)
    is_known[3, 0] = False  # what stands before the second class may sound as well
    assert ranking_precision(probability, Target(value, is_known)).item() == pytest.approx((0.5 + 1.0) / 2)
    assert ranking_precision(probability[1:3], Target(value[1:3], is_known[1:3])).isnan()


def test_a_head_of_which_nothing_is_known_has_no_scores_and_clips_without_labels_are_refused():
    probability, target = drawn(5)
    unknown = Target(target.value, torch.zeros_like(target.is_known))
    drums = Target(target.value[:, :1], target.is_known[:, :1])
    predictions = Predictions({"family": probability, "drums": probability[:, :1]}, {"family": unknown, "drums": drums})
    found = score(predictions, [FAMILY, DRUMS], HALF)
    assert {key: value for key, value in found.items() if key.startswith("family")} == {
        "family_classes": 0, "family_known": 0,
    }  # fmt: skip
    assert found["drums_known"] == 5
    with pytest.raises(ValueError, match="labels of family were expected to score by, none of 5 clips has one"):
        score(predictions, [FAMILY], HALF)
    value, is_known = torch.zeros(3, dtype=torch.long), torch.zeros(3, dtype=torch.bool)
    with pytest.raises(ValueError, match="labels of pitch were expected"):
        score(Predictions({"pitch": torch.full((3, 5), 0.2)}, {"pitch": Target(value, is_known)}), [PITCH], {})


def test_classes_without_a_positive_or_a_negative_are_not_scored():
    probability, target = drawn(30)
    target.value[:, 1], target.value[:, 2] = 1, 0
    found = class_scores(probability, target, HALF["family"])
    assert found.is_scored.tolist() == [True, False, False, True]
    assert found.average_precision.isnan().tolist() == [False, True, True, False]
    assert found.positives.tolist()[1:3] == [30, 0]
    table = score_table(Predictions({"family": probability}, {"family": target}), [FAMILY], HALF)
    assert "2 of 4 classes, 120 known labels" in table


@pytest.mark.parametrize("bad", [1.2, -0.5, math.nan, math.inf])
def test_what_is_no_probability_is_refused(bad):
    probability, target = drawn(6)
    probability[2, 1] = bad
    with pytest.raises(ValueError, match=r"family should give probabilities from 0 to 1, found (1.2|-0.5|nan|inf);"):
        Predictions({"family": probability}, {"family": target})


def test_rounding_above_1_is_not_taken_for_a_logit():
    probability, target = drawn(60)
    probability = (0.9 * probability + 0.1).clamp(max=1)
    beyond = probability.clone()
    beyond[probability == 1] += 1e-6
    assert (beyond > 1).any()
    found = [
        score(Predictions({"family": values}, {"family": target}), [FAMILY], HALF) for values in (probability, beyond)
    ]
    assert found[0] == found[1]


def test_predictions_that_do_not_fit_are_refused():
    probability, target = drawn(6)
    with pytest.raises(ValueError, match="targets were expected for the head genre, there are family"):
        Predictions({"genre": probability}, {"family": target})
    with pytest.raises(ValueError, match=r"family gives \(5, 4\), its targets are \(6, 4\)"):
        Predictions({"family": probability[:5]}, {"family": target})


def test_parts_put_together_are_the_whole():
    probability, target = drawn(30)
    pitch, of_pitch = pitches(30, 0.5)
    whole = Predictions({"family": probability, "pitch": pitch}, {"family": target, "pitch": of_pitch})
    parts = [whole.select(torch.arange(30) < 11), whole.select(torch.arange(11, 30))]
    assert [len(part) for part in parts] == [11, 19]
    again = Predictions.concatenate(parts)
    assert score(again, [FAMILY, PITCH], HALF) == score(whole, [FAMILY, PITCH], HALF)
    assert torch.equal(again.probabilities["pitch"], pitch)


def test_the_table_is_markdown_with_a_line_a_class_and_a_summary_a_head():
    probability, target = drawn(50, 0.8)
    pitch, of_pitch = pitches(50)
    predictions = Predictions({"family": probability, "pitch": pitch}, {"family": target, "pitch": of_pitch})
    lines = score_table(predictions, [FAMILY, PITCH], HALF).splitlines()
    assert len({len(line) for line in lines[:6]}) == 1, "columns stand under each other"
    assert set(lines[1]) <= set("|-: ")
    cells = [cell.strip() for cell in lines[2].strip("|").split("|")]
    own = class_scores(probability, target, HALF["family"])
    expected = [own.average_precision, own.auc, own.f1, own.precision, own.recall, HALF["family"]]
    assert cells == ["family", "string", str(own.positives[0].item()), str(own.known[0].item()),
                     *(f"{values[0].item():.3f}" for values in expected)]  # fmt: skip
    assert lines[6] == ""
    assert lines[7].startswith("family: mAP ")
    assert lines[8].startswith("pitch: accuracy ")
    assert lines[8].endswith("(4 of 5 classes, 50 known labels)")


def test_an_evaluation_in_words():
    probability, target = drawn(50)
    pitch, of_pitch = pitches(50)
    predictions = Predictions(
        {"family": probability, "drums": probability[:, :1], "pitch": pitch},
        {"family": target, "drums": Target(target.value[:, :1], target.is_known[:, :1]), "pitch": of_pitch},
    )
    values = score(predictions, [FAMILY, DRUMS, PITCH], HALF)
    assert describe(values) == (
        f"family mAP {values['family_map']:.3f} F1 {values['family_f1_macro']:.3f}; "
        f"drums AP {values['drums_map']:.3f} F1 {values['drums_f1_macro']:.3f}; "
        f"pitch accuracy {values['pitch_accuracy']:.3f}"
    )
    assert describe({"validation_score": 0.5}) == ""

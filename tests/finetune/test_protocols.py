"""The protocols of published numbers: their classes, their truth, and their scores from definitions."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn import metrics
from torch import Tensor

from data.clip import Labels
from data.codes import INSTRUMENTS
from data.sources import irmas
from data.taxonomy import ALIASES, FAMILIES, labels_of
from finetune.heads import HeadSpec
from finetune.protocols import PROTOCOLS, protocol_scores
from finetune.targets import Target

IRMAS, OPENMIC = PROTOCOLS["irmas"], PROTOCOLS["openmic"]


def tensors_of(*clips: Labels) -> dict[str, Tensor]:
    """What a label table would say of these clips."""

    def codes(names: tuple[str, ...], level: str) -> Tensor:
        sets = [getattr(clip, level) for clip in clips]
        rows = [
            [1 if name in own.present else 0 if own.complete or name in own.absent else -1 for name in names]
            for own in sets
        ]
        return torch.tensor(rows, dtype=torch.int8)

    drums = [-1 if clip.drums is None else int(clip.drums) for clip in clips]
    return {
        "instrument": codes(INSTRUMENTS, "instrument"),
        "family": codes(FAMILIES, "family"),
        "drums": torch.tensor(drums),
    }


def windows_of(num_classes: int, clips: list[int], seed: int = 0) -> tuple[Tensor, Tensor]:
    """Probabilities ``(W, C)`` of so many windows a clip, in shuffled order, and the clip of each."""
    generator = torch.Generator().manual_seed(seed)
    clip = torch.arange(len(clips)).repeat_interleave(torch.tensor(clips))
    clip = clip[torch.randperm(len(clip), generator=generator)]
    return torch.rand(len(clip), num_classes, generator=generator), clip


def test_the_classes_are_the_published_ones_in_their_order():
    assert IRMAS.classes == irmas.INSTRUMENTS
    assert IRMAS.classes == ("cel", "cla", "flu", "gac", "gel", "org", "pia", "sax", "tru", "vio", "voi")
    assert [head for answers in IRMAS.answers.values() for head, _ in answers] == ["instrument"] * 11
    assert IRMAS.answers["gel"] == (("instrument", ("electric_guitar",)),)
    published = sorted(ALIASES["openmic"])
    assert len(published) == 20
    assert list(OPENMIC.classes) == [name for name in published if name not in ("cymbals", "synthesizer")]
    assert OPENMIC.answers["bass"] == (("family", ("bass",)),)
    assert OPENMIC.answers["mallet_percussion"] == (("family", ("mallet",)),)
    assert OPENMIC.answers["drums"] == (("drums", ("drums",)),)
    assert OPENMIC.answers["guitar"] == (
        ("instrument", ("acoustic_guitar", "electric_guitar", "lap_steel_guitar")), ("family", ("guitar",)),
    )  # fmt: skip


def test_the_truth_of_irmas_is_what_its_labels_say():
    tested = labels_of("irmas", ("cel", "voi"), [name for name in IRMAS.classes if name not in ("cel", "voi")])
    trained = labels_of("irmas", ("gac",))
    target = IRMAS.targets(tensors_of(tested, trained))
    assert target.is_known.tolist() == [[True] * 11, [name == "gac" for name in IRMAS.classes]]
    assert [name for name, value in zip(IRMAS.classes, target.value[0], strict=True) if value] == ["cel", "voi"]
    assert target.value[1].sum() == 1


@pytest.mark.parametrize("name", OPENMIC.classes)
@pytest.mark.parametrize("is_present", [True, False])
def test_every_label_of_openmic_is_known_again(name, is_present):
    labels = labels_of("openmic", [name] if is_present else [], [] if is_present else [name])
    if name == "drums":
        labels = Labels(labels.is_instrument, labels.family, labels.instrument, drums=is_present)
    target = OPENMIC.targets(tensors_of(labels))
    known = [own for own, is_known in zip(OPENMIC.classes, target.is_known[0], strict=True) if is_known]
    # The tree cannot tell whether a guitar sounds beside a banjo, and nothing follows from the guitar.
    assert known == [name]
    assert target.value[0, OPENMIC.classes.index(name)] == is_present


def test_a_guitar_is_present_where_its_family_is_and_no_other_plucked_one_sounds():
    column = OPENMIC.classes.index("guitar")
    cases = {
        ("guitar",): (1, True),
        ("guitar", "banjo"): (0, False),
        ("banjo",): (0, False),
        ("ukulele", "flute"): (0, False),
    }
    target = OPENMIC.targets(tensors_of(*(labels_of("openmic", present) for present in cases)))
    found = list(zip(target.value[:, column].tolist(), target.is_known[:, column].tolist(), strict=True))
    assert found == list(cases.values())
    both = OPENMIC.targets(tensors_of(labels_of("openmic", ("banjo",), ("guitar",))))
    assert (both.value[0, column], both.is_known[0, column]) == (0, True)


def test_irmas_is_scored_as_han_did():
    windows, clip = windows_of(11, [3, 1, 7, 2, 5, 4, 4, 6] * 4)
    generator = torch.Generator().manual_seed(5)
    truth = torch.rand(32, 11, generator=generator).argsort(1) < 3
    target = Target(truth.float(), torch.ones(32, 11, dtype=torch.bool))
    # A loop over the excerpts: sum the windows, divide by the largest, compare with the threshold.
    sums = np.zeros((32, 11))
    for own, row in zip(clip.tolist(), windows.double().numpy(), strict=True):
        sums[own] += row
    heard = np.stack([row / row.max() >= 0.5 for row in sums])
    assert 0 < heard.mean() < 1
    assert protocol_scores(IRMAS, windows, clip, target) == pytest.approx(
        {
            "irmas_f1_micro": metrics.f1_score(truth, heard, average="micro"),
            "irmas_f1_macro": metrics.f1_score(truth, heard, average="macro", zero_division=0),
            "irmas_lrap": metrics.label_ranking_average_precision_score(truth, sums),
            "irmas_threshold": 0.5,
            "irmas_classes": 11,
            "irmas_known": 352,
        },
        abs=1e-6,
    )
    quiet = protocol_scores(IRMAS, windows * 1e-3, clip, target)
    assert quiet == pytest.approx(protocol_scores(IRMAS, windows, clip, target)), "loudness of a clip is taken out"


def test_openmic_is_scored_as_passt_and_gururani_did():
    windows, clip = windows_of(18, [2] * 60)
    generator = torch.Generator().manual_seed(6)
    truth = torch.rand(60, 18, generator=generator) < 0.4
    is_known = torch.rand(60, 18, generator=generator) < 0.3
    likely = np.stack([windows[clip == own].double().mean(0).numpy() for own in range(60)])
    precisions, areas, macro, weighted = [], [], [], []
    for column in range(18):
        own = is_known[:, column].numpy()
        # A weight of 0 for what is not judged, as in PaSST's code.
        precisions.append(
            metrics.average_precision_score(truth[:, column], likely[:, column], sample_weight=own.astype(float))
        )
        areas.append(metrics.roc_auc_score(truth[own, column], likely[own, column]))
        report = metrics.classification_report(
            truth[own, column], likely[own, column] >= 0.5, output_dict=True, zero_division=0
        )
        macro.append(report["macro avg"]["f1-score"])
        weighted.append(report["weighted avg"]["f1-score"])
    assert protocol_scores(OPENMIC, windows, clip, Target(truth.float(), is_known)) == pytest.approx(
        {
            "openmic_map": np.mean(precisions), "openmic_auc": np.mean(areas),
            "openmic_f1_two_class": np.mean(macro), "openmic_f1_weighted": np.mean(weighted),
            "openmic_threshold": 0.5, "openmic_classes": 18, "openmic_known": is_known.sum().item(),
        },
        abs=1e-6,
    )  # fmt: skip


def test_classes_are_looked_up_among_the_heads_by_name():
    specs = [
        HeadSpec("family", "binary", ("string", "guitar", "mallet", "bass")),
        HeadSpec("drums", "binary", ("drums",)),
        HeadSpec("instrument", "binary", tuple(sorted(INSTRUMENTS, reverse=True))),
    ]
    windows = {spec.name: windows_of(len(spec.classes), [1] * 5)[0] for spec in specs}
    asked = IRMAS.ask(windows, specs)
    assert asked.shape == (5, 11)
    column = specs[2].classes.index("cello")
    assert torch.equal(asked[:, 0], windows["instrument"][:, column])
    asked = OPENMIC.ask(windows, specs)
    assert torch.equal(asked[:, OPENMIC.classes.index("drums")], windows["drums"][:, 0])
    assert torch.equal(asked[:, OPENMIC.classes.index("bass")], windows["family"][:, 3])
    guitars = [specs[2].classes.index(name) for name in ("acoustic_guitar", "electric_guitar", "lap_steel_guitar")]
    assert torch.equal(asked[:, OPENMIC.classes.index("guitar")], windows["instrument"][:, guitars].amax(1))
    few = [specs[0], specs[1], HeadSpec("instrument", "binary", tuple(
        classes[0] for head, classes in (answers[0] for name, answers in OPENMIC.answers.items() if name != "guitar")
        if head == "instrument"
    ))]  # fmt: skip
    windows["instrument"] = windows["instrument"][:, : len(few[2].classes)]
    guitar = OPENMIC.ask(windows, few)[:, OPENMIC.classes.index("guitar")]
    assert torch.equal(guitar, windows["family"][:, 1]), "the family stands in where the guitars were never named"


def test_a_model_that_lacks_a_class_is_refused():
    specs = [HeadSpec("instrument", "binary", ("cello", "clarinet"))]
    expected = (
        r"irmas asks about flu, for which flute of the head instrument was expected, the model has the heads "
        r"instrument \(2\) without it; train with --protocol irmas"
    )
    with pytest.raises(ValueError, match=expected):
        IRMAS.places(specs)
    with pytest.raises(ValueError, match="openmic asks about accordion"):
        OPENMIC.ask({"instrument": torch.rand(3, 2)}, specs)


def test_clips_without_windows_or_without_labels_are_refused():
    windows, clip = windows_of(11, [2, 2])
    target = Target(torch.zeros(3, 11), torch.ones(3, 11, dtype=torch.bool))
    with pytest.raises(ValueError, match="windows of 3 clips were expected, found those of 2"):
        protocol_scores(IRMAS, windows, clip, target)
    unknown = Target(torch.zeros(2, 11), torch.zeros(2, 11, dtype=torch.bool))
    with pytest.raises(ValueError, match="labels of instrument were expected"):
        protocol_scores(IRMAS, windows, clip, unknown)


def test_silence_in_all_windows_is_a_clip_in_which_nothing_is_heard():
    windows, clip = windows_of(11, [2, 2])
    windows[clip == 0] = 0
    pooled = IRMAS.pool(windows, clip, 2)
    assert pooled[0].tolist() == [0.0] * 11
    assert pooled[1].max() == 1.0


def test_a_protocol_sets_what_training_must_know():
    config = SimpleNamespace(sources=None, assume_complete=["genre"], heads=None)
    IRMAS.apply_to(config)
    IRMAS.apply_to(config)  # a resumed run has done so before
    assert (config.sources, config.assume_complete) == (["irmas"], ["genre", "instrument"])
    config = SimpleNamespace(sources=["openmic", "gm"], assume_complete=[], heads=["instrument", "family", "drums"])
    OPENMIC.apply_to(config)
    assert (config.sources, config.assume_complete) == (["openmic", "gm"], [])
    config.heads = ["family"]
    with pytest.raises(ValueError, match="asks about accordion, which takes the head instrument, --heads has family;"):
        OPENMIC.apply_to(config)

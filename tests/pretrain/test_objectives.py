"""Terms of an objective: what they mean, on batches that lack something, and on two processes as on one."""

from dataclasses import replace

import pytest
import torch
import torch.multiprocessing as mp
from torch import Tensor, distributed
from torch.nn.functional import normalize

import pretrain.objectives
from data.clip import NOTHING, Clip, Labels, LabelSet
from data.errors import DataError
from data.labels import INSTRUMENTS, LabelTable
from data.taxonomy import FAMILIES, FAMILY_OF_INSTRUMENT, GENRES
from data.writer import write_pack
from losses.contrastive import combine_levels
from pretrain.objectives import (
    SUPCON_LEVELS,
    Classes,
    Margins,
    classes_of,
    objective_losses,
    parse_objective,
    related,
)

SIZE, WIDTH = 6, 5
MARGINS = Margins(
    temperature=0.2, margin=0.2, genre_margin=0.1, tree_margins=True, miner="all", own_family_share=0.6,
    soft_margin=False, scale=8.0, angle=0.3, alpha=0.5,
)  # fmt: skip
OBJECTIVES = {
    "ntxent": ("ntxent", MARGINS, "family"),
    "supcon": ("supcon", MARGINS, "family"),
    "all": ("triplet", MARGINS, "family"),
    "one margin": ("triplet", replace(MARGINS, tree_margins=False), "family"),
    "hard": ("triplet", replace(MARGINS, miner="hard"), "family"),
    "soft hard": ("triplet", replace(MARGINS, miner="hard", soft_margin=True), "family"),
    "semi_hard": ("triplet", replace(MARGINS, miner="semi_hard", margin=0.6), "family"),
    "one margin semi_hard": ("triplet", replace(MARGINS, miner="semi_hard", tree_margins=False, margin=0.6), "family"),
    "family_balanced": ("triplet", replace(MARGINS, miner="family_balanced"), "family"),
    "soft family_balanced": ("triplet", replace(MARGINS, miner="family_balanced", soft_margin=True), "family"),
    "center": ("center", MARGINS, "timbre"),
    "arcface": ("arcface", MARGINS, "family"),
    "arcface of instruments": ("arcface", MARGINS, "instrument"),
    "sum": ("0.3*ntxent + supcon + 2*triplet + 0.1*center + arcface", MARGINS, "timbre"),
}  # fmt: skip


def clip(
    instrument: str | None = None, timbre: int = -1, genre: str | None = None, family: str | None = None,
    is_instrument: int = 1, is_weak: int = 0,
) -> dict[str, Tensor]:  # fmt: skip
    """The labels of one clip; a level that is given holds that label and nothing else."""
    family = FAMILY_OF_INSTRUMENT.get(instrument, family)
    levels = (("family", FAMILIES, family), ("instrument", INSTRUMENTS, instrument), ("genre", GENRES, genre))
    labels = {name: torch.tensor(value) for name, value in (("timbre", timbre), ("is_weak", is_weak))}
    labels["is_instrument"] = torch.tensor(is_instrument)
    for level, names, label in levels:
        values = [-1] * len(names) if label is None else [int(name == label) for name in names]
        labels[level] = torch.tensor(values, dtype=torch.int8)
    return labels


NOISE = clip(is_instrument=0) | {
    "family": torch.zeros(len(FAMILIES), dtype=torch.int8),
    "instrument": torch.zeros(len(INSTRUMENTS), dtype=torch.int8),
}
NOBODY_KNOWS = clip(is_instrument=-1)


def batch_of(*clips: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: torch.stack([one[name] for one in clips]) for name in clips[0]}


def global_batch() -> tuple[Tensor, dict[str, Tensor], Tensor, Tensor]:
    """Inputs, labels, clip numbers and the miner's draws of sixteen rows; the first half has far fewer positives.

    The last clip has its other view on the other process, and so has one of which nothing is known.
    """
    labels = batch_of(
        clip("violin", 0, "classical"), clip("trumpet", 1), NOISE, NOBODY_KNOWS, clip("piano", 2, "jazz_blues"),
        clip("flute", 3, is_weak=1), NOISE, clip(family="guitar", timbre=4),
        clip("violin", 0, "classical"), clip("violin", 0, "pop_rock"), clip("cello", 5, "classical"),
        clip("cello", 5, "jazz_blues"), NOBODY_KNOWS, clip(family="guitar", timbre=4), NOISE,
        clip(family="guitar", timbre=6),
    )  # fmt: skip
    number = torch.tensor([10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 13, 17, 16, 22])
    generator = torch.Generator().manual_seed(3)
    return torch.randn(16, WIDTH, generator=generator), labels, number, torch.rand(16, 16, generator=generator)


def classes_at(level: str) -> Classes:
    names = {"timbre": tuple("abcdefg"), "family": (*FAMILIES, "no instrument")}.get(level, (*INSTRUMENTS, "none"))
    distance = torch.rand(len(names), len(names), generator=torch.Generator().manual_seed(4))
    return Classes(level, names, distance.fill_diagonal_(0.0))


def losses_and_gradients(inputs: Tensor, labels: dict[str, Tensor], number: Tensor, uniform: Tensor) -> dict:
    """By the name of an objective its loss and the gradients of weights and centres."""
    found = {}
    for name, (objective, margins, level) in OBJECTIVES.items():
        classes = classes_at(level)
        generator = torch.Generator().manual_seed(5)
        weight = torch.randn(WIDTH, SIZE, generator=generator).requires_grad_()
        centres = torch.randn(len(classes.names), SIZE, generator=generator).requires_grad_()
        weights = parse_objective(objective)
        terms = objective_losses(
            weights, margins, normalize(inputs @ weight, dim=1), labels, number, uniform,
            normalize(centres, dim=1), classes,
        )  # fmt: skip
        loss = sum(weights[term] * mean for term, mean in terms.items())
        gradients = torch.autograd.grad(loss, (weight, centres), allow_unused=True)
        found[name] = [loss.detach(), *(g for g in gradients if g is not None)]
    return found


def one_of_two(rank: int, rendezvous: str, folder: str) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    inputs, labels, number, uniform = global_batch()
    own = slice(8 * rank, 8 * rank + 8)
    found = losses_and_gradients(
        inputs[own], {name: values[own] for name, values in labels.items()}, number[own], uniform[own]
    )
    for _, *gradients in found.values():
        for gradient in gradients:
            distributed.all_reduce(gradient)
            gradient /= 2  # what DDP does: the mean over processes
    torch.save(found, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def test_two_processes_find_the_loss_and_gradient_of_one_on_the_global_batch(tmp_path):
    mp.spawn(one_of_two, (str(tmp_path / "rendezvous"), str(tmp_path)), nprocs=2)
    expected = losses_and_gradients(*global_batch())
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for name, values in expected.items():
            assert values[0] > 0.01, f"{name} proves nothing"
            for value, other in zip(found[name], values, strict=True):
                torch.testing.assert_close(value, other, rtol=1e-5, atol=1e-6, msg=lambda text, name=name: name + text)


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        ("triplet", {"triplet": 1.0}),
        (" triplet+ 0.5 * mae ", {"triplet": 1.0, "mae": 0.5}),
        ("2*ntxent + .25*supcon + 1e-3*center + arcface", {"ntxent": 2, "supcon": 0.25, "center": 1e-3, "arcface": 1}),
    ],
)
def test_an_objective_is_a_weighted_sum(text, weights):
    assert parse_objective(text) == weights


@pytest.mark.parametrize(
    "text",
    ["", "tripet", "triplet +", "2 triplet", "1.2.3*mae", "-*mae", "x*mae", "1e*mae", "mae*0.5", "nan*mae"],
)
def test_what_is_no_sum_of_terms_is_refused_in_one_sentence(text):
    with pytest.raises(
        ValueError, match=r"^--objective should be a sum such as 'triplet \+ 0.5\*mae' of ntxent, .*found$"
    ):
        parse_objective(text)


@pytest.mark.parametrize("text", ["mae + triplet + mae", "0*mae", "-1*mae", "1e999*mae"])
def test_a_term_twice_or_without_a_positive_weight_is_refused(text):
    with pytest.raises(ValueError, match=r"^--objective names each term once, with a positive weight; '.*mae' found$"):
        parse_objective(text)


def test_ntxent_is_lightlys():
    from lightly.loss import NTXentLoss  # here, for the processes of the test above import this file too

    first, second = (normalize(torch.randn(9, SIZE), dim=1) for _ in range(2))
    labels, number = batch_of(*[clip("violin", 0)] * 18), torch.arange(9).repeat(2)  # labels change nothing
    found = objective_losses({"ntxent": 1.0}, MARGINS, torch.cat([first, second]), labels, number, torch.empty(0))
    torch.testing.assert_close(found["ntxent"], NTXentLoss(temperature=0.2)(first, second))


@pytest.mark.parametrize("level", SUPCON_LEVELS)
def test_a_level_of_supcon_is_pytorch_metric_learnings(level, monkeypatch):
    from pytorch_metric_learning.losses import SupConLoss

    instruments, timbre = ("violin", "cello", "trumpet", "flute"), torch.arange(24) % 8
    clips = [clip(instruments[number // 2], number) for number in timbre.tolist()]
    labels = batch_of(*clips, NOISE)
    names = {
        "timbre": torch.cat([timbre, torch.tensor([8])]),
        "instrument": torch.cat([timbre // 2, torch.tensor([4])]),
        "family": torch.cat([(timbre // 2 - 1).clamp(min=0), torch.tensor([3])]),
        "is_instrument": labels["is_instrument"],
    }
    unit = normalize(torch.randn(25, SIZE), dim=1)
    expected = {
        of: combine_levels([SupConLoss(temperature=0.2)(unit, names[one]) for one in levels])
        for of, levels in (("one", [level]), ("all", SUPCON_LEVELS))
    }
    for of, levels in (("one", (level,)), ("all", SUPCON_LEVELS)):
        monkeypatch.setattr(pretrain.objectives, "SUPCON_LEVELS", levels)
        found = objective_losses({"supcon": 1.0}, MARGINS, unit, labels, torch.arange(25), torch.empty(0))
        torch.testing.assert_close(found["supcon"], expected[of])


def test_levels_count_what_they_are_told_to(monkeypatch):
    inputs, labels, number, _ = global_batch()
    unit = normalize(inputs, dim=1)

    def loss(levels, weights=None):
        monkeypatch.setattr(pretrain.objectives, "SUPCON_LEVELS", levels)
        margins = replace(MARGINS, level_weights=weights)
        return objective_losses({"supcon": 1.0}, margins, unit, labels, number, torch.empty(0))["supcon"]

    torch.testing.assert_close(loss(SUPCON_LEVELS, [2.0, 2**0.5, 2 ** (1 / 3), 2**0.25]), loss(SUPCON_LEVELS))
    torch.testing.assert_close(loss(SUPCON_LEVELS, [0, 3, 0, 0]), 1.5 * loss(("instrument",)))
    torch.testing.assert_close(loss(SUPCON_LEVELS, [0, 0, 1, 1]), loss(("family", "is_instrument"), [1, 1]))


def test_views_of_a_clip_are_the_same_whatever_is_known_of_it():
    clips = (NOBODY_KNOWS, NOISE, clip("violin", 0, "classical", is_weak=1), clip("flute", 1))
    found = related(batch_of(*clips, *clips), torch.arange(4).repeat(2))
    views = torch.eye(4, dtype=torch.bool).repeat(2, 2)
    assert found["same_clip"].equal(views)
    for level in SUPCON_LEVELS:
        assert (found[level][views] == 1).all(), level
        assert found[level].dtype == torch.int8
    assert (found["low"][views] == 0).all()
    assert (found["high"][views] == 0).all()
    assert (found["family"][0, 1:4] == -1).all(), "what nobody knows has no relation to other clips"
    assert found["family"][1].tolist() == [-1, 1, 0, 0, -1, 1, 0, 0]
    assert found["genre"][2].tolist() == [-1, -1, 1, -1, -1, -1, 1, -1]
    assert (found["low"][1, 3], found["high"][1, 3]) == (4, 4)


def values_of(labels: dict[str, Tensor], number: Tensor, unit: Tensor | None = None) -> dict[str, tuple[float, Tensor]]:
    """Of each objective its value and the gradient by embeddings, on one process."""
    rows, found = len(number), {}
    generator = torch.Generator().manual_seed(6)
    for name, (objective, margins, level) in OBJECTIVES.items():
        inputs = torch.randn(rows, SIZE, generator=generator).requires_grad_()
        embeddings = normalize(inputs, dim=1) if unit is None else inputs * 0 + unit
        classes = classes_at(level)
        centres = normalize(torch.randn(len(classes.names), SIZE, generator=generator), dim=1)
        weights = parse_objective(objective)
        terms = objective_losses(weights, margins, embeddings, labels, number, torch.rand(rows, rows), centres, classes)
        loss = sum(weights[term] * mean for term, mean in terms.items())
        (gradient,) = torch.autograd.grad(loss, inputs)
        assert loss.isfinite(), name
        assert gradient.isfinite().all(), name
        found[name] = loss.item(), gradient
    return found


PULLED_BY_CLASS = {"center", "arcface", "arcface of instruments", "sum"}
TELLS_VIEWS = {"ntxent", "sum"}


@pytest.mark.parametrize(
    ("labels", "number", "may_cost"),
    [
        ([NOBODY_KNOWS] * 6, [0, 1, 2, 3, 4, 5], set()),
        ([NOBODY_KNOWS] * 6, [0, 1, 2, 0, 1, 2], TELLS_VIEWS),
        ([NOISE] * 6, [0, 1, 2, 3, 4, 5], {"arcface", "arcface of instruments"}),
        ([NOISE] * 6, [0, 1, 2, 0, 1, 2], {"arcface", "arcface of instruments", *TELLS_VIEWS}),
        ([clip("violin", 0)] * 6, [0, 1, 2, 3, 4, 5], PULLED_BY_CLASS),
        ([clip("violin", 0)] * 6, [0] * 6, PULLED_BY_CLASS),
        ([clip("violin", 0, is_weak=1)] * 6, [0, 1, 2, 3, 4, 5], set()),
        ([NOBODY_KNOWS, clip("violin", 0)], [0, 1], PULLED_BY_CLASS),
    ],
    ids=["nothing known", "views of the unknown", "noises", "views of noises", "one timbre", "one clip", "weak", "two"],
)  # fmt: skip
def test_where_nothing_can_be_told_apart_the_loss_is_0_and_so_is_its_gradient(labels, number, may_cost):
    for name, (loss, gradient) in values_of(batch_of(*labels), torch.tensor(number)).items():
        if name not in may_cost:
            assert loss == 0, name
            assert not gradient.any(), name
        else:
            assert loss > 0, name


def test_the_same_clip_twice_is_a_positive_pair():
    labels = batch_of(*[clip("violin", 0)] * 3, *[clip("trumpet", 1)] * 3)
    found = values_of(labels, torch.tensor([0, 0, 1, 2, 2, 2]))
    assert all(loss > 0 and gradient.any() for loss, gradient in found.values())


def test_a_batch_whose_embeddings_are_all_equal_has_finite_gradients():
    _, labels, number, _ = global_batch()
    unit = normalize(torch.ones(16, SIZE), dim=1)
    found = values_of(labels, number, unit)
    assert found["hard"][0] > 0.1, "a hinge rests at its margin there"


def test_a_known_genre_joins_what_the_tree_leaves_open():
    labels = batch_of(
        *(clip("electric_guitar", number, genre) for number, genre in enumerate(("pop_rock",) * 2 + ("classical",)))
    )
    unit = normalize(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.1]]), dim=1)
    for genre_margin, costs in ((0.1, True), (0.0, False)):
        margins = replace(MARGINS, genre_margin=genre_margin)
        loss = objective_losses({"triplet": 1.0}, margins, unit, labels, torch.arange(3), torch.empty(0))["triplet"]
        assert (loss > 0) == costs, "all part at the same depth"


@pytest.mark.parametrize(("dtype", "temperature"), [(torch.bfloat16, 1e-5), (torch.float16, 1e-3)])
def test_half_precision_stays_finite(dtype, temperature):
    inputs, labels, number, uniform = global_batch()
    for name, (objective, margins, level) in OBJECTIVES.items():
        classes = classes_at(level)
        weight = torch.randn(WIDTH, SIZE).requires_grad_()
        centres = normalize(torch.randn(len(classes.names), SIZE), dim=1)
        weights, margins = parse_objective(objective), replace(margins, temperature=temperature)
        with torch.autocast("cpu", dtype):
            unit = normalize(inputs @ weight, dim=1).to(dtype)
            terms = objective_losses(weights, margins, unit, labels, number, uniform, centres, classes)
            loss = sum(weights[term] * mean for term, mean in terms.items())
        assert loss.isfinite(), name
        assert loss.dtype == torch.float32
        assert torch.autograd.grad(loss, weight)[0].isfinite().all(), name


def test_classes_of_clips():
    labels = batch_of(
        clip("violin", 3), clip(family="string"), NOISE, NOBODY_KNOWS, clip("violin", 3, is_weak=1),
        clip("violin") | {"instrument": clip("violin")["instrument"] | clip("cello")["instrument"]},
    )  # fmt: skip
    timbre, instrument, family = (classes_at(level).of(labels).tolist() for level in ("timbre", "instrument", "family"))
    assert timbre == [3, -1, -1, -1, -1, -1]
    assert instrument == [INSTRUMENTS.index("violin"), -1, len(INSTRUMENTS), -1, -1, -1]
    assert family == [FAMILIES.index("string")] * 2 + [len(FAMILIES), -1, -1, FAMILIES.index("string")]


def test_a_clip_is_told_from_no_class_that_nobody_said_is_absent():
    open_list = clip("violin")
    for level in ("family", "instrument"):
        open_list[level] = torch.where(open_list[level] == 1, 1, -1).to(torch.int8)
    labels = batch_of(open_list, clip("violin"), NOISE, NOBODY_KNOWS)
    found = classes_at("family").candidates(labels)
    assert [FAMILIES[place] for place in found[0, :-1].nonzero()] == ["string"]
    assert found[0, -1], "it is an instrument"
    assert found[1:].all()
    assert classes_at("timbre").candidates(labels).all()


def test_classes_that_may_sound_take_no_part():
    """The cross-entropy of an open list is that over its own class and what is no instrument."""
    open_list = clip("violin")
    open_list["family"] = torch.where(open_list["family"] == 1, 1, -1).to(torch.int8)
    unit, classes = normalize(torch.randn(1, SIZE), dim=1), classes_at("family")
    centres = normalize(torch.randn(len(classes.names), SIZE), dim=1)
    margins = replace(MARGINS, alpha=0.0)
    found = objective_losses(
        {"center": 1.0}, margins, unit, batch_of(open_list), torch.arange(1), torch.empty(0), centres, classes
    )
    cosine = unit[0] @ centres.T
    own, none = cosine[FAMILIES.index("string")], cosine[-1]
    torch.testing.assert_close(found["center"], torch.nn.functional.softplus(8.0 * (none - own)))


@pytest.fixture(scope="module")
def timbre_table(make_clips, tmp_path_factory) -> LabelTable:
    """Timbres a to e: two violins, a trumpet, a guitar and another of which the instrument is unknown; and a noise."""

    def labels(family, instrument, timbre):
        known = LabelSet() if instrument is None else LabelSet((instrument,), complete=True)
        return Labels(is_instrument=True, family=LabelSet((family,), complete=True), instrument=known, timbre=timbre)

    kinds = [
        labels("string", "violin", "b"), labels("string", "violin", "a"), labels("brass", "trumpet", "c"),
        labels("guitar", None, "d"), labels("guitar", None, "e"),
        Labels(is_instrument=False, family=NOTHING, instrument=NOTHING),
    ]  # fmt: skip
    clips: list[Clip] = [
        replace(clip, labels=kinds[number % 6]) for number, clip in enumerate(make_clips(12, split="train"))
    ]
    return LabelTable(write_pack(clips, tmp_path_factory.mktemp("packs") / "timbres", processes=1))


def test_distances_of_classes_are_those_of_the_tree(timbre_table):
    timbre = classes_of(timbre_table, "timbre")
    assert timbre.names == ("a", "b", "c", "d", "e")
    expected = [[0, 1, 3, 3, 3], [1, 0, 3, 3, 3], [3, 3, 0, 3, 3], [3, 3, 3, 0, 2], [3, 3, 3, 2, 0]]
    assert (timbre.distance * 4).tolist() == expected
    family = classes_of(timbre_table, "family")
    assert family.names == (*FAMILIES, "no instrument")
    assert (family.distance[:-1, :-1] * 4).equal(3 * (1 - torch.eye(len(FAMILIES))))
    assert (family.distance[-1] * 4).tolist() == [4.0] * len(FAMILIES) + [0]
    instrument = classes_of(timbre_table, "instrument")
    violin, cello, oboe = (INSTRUMENTS.index(name) for name in ("violin", "cello", "oboe"))
    assert (instrument.distance[violin, [violin, cello, oboe, -1]] * 4).tolist() == [0, 2, 3, 4]
    assert instrument.distance.equal(instrument.distance.T)


@pytest.mark.parametrize("level", ["timbre", "instrument", "family"])
def test_a_level_that_nobody_knows_has_no_classes(make_clips, tmp_path, level):
    table = LabelTable(write_pack(make_clips(6, labels=Labels()), tmp_path / "bare", processes=1))
    with pytest.raises(DataError, match=f"need clips with a known {level}, found none; choose another --class_level"):
        classes_of(table, level)

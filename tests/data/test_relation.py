"""Same, different, unknown: against the definitions written with Python sets, and clip by clip by hand."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data.clip import NOTHING, Labels, LabelSet
from data.labels import INSTRUMENTS, LabelTable
from data.relation import DIFFERENT, LEVELS, SAME, UNKNOWN, positives, relation, relation_of_pairs
from data.taxonomy import FAMILIES, FAMILY_OF_INSTRUMENT, GENRES, genres_of, labels_of
from data.writer import write_pack

NAMES = {"family": FAMILIES, "instrument": INSTRUMENTS, "genre": GENRES}
ALL = {level: set(names) for level, names in NAMES.items()}


# The definitions, slowly


@dataclass
class Known:
    """What is known of a clip, as sets of names."""

    present: dict[str, set[str]]
    absent: dict[str, set[str]]
    timbre: int | None
    is_instrument: bool | None
    is_weak: bool


def known_of(batch: dict[str, torch.Tensor], row: int) -> Known:
    """Reads one clip of a batch and draws what follows from its labels."""
    present, absent = {}, {}
    for level, names in NAMES.items():
        values = batch[level][row].tolist()
        present[level] = {name for name, value in zip(names, values, strict=True) if value == 1}
        absent[level] = {name for name, value in zip(names, values, strict=True) if value == 0}
    timbre = int(batch["timbre"][row])
    timbre = None if timbre < 0 else timbre
    is_instrument = {1: True, 0: False, -1: None}[int(batch["is_instrument"][row])]
    is_weak = bool(batch["is_weak"][row])

    present["family"] |= {FAMILY_OF_INSTRUMENT[name] for name in present["instrument"]}
    absent["family"] -= present["family"]
    absent["instrument"] |= {name for name in INSTRUMENTS if FAMILY_OF_INSTRUMENT[name] in absent["family"]}
    if is_instrument is False:
        present = {level: set() for level in NAMES}
        absent = {"family": set(FAMILIES), "instrument": set(INSTRUMENTS), "genre": set()}
        timbre = None
    elif present["family"] or timbre is not None:
        is_instrument = True
    return Known(present, absent, None if is_weak else timbre, is_instrument, is_weak)


def slow_set(x: Known, y: Known, level: str) -> int:
    """Two clips at a level that is a set of labels."""
    mine, theirs = x.present[level], y.present[level]
    if mine & theirs and not (level != "genre" and (x.is_weak or y.is_weak)):
        return SAME
    may_differ = (
        (mine and theirs)
        or (mine and y.absent[level] == ALL[level])
        or (theirs and x.absent[level] == ALL[level])
        or (level != "genre" and {x.is_instrument, y.is_instrument} == {True, False})
    )
    return DIFFERENT if may_differ and mine <= y.absent[level] and theirs <= x.absent[level] else UNKNOWN


def slow_pair(x: Known, y: Known) -> dict[str, int]:
    """Two clips at every level."""
    found = {level: slow_set(x, y, level) for level in NAMES}
    is_same_timbre = x.timbre is not None and x.timbre == y.timbre
    if is_same_timbre:
        found["family"] = found["instrument"] = SAME
    if found["family"] == DIFFERENT:
        found["instrument"] = DIFFERENT
    if is_same_timbre:
        found["timbre"] = SAME
    elif found["instrument"] == DIFFERENT or (x.timbre is not None and y.timbre is not None):
        found["timbre"] = DIFFERENT
    else:
        found["timbre"] = UNKNOWN
    natures = {x.is_instrument, y.is_instrument}
    found["is_instrument"] = DIFFERENT if natures == {True, False} else UNKNOWN
    if natures == {True} and not (x.is_weak or y.is_weak):
        found["is_instrument"] = SAME
    return found


def slow(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """What `relation` should give, a pair at a time."""
    rows = [known_of(a, row) for row in range(len(a["timbre"]))]
    columns = [known_of(b, row) for row in range(len(b["timbre"]))]
    pairs = [[slow_pair(x, y) for y in columns] for x in rows]
    return {level: np.array([[pair[level] for pair in row] for row in pairs]) for level in LEVELS}


# Random labels


FEW = {
    "family": ("string", "brass", "synth_lead"),
    "instrument": ("violin", "cello", "trumpet", "synth_lead", "tuba"),
    "genre": ("classical", "pop_rock", "world"),
}
"""Few enough labels that clips meet often."""


@st.composite
def level_values(draw, level: str) -> list[int]:
    names = NAMES[level]
    values = [draw(st.sampled_from((-1, 0, 0)))] * len(names)
    for name in FEW[level]:
        values[names.index(name)] = draw(st.sampled_from((values[0], 1, 0, -1)))
    return values


@st.composite
def batches(draw) -> dict[str, torch.Tensor]:
    """Any labels, also ones that contradict each other."""
    size = draw(st.integers(1, 5))
    column = {
        "timbre": st.sampled_from((-1, -1, 0, 1, 256, 65_536)),  # some alike in every byte but one
        "is_instrument": st.sampled_from((-1, 0, 1, 1)),
        "is_weak": st.sampled_from((0, 0, 1)),
    }
    batch = {name: torch.tensor([draw(values) for _ in range(size)]) for name, values in column.items()}
    for level in NAMES:
        batch[level] = torch.tensor([draw(level_values(level)) for _ in range(size)], dtype=torch.int8)
    return batch


@settings(max_examples=60, deadline=None, derandomize=True)
@given(batches(), batches())
def test_relation_is_what_the_definitions_say(a, b):
    expected, found = slow(a, b), relation(a, b)
    for level in LEVELS:
        assert np.array_equal(found[level].numpy(), expected[level]), level


@settings(max_examples=30, deadline=None, derandomize=True)
@given(batches())
def test_levels_agree_with_the_tree(batch):
    found = relation(batch)
    timbre, instrument, family, is_instrument = (found[level] for level in LEVELS[:4])
    for finer, coarser in ((timbre, instrument), (instrument, family), (family, is_instrument)):
        assert (coarser[finer == SAME] == SAME).all()
        assert (finer[coarser == DIFFERENT] == DIFFERENT).all()
    for level in LEVELS:
        assert torch.equal(found[level], found[level].T)
    is_none = batch["is_instrument"] == 0
    for level in LEVELS:
        assert (found[level][is_none][:, is_none] == UNKNOWN).all()


def random_batch(size: int, seed: int) -> dict[str, torch.Tensor]:
    """Labels over all names, as a mixture of data sets has them: about a third known, some lists complete."""
    generator = torch.Generator().manual_seed(seed)

    def draw(values: tuple[int, ...], *shape: int) -> torch.Tensor:
        return torch.tensor(values)[torch.randint(len(values), shape, generator=generator)]

    batch = {"timbre": draw((-1, *range(70_000, 70_020)), size), "is_weak": draw((0, 0, 0, 1), size)}
    batch["is_instrument"] = draw((-1, 0, 1), size)
    for level, names in NAMES.items():
        is_complete = draw((0, 1), size, 1)
        unnamed = torch.where(is_complete == 1, 0, draw((-1, -1, 0), size, len(names)))
        is_named = torch.rand(size, len(names), generator=generator) < 1.5 / len(names)
        batch[level] = torch.where(is_named, 1, unnamed).to(torch.int8)
    return batch


@pytest.mark.parametrize("sizes", [(40, 25), (1, 40), (130, 3)])
def test_batches_over_all_labels(sizes):
    a, b = (random_batch(size, seed) for seed, size in enumerate(sizes))
    expected, found = slow(a, b), relation(a, b)
    for level in LEVELS:
        assert found[level].dtype == torch.int8
        assert np.array_equal(found[level].numpy(), expected[level]), level
        assert set(np.unique(expected[level])) <= {SAME, DIFFERENT, UNKNOWN}


def test_many_rows_are_those_of_few():
    a, b = random_batch(300, 5), random_batch(40, 6)
    whole = relation(a, b)
    for start in (0, 100, 200):
        few = relation({name: column[start : start + 100] for name, column in a.items()}, b)
        for level in LEVELS:
            assert torch.equal(whole[level][start : start + 100], few[level])


def test_an_empty_batch_relates_to_nothing():
    found = relation({name: column[:0] for name, column in random_batch(3, 7).items()}, random_batch(4, 8))
    assert {relations.shape for relations in found.values()} == {(0, 4)}


def test_the_labels_are_left_as_they_were():
    batch = random_batch(20, 9)
    kept = {name: column.clone() for name, column in batch.items()}
    relation(batch)
    assert all(torch.equal(column, kept[name]) for name, column in batch.items())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_same():
    batch = random_batch(200, 10)
    on_gpu = relation({name: column.cuda() for name, column in batch.items()})
    for level, expected in relation(batch).items():
        assert on_gpu[level].is_cuda
        assert torch.equal(on_gpu[level].cpu(), expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_changes_nothing(dtype):
    batch = random_batch(60, 11)
    expected = relation(batch)
    with torch.autocast("cpu", dtype=dtype):
        found = relation(batch)
    assert all(torch.equal(found[level], expected[level]) for level in LEVELS)


# By hand


def note(family: str, timbre: str) -> Labels:
    """As NSynth labels a note: family and timbre known, the instrument's name not."""
    return Labels(is_instrument=True, family=LabelSet((family,), complete=True), timbre=timbre)


def irmas(name: str, genre: str) -> Labels:
    return replace(labels_of("irmas", [name]), genre=genres_of("irmas", [genre]))


CLIPS = {
    "cello_a": note("string", "cello_a"),
    "cello_a_again": note("string", "cello_a"),
    "violin_b": note("string", "violin_b"),
    "horn_c": note("brass", "horn_c"),
    "irmas_cello": irmas("cel", "cla"),
    "irmas_violin": irmas("vio", "jaz_blu"),
    "openmic_cello": labels_of("openmic", ["cello"], absent=["violin", "trumpet"]),
    "openmic_no_cello": labels_of("openmic", ["trumpet"], absent=["cello", "violin"]),
    "openmic_silent": labels_of("openmic", [], absent=["cello"]),
    "quartet": labels_of("musicnet", ["41", "42", "43"], complete=True),
    "piano": replace(labels_of("musicnet", ["1"], complete=True), genre=genres_of("irmas", ["cla"])),
    "duo": labels_of("musicnet", ["41", "1"], complete=True),
    "viola": labels_of("musicnet", ["42"], complete=True),
    "synthesizer": labels_of("medleydb", ["synthesizer"], complete=True),
    "dog": labels_of("esc50", ["dog"], complete=True),
    "siren": labels_of("urbansound8k", ["siren"], complete=True),
    "bells": labels_of("esc50", ["church_bells"], complete=True),
    "unlabelled": Labels(),
    "weak_cello": replace(labels_of("musicnet", ["43"], complete=True), is_weak=True),
    "weak_classical": Labels(genre=LabelSet(("classical",), complete=True), is_weak=True),
    "barking_to_jazz": Labels(False, NOTHING, NOTHING, genre=LabelSet(("jazz_blues",), complete=True)),
}


@pytest.fixture(scope="module")
def related(make_clips, tmp_path_factory):
    """``related(one, other)``: the relations of two of `CLIPS`, through a pack, finest level first."""
    clips = [replace(clip, labels=labels) for clip, labels in zip(make_clips(len(CLIPS)), CLIPS.values(), strict=True)]
    table = LabelTable(write_pack(clips, tmp_path_factory.mktemp("related") / "pack", processes=1))
    found = relation(table.take(np.arange(len(CLIPS))))
    names = list(CLIPS)

    def of(one: str, other: str) -> tuple[int, ...]:
        return tuple(found[level][names.index(one), names.index(other)].item() for level in LEVELS)

    return of


S, D, U = SAME, DIFFERENT, UNKNOWN


@pytest.mark.parametrize(
    ("one", "other", "timbre", "instrument", "family", "is_instrument", "genre"),
    [
        # NSynth does not name instruments: one timbre is one instrument, two of a family may or may not be
        ("cello_a", "cello_a_again", S, S, S, S, U),
        ("cello_a", "violin_b", D, U, S, S, U),
        ("cello_a", "horn_c", D, D, D, S, U),
        # IRMAS names what predominates; anything else may sound too
        ("irmas_cello", "irmas_violin", U, U, S, S, D),
        ("irmas_cello", "horn_c", U, U, U, S, U),
        ("irmas_cello", "openmic_cello", U, S, S, S, U),
        ("irmas_violin", "openmic_cello", U, U, S, S, U),
        ("irmas_cello", "openmic_no_cello", U, U, U, S, U),
        ("irmas_cello", "piano", U, U, U, S, S),
        # OpenMIC knows some instruments to be absent
        ("openmic_cello", "openmic_no_cello", D, D, U, S, U),
        ("openmic_silent", "quartet", U, U, U, U, U),
        # several instruments: one shared is enough
        ("quartet", "duo", U, S, S, S, U),
        ("duo", "piano", U, S, S, S, U),
        ("quartet", "piano", D, D, D, S, U),
        ("duo", "viola", D, D, S, S, U),
        ("quartet", "cello_a", U, U, S, S, U),
        ("piano", "cello_a", D, D, D, S, U),
        # a synthesizer may be anything, but not a dog
        ("synthesizer", "piano", U, U, U, S, U),
        ("synthesizer", "dog", D, D, D, D, U),
        # no instruments
        ("dog", "piano", D, D, D, D, U),
        ("dog", "cello_a", D, D, D, D, U),
        ("dog", "irmas_cello", D, D, D, D, U),
        ("dog", "siren", U, U, U, U, U),
        ("dog", "dog", U, U, U, U, U),
        ("dog", "bells", U, U, U, U, U),
        ("dog", "unlabelled", U, U, U, U, U),
        ("barking_to_jazz", "irmas_violin", D, D, D, D, U),
        ("unlabelled", "piano", U, U, U, U, U),
        # weak: may be silent, so never the same, but what it cannot hold is different
        ("weak_cello", "quartet", U, U, U, U, U),
        ("weak_cello", "weak_cello", U, U, U, U, U),
        ("weak_cello", "piano", D, D, D, U, U),
        ("weak_cello", "horn_c", D, D, D, U, U),
        ("weak_cello", "irmas_violin", U, U, U, U, U),
        ("weak_cello", "dog", D, D, D, D, U),
        ("weak_classical", "irmas_cello", U, U, U, U, S),
    ],
)
def test_clips_by_hand(related, one, other, timbre, instrument, family, is_instrument, genre):
    expected = (timbre, instrument, family, is_instrument, genre)
    assert related(one, other) == expected
    assert related(other, one) == expected


def test_no_clip_is_weak_unless_it_is_said():
    batch = random_batch(30, 12)
    batch["is_weak"].zero_()
    expected = relation(batch)
    del batch["is_weak"]
    assert all(torch.equal(relation(batch)[level], expected[level]) for level in LEVELS)


def test_chosen_pairs_relate_as_in_the_whole():
    batch = random_batch(60, 9)
    whole = relation(batch)
    first, second = torch.randint(60, (2, 70_000), generator=torch.Generator().manual_seed(1))
    found = relation_of_pairs(batch, first, second)
    for level in LEVELS:
        assert torch.equal(found[level], whole[level][first, second]), level
    assert len(relation_of_pairs(batch, first[:0], second[:0])["genre"]) == 0


@settings(max_examples=30, deadline=None, derandomize=True)
@given(batches())
def test_clips_with_a_positive_in_common_are_the_same_and_no_others(batch):
    found = relation(batch)
    for level in ("family", "instrument", "genre"):
        clip, positive = positives(batch, level)
        assert torch.equal(clip, clip.sort().values)
        own = [set(positive[clip == row].tolist()) for row in range(len(batch["timbre"]))]
        shares = [[bool(x & y) for y in own] for x in own]
        assert np.array_equal(found[level].numpy() == SAME, shares), level

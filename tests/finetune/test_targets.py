"""What labels ask of heads: what they imply, what stays unknown, and which heads some clips can teach."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from data import relation
from data.clip import NOTHING, Labels, LabelSet
from data.codes import INSTRUMENTS
from data.labels import LabelTable
from data.mixing import united
from data.taxonomy import FAMILIES, GENRES
from data.writer import write_pack
from finetune import targets
from finetune.heads import HeadSpec
from finetune.targets import Target, heads_for, left_out, targets_of

CLASSES = ("violin", "flute", "drum_kit")
FAMILY = ("string", "flute", "percussion")
SPECS = [
    HeadSpec("instrument", "binary", CLASSES),
    HeadSpec("family", "binary", FAMILY),
    HeadSpec("genre", "binary", ("jazz_blues", "classical")),
    HeadSpec("drums", "binary", ("drums",)),
    HeadSpec("pitch", "classes", ("60", "62")),
    HeadSpec("is_instrument", "binary", ("is_instrument",)),
]
LABELS = {
    "note": Labels(
        is_instrument=True, family=LabelSet(("string",), complete=True), instrument=LabelSet(("violin",)), pitch=62
    ),
    "excerpt": Labels(instrument=LabelSet(("violin",), absent=("flute",)), is_weak=True),
    "band": Labels(
        is_instrument=True,
        family=LabelSet(("string", "percussion"), complete=True),
        instrument=LabelSet(("violin", "drum_kit"), complete=True),
        genre=LabelSet(("jazz_blues",), complete=True),
        drums=True,
    ),
    "bark": Labels(is_instrument=False, family=NOTHING, instrument=NOTHING, pitch=60),
    "hum": Labels(is_instrument=False),
    "unlabelled": Labels(),
    "no strings": Labels(family=LabelSet(absent=("string",))),
    "timbre": Labels(timbre="a", pitch=61),
}
_, N, Y = "?", 0, 1  # unknown, no, yes
EXPECTED = {
    #              violin flute kit | string flute percussion | jazz classical | drums | pitch | is instrument
    "note":       ([Y, N, N], [Y, N, N], [_, _], [_], 1, [Y]),
    "excerpt":    ([Y, N, _], [Y, _, _], [_, _], [_], _, [Y]),
    "band":       ([Y, N, Y], [Y, N, Y], [Y, N], [Y], _, [Y]),
    "bark":       ([N, N, N], [N, N, N], [N, N], [N], _, [N]),
    "hum":        ([N, N, N], [N, N, N], [N, N], [N], _, [N]),
    "unlabelled": ([_, _, _], [_, _, _], [_, _], [_], _, [_]),
    "no strings": ([N, _, _], [N, _, _], [_, _], [_], _, [_]),
    "timbre":     ([_, _, _], [_, _, _], [_, _], [_], _, [Y]),
}  # fmt: skip


@pytest.fixture(scope="module")
def table_of(make_clips, tmp_path_factory):
    """``table_of(labels)``: the table of a pack with one clip for each."""

    def write(labels) -> LabelTable:
        clips = [replace(clip, labels=own) for clip, own in zip(make_clips(len(labels)), labels, strict=True)]
        return LabelTable(write_pack(clips, tmp_path_factory.mktemp("targets") / "pack", processes=1))

    return write


@pytest.fixture(scope="module")
def table(table_of) -> LabelTable:
    return table_of(LABELS.values())


def shown(target: Target) -> list:
    """A target with "?" for what is unknown."""
    assert target.value.shape == target.is_known.shape
    rows = zip(target.value.tolist(), target.is_known.tolist(), strict=True)
    if target.value.ndim == 1:
        return [value if known else _ for value, known in rows]
    return [[value if known else _ for value, known in zip(*row, strict=True)] for row in rows]


def test_what_labels_imply_is_drawn_and_the_rest_stays_unknown(table):
    found = targets_of(table.take(np.arange(len(LABELS))), SPECS)
    for place, spec in enumerate(SPECS):
        expected = [answers[place] for answers in EXPECTED.values()]
        assert dict(zip(LABELS, shown(found[spec.name]), strict=True)) == dict(zip(LABELS, expected, strict=True))
    value, is_known = found["family"]
    assert (value.dtype, is_known.dtype) == (torch.float32, torch.bool)
    assert value[~is_known].eq(0).all()
    value, is_known = found["pitch"]
    assert (value.dtype, is_known.dtype) == (torch.int64, torch.bool)
    assert value[~is_known].eq(-1).all()


def test_lists_assumed_complete_are_those_that_name_something(table):
    labels = table.take(np.arange(len(LABELS)))
    open_, closed = targets_of(labels, SPECS), targets_of(labels, SPECS, frozenset({"instrument", "genre"}))
    instrument = dict(zip(LABELS, shown(closed["instrument"]), strict=True))
    assert instrument["excerpt"] == [Y, N, N]
    for name in set(LABELS) - {"excerpt"}:
        assert instrument[name] == EXPECTED[name][0], name
    for name in ("family", "genre", "drums", "pitch", "is_instrument"):
        assert shown(closed[name]) == shown(open_[name])
    with pytest.raises(ValueError, match="are of family, instrument, genre, drums is none of them"):
        targets_of(labels, SPECS, frozenset({"drums"}))


def test_one_of_many_is_known_where_a_clip_has_one(table):
    rows = np.arange(len(LABELS))
    spec = HeadSpec("instrument", "classes", ("flute", "violin"))
    found = targets_of(table.take(rows), [spec])["instrument"]
    assert dict(zip(LABELS, shown(found), strict=True)) == dict.fromkeys(LABELS, _) | {"note": 1, "excerpt": 1}
    of_others = HeadSpec("instrument", "classes", ("flute", "oboe"))
    assert shown(targets_of(table.take(rows), [of_others])["instrument"]) == [_] * len(LABELS)


def test_what_is_implied_agrees_with_the_relation(table_of):
    generator = np.random.default_rng(0)
    labels = {
        "family": torch.from_numpy(generator.choice([-1, -1, 0, 1], (200, len(FAMILIES))).astype(np.int8)),
        "instrument": torch.from_numpy(generator.choice([-1] * 9 + [0] * 9 + [1], (200, len(INSTRUMENTS)))),
        "genre": torch.from_numpy(generator.choice([-1, 0, 1], (200, len(GENRES))).astype(np.int8)),
        "is_instrument": torch.from_numpy(generator.integers(-1, 2, 200)),
        "timbre": torch.from_numpy(generator.integers(-1, 2, 200)),
        "drums": torch.from_numpy(generator.integers(-1, 2, 200)),
        "pitch": torch.from_numpy(generator.integers(-1, 128, 200)),
    }
    labels["instrument"] = labels["instrument"].to(torch.int8)
    facts = relation._facts(labels)
    specs = [HeadSpec(name, "binary", targets.LABELS[name]) for name in ("family", "instrument", "is_instrument")]
    for name, (value, is_known) in targets_of(labels, specs).items():
        assert torch.equal(value.T.bool(), facts.sounds[name].bool()), name
        assert torch.equal(is_known.T, ~(facts.may_sound[name] - facts.sounds[name]).bool()), name


def test_labels_of_mixes_are_as_good(table):
    names = list(LABELS)
    labels = table.take(np.array([names.index("note"), names.index("bark")]))
    partner = table.take(np.array([names.index("band"), names.index("note")]))
    mix = united(labels, {name: values[:, None] for name, values in partner.items()}, torch.ones(2, 1).bool())
    found = {name: shown(target) for name, target in targets_of(mix, SPECS).items()}
    assert found["instrument"] == [[Y, N, Y], [Y, N, N]]
    assert found["family"] == [[Y, N, Y], [Y, N, N]]
    assert found["pitch"] == [_, _]


def test_nothing_waits_for_the_device(table):
    # On the meta device there are no values: whatever looks at one, and so would wait for a GPU, raises.
    labels = {name: values.to("meta") for name, values in table.take(np.arange(len(LABELS))).items()}
    specs = [*SPECS[1:], HeadSpec("instrument", "classes", CLASSES)]
    found = targets_of(labels, specs, frozenset({"family"}))
    assert all(value.is_meta and is_known.is_meta for value, is_known in found.values())


def test_a_class_that_the_taxonomy_has_not_is_named(table):
    spec = HeadSpec("instrument", "binary", ("violin", "theorbo"))
    with pytest.raises(ValueError, match="the taxonomy has no instrument 'theorbo'"):
        targets_of(table.take(np.arange(2)), [spec])


def test_heads_have_the_classes_that_are_there_in_one_clip_and_not_in_another(table):
    rows = np.arange(len(LABELS))
    found = {spec.name: spec for spec in heads_for(table, rows)}
    assert list(found) == ["instrument", "family", "genre", "drums", "pitch", "is_instrument"]
    assert found["instrument"] == HeadSpec("instrument", "binary", ("violin", "drum_kit"))
    assert found["family"] == HeadSpec("family", "binary", ("string", "percussion"))
    assert found["genre"] == HeadSpec("genre", "binary", ("jazz_blues",))
    assert found["drums"] == SPECS[3]
    assert found["pitch"] == HeadSpec("pitch", "classes", ("61", "62"))
    assert found["is_instrument"] == SPECS[5]


def test_without_counterexamples_there_is_no_head_and_a_reason(table):
    names = list(LABELS)
    rows = np.array([names.index(name) for name in ("excerpt", "timbre", "unlabelled")])
    assert heads_for(table, rows) == []
    reasons = left_out(table, rows)
    assert reasons == {
        "instrument": "no clip is known to have flute; no clip is known to lack violin; --assume_complete [instrument] "
        "would take what a list does not name as absent",
        "family": "no clip is known to lack string; --assume_complete [family] would take what a list does not name as "
        "absent",
        "genre": "nothing is known of genre in any clip",
        "drums": "nothing is known of drums in any clip",
        "pitch": "no clip is known to have another pitch than 61",
        "is_instrument": "no clip is known to hold no instrument",
    }
    assert left_out(table, rows, assume_complete=frozenset({"family"}))["family"].endswith(
        "no clip is known to lack string"
    )
    assert heads_for(table, rows[:0]) == []


def test_assumed_lists_give_counterexamples(table_of):
    table = table_of([Labels(instrument=LabelSet((name,))) for name in ("violin", "flute", "violin", "oboe")])
    rows = np.arange(4)
    assert heads_for(table, rows) == []
    complete = frozenset({"instrument"})
    (spec,) = heads_for(table, rows, assume_complete=complete)
    assert spec == HeadSpec("instrument", "binary", ("flute", "oboe", "violin"))
    assert left_out(table, rows, assume_complete=complete)["instrument"] == (
        "no clip is known to have double_bass_plucked, electric_bass, synth_bass, trumpet, trombone and 89 more"
    )
    specs = heads_for(table, rows, {"instrument": "classes"})
    assert specs[0] == HeadSpec("instrument", "classes", ("flute", "oboe", "violin"))
    assert left_out(table, rows[:1], {"instrument": "classes"})["instrument"] == (
        "no clip is known to have another instrument than violin"
    )


def test_genres_of_the_packs_own_are_named(table_of):
    table = table_of([Labels(genre=LabelSet((name,), complete=True)) for name in ("classical", "polka", "jazz_blues")])
    rows = np.arange(3)
    assert heads_for(table, rows) == [HeadSpec("genre", "binary", ("classical", "jazz_blues"))]
    assert left_out(table, rows)["genre"].startswith(
        "the taxonomy has no genre polka, data/taxonomy.py is where to add"
    )


def test_kinds_that_cannot_be_are_refused(table):
    rows = np.arange(2)
    with pytest.raises(ValueError, match=r"heads are instrument, .*there is no timbre"):
        heads_for(table, rows, {"timbre": "classes"})
    with pytest.raises(ValueError, match="pitch is of kind classes"):
        heads_for(table, rows, {"pitch": "binary"})
    with pytest.raises(ValueError, match="drums is binary"):
        left_out(table, rows, {"drums": "classes"})


def test_many_rows_are_counted_in_parts(table, monkeypatch):
    rows = np.tile(np.arange(len(LABELS)), 3)
    whole = heads_for(table, rows), left_out(table, rows)
    monkeypatch.setattr(targets, "ROWS_AT_ONCE", 5)
    assert (heads_for(table, rows), left_out(table, rows)) == whole

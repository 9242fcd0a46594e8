import numpy as np
import pytest

from audit.errors import AuditError
from audit.filters import LEVELS, rows_matching
from data.clip import NOTHING, SPLITS, Labels, LabelSet
from data.writer import write_pack

VIOLIN = LabelSet(("violin",), complete=True)
LABELS = (
    Labels(is_instrument=True, family=LabelSet(("string",), complete=True), instrument=VIOLIN, pitch=60, drums=False),
    Labels(instrument=LabelSet(("violin",), ("flute",)), genre=LabelSet(("jazz_blues",))),
    Labels(is_instrument=True, family=LabelSet(("brass",), complete=True), pitch=72, drums=True),
    Labels(is_instrument=False, family=NOTHING, instrument=NOTHING),
    Labels(is_instrument=False),
    Labels(),
    Labels(is_instrument=True, family=LabelSet((), ("string",)), genre=LabelSet(("classical",), complete=True)),
)


@pytest.fixture(scope="module")
def pack(make_clips, tmp_path_factory):
    """A clip for each of `LABELS`, in its order."""
    clips = [
        make_clips(
            number + 1, id=f"toy/{number}", labels=labels, source="first" if number < 4 else "second",
            recording=f"side_{number % 2}/{number}", group=f"g/{number}", split=SPLITS[number % 3],
        )[number]
        for number, labels in enumerate(LABELS)
    ]  # fmt: skip
    return write_pack(clips, tmp_path_factory.mktemp("packs") / "filtered", processes=1)


@pytest.mark.parametrize(
    ("filters", "rows"),
    [
        ([], [0, 1, 2, 3, 4, 5, 6]),
        (["family=string"], [0, 1]),  # a violin is a string, whoever said so
        (["family!=string"], [2, 3, 4, 6]),  # not what nobody spoke of
        (["family=string,brass"], [0, 1, 2]),
        (["family!=string,brass"], [3, 4]),  # neither
        (["instrument=violin"], [0, 1]),
        (["instrument!=violin"], [2, 3, 4, 6]),  # no strings, no violin
        (["instrument!=flute"], [0, 1, 2, 3, 4]),
        (["genre=jazz_blues"], [1]),
        (["genre!=jazz_blues"], [6]),
        (["is_instrument=yes"], [0, 1, 2, 6]),
        (["is_instrument=no"], [3, 4]),
        (["is_instrument!=yes"], [3, 4]),
        (["drums=yes"], [2]),
        (["drums=False"], [0]),
        (["pitch=60"], [0]),
        (["pitch=59-72"], [0, 2]),
        (["pitch!=60"], [2]),
        (["source=first"], [0, 1, 2, 3]),
        (["source=*o*"], [4, 5, 6]),
        (["source!=first"], [4, 5, 6]),
        (["split=test"], [2, 5]),
        (["split!=test"], [0, 1, 3, 4, 6]),
        (["group=g/3"], [3]),
        (["recording=side_0/*"], [0, 2, 4, 6]),
        (["family=string", "source=first", "pitch=60"], [0]),
        ([" family = string , brass ", "split!=train"], [1, 2]),
    ],
)
def test_clips_pass_as_their_labels_say(pack, filters, rows):
    passes = rows_matching(pack, filters)
    assert passes.dtype == bool
    assert np.flatnonzero(passes).tolist() == rows


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("family", "a level, = or != and a value"),
        ("family=", "a level, = or != and a value"),
        ("family=string,", "a level, = or != and a value"),
        ("famly=string", "'famly' found; did you mean family"),
        ("family=strings", "'strings' found; did you mean string"),
        ("instrument=violine", "did you mean violin"),
        ("genre=jazz", "a genre was expected"),
        ("split=tests", "train, validation, test was expected .* did you mean test"),
        ("drums=perhaps", "yes or no was expected"),
        ("pitch=c4", "a MIDI note or a range"),
    ],
)
def test_what_is_no_filter_is_refused(pack, text, words):
    with pytest.raises(ValueError, match=words):
        rows_matching(pack, [text])


def test_every_level_answers_for_every_clip(pack):
    values = {"family": "string", "instrument": "violin", "genre": "jazz_blues", "split": "train", "pitch": "3"}
    for level, answer in LEVELS.items():
        known = answer(pack, level, values.get(level, "yes"))
        assert known.shape == (len(LABELS),)
        assert set(known.tolist()) <= {1, 0, -1}


def test_no_clip_left_is_an_error_that_names_the_filter_to_blame(pack):
    with pytest.raises(AuditError, match=r"genre=classical and pitch=3 were asked for, .* pitch=3 alone leaves none"):
        rows_matching(pack, ["genre=classical", "pitch=3"])
    with pytest.raises(AuditError, match=r"has none; python -m"):
        rows_matching(pack, ["genre=classical", "split=test"])

"""Which clips take part, as a person says it: ``family=string``, ``split!=train``, ``pitch=48-60``.

A filter is a level, ``=`` or ``!=``, and one or more values with commas between them: any of them, or none of them.
Clips pass that pass all filters. ``=`` takes what is known to be so and ``!=`` what is known not to be: a clip of which
nobody said whether a violin sounds is neither ``instrument=violin`` nor ``instrument!=violin``. What labels imply
counts as known, as in `data.relation`: a violin is a string.

N clips of the pack, C labels of a level.
"""

import difflib
import fnmatch
import re
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import pyarrow as pa

from audit.errors import AuditError
from data.clip import SPLITS
from data.codes import INSTRUMENTS
from data.pack import Pack
from data.taxonomy import FAMILIES, INSTRUMENTS_OF_FAMILY

YES, NO, UNKNOWN = 1, 0, -1
WORDS = {"yes": YES, "true": YES, "1": YES, "no": NO, "false": NO, "0": NO}


def rows_matching(pack: Pack, filters: Sequence[str]) -> np.ndarray:
    """Says of every clip whether it passes all of some filters.

    Args:
        filters: see the top of this file; levels are the keys of `LEVELS`. ``source``, ``group`` and ``recording`` know
            ``*`` and ``?``, ``is_instrument`` and ``drums`` are yes or no, ``pitch`` is a MIDI note or a range.

    Returns:
        bool ``(N,)``; all True without a filter.

    Raises:
        ValueError: a filter has no level that there is, or a value that its level cannot have.
        AuditError: no clip passes.
    """
    passes = np.ones(len(pack), dtype=bool)
    for text in filters:
        level, is_wanted, values = _parsed(text)
        answers = [LEVELS[level](pack, level, value) for value in values]
        if is_wanted:
            passes &= np.any([answer == YES for answer in answers], axis=0)
        else:
            passes &= np.all([answer == NO for answer in answers], axis=0)
    if not passes.any():
        alone = [text for text in filters if len(filters) > 1 and not _any_passes(pack, text)]
        blamed = f"; {alone[0]} alone leaves none" if alone else ""
        raise AuditError(
            f"clips with {' and '.join(filters)} were asked for, {pack.place} has none{blamed}; python -m "
            "data.describe PACK says what it holds"
        )
    return passes


def _any_passes(pack: Pack, text: str) -> bool:
    try:
        return bool(rows_matching(pack, [text]).any())
    except AuditError:
        return False


def _parsed(text: str) -> tuple[str, bool, list[str]]:
    """The level of a filter, whether its values are wanted, and the values."""
    match = re.fullmatch(r"\s*([^=!]*?)\s*(!?=)\s*(.*?)\s*", text)
    values = [value.strip() for value in match[3].split(",")] if match else []
    if not match or not all(values):
        raise ValueError(f"a filter is a level, = or != and a value, as family=string; {text!r} found")
    if match[1] not in LEVELS:
        raise ValueError(f"{', '.join(LEVELS)} can be filtered by, {match[1]!r} found{_hint(match[1], LEVELS)}")
    return match[1], match[2] == "=", values


def _label(pack: Pack, level: str, value: str) -> np.ndarray:
    """Of a level that is a set of labels: whether one of them sounds, int8 ``(N,)``."""
    names = pack.codes.names[level]
    if value not in names:
        raise ValueError(f"a {level} was expected after {level}=, {value!r} found{_hint(value, names)}")
    if level == "family":
        return _family(pack, value)
    known = _column(pack, level, names.index(value))
    if level == "instrument":
        family = next(family for family, own in INSTRUMENTS_OF_FAMILY.items() if value in own)
        known = np.where(_family(pack, family) == NO, np.int8(NO), known)
    return known


def _family(pack: Pack, name: str) -> np.ndarray:
    """Whether a family sounds, int8 ``(N,)``: it does if one of its instruments does."""
    known = _column(pack, "family", FAMILIES.index(name))
    own = [INSTRUMENTS.index(instrument) for instrument in INSTRUMENTS_OF_FAMILY[name]]
    known = np.where(_column(pack, "instrument", own) == YES, np.int8(YES), known)
    return np.where(pack.codes.columns["is_instrument"] == NO, np.int8(NO), known)


def _column(pack: Pack, level: str, labels: int | list[int] | slice) -> np.ndarray:
    """What is known of one label of a level, or the most that is of several, int8 ``(N,)``."""
    known = pack.codes.sets[level][:, labels]
    return (known if known.ndim == 1 else known.max(axis=1, initial=UNKNOWN))[pack.codes.columns[level]]


def _is_instrument(pack: Pack, level: str, value: str) -> np.ndarray:
    known = pack.codes.columns[level]
    sounds = np.maximum(_column(pack, "family", slice(None)), _column(pack, "instrument", slice(None))) == YES
    return _equals(np.where((known == UNKNOWN) & sounds, np.int8(YES), known), _yes_or_no(level, value))


def _flag(pack: Pack, level: str, value: str) -> np.ndarray:
    return _equals(pack.codes.columns[level], _yes_or_no(level, value))


def _yes_or_no(level: str, value: str) -> int:
    if value.lower() not in WORDS:
        raise ValueError(f"yes or no was expected after {level}=, {value!r} found")
    return WORDS[value.lower()]


def _pitch(pack: Pack, level: str, value: str) -> np.ndarray:
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", value)
    if not match:
        raise ValueError(f"a MIDI note or a range of them was expected after {level}=, as 60 or 48-60; {value!r} found")
    low, high = int(match[1]), int(match[2] or match[1])
    pitch = pack.codes.columns[level]
    return np.where(pitch == UNKNOWN, UNKNOWN, (low <= pitch) & (pitch <= high)).astype(np.int8)


def _split(pack: Pack, level: str, value: str) -> np.ndarray:
    if value not in SPLITS:
        raise ValueError(f"{', '.join(SPLITS)} was expected after {level}=, {value!r} found{_hint(value, SPLITS)}")
    return _equals(pack.codes.columns[level], SPLITS.index(value))


def _name(pack: Pack, level: str, value: str) -> np.ndarray:
    """Of a level that is text: whether it matches a pattern."""
    column = pa.array(pack.column(level), pa.string()).dictionary_encode()
    is_match = re.compile(fnmatch.translate(value)).match
    matching = np.array([is_match(name) is not None for name in column.dictionary.to_pylist()], dtype=np.int8)
    return matching[column.indices.to_numpy()]


def _equals(known: np.ndarray, value: int) -> np.ndarray:
    return np.where(known == UNKNOWN, UNKNOWN, known == value).astype(np.int8)


def _hint(word: str, words: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(words), n=2)
    return f"; did you mean {' or '.join(close)}?" if close else ""


LEVELS: dict[str, Callable[[Pack, str, str], np.ndarray]] = {
    "family": _label, "instrument": _label, "genre": _label,
    "source": _name, "split": _split, "group": _name, "recording": _name,
    "is_instrument": _is_instrument, "drums": _flag, "pitch": _pitch,
}  # fmt: skip
"""What can be filtered by, and what says of every clip whether a value holds: `YES`, `NO` or `UNKNOWN`."""

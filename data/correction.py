"""What a person's correction of a label does to a clip's row in the manifest, at all levels that hang together.

A correction says, of one level of one clip,

===========================  ==========================================================================
``violin``                   this sounds, in place of what was said to sound
``violin; piano``            both sound, in place of what was said to sound
``also violin``              this sounds besides
``no violin``                this does not sound
``also violin; no piano``    both
``none``                     no instrument sounds, as in a dog's bark; not at the level genre
``unknown``                  nobody knows
===========================  ==========================================================================

What it replaces is known to be silent from then on. Families and instruments stay of one mind: an instrument that
sounds makes its family sound; a family that falls silent takes its instruments along; one that begins to sound leaves
open which of its instruments does; one that loses the only instrument that was named falls silent if all others are
known to be, and else becomes unknown.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from data.errors import DataError
from data.taxonomy import FAMILIES, FAMILY_OF_INSTRUMENT, INSTRUMENTS_OF_FAMILY

LEVELS = ("family", "instrument", "genre")
"""Of which corrections are taken."""
NONE, UNKNOWN = "none", "unknown"
ALSO, NO = "also ", "no "
"""Begin what adds a label to a set, and what takes one out."""
SEPARATOR = ";"

States = dict[str, int]
"""Every label of a level: 1 sounds, 0 does not, -1 nobody knows."""


@dataclass(frozen=True, slots=True)
class Correction:
    """One line of a table of corrections."""

    line: int
    """Of the table, for messages."""
    clip: str
    level: str
    text: str
    """As at the top of this module."""
    given: str = ""
    """What the label was when the table was made, likewise; empty if nobody said."""

    @property
    def where(self) -> str:
        """For messages."""
        return f"line {self.line} ({self.level} of {self.clip})"


@dataclass(frozen=True, slots=True)
class _Statement:
    """What a text says of the labels of a level."""

    sounding: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()
    replaces: bool = True
    """Whether what it does not name is silent, if it was said to sound."""
    is_unknown: bool = False
    is_none: bool = False

    @classmethod
    def read(cls, text: str, names: Sequence[str], correction: Correction) -> "_Statement":
        if text == UNKNOWN:
            return cls(is_unknown=True)
        if text == NONE and correction.level != "genre":
            return cls(silent=tuple(names), is_none=True)
        parts = [part.strip() for part in text.split(SEPARATOR) if part.strip()]
        also = tuple(part.removeprefix(ALSO).strip() for part in parts if part.startswith(ALSO))
        silent = tuple(part.removeprefix(NO).strip() for part in parts if part.startswith(NO))
        plain = tuple(part for part in parts if not part.startswith((ALSO, NO)))
        for name in (*plain, *also, *silent):
            if name not in names:
                close = get_close_matches(name, names, n=3, cutoff=0.5)
                hint = f"did it mean {' or '.join(close)}?" if close else "data/taxonomy.py lists them"
                raise DataError(f"{correction.where}: there is no such name as {name!r}; {hint}")
        if plain and (also or silent):
            raise DataError(
                f"{correction.where}: {text!r} both replaces labels and amends them; write 'also {plain[0]}' to amend"
            )
        return cls(plain or also, silent, replaces=bool(plain))

    def holds(self, states: States) -> bool:
        if self.is_unknown:
            return 1 not in states.values()
        return all(states[name] == 1 for name in self.sounding) and all(states[name] == 0 for name in self.silent)

    def applied(self, states: States) -> States:
        if self.is_unknown:
            return dict.fromkeys(states, -1)
        kept = {name: min(state, 0) for name, state in states.items()} if self.replaces else states
        return kept | dict.fromkeys(self.silent, 0) | dict.fromkeys(self.sounding, 1)


def corrected(row: Mapping[str, Any], corrections: Sequence[Correction], genres: Sequence[str]) -> dict[str, Any]:
    """The row of a clip with its labels corrected; equal to what it was if it says so already.

    Args:
        row: of the manifest, as `pyarrow.Table.to_pylist` gives it.
        corrections: of this clip.
        genres: all names that a genre may have.

    Raises:
        DataError: a level or name that there is not, a label that is no longer what it was given as, or corrections
            that contradict each other.
    """
    names = {"family": FAMILIES, "instrument": tuple(FAMILY_OF_INSTRUMENT), "genre": tuple(genres)}
    states = {level: _states(row, level, names[level]) for level in LEVELS}
    before = {level: dict(of_level) for level, of_level in states.items()}
    statements = _statements(corrections, names)
    for level in ("instrument", "family", "genre"):  # the finer first: an instrument says its family too
        for _, statement in statements[level]:
            wanted = statement.applied(states[level])
            if level == "family":
                states["instrument"] = _instruments_of(wanted, states)
            if level == "instrument" and not statement.is_unknown:
                states["family"] = _families_of(wanted, states)
            states[level] = wanted
            if statement.is_none:
                states |= {other: dict.fromkeys(names[other], 0) for other in ("family", "instrument")}
    for of_level in statements.values():
        for one, statement in of_level:
            if not statement.holds(states[one.level]):
                raise DataError(
                    f"{one.where}: {one.text!r} contradicts another correction of the clip; keep one of them"
                )
    if states == before:
        return dict(row)
    for one in corrections:
        given = one.given and _Statement.read(one.given, names[one.level], one)
        if given and not given.holds(before[one.level]):
            raise DataError(
                f"{one.where}: this was {one.given!r} when the table was made and is something else now; make the "
                "table anew"
            )
    return dict(row) | _changes(row, before, states)


def _statements(
    corrections: Sequence[Correction], names: Mapping[str, Sequence[str]]
) -> dict[str, list[tuple[Correction, _Statement]]]:
    found: dict[str, list[tuple[Correction, _Statement]]] = {level: [] for level in LEVELS}
    for one in corrections:
        if one.level not in LEVELS:
            raise DataError(f"line {one.line}: a level should be one of {', '.join(LEVELS)}, found {one.level!r}")
        found[one.level].append((one, _Statement.read(one.text, names[one.level], one)))
    return found


def _instruments_of(family: States, states: Mapping[str, States]) -> States:
    """What is left of the instruments when their families become others."""
    instrument = dict(states["instrument"])
    for name, state in family.items():
        if state != states["family"][name]:
            own = {one: instrument[one] for one in INSTRUMENTS_OF_FAMILY[name]}
            if state == 0:  # what nobody knew of them follows from the family
                instrument |= {one: min(was, 0) for one, was in own.items()}
            elif state == -1 or not any(own.values()):
                instrument |= dict.fromkeys(own, -1)
    return instrument


def _families_of(instrument: States, states: Mapping[str, States]) -> States:
    """The families when the instruments become others."""
    family = dict(states["family"])
    for name, own in INSTRUMENTS_OF_FAMILY.items():
        was, now = ([states_of[one] for one in own] for states_of in (states["instrument"], instrument))
        if 1 in now:
            family[name] = 1
        elif now != was and -1 not in now:
            family[name] = 0
        elif 1 in was:
            family[name] = -1
    return family


def _states(row: Mapping[str, Any], level: str, names: Sequence[str]) -> States:
    states = dict.fromkeys(names, 0 if row[f"{level}_complete"] else -1)
    states |= dict.fromkeys(row[f"{level}_absent"] or (), 0)
    return states | dict.fromkeys(row[f"{level}_present"] or (), 1)


def _changes(row: Mapping[str, Any], before: Mapping[str, States], states: Mapping[str, States]) -> dict[str, Any]:
    """The columns of the manifest that become others."""
    changed: dict[str, Any] = {}
    for level in LEVELS:
        if states[level] != before[level]:
            sounding, silent = ([name for name, own in states[level].items() if own == state] for state in (1, 0))
            is_complete, is_known = -1 not in states[level].values(), bool(sounding or silent)
            changed |= {
                f"{level}_present": sounding if is_known else None,
                f"{level}_absent": ([] if is_complete else silent) if is_known else None,
                f"{level}_complete": is_complete,
            }
    others = {name for name, state in states["instrument"].items() if state != before["instrument"][name]}
    if any(name in others for name, _ in row["instrument_relevance"] or ()):
        kept = [(name, value) for name, value in row["instrument_relevance"] if name not in others]
        changed["instrument_relevance"] = kept or None
    if any(states[level] != before[level] for level in ("family", "instrument")):
        found = {*states["family"].values(), *states["instrument"].values()}
        if 1 in found:
            changed["is_instrument"] = True
        elif found == {0}:
            changed["is_instrument"] = False
        elif row["is_instrument"] is False:
            changed["is_instrument"] = None
    return changed

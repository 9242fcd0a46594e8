"""From labels to what heads should answer, and which heads some clips can teach.

What the labels of a clip imply is drawn first, as `data.relation` draws it: an instrument that sounds makes its family
sound, a family or a timbre makes the clip an instrument, an absent family makes its instruments absent, and what is no
instrument has no family, instrument, genre or drums. What then is unknown stays unknown. A weak clip, which may be
silent where its labels say that something sounds, counts as if it sounded.

Shapes: B clips, C classes of a head, L labels of a level, I instruments, F families.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from data.codes import INSTRUMENTS, SETS
from data.labels import LabelTable
from data.taxonomy import FAMILIES, GENRES, INSTRUMENTS_OF_FAMILY
from finetune.heads import NAMES, HeadSpec

LABELS = {
    "instrument": INSTRUMENTS,
    "family": FAMILIES,
    "genre": GENRES,
    "drums": ("drums",),
    "pitch": tuple(str(pitch) for pitch in range(128)),
    "is_instrument": ("is_instrument",),
}
"""What each head may be asked for, in the order of the labels. Of genres the taxonomy's own, which come first in every
pack: others have no place that packs agree on."""
YES_OR_NO = {
    "drums": ("have drums", "have no drums"),
    "is_instrument": ("hold an instrument", "hold no instrument"),
}
"""What is said of heads of one class where no clip answers with yes, and where none does with no."""
ROWS_AT_ONCE = 65_536
NAMES_SHOWN = 5
_SIZES = [len(INSTRUMENTS_OF_FAMILY[family]) for family in FAMILIES]  # a table has its instruments family by family


class Target(NamedTuple):
    """What a head should answer."""

    value: Tensor
    """Of a binary head float ``(B, C)``, 1 or 0; of one of kind classes int64 ``(B,)``, the place of the clip's class.
    0 and -1 where it is unknown."""
    is_known: Tensor
    """bool, of the same shape."""


def targets_of(
    labels: Mapping[str, Tensor], specs: list[HeadSpec], assume_complete: frozenset[str] = frozenset()
) -> dict[str, Target]:
    """What each head should answer, on the device of the labels, for which nothing waits.

    A head of kind classes knows the class of clips that have exactly one at its level.

    Args:
        labels: as `LabelTable.take` gives them, or `data.mixing.united`.
        assume_complete: binary heads of lists of which a clip that names one label, for all that is known, names all:
            what is unknown becomes absent. Clips of which the list names nothing stay unknown.

    Raises:
        ValueError: a head that is no list is taken for complete, or the taxonomy has no such class.
    """
    if others := sorted(assume_complete - set(SETS)):
        raise ValueError(f"lists that can be assumed complete are of {', '.join(SETS)}, {others[0]} is none of them")
    known = _implied(labels)
    targets = {}
    for spec in specs:
        values = known[spec.name]
        places = _places(spec.name, spec.classes, values.device)
        if spec.name == "pitch":
            place_of = torch.full((len(LABELS["pitch"]) + 1,), -1, device=values.device)  # the last is of -1
            place_of[places] = torch.arange(len(places), device=values.device)
            targets[spec.name] = _class_target(place_of[values])
        elif spec.name not in SETS:
            targets[spec.name] = _binary_target(values[:, None])
        elif spec.kind == "classes":
            is_present = values == 1
            own = is_present.index_select(1, places)  # (B, C)
            is_one = (is_present.sum(dim=1) == 1) & own.any(dim=1)
            targets[spec.name] = _class_target(own.to(torch.uint8).argmax(dim=1).where(is_one, -1))
        else:
            own = values.index_select(1, places)
            if spec.name in assume_complete:
                own = own.masked_fill((own < 0) & (values == 1).any(dim=1, keepdim=True), 0)
            targets[spec.name] = _binary_target(own)
    return targets


def heads_for(
    table: LabelTable,
    rows: np.ndarray,
    kinds: Mapping[str, str] | None = None,
    assume_complete: frozenset[str] = frozenset(),
) -> list[HeadSpec]:
    """The heads that some clips can teach, with the classes that are known to be there in one and not in another.

    Args:
        rows: row numbers of the clips.
        kinds: of heads that are not of the kind they are by default, which is classes for pitch and else binary.
        assume_complete: see `targets_of`.

    Raises:
        ValueError: there is no such head, or it cannot be of that kind.
    """
    specs = []
    for spec, present, absent in _counted(table, rows, kinds or {}, assume_complete):
        is_taught = (present > 0) & (absent > 0)
        if is_taught.any():
            classes = tuple(name for name, taught in zip(spec.classes, is_taught, strict=True) if taught)
            specs.append(HeadSpec(spec.name, spec.kind, classes))
    return specs


def left_out(
    table: LabelTable,
    rows: np.ndarray,
    kinds: Mapping[str, str] | None = None,
    assume_complete: frozenset[str] = frozenset(),
) -> dict[str, str]:
    """Why `heads_for`, given the same, leaves classes or whole heads out: a sentence for each such head.

    Classes of which nothing is known beside others of which something is are passed over, and so are pitches that do
    not occur.
    """
    reasons = {}
    for spec, present, absent in _counted(table, rows, kinds or {}, assume_complete):
        sentences = _own_genres(table, rows) if spec.name == "genre" else []
        if not (present.any() or absent.any()):
            sentences.insert(0, f"nothing is known of {spec.name} in any clip")
        elif spec.name in YES_OR_NO:
            of_present, of_absent = YES_OR_NO[spec.name]
            sentences += [] if present[0] else [f"no clip is known to {of_present}"]
            sentences += [] if absent[0] else [f"no clip is known to {of_absent}"]
        else:
            sentences += _sentences(spec, present, absent, spec.name in assume_complete)
        if sentences:
            reasons[spec.name] = "; ".join(sentences)
    return reasons


def _sentences(spec: HeadSpec, present: np.ndarray, absent: np.ndarray, is_assumed: bool) -> list[str]:
    """Why classes of a list, or pitches, are left out."""
    never = [name for name, has, lacks in zip(spec.classes, present, absent, strict=True) if lacks and not has]
    always = [name for name, has, lacks in zip(spec.classes, present, absent, strict=True) if has and not lacks]
    if always and spec.kind == "classes":
        return [f"no clip is known to have another {spec.name} than {always[0]}"]
    sentences = []
    if never and spec.name in SETS:
        alone = " alone" if spec.kind == "classes" else ""
        sentences.append(f"no clip is known to have {_listed(never)}{alone}")
    if always:
        advice = f"; --assume_complete [{spec.name}] would take what a list does not name as absent"
        sentences.append(f"no clip is known to lack {_listed(always)}{'' if is_assumed else advice}")
    return sentences


def _own_genres(table: LabelTable, rows: np.ndarray) -> list[str]:
    """A sentence on genres that some clips have and the taxonomy has not."""
    own = table.names["genre"][len(GENRES) :]
    counts = np.zeros(len(own), np.int64)
    for first in range(0, len(rows), ROWS_AT_ONCE) if own else ():
        counts += (table.column("genre", rows[first : first + ROWS_AT_ONCE])[:, len(GENRES) :] == 1).sum(axis=0)
    found = [name for name, count in zip(own, counts, strict=True) if count]
    return [f"the taxonomy has no genre {_listed(found)}, data/taxonomy.py is where to add it"] if found else []


def _counted(
    table: LabelTable, rows: np.ndarray, kinds: Mapping[str, str], assume_complete: frozenset[str]
) -> list[tuple[HeadSpec, np.ndarray, np.ndarray]]:
    """Every head with all classes there may be, and how many clips are known to have and to lack each, ``(C,)``."""
    if others := sorted(kinds.keys() - set(NAMES)):
        raise ValueError(f"heads are {', '.join(NAMES)}, there is no {others[0]}")
    default = {name: "classes" if name == "pitch" else "binary" for name in NAMES}
    specs = [HeadSpec(name, kind, LABELS[name]) for name, kind in (default | dict(kinds)).items()]
    present = {spec.name: torch.zeros(len(spec.classes), dtype=torch.int64) for spec in specs}
    absent = {name: torch.zeros_like(counts) for name, counts in present.items()}
    for first in range(0, len(rows), ROWS_AT_ONCE):
        targets = targets_of(table.take(rows[first : first + ROWS_AT_ONCE]), specs, assume_complete)
        for spec in specs:
            value, is_known = targets[spec.name]
            if spec.kind == "binary":
                here = value.sum(dim=0, dtype=torch.float64).to(torch.int64)
            else:
                here = torch.bincount(value[is_known], minlength=len(spec.classes))
            present[spec.name] += here
            absent[spec.name] += is_known.sum(dim=0) - here
    return [(spec, present[spec.name].numpy(), absent[spec.name].numpy()) for spec in specs]


def _implied(labels: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Labels of the levels that heads have, with what follows from them: 1, 0 and -1; of pitch the number or -1."""
    family, instrument, is_instrument = (labels[name] for name in ("family", "instrument", "is_instrument"))
    is_none = is_instrument == 0
    sounding = torch.stack([part.amax(dim=1) for part in instrument.split(_SIZES, dim=1)], dim=1)  # (B, F)
    family = family.masked_fill(sounding == 1, 1).masked_fill(is_none[:, None], 0)
    of_family = [one.expand(-1, size) for one, size in zip(family.split(1, dim=1), _SIZES, strict=True)]
    is_some = (family == 1).any(dim=1) | (labels["timbre"] >= 0)
    return {
        "instrument": instrument.masked_fill(torch.cat(of_family, dim=1) == 0, 0),
        "family": family,
        "genre": labels["genre"].masked_fill(is_none[:, None], 0),
        "drums": labels["drums"].masked_fill(is_none, 0),
        "pitch": labels["pitch"].masked_fill(is_none, -1),
        "is_instrument": is_instrument.masked_fill(is_some & ~is_none, 1),
    }


@lru_cache(maxsize=64)
def _places(name: str, classes: tuple[str, ...], device: torch.device) -> Tensor:
    """The places of classes among the labels, int64 ``(C,)``; kept, for a GPU is waited for to get them there."""
    place = {label: number for number, label in enumerate(LABELS[name])}
    for one in classes:
        if one not in place:
            raise ValueError(f"the taxonomy has no {name} {one!r}; this head was made with another one")
    return torch.tensor([place[one] for one in classes], device=device)


def _binary_target(values: Tensor) -> Target:
    return Target((values == 1).float(), values >= 0)


def _class_target(places: Tensor) -> Target:
    return Target(places, places >= 0)


def _listed(names: list[str]) -> str:
    if len(names) > NAMES_SHOWN:
        names = [*names[:NAMES_SHOWN], f"{len(names) - NAMES_SHOWN} more"]
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)

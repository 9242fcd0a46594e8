"""Whether two clips are the same, different, or nobody knows, at each level of the label tree.

What the labels of a clip imply is drawn first. An instrument that sounds makes its family sound, a family or a timbre
makes the clip an instrument, an absent family makes its instruments absent, and what is no instrument has no family,
instrument, timbre or genre. Then, at a level that is a set of labels, two clips are

* **same** if a label is known to sound in both;
* **different** if whatever is known to sound in the one is known to be absent in the other, and the other way round.
  This needs something that is known to sound: in both, or in one if the list of the other is complete. Where nothing
  is, an instrument that nobody named is still different from what is no instrument;
* **unknown** if neither.

A timbre is one name, the same or different where both are known. The levels then agree with the tree: the same timbre
is the same instrument and family, also where the instrument has no name, as in NSynth; another family is another
instrument, and another instrument another timbre. Clips that are no instruments are unknown to each other at every
level, and different from every instrument at every level but genre, which they have not.

Clips of several instruments are the same as soon as they share one. So the relation is not transitive: a violin is the
same instrument as a duo of violin and piano, and so is a piano, which is different from the violin. And different is
said of what is known to sound: where a list is open, something that it does not name may still sound in both.

A weak clip may be silent where its labels say that something sounds. So it is never the same instrument or family as
another clip, and its timbre counts as unknown; but what may sound in it must be absent in the other for the two to be
different. Genre belongs to the whole recording and is not weakened.

Shapes: A and B clips, C labels of a level.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from data.labels import INSTRUMENTS
from data.taxonomy import FAMILIES, FAMILY_OF_INSTRUMENT

SAME, DIFFERENT, UNKNOWN = 1, 0, -1
LEVELS = ("timbre", "instrument", "family", "is_instrument", "genre")
"""Finest first; genre stands beside the tree."""

# A level that is a set is one matrix product of codes. A label that sounds in both clips adds _SOUNDS squared, one that
# sounds in one and may in the other -2, all that may sound in both together less than 1, one that is absent in either
# nothing. So the sum is 1 or more for same, -1 or less for unknown, and between them for different. Powers of two stay
# exact in whatever precision a device chooses for the product.
_SOUNDS = 64.0
_CODES = torch.tensor([0.0, _SOUNDS, -2 / _SOUNDS])  # of absent, present and, at -1, unknown

# What a clip's list is like at a level. A pair that may not be different adds -2 to the sum.
_SOME, _NO_INSTRUMENT, _NOTHING_OF_AN_INSTRUMENT, _NOTHING, _OPEN_OF_AN_INSTRUMENT, _OPEN = range(6)
_MAY_DIFFER = (
    (_SOME, _SOME), (_SOME, _NO_INSTRUMENT), (_SOME, _NOTHING_OF_AN_INSTRUMENT), (_SOME, _NOTHING),
    (_NO_INSTRUMENT, _NOTHING_OF_AN_INSTRUMENT), (_NO_INSTRUMENT, _OPEN_OF_AN_INSTRUMENT),
)  # fmt: skip
_OF_KINDS = torch.full((6, 6), -2.0)
for _one, _other in _MAY_DIFFER:
    _OF_KINDS[_one, _other] = _OF_KINDS[_other, _one] = 0.0

_FAMILY_OF = torch.tensor([FAMILIES.index(FAMILY_OF_INSTRUMENT[name]) for name in INSTRUMENTS])
_ROWS = 128  # of a result at a time on a CPU, so that what is in between stays in its cache


def relation(a: Mapping[str, Tensor], b: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """Relates every clip of one batch to every clip of another.

    Args:
        a: labels as `LabelTable.take` gives them: ``family``, ``instrument`` and ``genre``, int8 ``(A, C)``;
            ``timbre`` and ``is_instrument``, int64 ``(A,)``; ``is_weak``, 1 or 0, may be left out if no clip is.
        b: labels of B clips, timbres numbered as in `a`; `a` itself if left out.

    Returns:
        For each of `LEVELS`, int8 ``(A, B)`` of `SAME`, `DIFFERENT` and `UNKNOWN`, on the device of the labels.
    """
    ours = _facts(a)
    theirs = ours if b is None else _facts(b)
    device = ours.is_weak.device
    size = len(ours.is_weak), len(theirs.is_weak)
    result = {level: torch.empty(size, dtype=torch.int8, device=device) for level in LEVELS}
    for level in ours.sets:
        _compare(*_factors(ours, theirs, level), out=result[level])
    torch.add(ours.nature[:, None], theirs.nature - 1, out=result["is_instrument"]).clamp_(min=UNKNOWN)
    _follow_the_tree(ours, theirs, result)
    return result


@dataclass(frozen=True)
class _Facts:
    """What is known of clips, with what follows from it; everything int8."""

    sets: dict[str, Tensor]
    """``(C, B)`` of each level: 1 sounds, 0 absent, -1 may sound."""
    kinds: dict[str, Tensor]
    """``(B,)`` of each level: what the clip's list is like; int64."""
    timbre: Tensor
    """``(4, B)``, the bytes of its number."""
    no_timbre: Tensor
    """``(B,)``: 0, or -1 where it is not known."""
    nature: Tensor
    """``(B,)``: 1 instrument, 0 none, and far below where it is not known."""
    is_weak: Tensor
    """``(B,)``: 1 or 0"""


def _facts(labels: Mapping[str, Tensor]) -> _Facts:
    family, instrument, genre = (labels[level].T.contiguous() for level in ("family", "instrument", "genre"))
    timbre = labels["timbre"]
    is_none = labels["is_instrument"] == 0
    is_weak = labels["is_weak"] == 1 if "is_weak" in labels else torch.zeros_like(is_none)
    family_of = _FAMILY_OF.to(timbre.device)

    sounding = torch.zeros_like(family).index_add_(0, family_of, instrument.clamp(min=0))
    family = family.masked_fill(sounding > 0, 1) * ~is_none
    instrument = instrument * (family * family)[family_of]  # absent where the family is
    genre = genre.masked_fill(is_none, -1)
    is_one = ~is_none & ((labels["is_instrument"] == 1) | (family == 1).any(0) | (timbre >= 0))
    nobody = torch.zeros_like(is_none)
    return _Facts(
        sets={"instrument": instrument, "family": family, "genre": genre},
        kinds={
            "instrument": _kinds(instrument, is_one, is_none),
            "family": _kinds(family, is_one, is_none),
            "genre": _kinds(genre, nobody, nobody),
        },
        timbre=timbre.clamp(min=0).to(torch.int32).view(torch.int8).view(-1, 4).T.contiguous(),
        no_timbre=-((timbre < 0) | is_none | is_weak).to(torch.int8),
        nature=is_one.to(torch.int8).masked_fill(~is_one & ~is_none, -60),
        is_weak=is_weak.to(torch.int8),
    )


def _kinds(level: Tensor, is_one: Tensor, is_none: Tensor) -> Tensor:
    """What the lists of clips ``(C, B)`` are like: int64 ``(B,)``."""
    is_nothing = (level * level).amax(0) == 0
    kinds = torch.full_like(is_one, _OPEN, dtype=torch.int64).masked_fill(is_one, _OPEN_OF_AN_INSTRUMENT)
    kinds = kinds.masked_fill(is_nothing, _NOTHING).masked_fill(is_nothing & is_one, _NOTHING_OF_AN_INSTRUMENT)
    return kinds.masked_fill(is_none, _NO_INSTRUMENT).masked_fill(level.amax(0) == 1, _SOME)


def _factors(ours: _Facts, theirs: _Facts, level: str) -> tuple[Tensor, Tensor]:
    """Two matrices whose product ``(A, B)`` is the relation at a level, before it is cut to -1, 0 and 1."""
    x, y = ours.sets[level], theirs.sets[level]
    if x.device.type == "cpu":  # labels that sound in no clip change nothing; a GPU would have to be waited for
        sounds = x.clamp(min=0).any(1) | y.clamp(min=0).any(1)
        x, y = x[sounds], y[sounds]
    codes, of_kinds = _CODES.to(x.device), _OF_KINDS.to(x.device)
    is_kind = torch.arange(len(of_kinds), device=x.device)[:, None] == theirs.kinds[level]
    left = torch.cat([codes[x.long()], of_kinds[:, ours.kinds[level]]]).T
    return left, torch.cat([codes[y.long()], is_kind.to(codes.dtype)])


def _compare(x: Tensor, y: Tensor, out: Tensor) -> None:
    """Fills in the relation at a level from its factors ``(A, K)`` and ``(K, B)``."""
    scratch = x.new_empty(_rows_of(out), y.shape[1])
    with torch.autocast(x.device.type, enabled=False):
        for part in _parts(out):
            sums = torch.mm(x[part], y, out=scratch[: len(out[part])])
            out[part].copy_(sums.clamp_(UNKNOWN, SAME))  # cuts what is between -1 and 1 to 0


def _follow_the_tree(ours: _Facts, theirs: _Facts, result: dict[str, Tensor]) -> None:
    """Lets weak clips be the same as none, fills in timbre, and takes what one level says over to the next."""
    on_cpu = ours.timbre.device.type == "cpu"
    has_weak = not on_cpu or ours.is_weak.any() or theirs.is_weak.any()
    places = [place for place in range(4) if not on_cpu or ours.timbre[place].any() or theirs.timbre[place].any()]
    for part in _parts(result["timbre"]):
        timbre, instrument, family, is_instrument, _ = (result[level][part] for level in LEVELS)
        if has_weak:
            is_weak = ours.is_weak[part, None] | theirs.is_weak
            for level in (instrument, family, is_instrument):
                level -= 2 * (level.clamp(min=0) & is_weak)  # same to unknown

        torch.bitwise_or(ours.no_timbre[part, None], theirs.no_timbre, out=timbre)
        differs = timbre.clone()
        for place in places:  # a CPU compares bytes many times faster than wider numbers
            differs |= ours.timbre[place, part, None] ^ theirs.timbre[place]
        same = differs.logical_not().view(torch.int8)
        timbre += same
        at_least = 2 * same - 1
        torch.maximum(family, at_least, out=family)
        torch.maximum(instrument, at_least, out=instrument)
        instrument *= family * family  # different where the family is
        timbre *= instrument * instrument


def _rows_of(result: Tensor) -> int:
    return _ROWS if result.device.type == "cpu" else max(len(result), 1)


def _parts(result: Tensor) -> Iterator[slice]:
    """Cuts a result into rows that are worked on together."""
    return (slice(start, start + _rows_of(result)) for start in range(0, len(result), _rows_of(result)))

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

Shapes: A and B clips, C labels of a level, P bytes of eight bits.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from data.taxonomy import FAMILIES, INSTRUMENTS_OF_FAMILY

SAME, DIFFERENT, UNKNOWN = 1, 0, -1
LEVELS = ("timbre", "instrument", "family", "is_instrument", "genre")
"""Finest first; genre stands beside the tree."""

_SIZES = [len(INSTRUMENTS_OF_FAMILY[family]) for family in FAMILIES]  # a table has its instruments family by family
_FAMILY_OF = torch.arange(len(FAMILIES)).repeat_interleave(torch.tensor(_SIZES))
_BITS = (2 ** torch.arange(8)).to(torch.uint8)[:, None]
_PAIRS = 16_384  # of chosen pairs at a time: below what torch shares out to threads, which costs more than it saves
_ROWS = 128  # of a result at a time on a CPU, so that what is in between stays in its cache


def relation(a: Mapping[str, Tensor], b: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """Relates every clip of one batch to every clip of another.

    Args:
        a: labels as `LabelTable.take` gives them: ``family``, ``instrument`` and ``genre``, int8 ``(A, C)``;
            ``timbre`` and ``is_instrument``, int64 ``(A,)``; ``is_weak``, 1 or 0, may be left out if no clip is.
        b: labels of B clips, timbres numbered as in `a`; `a` itself if left out.

    Returns:
        For each of `LEVELS`, int8 ``(A, B)`` of `SAME`, `DIFFERENT` and `UNKNOWN`, on the device of the labels; views
        of one tensor.
    """
    ours = _facts(a)
    theirs = ours if b is None else _facts(b)
    size = ours.timbre.shape[1], theirs.timbre.shape[1]
    result = ours.timbre.new_empty((len(LEVELS), *size))
    if not result.numel():
        return dict(zip(LEVELS, result.view(torch.int8), strict=True))
    pairs = _pairs(ours, theirs)
    columns = {name: y.unbind(0) for name, (_, y) in pairs.items()}
    step = _ROWS if result.device.type == "cpu" else size[0]
    memory = result.new_empty((4, step, size[1]))

    def rows_of(clips: Tensor | slice) -> _Bytes:
        return {name: x[:, clips, None].unbind(0) for name, (x, _) in pairs.items()}

    chosen, kind = _kinds(ours)
    alone = result.new_empty((2, len(chosen), size[1]))
    for start in range(0, len(chosen), step):
        part = slice(start, start + step)
        _relate_alone(rows_of(chosen[part]), columns, alone[:, part], memory)
    for start in range(0, size[0], step):
        part = slice(start, start + step)
        for level, found in zip((3, 4), alone, strict=True):
            torch.index_select(found, 0, kind[part], out=result[level, part])
        _relate_tree(rows_of(part), columns, result[:4, part], memory)
    return dict(zip(LEVELS, result.view(torch.int8), strict=True))


def relation_of_pairs(labels: Mapping[str, Tensor], first: Tensor, second: Tensor) -> dict[str, Tensor]:
    """What `relation` says of chosen pairs of a batch's clips, without all the others.

    Args:
        labels: of A clips, as in `relation`.
        first, second: int64 ``(N,)``, the clips of each of N pairs, from 0 to A - 1.

    Returns:
        For each of `LEVELS`, int8 ``(N,)``.
    """
    facts = _facts(labels)
    result = facts.timbre.new_empty((len(LEVELS), 1, len(first)))
    pairs = _pairs(facts, facts) if result.numel() else {}
    by_clip = {name: [side.T.contiguous() for side in sides] for name, sides in pairs.items()}  # (A, P)
    for start in range(0, len(first), _PAIRS):
        part = slice(start, start + _PAIRS)
        chosen = {
            name: (x.index_select(0, first[part]).T, y.index_select(0, second[part]).T)
            for name, (x, y) in by_clip.items()
        }
        rows = {name: x.contiguous()[:, None].unbind(0) for name, (x, _) in chosen.items()}
        columns = {name: y.contiguous().unbind(0) for name, (_, y) in chosen.items()}
        chunk = result[..., part]
        memory = result.new_empty((4, *chunk.shape[1:]))
        _relate_alone(rows, columns, chunk[3:], memory)
        _relate_tree(rows, columns, chunk[:4], memory)
    return dict(zip(LEVELS, result[:, 0].view(torch.int8), strict=True))


def positives(labels: Mapping[str, Tensor], level: str) -> tuple[Tensor, Tensor]:
    """What makes clips the same: two are `SAME` at a level exactly if they have a positive in common.

    Args:
        labels: of A clips, as in `relation`.
        level: family, instrument or genre.

    Returns:
        int64 ``(P,)`` each: a clip, 0 to A - 1, and a number for one of its positives, in the order of the clips. A
        positive is a label that sounds or, for family and instrument, the timbre.
    """
    facts = _facts(labels)
    sounds = facts.sounds[level] if level == "genre" else facts.sounds[level] * facts.is_sure  # (C, A)
    clip, positive = sounds.T.nonzero().unbind(1)
    if level != "genre":
        has_timbre = (facts.no_timbre[0] == 0).nonzero()[:, 0]
        clip = torch.cat([clip, has_timbre])
        positive = torch.cat([positive, len(sounds) + labels["timbre"][has_timbre]])
        order = clip.argsort(stable=True)
        clip, positive = clip[order], positive[order]
    return clip, positive


@dataclass(frozen=True)
class _Facts:
    """What is known of clips, with what follows from it, as uint8.

    A level is a set of labels, 1 or 0 in ``(C, B)``; whether a clip is an instrument is a set of one label.
    """

    sounds: dict[str, Tensor]
    may_sound: dict[str, Tensor]
    """What sounds, and what nobody knows."""
    is_sure: Tensor
    """``(B,)``: 0 in weak clips"""
    timbre: Tensor
    """``(4, B)``, the bytes of its number."""
    no_timbre: Tensor
    """``(1, B)``: all ones where it is not known, else 0."""


def _facts(labels: Mapping[str, Tensor]) -> _Facts:
    """Draws what follows from the labels of clips."""
    family, instrument, genre = (labels[level].T.contiguous() for level in ("family", "instrument", "genre"))
    timbre, is_instrument = labels["timbre"], labels["is_instrument"].to(torch.int8)
    is_none = is_instrument == 0
    is_weak = labels["is_weak"] == 1 if "is_weak" in labels else torch.zeros_like(is_none)

    sounding = torch.stack([names.amax(0) for names in instrument.split(_SIZES)])
    family = family.masked_fill(sounding == 1, 1) * ~is_none
    instrument = instrument * family.abs().index_select(0, _FAMILY_OF.to(family.device))  # absent where the family is
    is_instrument = is_instrument.masked_fill(~is_none & ((family.amax(0) == 1) | (timbre >= 0)), 1)
    genre = genre.masked_fill(is_none, -1)
    sets = {"genre": genre, "is_instrument": is_instrument[None], "family": family, "instrument": instrument}
    return _Facts(
        sounds={level: values.clamp(min=0).view(torch.uint8) for level, values in sets.items()},
        may_sound={level: values.abs().view(torch.uint8) for level, values in sets.items()},
        is_sure=(~is_weak).to(torch.uint8),
        timbre=timbre.clamp(min=0).to(torch.int32).view(torch.uint8).view(-1, 4).T.contiguous(),
        no_timbre=((timbre < 0) | is_none | is_weak).to(torch.uint8).neg()[None],
    )


def _pairs(ours: _Facts, theirs: _Facts) -> dict[str, tuple[Tensor, Tensor]]:
    """Bytes of ours ``(P, A)`` and of theirs ``(P, B)`` that meet.

    For each level, bits that two clips both have where they share a label, and bits that they both have where they may.
    The latter are labels, of which one knows that it sounds and the other that it may, and what lists leave open:
    nothing is known to sound in ours though something may, the same of theirs, and nothing sounds in either.
    """
    places = _used(ours.timbre, theirs.timbre)
    pairs = {
        "timbre": (ours.timbre.index_select(0, places), theirs.timbre.index_select(0, places)),
        "no timbre": (ours.no_timbre, theirs.no_timbre),
    }
    for level in ours.sounds:
        x_sounds, x_may = ours.sounds[level], ours.may_sound[level]
        y_sounds, y_may = theirs.sounds[level], theirs.may_sound[level]
        x_some, x_any, y_some, y_any = (labels.amax(0) for labels in (x_sounds, x_may, y_sounds, y_may))
        x_true, y_true = torch.ones_like(x_any), torch.ones_like(y_any)
        x_rest = torch.stack([x_any ^ x_some, x_true, x_any ^ x_true])
        y_rest = torch.stack([y_true, y_any ^ y_some, y_any ^ y_true])
        used = _used(x_sounds, y_sounds)
        x_sounds, x_may, y_sounds, y_may = (side.index_select(0, used) for side in (x_sounds, x_may, y_sounds, y_may))
        x, y = torch.cat([x_sounds, x_may, x_rest]), torch.cat([y_may, y_sounds, y_rest])
        pairs[f"may share {level}"] = _packed(x), _packed(y)
        if level != "genre":
            x_sounds, y_sounds = x_sounds * ours.is_sure, y_sounds * theirs.is_sure
        pairs[f"share {level}"] = _packed(x_sounds), _packed(y_sounds)
    return pairs


def _used(x: Tensor, y: Tensor) -> Tensor:
    """Which rows of ``(C, A)`` and ``(C, B)`` hold more than zeros, which change nothing; all on a GPU, not to wait."""
    if x.device.type != "cpu":
        return torch.arange(len(x), device=x.device)
    return torch.maximum(x.amax(1), y.amax(1)).nonzero()[:, 0]


def _packed(bits: Tensor) -> Tensor:
    """1 and 0 in uint8 ``(C, B)`` to bits in ``(P, B)``, at least one byte."""
    room = bits.new_zeros((max(1, -(-len(bits) // 8)), 8, bits.shape[1]))
    room.view(-1, bits.shape[1])[: len(bits)] = bits
    return room.mul_(_BITS.to(bits.device)).sum(1, dtype=torch.uint8)


_Bytes = Mapping[str, Sequence[Tensor]]
"""By what they are for, each ``(A, 1)`` or ``(B,)``."""


def _kinds(facts: _Facts) -> tuple[Tensor, Tensor]:
    """Clips that stand for all in genre and in whether they surely are an instrument, and which of them for each.

    There are few, if only a GPU did not have to be waited for to know which: there every clip stands for itself.
    """
    every = torch.arange(len(facts.is_sure), device=facts.is_sure.device)
    if facts.is_sure.device.type != "cpu":
        return every, every
    states = [side[level] for level in ("genre", "is_instrument") for side in (facts.sounds, facts.may_sound)]
    bits = torch.cat([*states, facts.is_sure[None]]).long()
    kinds, kind = (bits << torch.arange(len(bits))[:, None]).sum(0).unique(return_inverse=True)
    return every.new_empty(len(kinds)).scatter_(0, kind, every), kind


def _relate_alone(rows: _Bytes, columns: _Bytes, result: Tensor, memory: Tensor) -> None:
    """Fills in some rows of the levels that hang on no other: is_instrument and genre, uint8 ``(2, A, B)``."""
    may_share, _, _, spare = memory[:, : result.shape[1]].unbind(0)
    for level, out in zip(("is_instrument", "genre"), result, strict=True):
        _meet(rows, columns, f"share {level}", out, spare)
        _meet(rows, columns, f"may share {level}", may_share, spare)
        _judge(out.clamp_max_(1), may_share.clamp_max_(1), spare)


def _relate_tree(rows: _Bytes, columns: _Bytes, result: Tensor, memory: Tensor) -> None:
    """Fills in some rows of timbre, instrument and family, of uint8 ``(4, A, B)`` whose last level is there already."""
    timbre, instrument, family, is_instrument = result.unbind(0)
    same_timbre, may_share, coarser, spare = memory[:, : len(timbre)].unbind(0)
    same_timbre.copy_(_meet(rows, columns, "no timbre", timbre, spare, torch.bitwise_or))
    if rows["timbre"]:
        same_timbre |= _meet(rows, columns, "timbre", may_share, spare, torch.bitwise_xor)
    torch.logical_not(same_timbre, out=same_timbre.view(torch.bool))
    timbre |= same_timbre  # 1, 0, or -1 where one is not known
    torch.bitwise_and(is_instrument, is_instrument.new_ones(1, 1), out=coarser)  # 0 where they differ
    for level, out in (("family", family), ("instrument", instrument)):
        _meet(rows, columns, f"share {level}", out, spare).bitwise_or_(same_timbre)  # the timbre is above them
        _meet(rows, columns, f"may share {level}", may_share, spare).bitwise_or_(same_timbre)
        torch.minimum(may_share, coarser, out=may_share)  # what differs at a coarser level does at a finer one
        _judge(out.clamp_max_(1), may_share, spare)
        coarser, may_share = may_share, coarser
    timbre &= coarser.neg_()


# On a CPU the time of all this is that of passing over memory, so it works in the same few pieces all the time, and in
# bytes alone: a number or another type among the operands would cost several times as much.


def _meet(
    rows: _Bytes, columns: _Bytes, name: str, out: Tensor, spare: Tensor,
    how: Callable[..., Tensor] = torch.bitwise_and,
) -> Tensor:  # fmt: skip
    """What the bytes of some rows and all columns have in common, ``(A, B)``: more than zero if anything."""
    (x, y), *others = zip(rows[name], columns[name], strict=True)
    how(x, y, out=out)
    for x, y in others:
        out |= how(x, y, out=spare)
    return out


def _judge(share: Tensor, may_share: Tensor, spare: Tensor) -> None:
    """1 where they share, 0 where they may not, else -1, in place of `share`; what shares may, and both are 1 or 0."""
    share -= torch.bitwise_xor(may_share, share, out=spare)

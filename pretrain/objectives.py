"""What pulls embeddings together and apart: weighted sums of contrastive, triplet and class losses over the label tree.

Shapes: A rows of this process (views of clips), B rows of all processes, Z size of the projection, C classes.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from data.depth import depths
from data.errors import DataError
from data.labels import INSTRUMENTS, LabelTable
from data.relation import relation
from data.taxonomy import FAMILIES, FAMILY_OF_INSTRUMENT
from losses.classes import arcface_logits, centre_loss, classification_loss, expected_distance
from losses.contrastive import combine_levels, level_losses, scaled_similarity, supervised_contrastive
from losses.gather import gather, gather_with_gradient, is_self_of, mean_over_processes
from losses.miners import batch_hard, family_balanced, semi_hard
from losses.triplet import all_triplets, euclidean, label_classes, mined_triplets, tree_classes

TERMS = ("ntxent", "supcon", "triplet", "center", "arcface", "mae")
SUPCON_LEVELS = ("timbre", "instrument", "family", "is_instrument")
RELATED = ("is_instrument", "timbre", "family", "instrument", "genre", "is_weak")
"""The labels that `relation` asks for."""


def parse_objective(text: str) -> dict[str, float]:
    """``triplet + 0.5*mae`` to the weight of each term.

    Raises:
        ValueError: a term that there is not, or twice, or a weight that is no positive number.
    """
    weights: dict[str, float] = {}
    for part in text.split("+"):
        found = re.fullmatch(r"\s*(?:(-?[0-9]*\.?[0-9]+(?:[eE]-?[0-9]+)?)\s*\*\s*)?([a-z]+)\s*", part)
        if not found or found[2] not in TERMS:
            raise ValueError(
                f"--objective should be a sum such as 'triplet + 0.5*mae' of {', '.join(TERMS)}, {part.strip()!r} found"
            )
        weight = float(found[1] or 1)
        if found[2] in weights or not 0 < weight < math.inf:
            raise ValueError(f"--objective names each term once, with a positive weight; {part.strip()!r} found")
        weights[found[2]] = weight
    return weights


@dataclass(frozen=True)
class Margins:
    """How the terms of an objective are tuned; see the recipe's flags of the same names."""

    temperature: float
    margin: float
    genre_margin: float
    tree_margins: bool
    miner: str
    own_family_share: float
    soft_margin: bool
    scale: float
    angle: float
    alpha: float
    level_weights: Sequence[float] | None = None


@dataclass(frozen=True)
class Classes:
    """The classes of ``center`` and ``arcface``: the labels of one level, and how far apart they lie."""

    level: str
    names: tuple[str, ...]
    distance: Tensor
    """float ``(C, C)`` in [0, 1]."""

    def of(self, labels: Mapping[str, Tensor]) -> Tensor:
        """The class of each clip, int64 ``(A,)``; -1 where it is unknown or there are several, or it may be silent.

        What is no instrument is the last class, except among timbres, where it is none.
        """
        if self.level == "timbre":
            single = labels["timbre"]
        else:
            level = labels[self.level]
            single = torch.where((level == 1).sum(dim=1) == 1, level.argmax(dim=1), -1)
        no_instrument = -1 if self.level == "timbre" else len(self.names) - 1
        return torch.where(labels["is_instrument"] == 0, no_instrument, single.masked_fill(labels["is_weak"] == 1, -1))

    def candidates(self, labels: Mapping[str, Tensor]) -> Tensor:
        """bool ``(A, C)``: the class of each clip and those that it is told from; all where its class is unknown.

        What an open list of labels does not name may sound too, and is no candidate.
        """
        own = self.of(labels)
        if self.level == "timbre":
            return torch.ones(len(own), len(self.names), dtype=torch.bool, device=own.device)
        is_told = F.pad(labels[self.level] == 0, (0, 1), value=True)
        is_own = F.one_hot(own.clamp(min=0), len(self.names)).bool()
        return is_told | is_own | ((own < 0) | (labels["is_instrument"] == 0))[:, None]


def classes_of(table: LabelTable, level: str) -> Classes:
    """The classes of a level, their distance a quarter of the depth at which they part in the tree.

    Two timbres part where the labels of a clip of each say; as deep as may be, where these leave it open.

    Args:
        table: of the pack, whose timbres are numbered there.
        level: ``timbre``, ``instrument`` or ``family``.

    Raises:
        DataError: no clip of the pack has a known class.
    """
    labels = table.column(level)
    if not (labels >= 0 if level == "timbre" else labels == 1).any():
        raise DataError(f"center and arcface need clips with a known {level}, found none; choose another --class_level")
    if level == "timbre":
        numbers, first = np.unique(labels, return_index=True)
        # A timbre is what it is also where a clip of it may be silent.
        of_timbres = {name: values for name, values in table.take(first[numbers >= 0]).items() if name != "is_weak"}
        depth = depths(relation(of_timbres))[1].float()
        names = table.timbre_names
    else:
        names = (*(FAMILIES if level == "family" else INSTRUMENTS), "no instrument")
        families = FAMILIES if level == "family" else tuple(FAMILY_OF_INSTRUMENT[name] for name in INSTRUMENTS)
        same = torch.tensor([[one == other for other in families] for one in families])
        depth = torch.full((len(names), len(names)), 4.0)
        depth[:-1, :-1] = torch.where(same, 2.0, 3.0)
    return Classes(level, names, depth.fill_diagonal_(0.0) / 4)


def weights_of_levels(weights: Sequence[float] | None) -> dict[str, float]:
    """What each level of the tree counts in ``supcon``, finest first; a level of weight 0 is left out altogether.

    Args:
        weights: one for each of `SUPCON_LEVELS`; None takes the published ones, see `combine_levels`.

    Raises:
        ValueError: not as many finite numbers of 0 or more, or all are 0.
    """
    if weights is None:
        weights = [2.0 ** (1 / number) for number in range(1, len(SUPCON_LEVELS) + 1)]
    is_sound = len(weights) == len(SUPCON_LEVELS) and all(0 <= weight < math.inf for weight in weights)
    if not is_sound or not any(weights):
        raise ValueError(
            f"--level_weights should be numbers of 0 or more for {', '.join(SUPCON_LEVELS)}, not all 0; {weights} found"
        )
    return {level: weight for level, weight in zip(SUPCON_LEVELS, weights, strict=True) if weight > 0}


def related(labels: Mapping[str, Tensor], clip: Tensor) -> dict[str, Tensor]:
    """How this process's rows stand to those of all: relations of each level, ``low``, ``high``, ``same_clip``.

    Two views of a clip are the same at every level, also of a clip that nothing is known of.

    Args:
        labels: as `LabelTable.take` gives them, ``(A, ...)``.
        clip: int64 ``(A,)``, one number for all views of a clip.
    """
    own = {name: labels[name] for name in RELATED}
    relations = relation(own, {name: gather(values) for name, values in own.items()})
    low, high = depths(relations)
    same_clip = clip[:, None] == gather(clip)
    found = {level: torch.where(same_clip, 1, values) for level, values in relations.items() if level != "genre"}
    return found | {
        "genre": relations["genre"],
        "low": low.masked_fill(same_clip, 0),
        "high": high.masked_fill(same_clip, 0),
        "same_clip": same_clip,
    }


def objective_losses(
    weights: Mapping[str, float], margins: Margins, unit: Tensor, labels: Mapping[str, Tensor], clip: Tensor,
    uniform: Tensor, centres: Tensor | None = None, classes: Classes | None = None,
) -> dict[str, Tensor]:  # fmt: skip
    """The mean of each term but ``mae`` over the rows of all processes, before it is weighted.

    Args:
        unit: unit projections of this process ``(A, Z)``; those of the others are gathered, with gradient.
        labels, clip: see `related`.
        uniform: float ``(A, B)`` in [0, 1), what ``family_balanced`` draws by.
        centres: unit ``(C, Z)``, for ``center`` and ``arcface``.
        classes: the classes that the centres are of.
    """
    found: dict[str, Tensor] = {}
    if weights.keys() & {"ntxent", "supcon", "triplet"}:
        others, is_self = gather_with_gradient(unit), is_self_of(len(unit), unit.device)
        pairs = related(labels, clip)
    if weights.keys() & {"ntxent", "supcon"}:
        similarity = scaled_similarity(unit, others, margins.temperature)
    if "ntxent" in weights:
        loss = supervised_contrastive(similarity, pairs["same_clip"] & ~is_self, ~is_self)
        found["ntxent"] = mean_over_processes(loss)
    if "supcon" in weights:
        counted = weights_of_levels(margins.level_weights)
        levels = level_losses(similarity, [pairs[level] for level in counted], is_self)
        found["supcon"] = combine_levels([mean_over_processes(loss) for loss in levels], list(counted.values()))
    if "triplet" in weights:
        distance = euclidean(unit, others)
        if margins.tree_margins:
            table = tree_classes(
                pairs["low"], pairs["high"], is_self, margins.margin, pairs["genre"], margins.genre_margin
            )
        else:
            table = label_classes(pairs["timbre"], is_self, margins.margin)
        if margins.miner == "all" and not margins.soft_margin:
            loss = all_triplets(distance, table)
        else:
            mined = {
                "hard": lambda: batch_hard(distance, table),
                "semi_hard": lambda: semi_hard(distance, table),
                "family_balanced": lambda: family_balanced(
                    table, pairs["family"] == 1, uniform, margins.own_family_share
                ),
            }[margins.miner]()
            loss = mined_triplets(distance, table, mined, margins.soft_margin)
        found["triplet"] = mean_over_processes(loss)
    for term, angle in (("center", 0.0), ("arcface", margins.angle)):
        if term in weights:
            found[term] = _class_loss(term, angle, margins, unit, centres, classes, labels)
    return found


def _class_loss(
    term: str, angle: float, margins: Margins, unit: Tensor, centres: Tensor, classes: Classes,
    labels: Mapping[str, Tensor],
) -> Tensor:  # fmt: skip
    """Cross-entropy and, by `alpha`, the centre loss or the expected distance of the guess from the true class."""
    own, is_told = classes.of(labels), classes.candidates(labels)
    logits = arcface_logits(unit, centres, own, margins.scale, angle).masked_fill(~is_told, float("-inf"))
    loss = mean_over_processes(classification_loss(logits, own))
    if term == "center":
        return loss + margins.alpha * mean_over_processes(centre_loss(unit, centres, own))
    plain = arcface_logits(unit, centres, own, margins.scale, 0.0).masked_fill(~is_told, float("-inf"))
    far = expected_distance(plain, own, classes.distance.to(unit.device))
    return loss + margins.alpha * mean_over_processes(far)

"""A share of the labelled clips, to see how many labels a method needs.

Shapes: N clips, C labels.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from data.codes import SETS
from data.errors import DataError
from data.labels import LabelTable
from data.sampler import keys_of, uniform_of

YES_OR_NO = ("is_instrument", "drums")
"""Labels of which either answer counts as a label here."""


def share_of_labels(table: LabelTable, rows: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Draws a share of some clips in which every instrument, family and genre is as frequent as in all of them.

    The rarest label is dealt with first, as in iterative stratification (Sechidis, Tsoumakas and Vlahavas 2011, "On the
    Stratification of Multi-Label Data"): it gets its share of clips, at least one, drawn at random; what comes with
    them counts for the labels that follow. So every label that has a positive among the clips keeps one, even where
    that takes more clips than were asked for.

    Args:
        rows: int64 ``(N,)``, row numbers of the training clips.
        share: in (0, 1]; 1 gives all rows back.
        seed: of the draw, which depends on it and on the row numbers alone.

    Returns:
        int64, ascending.

    Raises:
        DataError: the share lies outside (0, 1].
    """
    if not 0 < share <= 1:
        raise DataError(f"a share of the labels lies above 0 and reaches 1 at most, {share:g} was given; give 0.1")
    if share == 1 or not len(rows):
        return rows
    has = _has(table.take(rows))  # (N, C)
    order = np.argsort(uniform_of(keys_of(seed, 0, rows, 1)[:, 0]), kind="stable")
    is_chosen = np.zeros(len(rows), dtype=bool)
    counts = has.sum(axis=0)
    for label in np.argsort(counts, kind="stable"):
        wanted = min(counts[label], max(1, int(share * counts[label]))) - has[is_chosen, label].sum()
        candidates = order[has[order, label] & ~is_chosen[order]]
        is_chosen[candidates[: max(0, wanted)]] = True
    missing = round(share * len(rows)) - is_chosen.sum()
    is_chosen[order[~is_chosen[order]][: max(0, missing)]] = True
    return rows[is_chosen]


def _has(labels: Mapping[str, Tensor]) -> np.ndarray:
    """Which clips are known to hold each label, bool ``(N, C)``; yes and no are two of them."""
    answers = [torch.stack([labels[name] == answer for name in YES_OR_NO for answer in (0, 1)], dim=1)]
    return torch.cat([*(labels[level] == 1 for level in SETS), *answers], dim=1).numpy()

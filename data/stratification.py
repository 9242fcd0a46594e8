"""Divides groups among splits so that every label comes to the shares asked for.

Iterative stratification (Sechidis, Tsoumakas and Vlahavas 2011, "On the Stratification of Multi-Label Data"), whose
published implementations know no groups. As there, the rarest label is dealt with first, for there is least choice, and
a group goes where it is wanted most. What is different, since a group is worth its clips and brings all their labels:

- The groups of a label come by their number of clips, largest first, so that small ones can fill what is left open.
- How much a split wants a group is judged by all of the group's labels. With d the clips of a label that a split still
  wants, s its share and n the label's clips, the group goes where it lowers most

      sum over labels and splits of  d^2 / (s * n^2).

  For a single label and groups of one size that is the split that misses the largest part of its share, the paper's
  choice; and large groups do not all end in the largest split.
- A label of at least as many groups as there are splits reaches each of them: when no more of its groups are left than
  splits without it, the next goes to one of these.

G groups, C labels, J splits, P pairs of a clip and a label.
"""

from itertools import pairwise

import numpy as np


def stratify(group: np.ndarray, label: np.ndarray, rank: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Chooses a split for every group.

    Args:
        group: int64 ``(P,)``, the group of every clip and label, from 0 to G - 1; each group occurs.
        label: int64 ``(P,)``, the label, from 0 to C - 1.
        rank: int64 ``(G,)``, from 0, different for all groups: decides between equals.
        shares: float64 ``(J,)``, positive.

    Returns:
        int64 ``(G,)``, from 0 to J - 1.
    """
    num_groups, num_labels, num_splits = len(rank), int(label.max(initial=-1)) + 1, len(shares)
    pairs, counts = np.unique(group * num_labels + label, return_counts=True)
    group_of, label_of = pairs // num_labels, pairs % num_labels
    bounds = np.searchsorted(group_of, np.arange(num_groups + 1)).tolist()
    members = _members(group_of, label_of, counts, rank, num_labels)

    clips_left = np.bincount(label_of, counts, num_labels)  # (C,)
    groups_left = np.bincount(label_of, minlength=num_labels)  # (C,)
    rarity = np.lexsort((np.arange(num_labels), clips_left)).argsort()  # (C,)
    must_reach_all = groups_left >= num_splits  # (C,)
    wanted = shares[:, None] * clips_left  # (J, C)
    weight = 1 / (shares[:, None] * np.square(np.maximum(clips_left, 1)))  # (J, C)
    is_missing = np.ones((num_splits, num_labels), bool)

    split = np.full(num_groups, -1)
    while len(split) and clips_left.max() > 0:
        rarest = int(np.where(clips_left > 0, clips_left, np.inf).argmin())
        for number in members[rarest]:
            if split[number] >= 0:
                continue
            part = slice(bounds[number], bounds[number + 1])
            labels, clips = label_of[part], counts[part]
            gain = ((2 * wanted[:, labels] - clips) * clips * weight[:, labels]).sum(axis=1)  # (J,)
            # The order in which a processor adds must not decide.
            tolerance = 1e-9 * np.abs(gain).max()
            is_due = must_reach_all[labels] & (groups_left[labels] <= is_missing[:, labels].sum(axis=0))
            if is_due.any():
                due = labels[is_due]
                gain[~_where_due(is_missing, due[rarity[due].argsort()])] = -np.inf
            best = np.flatnonzero(gain >= gain.max() - tolerance)
            chosen = split[number] = best[rank[number] % len(best)]
            wanted[chosen, labels] -= clips
            is_missing[chosen, labels] = False
            clips_left[labels] -= clips
            groups_left[labels] -= 1
    return split


def _members(
    group_of: np.ndarray, label_of: np.ndarray, counts: np.ndarray, rank: np.ndarray, num_labels: int
) -> list[list[int]]:
    """The groups of every label, by its clips in them, most first."""
    order = np.lexsort((rank[group_of], -counts, label_of))
    bounds = np.searchsorted(label_of[order], np.arange(num_labels + 1)).tolist()
    groups = group_of[order].tolist()
    return [groups[start:end] for start, end in pairwise(bounds)]


def _where_due(is_missing: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """bool ``(J,)``: the splits that miss these labels; where no split misses all, the first labels go before."""
    allowed = np.ones(len(is_missing), bool)
    for label in labels.tolist():
        both = allowed & is_missing[:, label]
        if both.any():
            allowed = both
    return allowed

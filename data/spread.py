"""Which clips stand for all: few of them, spread over labels and over what each label holds."""

from collections import Counter

import numpy as np


def spread(rows: np.ndarray, label: np.ndarray, group: np.ndarray, size: int) -> np.ndarray:
    """Takes at most `size` of some rows, round after round: one of each label a round, from its groups in turn; sorted.

    Args:
        rows: row numbers of the pack.
        label: int64 ``(N,)``, as of all clips of the pack; -1 is never taken.
        group: of all clips of the pack.
    """
    generator = np.random.default_rng(0)
    queues = []
    for value in np.unique(label[rows][label[rows] >= 0]):
        members = generator.permutation(rows[label[rows] == value])
        before, order = Counter(), []  # how many clips of its timbre come before each clip
        for name in group[members]:
            order.append(before[name])
            before[name] += 1
        queues.append(members[np.argsort(order, kind="stable")])
    rounds = [
        queue[place] for place in range(max(map(len, queues), default=0)) for queue in queues if place < len(queue)
    ]
    return np.sort(np.array(rounds[:size], dtype=np.int64))


def some(rows: np.ndarray, size: int) -> np.ndarray:
    """Takes at most `size` of some rows, whatever they are, always the same ones; sorted."""
    return np.sort(np.random.default_rng(0).permutation(rows)[:size])

"""Who is mixed into a clip, and what is heard behind it: drawn in the reader, from (seed, epoch, clip) alone.

A clip's partners are never its neighbours in a batch: these change with the number of processes and micro-batches.

Shapes: B rows of a batch, N clips of the split, P partners at most.
"""

from typing import NamedTuple

import numpy as np

from data.labels import LabelTable
from data.mixing import MOST_CLIPS, Mixing
from data.sampler import keys_of, uniform_of

# Set the streams of keys apart from each other and from those of crops and views, whatever the seed.
_OF_PARTNERS, _OF_BACKGROUNDS = 0x5A7A12D84E1E0001, 0x3C6EF372FE94F82B
_MOST = MOST_CLIPS - 1  # streams are dealt out for so many partners, however few are asked for


class Drawn(NamedTuple):
    """Partners of some clips."""

    rows: np.ndarray
    """int64 ``(B, P)``, row numbers in the pack; -1 where a clip has fewer."""
    start_keys: np.ndarray
    """int64 ``(B, P)``: what each one's crop begins at is drawn from."""
    keys: np.ndarray
    """int64 ``(B,)``: what gains are drawn from."""


class Partners:
    """The clips of a split as partners of each other.

    Args:
        rows: int64 ``(N,)``, row numbers of the split.
    """

    def __init__(self, labels: LabelTable, rows: np.ndarray, mixing: Mixing):
        self.rows, self.mixing = rows, mixing
        # Each (label, position in the split) as one number, sorted: the clips of a label lie side by side.
        is_any = mixing.same == "anything"
        label, position = ((), ()) if is_any else np.nonzero((labels.column(mixing.same, rows) == 1).T)
        self._of_label = np.asarray(label, np.int64) * len(rows) + np.asarray(position, np.int64)
        self._labels = labels

    def draw(self, seed: int, epoch: int | np.ndarray, positions: np.ndarray) -> Drawn:
        """Draws the partners of some clips: none twice, and no clip as its own.

        A split that holds fewer other clips than are asked for gives all it has.

        Args:
            epoch: see `data.sampler.keys_of`.
            positions: int64 ``(B,)``, places of the clips in the split.
        """
        keys = keys_of(seed ^ _OF_PARTNERS, epoch, self.rows[positions], 4 + 2 * _MOST)
        uniform = uniform_of(keys)
        fewest, most = self.mixing.clips
        counts = fewest - 1 + (uniform[:, 1] * (most - fewest + 1)).astype(np.int64)
        counts = np.where(uniform[:, 0] < self.mixing.probability, np.minimum(counts, len(self.rows) - 1), 0)
        first, size, own = self._pools(positions, uniform[:, 2], counts)
        most = self.mixing.most_partners
        picks = others(size, own, uniform[:, 4 : 4 + most])  # (B, P)
        is_partner = np.arange(most) < counts[:, None]
        places = np.where(is_partner, picks, 0)
        is_of_label = is_partner & (first[:, None] >= 0)
        places[is_of_label] = self._of_label[(first[:, None] + picks)[is_of_label]] % len(self.rows)
        rows = np.where(is_partner, self.rows[places], -1)
        return Drawn(rows, keys[:, 4 + _MOST : 4 + _MOST + most], keys[:, 3])

    def _pools(
        self, positions: np.ndarray, uniform: np.ndarray, counts: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """From where each clip's partners are drawn: the first place of that pool, its size, the clip's place in it.

        The pool is that of the clip's label, of one of them if it has several. It is the split, its first place -1,
        where labels play no part, where that of the clip is unknown, and where there are too few others of it.
        """
        whole = np.full(len(positions), -1), np.full(len(positions), len(self.rows)), positions
        if not len(self._of_label):
            return whole
        is_present = self._labels.column(self.mixing.same, self.rows[positions]) == 1  # (B, C)
        nth = (uniform * is_present.sum(1)).astype(np.int64)
        label = (is_present.cumsum(1) == nth[:, None] + 1).argmax(1)
        first, last, place = np.searchsorted(
            self._of_label, [label * len(self.rows), (label + 1) * len(self.rows), label * len(self.rows) + positions]
        )
        is_enough = is_present.any(1) & (last - first - 1 >= counts)
        of_label = first, last - first, place - first
        return tuple(np.where(is_enough, one, other) for one, other in zip(of_label, whole, strict=True))


def others(size: np.ndarray, own: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """Different places in a pool, none of them one's own, each of the rest as likely.

    Args:
        size: int64 ``(B,)``, of the pool.
        own: int64 ``(B,)``, from 0 to ``size - 1``.
        uniform: ``(B, P)`` in [0, 1).

    Returns:
        int64 ``(B, P)``; what goes beyond the ``size - 1`` others is without meaning.
    """
    taken = own[:, None]
    picks = np.empty(uniform.shape, np.int64)
    for number in range(uniform.shape[1]):
        pick = (uniform[:, number] * (size - 1 - number)).astype(np.int64)  # among those not taken, in order
        for place in np.sort(taken, axis=1).T:
            pick += pick >= place
        picks[:, number] = pick
        taken = np.concatenate([taken, pick[:, None]], axis=1)
    return picks


def draw_backgrounds(
    seed: int, epoch: int | np.ndarray, rows: np.ndarray, backgrounds: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Draws what is heard behind some clips.

    Args:
        rows: int64 ``(B,)``, row numbers of the clips.
        backgrounds: row numbers that may be heard; a clip among them may get itself.

    Returns:
        Row numbers and the keys that their crops' beginnings are drawn from, int64 ``(B,)`` each.
    """
    keys = keys_of(seed ^ _OF_BACKGROUNDS, epoch, rows, 2)
    return backgrounds[(uniform_of(keys[:, 0]) * len(backgrounds)).astype(np.int64)], keys[:, 1]

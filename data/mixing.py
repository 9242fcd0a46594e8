"""Mixing of clips on the device: what sounds when two to four of them sound at once, and what is known of that.

The reader draws and reads the partners of each clip (`data.partners`); here they are added at levels that depend on the
clip's key alone, and their labels are united through the label tree. A clip without partners stays as it is, to the
last bit. Nothing here waits for the device.

Shapes: B rows of a batch, P partners at most, S samples, C labels of a level.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from data.draws import uniform_of_keys
from data.errors import DataError
from data.levels import power, ratio_of_db

if TYPE_CHECKING:
    from data.loader import Batch

MOST_CLIPS = 4
QUIETEST = 1e-6
"""Mean square that levels are taken not to fall below: -60 dBFS. What is all but silent is not blown up."""
UNITED = ("is_instrument", "family", "instrument", "genre", "drums", "is_weak")
"""Labels of which a mix has what any of its clips has, and lacks what all of them lack."""
SHARED = ("timbre", "pitch", "velocity")
"""Labels that a mix has if all of its clips have the same."""


@dataclass(frozen=True)
class Mixing:
    """How many clips are mixed with others of their split, with how many, and how loud these are."""

    probability: float = 0.0
    """Share of the clips that others are mixed into, in [0, 1]; 0, the default, mixes none."""
    clips: tuple[int, int] = (2, 4)
    """Fewest and most clips of a mix, the clip itself among them, from 2 to 4; every number is as likely."""
    gain_db: tuple[float, float] = (-6.0, 6.0)
    """Level (RMS of what sounds) of each clip that is mixed in, over that of the clip it is mixed into, drawn evenly.
    The mix is then brought to the level of that clip, as if all were uncorrelated: power is shared, none is added."""
    same: Literal["anything", "genre", "family", "instrument"] = "anything"
    """Mixes clips of one genre, family or instrument where it is known and enough others are of it; else any of the
    split. Two makes of one instrument sound like a third."""

    def __post_init__(self):
        if not 0 <= self.probability <= 1:
            raise DataError(
                f"the probability of mixing should lie between 0 and 1, {self.probability} found; choose a share of "
                "the clips"
            )
        if self.same not in ("anything", "genre", "family", "instrument"):
            raise DataError(f"same of mixing should be anything, genre, family or instrument, {self.same!r} found")
        for name, lowest, highest in (("clips", 2, MOST_CLIPS), ("gain_db", -60, 60)):
            low, high = getattr(self, name)
            if not lowest <= low <= high <= highest:
                raise DataError(
                    f"{name} of mixing should be a range within [{lowest}, {highest}], lower end first, "
                    f"[{low:g}, {high:g}] found; give two numbers"
                )

    @property
    def most_partners(self) -> int:
        """P: as many clips may be mixed into one."""
        return self.clips[1] - 1

    @torch.no_grad()
    def __call__(self, batch: "Batch") -> "Batch":
        """Mixes each clip of a batch with its partners.

        Args:
            batch: on the device, as floats; left as it is.

        Returns:
            A batch without partners: the sound, its length and its labels are those of the mixes, keys and rows
            those of the clips that others were mixed into.
        """
        partners = batch.partners
        if partners is None:
            return batch
        low, high = self.gain_db
        gain_db = low + (high - low) * uniform_of_keys(partners.keys, partners.rows.shape[1])  # (B, P)
        waveform = mixed(batch.waveform, partners.waveform, gain_db, batch.num_samples, partners.num_samples)
        longest = batch.num_samples
        if longest is not None:
            longest = torch.maximum(longest, partners.num_samples.amax(1))
        labels = united(batch.labels, partners.labels, partners.rows >= 0)
        return replace(batch, waveform=waveform, num_samples=longest, labels=labels, partners=None)


def mixed(
    waveform: Tensor, partners: Tensor, gain_db: Tensor, num_samples: Tensor | None, partner_samples: Tensor
) -> Tensor:
    """Adds partners to clips; the expected power of the sum is that of the clip.

    Args:
        waveform: float ``(B, S)``.
        partners: float ``(B, P, S)``, zeros where there is none.
        gain_db: ``(B, P)``, level of each partner over that of the clip.
        num_samples: int64 ``(B,)``, how many of a clip's S samples are sound; None means all.
        partner_samples: int64 ``(B, P)`` likewise, 0 where there is no partner.

    Returns:
        float ``(B, S)``, a new tensor; it may go beyond [-1, 1].
    """
    own = power(waveform, num_samples).clamp(min=QUIETEST)[:, None]
    theirs = power(partners.flatten(0, 1), partner_samples.flatten()).view_as(gain_db).clamp(min=QUIETEST)
    share = ratio_of_db(gain_db).square() * (partner_samples > 0)  # of the clip's own power
    level = (1 + share.sum(1, keepdim=True)).rsqrt()
    gain = level * (own * share / theirs).sqrt()  # (B, P)
    sum_ = waveform * level
    for place in range(partners.shape[1]):
        sum_.addcmul_(partners[:, place], gain[:, place, None])
    return sum_


def united(labels: dict[str, Tensor], partner_labels: dict[str, Tensor], is_partner: Tensor) -> dict[str, Tensor]:
    """The labels of mixes.

    Of each of `UNITED` a mix has what is present in any of its clips; absent is what is absent in all, and the rest is
    unknown: a violin and a clip of which nothing is known hold a violin, and perhaps a flute. What holds a weak clip is
    weak. A label of `SHARED` stays where all clips have the same. The relevance of an instrument is its greatest, known
    where it is known of all clips.

    Args:
        labels: of the clips, see `data.labels.LabelTable.take`.
        partner_labels: of their partners, likewise, each ``(B, P, ...)``.
        is_partner: bool ``(B, P)``, which of them there are.

    Returns:
        As `labels`, new tensors.
    """
    found = {}
    for name, own in labels.items():
        is_there = is_partner.view(*is_partner.shape, *[1] * (own.dim() - 1))
        theirs = partner_labels[name]
        if name in UNITED:
            values = torch.cat([own[:, None], theirs.where(is_there, 0)], dim=1)  # (B, 1 + P, ...); 0 takes no part
            most = values.amax(1)
            found[name] = torch.where(most == 1, most, values.amin(1))
        elif name in SHARED:
            agree = ((theirs == own[:, None]) | ~is_there).all(1)
            found[name] = own.where(agree, -1)
        elif name == "relevance":  # the maximum of anything and NaN is NaN
            found[name] = torch.cat([own[:, None], theirs.where(is_there, 0.0)], dim=1).amax(1)
        else:
            raise ValueError(f"nobody said what becomes of {name!r} in a mix")
    return found

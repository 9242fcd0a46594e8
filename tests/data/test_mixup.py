"""Mixup: powers add up as the shares say, by key alone."""

import pytest
import torch

from data.errors import DataError
from data.levels import power
from data.mixup import Mixup

COUNT, S = 50, 16_000
KEYS = torch.arange(COUNT) * 31


@pytest.fixture(scope="module")
def clips() -> tuple[torch.Tensor, torch.Tensor]:
    """Two independent batches, the second twice as loud."""
    noise = torch.randn(2, COUNT, S, generator=torch.Generator().manual_seed(0))
    return 0.1 * noise[0], 0.2 * noise[1]


def test_powers_are_mixed_in_the_returned_shares(clips):
    waveform, other = clips
    mixed, share = Mixup(probability=1.0, share=(0.2, 0.8))(waveform, other, KEYS)
    assert torch.allclose(mixed, share.sqrt()[:, None] * waveform + (1 - share).sqrt()[:, None] * other)
    assert torch.allclose(power(mixed), share * power(waveform) + (1 - share) * power(other), rtol=0.05)
    assert 0.2 <= share.min() < 0.3
    assert 0.7 < share.max() <= 0.8


def test_clips_that_are_not_mixed_are_untouched(clips):
    waveform, other = clips
    mixed, share = Mixup(probability=0.4)(waveform, other, KEYS)
    assert 10 <= (share < 1).sum() <= 30
    assert torch.equal(mixed[share == 1], waveform[share == 1])
    assert (mixed != waveform).any(1)[share < 1].all()
    mixed, share = Mixup()(waveform, other, KEYS)
    assert torch.equal(mixed, waveform)
    assert torch.equal(share, torch.ones(COUNT))


def test_the_key_alone_decides(clips):
    waveform, other = clips
    mixup = Mixup(probability=0.7)
    together, share = mixup(waveform, other, KEYS)
    for row in (0, 7, 49):
        alone, alone_share = mixup(*(clip[row : row + 1] for clip in (waveform, other, KEYS)))
        assert torch.equal(alone[0], together[row])
        assert alone_share[0] == share[row]


def test_the_other_clip_ends_where_the_clip_ends(clips):
    waveform, other = clips
    lengths = torch.randint(1000, S, (COUNT,), generator=torch.Generator().manual_seed(1))
    is_padding = torch.arange(S) >= lengths[:, None]
    mixed, share = Mixup(probability=1.0)(waveform.masked_fill(is_padding, 0), other, KEYS, lengths)
    assert mixed[is_padding].eq(0).all()
    whole, whole_share = Mixup(probability=1.0)(waveform, other, KEYS)
    assert torch.equal(share, whole_share)
    assert torch.equal(mixed[~is_padding], whole[~is_padding])


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"probability": 2.0}, "probability should lie between 0 and 1, 2.0 found"),
        ({"share": (0.9, 0.1)}, r"share should be a range within \[0, 1\], \[0.9, 0.1\] found"),
        ({"share": (0.5, 1.5)}, r"share should be a range within \[0, 1\]"),
    ],
)
def test_settings_that_make_no_sense_are_named(settings, sentence):
    with pytest.raises(DataError, match=sentence):
        Mixup(**settings)

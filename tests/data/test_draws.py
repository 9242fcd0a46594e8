"""What is drawn from keys is SplitMix64's, fair, and no matter of the batch."""

import torch

from backbones import masking
from data.draws import signs_of_keys, uniform_of_keys

KEYS = torch.tensor([0, 1, -1, 2**63 - 1, -(2**63), 1_234_567_890_123_456_789])


def splitmix64(key: int, count: int) -> list[int]:
    """Figure 16 of Steele, Lea and Flood 2014 in integers of any size."""
    all_bits = 2**64 - 1
    state, outputs = key & all_bits, []
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) & all_bits
        mixed = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & all_bits
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & all_bits
        outputs.append(mixed ^ (mixed >> 31))
    return outputs


def test_uniform_numbers_are_those_that_masks_are_drawn_from():
    assert torch.equal(uniform_of_keys(KEYS, 9), masking.uniform_of_keys(KEYS, 9))
    expected = [[(output >> 40) * 2.0**-24 for output in splitmix64(key, 9)] for key in KEYS.tolist()]
    assert uniform_of_keys(KEYS, 9).tolist() == expected


def test_a_sequence_goes_on_where_it_was_left():
    assert torch.equal(uniform_of_keys(KEYS, 9)[:, 4:], uniform_of_keys(KEYS, 5, first=4))
    assert torch.equal(signs_of_keys(KEYS, 300)[:, 128:], signs_of_keys(KEYS, 172, first=2))


def test_signs_are_the_bits_of_the_sequence():
    expected = [
        [1.0 - 2 * (output >> bit & 1) for output in splitmix64(key, 2) for bit in range(64)] for key in KEYS.tolist()
    ]
    assert signs_of_keys(KEYS, 128).tolist() == expected
    assert signs_of_keys(KEYS, 100).tolist() == [row[:100] for row in expected]


def test_signs_are_fair_and_white():
    signs = signs_of_keys(torch.arange(64), 16_384)
    assert signs.abs().eq(1).all()
    assert signs.mean(1).abs().max() < 5 / 16_384**0.5
    power = torch.fft.rfft(signs).abs().square().mean(0) / 16_384  # (8193,), 1 where noise is white
    bands = power[1:8193].view(64, -1).mean(1)
    assert (bands - 1).abs().max() < 5 / (64 * 128) ** 0.5
    correlation = torch.corrcoef(signs) - torch.eye(64)
    assert correlation.abs().max() < 5.5 / 16_384**0.5


def test_a_draw_depends_on_its_key_alone():
    for draw in (uniform_of_keys, signs_of_keys):
        together = draw(KEYS, 200)
        for place, key in enumerate(KEYS):
            assert torch.equal(draw(key[None], 200)[0], together[place])

"""Masks: how many patches, which ones, and that nothing but the clip's key decides."""

import numpy as np
import pytest
import torch

from backbones.masking import MASK_KINDS, draw_mask, kept_patches, uniform_of_keys

GRID = (8, 12)
SMALL_GRID = (4, 6)
KINDS = sorted(MASK_KINDS)
RATIOS = (0.1, 0.5, 0.75, 0.8, 0.95)
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


def is_kept(mask, num_patches: int) -> torch.Tensor:
    """bool ``(B, N)``."""
    return torch.zeros(len(mask.ids_keep), num_patches, dtype=torch.bool).scatter_(1, mask.ids_keep, True)


def test_uniform_numbers_are_splitmix64():
    assert splitmix64(1_234_567, 1) == [6_457_827_717_110_365_317]  # the value that other implementations publish
    found = uniform_of_keys(KEYS, 9)
    expected = [[(output >> 40) * 2.0**-24 for output in splitmix64(key, 9)] for key in KEYS.tolist()]
    assert found.dtype == torch.float32
    assert found.tolist() == expected


def test_uniform_numbers_are_uniform_and_independent():
    far_apart = torch.randint(-(2**62), 2**62, (2000,), generator=torch.Generator().manual_seed(0))
    for keys in (far_apart, torch.arange(2000)):  # keys that differ in their last bits only are as good
        values = uniform_of_keys(keys, 50)
        assert values.min() >= 0
        assert values.max() < 1
        count = values.flatten().histc(100, 0, 1)
        # Chi-square with 99 degrees of freedom: mean 99, deviation 14; 170 is five deviations.
        assert ((count - 1000).square() / 1000).sum() < 170
        correlation = torch.corrcoef(values.T) - torch.eye(50)
        assert correlation.abs().max() < 5 / 2000**0.5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ratio", RATIOS)
def test_counts_and_partition(kind, ratio):
    mask = draw_mask(KEYS, GRID, ratio, kind, (3, 3))
    kept = kept_patches(GRID, ratio, kind)
    assert mask.ids_keep.shape == (len(KEYS), kept)
    unit = {"time": GRID[0], "frequency": GRID[1]}.get(kind, 1)
    assert kept % unit == 0
    wanted = GRID[0] * GRID[1] * (1 - ratio)
    assert abs(kept - wanted) <= unit / 2 or kept == unit  # as near as whole patches, rows or columns come
    for keep, masked in zip(mask.ids_keep.tolist(), mask.ids_masked.tolist(), strict=True):
        assert keep == sorted(keep)
        assert masked == sorted(masked)
        assert sorted(keep + masked) == list(range(GRID[0] * GRID[1]))


@pytest.mark.parametrize("kind", KINDS)
def test_a_mask_depends_on_its_key_alone(kind):
    keys = torch.arange(100, 140)
    together = draw_mask(keys, GRID, 0.8, kind)
    for place in (0, 7, 39):
        alone = draw_mask(keys[place : place + 1], GRID, 0.8, kind)
        assert torch.equal(alone.ids_keep[0], together.ids_keep[place])
    torch.manual_seed(5)
    reversed_ = draw_mask(keys.flip(0), GRID, 0.8, kind)
    assert torch.equal(reversed_.ids_keep.flip(0), together.ids_keep)
    assert len({tuple(row) for row in together.ids_keep.tolist()}) > 10  # but keys differ


def test_torchs_generator_is_not_read():
    before = torch.get_rng_state()
    draw_mask(KEYS, GRID, 0.8)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("kind", KINDS)
def test_every_patch_is_kept_as_often_as_the_ratio_says(kind):
    kept = is_kept(draw_mask(torch.arange(4000), GRID, 0.8, kind, (3, 3)), GRID[0] * GRID[1]).float()
    rate = kept_patches(GRID, 0.8, kind) / (GRID[0] * GRID[1])
    assert kept.mean() == pytest.approx(rate)
    deviation = (rate * (1 - rate) / 4000) ** 0.5
    if kind == "inverse_block":  # blocks are cut at the edges, where patches are covered by fewer of them
        inner = kept.mean(dim=0).view(GRID)[2:-2, 2:-2]
        assert (inner - inner.mean()).abs().max() < 5 * deviation
    else:
        assert (kept.mean(dim=0) - rate).abs().max() < 5 * deviation


@pytest.mark.parametrize("ratio", RATIOS)
def test_time_and_frequency_keep_whole_columns_and_rows(ratio):
    columns = is_kept(draw_mask(KEYS, GRID, ratio, "time"), 96).view(-1, *GRID)
    assert torch.equal(columns, columns[:, :1].expand_as(columns))
    rows = is_kept(draw_mask(KEYS, GRID, ratio, "frequency"), 96).view(-1, *GRID)
    assert torch.equal(rows, rows[:, :, :1].expand_as(rows))


def inverse_block_by_definition(key: int, grid: tuple[int, int], kept: int, block: tuple[int, int]) -> list[int]:
    """Lays blocks on an empty grid one after the other until enough is kept; the last block is laid in part."""
    freq, time = grid
    noise = [(output >> 40) * 2.0**-24 for output in splitmix64(key, 2 * freq * time)]
    centres, lots = noise[: freq * time], noise[freq * time :]
    height, width = min(block[0], freq), min(block[1], time)
    found: set[int] = set()
    for centre in sorted(range(freq * time), key=lambda patch: (centres[patch], patch)):
        top, left = centre // time - (height - 1) // 2, centre % time - (width - 1) // 2
        rows = range(max(0, top), min(freq, top + height))
        columns = range(max(0, left), min(time, left + width))
        new = {row * time + column for row in rows for column in columns} - found
        found |= set(sorted(new, key=lambda patch: lots[patch])[: kept - len(found)])
        if len(found) == kept:
            return sorted(found)
    raise AssertionError("every patch is the centre of a block, so all of them are covered")


@pytest.mark.parametrize(("grid", "block"), [(GRID, (5, 5)), (GRID, (3, 4)), ((8, 4), (2, 9)), (SMALL_GRID, (1, 1))])
def test_inverse_block_equals_its_definition(grid, block):
    keys = torch.arange(-15, 15)
    mask = draw_mask(keys, grid, 0.7, "inverse_block", block)
    kept = kept_patches(grid, 0.7)
    expected = [inverse_block_by_definition(key, grid, kept, block) for key in keys.tolist()]
    assert mask.ids_keep.tolist() == expected


@pytest.mark.parametrize("kind", KINDS)
def test_padding_is_kept_only_where_sound_is_scarcer(kind):
    is_padding = torch.zeros(40, *GRID, dtype=torch.bool)
    is_padding[:20, :, 6:] = True  # sound enough
    is_padding[20:, :, 1:] = True  # 8 patches of sound, more than that are kept
    is_padding = is_padding.flatten(1)
    mask = draw_mask(torch.arange(40), GRID, 0.8, kind, (3, 3), is_padding)
    padding_kept = is_padding.gather(1, mask.ids_keep).sum(dim=1)
    kept = mask.ids_keep.shape[1]
    scarce = kept - 8
    assert padding_kept[20:].tolist() == [scarce] * 20
    assert padding_kept[:20].sum() == 0
    assert mask.ids_masked.shape == (40, 96 - kept)


def test_no_padding_changes_nothing():
    for kind in KINDS:
        plain = draw_mask(KEYS, GRID, 0.8, kind)
        padded = draw_mask(KEYS, GRID, 0.8, kind, is_padding=torch.zeros(len(KEYS), 96, dtype=torch.bool))
        assert torch.equal(plain.ids_keep, padded.ids_keep)


def test_numpy_keys_of_the_loader_are_taken_as_they_are():
    keys = torch.from_numpy(np.array([2**64 - 1, 2**63], dtype=np.uint64).view(np.int64))
    assert uniform_of_keys(keys, 1).flatten().tolist() == [
        (splitmix64(key, 1)[0] >> 40) * 2.0**-24 for key in (2**64 - 1, 2**63)
    ]


@pytest.mark.parametrize(("grid", "ratio"), [((1, 1), 0.8), ((2, 2), 0.01)])
def test_masks_that_leave_nothing_to_do_are_refused(grid, ratio):
    with pytest.raises(ValueError, match="keeps"):
        draw_mask(KEYS, grid, ratio)

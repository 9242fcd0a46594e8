"""Which patches of a rectangular grid an encoder sees: random, time, frequency and inverse-block masks.

A mask depends on the clip's key and on nothing else: no generator is read, so neither the batch a clip lies in, nor
the process, nor a resume changes it. Every mask of a batch keeps the same number of patches.

Shapes: B batch, N patches of the grid (freq, time), K kept, M masked = N - K.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Mask(NamedTuple):
    """Patches in the grid's order, frequency-major: patch ``f * time + t``."""

    ids_keep: Tensor
    """int64 ``(B, K)``, ascending."""
    ids_masked: Tensor
    """int64 ``(B, M)``, ascending."""


def uniform_of_keys(keys: Tensor, count: int) -> Tensor:
    """Uniform numbers in [0, 1) that are a function of the key alone.

    SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators", figure 16) with the key
    as its state: the n-th output of each key's own sequence.

    Args:
        keys: int64 ``(B,)``.
        count: how many numbers a key.

    Returns:
        float32 ``(B, count)``, multiples of 2^-24.
    """
    index = torch.arange(1, count + 1, device=keys.device)
    state = keys[:, None] + index * -0x61C8864680B583EB  # 0x9E3779B97F4A7C15 as a signed number; products wrap
    state = (state ^ _shifted(state, 30)) * -0x40A7B892E31B1A47  # 0xBF58476D1CE4E5B9
    state = (state ^ _shifted(state, 27)) * -0x6B2FB644ECCEEE15  # 0x94D049BB133111EB
    state = state ^ _shifted(state, 31)
    return _shifted(state, 40).float() * 2.0**-24


def _shifted(value: Tensor, bits: int) -> Tensor:
    """Shift to the right that fills with zeros; int64's own fills with the sign."""
    return (value >> bits) & ((1 << (64 - bits)) - 1)


def kept_patches(grid: tuple[int, int], mask_ratio: float, kind: str = "random") -> int:
    """Number of patches a mask keeps: whole columns for ``time``, whole rows for ``frequency``, at least one."""
    freq, time = grid
    if kind == "time":
        return freq * max(1, round(time * (1 - mask_ratio)))
    if kind == "frequency":
        return time * max(1, round(freq * (1 - mask_ratio)))
    return max(1, round(freq * time * (1 - mask_ratio)))


def draw_mask(
    keys: Tensor,
    grid: tuple[int, int],
    mask_ratio: float,
    kind: str = "random",
    block: tuple[int, int] = (5, 5),
    is_padding: Tensor | None = None,
) -> Mask:
    """Draws one mask a key.

    ``random`` keeps patches anywhere (He et al. 2021, arXiv 2111.06377, section 3); ``time`` keeps columns and
    ``frequency`` rows (Huang et al. 2022, arXiv 2207.06405, section 3.2); ``inverse_block`` keeps blocks until the
    count is reached, the last one in part (Chen et al. 2024, arXiv 2401.03497, section 3.2).

    Args:
        keys: int64 ``(B,)``, one a clip (and clone).
        grid: patches along frequency and along time.
        mask_ratio: share of patches removed, in (0, 1).
        kind: one of `MASK_KINDS`.
        block: size in patches, (freq, time), of the blocks that ``inverse_block`` keeps.
        is_padding: bool ``(B, N)``, patches that hold no sound; they are kept only where sound is scarcer than K.
    """
    freq, time = grid
    num_patches = freq * time
    num_kept = kept_patches(grid, mask_ratio, kind)
    if not 0 < num_kept < num_patches:
        raise ValueError(f"a mask of ratio {mask_ratio} on a {freq} x {time} grid keeps {num_kept} of {num_patches}")
    score = MASK_KINDS[kind](keys, grid, block)  # (B, N), the lowest are kept
    if is_padding is not None:
        score = score + is_padding * (2.0 * num_patches)
    order = score.argsort(dim=1, stable=True)
    return Mask(order[:, :num_kept].sort(dim=1).values, order[:, num_kept:].sort(dim=1).values)


def _random_score(keys: Tensor, grid: tuple[int, int], block: tuple[int, int]) -> Tensor:
    return uniform_of_keys(keys, grid[0] * grid[1])


def _time_score(keys: Tensor, grid: tuple[int, int], block: tuple[int, int]) -> Tensor:
    return uniform_of_keys(keys, grid[1])[:, None, :].expand(-1, grid[0], -1).flatten(1)


def _frequency_score(keys: Tensor, grid: tuple[int, int], block: tuple[int, int]) -> Tensor:
    return uniform_of_keys(keys, grid[0])[:, :, None].expand(-1, -1, grid[1]).flatten(1)


def _inverse_block_score(keys: Tensor, grid: tuple[int, int], block: tuple[int, int]) -> Tensor:
    freq, time = grid
    num_patches = freq * time
    noise = uniform_of_keys(keys, 2 * num_patches)
    # A block may be centred on any patch; it is laid in the order of its rank, and a patch comes with the first
    # block that covers it. Within one block a second draw decides, which matters for the last block only.
    rank = noise[:, :num_patches].argsort(dim=1, stable=True).argsort(dim=1).float().view(-1, 1, freq, time)
    height, width = min(block[0], freq), min(block[1], time)
    padded = F.pad(-rank, (width // 2, (width - 1) // 2, height // 2, (height - 1) // 2), value=-float(num_patches))
    first = -F.max_pool2d(padded, (height, width), stride=1)  # (B, 1, freq, time)
    return first.flatten(1) + noise[:, num_patches:]


MASK_KINDS = {
    "random": _random_score,
    "time": _time_score,
    "frequency": _frequency_score,
    "inverse_block": _inverse_block_score,
}

"""Random numbers that are a function of a clip's key, on the device of the key.

No generator is read, so neither the batch a clip lies in, nor the process, nor a resume changes what is drawn. The
definition is that of `backbones.masking.uniform_of_keys`, which may not be imported here; a test keeps them equal.

Shapes: B rows of a batch.
"""

import torch
from torch import Tensor

_SIGN, _ONE = -(1 << 31), 0x3F800000  # of a float32, seen as int32


def uniform_of_keys(keys: Tensor, count: int, first: int = 0) -> Tensor:
    """Uniform numbers in [0, 1).

    Args:
        keys: int64 ``(B,)``.
        count: how many numbers a key.
        first: how many of the key's own sequence to pass over.

    Returns:
        float32 ``(B, count)``, multiples of 2^-24.
    """
    return _shifted(_outputs(keys, count, first), 40).float() * 2.0**-24


def signs_of_keys(keys: Tensor, count: int, first: int = 0) -> Tensor:
    """Fair signs, 64 of them from each number of a key's sequence: white noise at its cheapest.

    Args:
        keys: int64 ``(B,)``.
        count: how many signs a key.
        first: how many numbers of the key's own sequence to pass over.

    Returns:
        float32 ``(B, count)``, each -1 or 1.
    """
    halves = _outputs(keys, -(-count // 64), first).view(torch.int32)  # (B, 2 * numbers)
    # Each bit in turn moves to where a float has its sign; with the other bits of 1.0 it is one.
    bits = halves[..., None] << torch.arange(31, -1, -1, dtype=torch.int32, device=keys.device)
    return bits.bitwise_and_(_SIGN).bitwise_or_(_ONE).view(torch.float32).flatten(1)[:, :count]


def _outputs(keys: Tensor, count: int, first: int) -> Tensor:
    """SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators", figure 16).

    The key is the state; int64 ``(B, count)`` are its sequence's outputs from number `first` on.
    """
    index = torch.arange(first + 1, first + count + 1, device=keys.device)
    state = keys[:, None] + index * -0x61C8864680B583EB  # 0x9E3779B97F4A7C15 as a signed number; products wrap
    state = (state ^ _shifted(state, 30)) * -0x40A7B892E31B1A47  # 0xBF58476D1CE4E5B9
    state = (state ^ _shifted(state, 27)) * -0x6B2FB644ECCEEE15  # 0x94D049BB133111EB
    return state ^ _shifted(state, 31)


def _shifted(value: Tensor, bits: int) -> Tensor:
    """Shift to the right that fills with zeros; int64's own fills with the sign."""
    return (value >> bits) & ((1 << (64 - bits)) - 1)

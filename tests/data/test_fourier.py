"""Fourier transforms: quick lengths, and the same last bits in any batch."""

import pytest
import torch

from data.fourier import smooth_length, spectrum_of, waveform_of


def is_smooth(number: int) -> bool:
    for prime in (2, 3, 5):
        while number % prime == 0:
            number //= prime
    return number == 1


def test_lengths_are_the_smallest_even_smooth_ones():
    for least in (*range(1, 400), 30_960, 31_999, 32_000, 163_840):
        expected = least + least % 2
        while not is_smooth(expected) or expected % 2:
            expected += 2
        assert smooth_length(max(1, least)) == max(2, expected)


def test_it_is_the_fourier_transform():
    waveform = torch.randn(3, 1000, generator=torch.Generator().manual_seed(0))
    padded = torch.nn.functional.pad(waveform, (0, 24)).double()
    spectrum = spectrum_of(waveform, 1024)
    assert torch.allclose(spectrum, torch.fft.rfft(padded).to(torch.complex64), atol=1e-4)
    assert torch.allclose(waveform_of(spectrum, 1024)[:, :1000], waveform, atol=1e-6)
    spectrum[:, -1] = 0  # a frequency of which twice the rate has two
    assert torch.allclose(waveform_of(spectrum, 2048)[:, ::2] * 2, waveform_of(spectrum, 1024), atol=1e-6)


@pytest.mark.parametrize("points", [972, 32_000])
def test_rows_are_the_same_in_any_batch(points):
    waveform = torch.randn(9, points - 50, generator=torch.Generator().manual_seed(1))
    spectrum = spectrum_of(waveform, points)
    back = waveform_of(spectrum, points)
    for size in (1, 2, 3, 5):
        for first in range(0, 9 - size, 2):
            rows = slice(first, first + size)
            assert torch.equal(spectrum_of(waveform[rows], points), spectrum[rows])
            assert torch.equal(waveform_of(spectrum[rows], points), back[rows])

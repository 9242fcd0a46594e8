"""Wavelets find a tone at its frequency and hear what happens between frames."""

import math

import pytest
import torch

from backbones.log_mel import HOP, RATE, LogMel, frames_of
from backbones.wavelets import CYCLES, FIRST, GAIN, LOWEST_HZ, PER_OCTAVE, Wavelets


@pytest.fixture(scope="module")
def wavelets() -> Wavelets:
    return Wavelets()


def tone(hertz: float, amplitude: float = 0.5, samples: int = RATE) -> torch.Tensor:
    return (amplitude * torch.sin(2 * math.pi * hertz * torch.arange(samples) / RATE))[None]


@pytest.mark.parametrize("index", [0, 12, 29, 57, 83])
def test_a_tone_is_found_at_its_frequency_with_its_power(wavelets, index):
    hertz = LOWEST_HZ * 2 ** (index / PER_OCTAVE)
    found = wavelets(tone(hertz))
    assert found.shape == (1, frames_of(RATE), wavelets.num_features)
    middle = found[0, 30:60].mean(dim=0)
    assert middle.argmax() == index
    assert middle[index].item() == pytest.approx(math.log((100 * 0.5) ** 2), abs=0.02)
    # A wavelet an interval away hears the Gaussian of its own width: exp(-(w0 (1 - f / f0))^2 / 2) in amplitude.
    other = index + 2 if index < 80 else index - 2
    ratio = 2 ** ((index - other) / PER_OCTAVE)
    assert (middle[other] - middle[index]).item() == pytest.approx(-((CYCLES * (1 - ratio)) ** 2), abs=0.1)


def test_they_are_means_over_a_hop_of_a_slow_transform(wavelets):
    waveform = 0.1 * torch.randn(1, 4000, generator=torch.Generator().manual_seed(0))
    found = wavelets(waveform).exp()[0]
    for index in (10, 40, 70, 80):
        hertz = LOWEST_HZ * 2 ** (index / PER_OCTAVE)
        deviation = CYCLES * RATE / (2 * math.pi * hertz)
        for frame in (3, 9, 15):
            time = FIRST + frame * HOP + torch.arange(0, HOP, wavelets._steps[index // PER_OCTAVE], dtype=torch.float64)
            lag = time[:, None] - torch.arange(4000)
            wave = torch.polar((-0.5 * (lag / deviation) ** 2).exp(), 2 * math.pi * hertz / RATE * lag)
            wave /= deviation * math.sqrt(2 * math.pi)
            expected = GAIN * (wave @ waveform[0].to(torch.complex128)).abs().square().mean().item()
            assert found[frame, index].item() == pytest.approx(expected, rel=0.02)  # ours end at 3.5 deviations


def test_a_click_is_heard_wherever_it_falls(wavelets):
    energies = []
    for place in range(2000, 2000 + HOP, 7):
        click = torch.zeros(1, 4000)
        click[0, place] = 1
        energies.append(wavelets(click).exp()[0, :, 60:].sum(dim=0))
    energies = torch.stack(energies)  # (places, fast wavelets)
    assert (energies.std(dim=0) / energies.mean(dim=0)).max() < 0.05


def test_they_fit_the_statistics_of_the_log_mel(wavelets):
    noise = 0.1 * torch.randn(2, RATE, generator=torch.Generator().manual_seed(1))
    found, log_mel = wavelets(noise), LogMel(0.0, 1.0).raw(noise)
    assert found.shape[1] == log_mel.shape[1]
    assert abs(found.mean() - log_mel.mean()) < 3
    assert 0.3 < found.std() / log_mel.std() < 3
    assert wavelets(torch.zeros(1, 400)).isfinite().all()

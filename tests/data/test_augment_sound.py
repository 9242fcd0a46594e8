"""Each transform is heard as it was drawn: levels in dB, slopes, cut-off frequencies, pitch, reverberation time."""

import math
from dataclasses import fields
from itertools import pairwise

import numpy as np
import pytest
import torch

from data.augment import Augmentation
from data.decode import RATE
from data.levels import power
from data.spectrum import PIVOT_HZ, bell, codec, frequencies, high_pass, low_pass, reverberated, tilt

S = 2 * RATE
KEYS = torch.arange(12) * 7919 + 3


def alone(name: str, **settings: float | tuple[float, float]) -> Augmentation:
    """One transform on every clip; a number stands for a range of one value."""
    is_range = {field.name: isinstance(field.default, tuple) for field in fields(Augmentation)}
    values = {key: (value, value) if is_range[key] and isinstance(value, float) else value
              for key, value in settings.items()}  # fmt: skip
    return Augmentation(**{f"{name}_probability": 1.0} | values)


def noise(count: int = len(KEYS), seed: int = 0, level: float = 0.1) -> torch.Tensor:
    """White, float32 ``(count, S)``."""
    return level * torch.randn(count, S, generator=torch.Generator().manual_seed(seed))


def sine(hz: float, num_samples: int = S) -> torch.Tensor:
    """``(1, S)``, of amplitude 0.5."""
    return (0.5 * torch.sin(2 * math.pi * hz * torch.arange(num_samples, dtype=torch.float64) / RATE)).float()[None]


def db(ratio: torch.Tensor) -> torch.Tensor:
    """Of powers."""
    return 10 * torch.log10(ratio)


def bands(waveform: torch.Tensor, edges: list[float]) -> torch.Tensor:
    """Mean power of the spectrum between neighbouring edges in Hz, ``(B, bands)``."""
    spectrum = torch.fft.rfft(waveform.double()).abs().square()
    hz = torch.fft.rfftfreq(waveform.shape[1], 1 / RATE)
    return torch.stack([spectrum[:, (hz >= low) & (hz < high)].mean(1) for low, high in pairwise(edges)], 1)


def gain_at(config: Augmentation, hz: float) -> torch.Tensor:
    """In dB, of a sine in the middle of a clip, for each of `KEYS`."""
    waveform = sine(hz).expand(len(KEYS), -1)
    middle = slice(S // 4, 3 * S // 4)
    return db(power(config(waveform, KEYS)[:, middle]) / power(waveform[:, middle]))


def peak_hz(waveform: torch.Tensor) -> torch.Tensor:
    """The loudest frequency, ``(B,)``, by a parabola through the logarithms around the peak."""
    spectrum = torch.fft.rfft(waveform * torch.hann_window(waveform.shape[1]), 4 * waveform.shape[1]).abs().log()
    peak = spectrum.argmax(1, keepdim=True)
    left, top, right = (spectrum.gather(1, peak + offset)[:, 0] for offset in (-1, 0, 1))
    return (peak[:, 0] + (left - right) / (2 * (left - 2 * top + right))) * RATE / (4 * waveform.shape[1])


def test_gain_is_what_was_drawn():
    config, waveform = alone("gain"), noise()
    expected = config.draw(KEYS)["gain_db"]
    assert torch.allclose(db(power(config(waveform, KEYS)) / power(waveform)), expected, atol=1e-3)
    loud = alone("gain", gain_db=20.0)(sine(440), KEYS[:1])
    assert loud.abs().max() == pytest.approx(5.0, rel=1e-3)  # nothing is clipped to [-1, 1]


def test_polarity_turns_the_sign():
    waveform = noise()
    assert torch.equal(alone("polarity")(waveform, KEYS), -waveform)


@pytest.mark.parametrize("length", [S, 20_000])
def test_a_shifted_clip_is_the_loop_begun_elsewhere(length):
    config, lengths = alone("shift"), torch.full((len(KEYS),), length)
    waveform = noise() * (torch.arange(S) < length)
    out = config(waveform, KEYS, None if length == S else lengths)
    for row, seconds in enumerate(config.draw(KEYS)["shift_seconds"].tolist()):
        shift = round(seconds * RATE)
        expected = torch.roll(waveform[row, :length], shift)
        distance = (torch.arange(length) - shift % length).abs()  # from the seam
        is_far = torch.minimum(distance, length - distance) > 16
        assert torch.equal(out[row, :length][is_far], expected[is_far])
        assert out[row, shift % length].abs() < 0.1 * expected.abs().max()  # no click
    assert out[:, length:].eq(0).all()


@pytest.mark.parametrize("length", [S, 24_000])
def test_background_comes_at_the_drawn_ratio(length):
    config, lengths = alone("background"), torch.full((len(KEYS),), length)
    waveform, background = noise() * (torch.arange(S) < length), noise(seed=1, level=0.7)
    out = config(waveform, KEYS, lengths, background)
    added = (out - waveform)[:, :length]
    ratio = db(power(waveform[:, :length]) / power(added))
    assert torch.allclose(ratio, config.draw(KEYS)["background_snr_db"], atol=0.01)
    cosine = torch.cosine_similarity(added, background[:, :length])
    assert (cosine > 0.999).all()


@pytest.mark.parametrize("length", [S, 24_000])
def test_noise_comes_at_the_drawn_ratio(length):
    # Brown noise is made of few frequencies, so a stretch of it varies by some tenths of a dB.
    config, waveform = alone("noise"), noise() * (torch.arange(S) < length)
    out = config(waveform, KEYS, torch.full((len(KEYS),), length))
    ratio = db(power(waveform[:, :length]) / power((out - waveform)[:, :length]))
    assert torch.allclose(ratio, config.draw(KEYS)["noise_snr_db"], atol=0.05 if length == S else 0.8)


@pytest.mark.parametrize("slope", [-6.0, -3.0, 0.0, 3.0])
def test_noise_falls_as_it_should(slope):
    waveform = noise()
    added = alone("noise", noise_snr_db=0.0, noise_slope_db=slope)(waveform, KEYS) - waveform
    octaves = [125.0 * 2**octave for octave in range(7)]
    levels = db(bands(added, octaves)).mean(0)
    assert torch.allclose(levels.diff(), torch.full((5,), slope, dtype=torch.float64), atol=0.1)


def test_noise_is_gaussian_and_a_clips_own():
    waveform = noise()
    added = alone("noise", noise_snr_db=0.0, noise_slope_db=0.0)(waveform, KEYS) - waveform
    standard = (added - added.mean(1, keepdim=True)) / added.std(1, keepdim=True)
    assert standard.pow(3).mean(1).abs().max() < 5 * (6 / S) ** 0.5  # skewness
    assert (standard.pow(4).mean(1) - 3).abs().max() < 5 * (24 / S) ** 0.5  # kurtosis
    others = torch.corrcoef(torch.cat([added, waveform])) - torch.eye(2 * len(KEYS))
    assert others.abs().max() < 5 / S**0.5


@pytest.mark.parametrize("hz", [60.0, 200.0, 3000.0, 6500.0])
def test_filters_are_three_db_down_where_they_should_be(hz):
    for name in ("low_pass", "high_pass"):
        config = alone(name, **{f"{name}_hz": hz})
        assert gain_at(config, hz) == pytest.approx(-3.01, abs=0.15)
        sign = 1 if name == "low_pass" else -1
        if 30 < hz * 0.25**sign < RATE / 2:
            assert gain_at(config, hz * 0.25**sign) == pytest.approx(0, abs=0.1)
        if 30 < hz * 2**sign < RATE / 2:
            assert gain_at(config, hz * 2**sign) == pytest.approx(-12.3, abs=0.3)


def test_a_bell_raises_what_it_should():
    config = alone("bell", bell_hz=1000.0, bell_db=8.0, bell_octaves=1.0)
    for octaves, expected in ((0, 8.0), (0.5, 4.0), (-0.5, 4.0), (2.5, 0.0), (-2.5, 0.0)):
        assert gain_at(config, 1000 * 2**octaves) == pytest.approx(expected, abs=0.05)


def test_a_tilt_rises_evenly():
    config = alone("tilt", tilt_db=2.0)
    for octaves in (-3, -1, 0, 1, 2.5):
        assert gain_at(config, PIVOT_HZ * 2**octaves) == pytest.approx(2.0 * octaves, abs=0.05)


def test_a_codec_ends_the_spectrum():
    waveform, edges = noise(), [100.0, 3200.0, 3600.0, 8000.0]
    levels = db(bands(alone("codec", codec_hz=3400.0)(waveform, KEYS), edges) / bands(waveform, edges))
    assert levels[:, 0].abs().max() < 0.1
    assert levels[:, 2].max() < -60


def test_filters_shift_no_phase():
    pulse = torch.zeros(1, S)
    pulse[0, S // 2] = 1
    for name in ("low_pass", "high_pass", "bell", "tilt", "codec", "frequency_mask"):
        out = alone(name)(pulse, KEYS[:1])[0]
        assert out.argmax() == S // 2
        around = out[S // 2 - 400 : S // 2 + 401]
        assert torch.allclose(around, around.flip(0), atol=1e-6)


def test_responses_follow_their_formulas():
    axis, one = frequencies(torch.device("cpu"))[None].double(), torch.ones(1, dtype=torch.float64)
    hz = axis.numpy()
    octaves = np.log2(np.maximum(hz, 50) / 1000)
    expected = {
        "low": (low_pass(axis, 500 * one), 1 / np.sqrt(1 + (hz / 500) ** 4)),
        "high": (high_pass(axis, 500 * one), (hz / 500) ** 2 / np.sqrt(1 + (hz / 500) ** 4)),
        "tilt": (tilt(axis, 3 * one), 10 ** (3 / 20 * octaves)),
        "bell": (bell(axis, 500 * one, 6 * one, one), 10 ** (6 / 20 * 0.5 ** (4 * (octaves + 1) ** 2))),
        "codec": (codec(axis, 4000 * one), np.clip(0.5 + (4000 - hz) / 400, 0, 1)),
    }
    for name, (found, formula) in expected.items():
        assert np.allclose(found.numpy(), formula, atol=1e-6), name


def test_a_frequency_mask_takes_a_band_out_and_nothing_else():
    config = alone("frequency_mask", frequency_mask_share=(0.1, 0.15))
    draws, waveform = config.draw(KEYS), noise()
    before, after = (torch.fft.rfft(sound.double()).abs().square() for sound in (waveform, config(waveform, KEYS)))
    mel = torch.log1p(torch.fft.rfftfreq(S, 1 / RATE) / 700) / math.log1p(RATE / 2 / 700)
    share, place = draws["frequency_mask_share"][:, None], draws["frequency_mask_place"][:, None]
    from_centre = (mel - (share / 2 + place * (1 - share))).abs() - share / 2
    is_inside, is_outside = from_centre < -0.005, from_centre > 0.02
    assert is_inside.any(1).all()
    assert db((after * is_inside).sum(1) / (before * is_inside).sum(1)).max() < -60
    assert torch.allclose((after * is_outside).sum(1), (before * is_outside).sum(1), rtol=1e-3)


@pytest.mark.parametrize("length", [S, 20_000])
def test_a_time_mask_silences_the_drawn_stretch(length):
    config, waveform = alone("time_mask"), noise() * (torch.arange(S) < length)
    draws = config.draw(KEYS)
    out = config(waveform, KEYS, torch.full((len(KEYS),), length))
    for row in range(len(KEYS)):
        width = draws["time_mask_share"][row].item() * length
        start = draws["time_mask_place"][row].item() * (length - width)
        assert out[row, math.ceil(start) : math.floor(start + width)].eq(0).all()
        is_far = (torch.arange(S) - start - width / 2).abs() > width / 2 + 82
        assert torch.equal(out[row][is_far], waveform[row][is_far])


@pytest.mark.parametrize("is_soft", [False, True])
def test_clipping_keeps_within_the_drawn_level(is_soft):
    config, waveform = alone("clipping", clipping_soft=float(is_soft)), noise()
    level = waveform.abs().amax(1) / 10 ** (config.draw(KEYS)["clipping_db"] / 20)
    out = config(waveform, KEYS)
    if is_soft:
        assert torch.allclose(out, level[:, None] * torch.tanh(waveform / level[:, None]), atol=1e-6)
        assert (out.abs().amax(1) < level).all()
    else:
        assert torch.allclose(out.abs().amax(1), level)
        is_below = waveform.abs() < level[:, None]
        assert torch.equal(out[is_below], waveform[is_below])


def test_a_share_of_the_clipped_clips_is_soft():
    keys = torch.arange(400)
    config = alone("clipping", clipping_db=6.0, clipping_soft=0.25)
    out = config(noise(400, level=0.1)[:, :2000], keys)
    is_hard = ((out.abs() - out.abs().amax(1, keepdim=True)).abs() < 1e-6).sum(1) > 3  # several samples at the level
    assert is_hard.float().mean() == pytest.approx(0.75, abs=5 * (0.1875 / 400) ** 0.5)


@pytest.mark.parametrize("seconds", [0.1, 0.25, 0.5])
def test_reverberation_dies_away_in_the_drawn_time(seconds):
    pulse = torch.zeros(len(KEYS), S)
    pulse[:, 0] = 1
    out = alone("reverb", reverb_seconds=seconds, reverb_wet=0.4)(pulse, KEYS)
    # Schroeder 1965: the energy that is still to come, backwards; its slope between -5 and -25 dB, drawn out to -60.
    tail = out[:, 8:].double().square()
    still = db(tail.flip(1).cumsum(1).flip(1) / tail.sum(1, keepdim=True))
    falls = [((row < -5).int().argmax().item(), (row < -25).int().argmax().item()) for row in still]
    times = [3 * (end - start) / RATE for start, end in falls]
    assert np.mean(times) == pytest.approx(seconds, rel=0.03)
    assert max(abs(time / seconds - 1) for time in times) < 0.15
    wet = tail.sum(1) / out.double().square().sum(1)
    assert wet.mean() == pytest.approx(0.4, rel=0.05)
    assert torch.allclose(power(out) / power(pulse), torch.ones(len(KEYS)), rtol=0.1)
    rooms = torch.corrcoef(out[:, 8:2000])
    assert (rooms - torch.eye(len(KEYS))).abs().max() < 0.3  # each clip has its own


def test_reverberation_keeps_the_level_of_noise():
    ratio = db(power(alone("reverb")(noise(), KEYS)) / power(noise()))
    assert ratio.abs().max() < 0.7


def test_reverberation_is_a_convolution():
    spectrum = torch.fft.rfft(noise(3))
    seconds, wet = torch.tensor([0.2, 0.3, 0.4]), torch.tensor([0.1, 0.5, 1.0])
    room = torch.fft.irfft(reverberated(torch.ones_like(spectrum), KEYS[:3], seconds, wet, 0.4), S)
    expected = torch.fft.rfft(room) * spectrum
    assert torch.allclose(reverberated(spectrum, KEYS[:3], seconds, wet, 0.4), expected, atol=1e-3)


@pytest.mark.parametrize("hz", [110.0, 440.0, 3000.0])
def test_speed_moves_the_pitch_by_the_drawn_semitones(hz):
    config = alone("speed", speed_semitones=(-3.0, 3.0))
    semitones = config.draw(KEYS)["speed_semitones"]
    out = config(sine(hz).expand(len(KEYS), -1), KEYS)
    assert torch.allclose(peak_hz(out[:, : S // 2]), hz * 2 ** (semitones / 12), rtol=1e-4)
    assert torch.allclose(power(out[:, : S // 2]), torch.tensor(0.125), rtol=5e-3)


@pytest.mark.parametrize(("hz", "least"), [(1000.0, 70.0), (4000.0, 64.0), (6000.0, 48.0)])
@pytest.mark.parametrize("semitones", [-1.0, 0.37, 1.0])
def test_resampling_adds_little(hz, least, semitones):
    num_samples = 10 * RATE  # long enough to see whether places late in a clip are exact
    factor = float(torch.exp(torch.tensor(semitones * math.log(2) / 12)))
    out = alone("speed", speed_semitones=semitones)(sine(hz, num_samples), KEYS[:1])[0].double()
    part = slice(8 * RATE, 9 * RATE)
    phase = 2 * math.pi * hz * factor * torch.arange(num_samples, dtype=torch.float64) / RATE
    pure = torch.stack([phase.sin(), phase.cos()], 1)[part]
    fitted = pure @ torch.linalg.lstsq(pure, out[part, None]).solution
    error = out[part] - fitted[:, 0]
    assert db(fitted.square().mean() / error.square().mean()) > least
    place = torch.atan2(*torch.linalg.lstsq(pure, out[part, None]).solution.flip(0)[:, 0])
    assert abs(place) < 0.02 * hz / 1000  # radians: no more than a twentieth of a sample off


def test_what_would_lie_over_the_nyquist_frequency_is_gone():
    out = alone("speed", speed_semitones=12.0)(sine(5000), KEYS[:1])
    assert db(power(out[:, : S // 3]) / 0.125) < -60
    kept = alone("speed", speed_semitones=12.0)(sine(3500), KEYS[:1])
    assert db(power(kept[:, : S // 3]) / 0.125).abs() < 0.1


@pytest.mark.parametrize("length", [S, 21_000])
def test_a_fast_clip_begins_again_where_it_ends(length):
    waveform = torch.zeros(1, S)
    waveform[0, 500:540] = torch.hann_window(40)
    out = alone("speed", speed_semitones=6.0)(waveform, KEYS[:1], torch.tensor([length]))[0]
    factor = 2**0.5
    heard = (out > 0.5).nonzero()[:, 0]
    assert abs(heard.min() - 510 / factor) < 8
    assert abs(heard.max() - (length + 530) / factor) < 8
    assert out[length:].eq(0).all()


def test_speed_keeps_filters_and_rooms_where_they_are_heard():
    waveform = noise()
    fast = alone("codec", codec_hz=3000.0, speed_probability=1.0, speed_semitones=4.0)(waveform, KEYS)
    levels = db(bands(fast, [100.0, 2800.0, 3200.0, 6000.0]))
    assert (levels[:, 2] - levels[:, 0]).max() < -40
    pulse = torch.zeros(len(KEYS), S)
    pulse[:, 0] = 1
    room = {"reverb_seconds": 0.3, "reverb_wet": 0.9, "speed_probability": 1.0, "speed_semitones": 6.0}
    tail = alone("reverb", **room)(pulse, KEYS)[:, 8 : S // 2].double().square().mean(0)
    still = db(tail.flip(0).cumsum(0).flip(0) / tail.sum())
    start, end = ((still < level).int().argmax().item() for level in (-5, -25))
    assert 3 * (end - start) / RATE == pytest.approx(0.3, rel=0.05)

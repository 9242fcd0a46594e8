"""Sound that is no instrument: the effect programs of a font, and noises made here."""

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import soxr

from data import decode
from data.clip import NOTHING, SPLITS, Clip, Labels
from data.sources.gm_font import FontFile
from data.sources.gm_synth import QUIETEST_RMS, RATE, Voice, render_note, velocity_gain

PROGRAM_EFFECTS = {
    120: "fret_noise", 121: "breath", 122: "seashore", 123: "bird", 124: "telephone", 125: "helicopter",
    126: "applause", 127: "gunshot",
}  # fmt: skip
EFFECT_S = 4.0
_SPLITS_OF_TEN = (SPLITS[0],) * 7 + (SPLITS[0], SPLITS[1], SPLITS[2])
_LABELS = Labels(is_instrument=False, family=NOTHING, instrument=NOTHING, drums=False)


@dataclass(frozen=True, slots=True)
class ProgramEffectAudio:
    """One of the programs 120 to 127, rendered when read."""

    font: FontFile
    program: int
    pitch: int
    velocity: int

    def read(self) -> tuple[np.ndarray, int]:
        """Returns float32 ``(S, 1)`` and the rate in Hz."""
        samples = render_note(self.font, Voice(self.program), self.pitch, self.velocity, EFFECT_S - 1, 1.0)
        return samples[:, None], RATE


@dataclass(frozen=True, slots=True)
class NoiseAudio:
    """A noise of one kind, made when read; everything about it follows from its seed."""

    kind: str
    seed: tuple[int, ...]

    def read(self) -> tuple[np.ndarray, int]:
        """Returns float32 ``(S, 1)``, peak between 0.05 and 0.7, without DC, and the rate in Hz."""
        generator = np.random.default_rng([*self.seed, zlib.crc32(self.kind.encode())])
        num_samples = round(EFFECT_S * RATE)
        samples = NOISES[self.kind](generator, np.arange(num_samples) / RATE)
        samples -= samples.mean()
        fade = np.minimum(1, np.arange(num_samples) / (0.01 * RATE))
        samples *= fade * fade[::-1]
        samples *= 0.7 * 10 ** (-generator.uniform(0, 23) / 20) / np.abs(samples).max()
        return samples.astype(np.float32)[:, None], RATE


def _coloured(generator: np.random.Generator, num_samples: int, slope: float, low: float, high: float) -> np.ndarray:
    """Noise whose power falls with frequency to the power `slope`, between two edges in Hz."""
    spectrum = np.fft.rfft(generator.standard_normal(num_samples))
    hertz = np.maximum(np.fft.rfftfreq(num_samples, 1 / RATE), 1.0)
    spectrum *= hertz ** (-slope / 2) / np.sqrt((1 + (low / hertz) ** 8) * (1 + (hertz / high) ** 8))
    noise = np.fft.irfft(spectrum, num_samples)
    return noise / np.abs(noise).max()


def _slow(generator: np.random.Generator, seconds: np.ndarray, per_s: float) -> np.ndarray:
    """A random line between 0 and 1 with about `per_s` turns a second."""
    knots = np.arange(0, seconds[-1] + 2 / per_s, 1 / per_s)
    return np.interp(seconds, knots, generator.uniform(0, 1, len(knots)))


def _noise(slope: float) -> Callable[[np.random.Generator, np.ndarray], np.ndarray]:
    def make(generator: np.random.Generator, seconds: np.ndarray) -> np.ndarray:
        low = 10 ** generator.uniform(1.5, 3)
        high = low * 10 ** generator.uniform(0.5, 2)
        noise = _coloured(generator, len(seconds), slope, low, min(high, 15000))
        if generator.random() < 0.4:
            return noise
        start, decay = generator.uniform(0, 1.5), generator.uniform(0.1, 2)
        return noise * np.exp(-np.maximum(seconds - start, 0) / decay) * np.clip((seconds - start) / 0.02 + 1, 0, 1)

    return make


def _wind(generator: np.random.Generator, seconds: np.ndarray) -> np.ndarray:
    bands = [_coloured(generator, len(seconds), 1, centre * 0.8, centre * 1.25) for centre in (250, 500, 900, 1600)]
    gust = _slow(generator, seconds, generator.uniform(0.5, 2))
    weights = [np.exp(-((3 * gust - index) ** 2)) for index in range(len(bands))]
    return (0.2 + gust) * sum(weight * band for weight, band in zip(weights, bands, strict=True))


def _rumble(generator: np.random.Generator, seconds: np.ndarray) -> np.ndarray:
    high = generator.uniform(80, 250)
    return _coloured(generator, len(seconds), 1, 25, high) * (0.3 + _slow(generator, seconds, generator.uniform(2, 8)))


def _hum(generator: np.random.Generator, seconds: np.ndarray) -> np.ndarray:
    mains = generator.choice([50.0, 60.0]) * generator.uniform(0.998, 1.002)
    hum = np.zeros(len(seconds))
    for harmonic in range(1, 20):
        level = generator.uniform(0, 1) / harmonic ** generator.uniform(0.5, 1.2)
        hum += level * np.sin(2 * np.pi * (harmonic * mains * seconds + generator.uniform()))
    return hum + generator.uniform(0.02, 0.4) * _coloured(generator, len(seconds), 1, 50, 8000)


def _siren(generator: np.random.Generator, seconds: np.ndarray) -> np.ndarray:
    low = generator.uniform(300, 900)
    octaves = generator.uniform(0.5, 1.5)
    turns = generator.uniform(0.2, 5) * seconds + generator.uniform()
    shape = np.abs(2 * (turns % 1) - 1) if generator.random() < 0.7 else (turns % 1 < 0.5).astype(float)
    phase = np.cumsum(low * 2 ** (octaves * shape)) / RATE
    return np.tanh(generator.uniform(0.5, 3) * np.sin(2 * np.pi * phase))


def _sweep(generator: np.random.Generator, seconds: np.ndarray) -> np.ndarray:
    start, end = np.exp(generator.uniform(np.log(60), np.log(7000), 2))
    phase = np.cumsum(start * (end / start) ** (seconds / seconds[-1])) / RATE
    return np.sin(2 * np.pi * phase) + generator.uniform(0, 0.2) * generator.standard_normal(len(seconds))


def _beeps(generator: np.random.Generator, seconds: np.ndarray) -> np.ndarray:
    period = generator.uniform(0.08, 1)
    tone = np.sin(2 * np.pi * generator.uniform(700, 4000) * seconds)
    tone += generator.uniform(0, 1) * np.sin(2 * np.pi * generator.uniform(700, 4000) * seconds)
    place = seconds % period
    length = generator.uniform(0.3, 0.7) * period
    return tone * np.clip(place / 0.003, 0, 1) * np.clip((length - place) / 0.003, 0, 1)


def _crackle(generator: np.random.Generator, seconds: np.ndarray) -> np.ndarray:
    impulses = np.zeros(len(seconds))
    count = generator.poisson(generator.uniform(3, 60) * seconds[-1]) + 1
    impulses[generator.integers(0, len(seconds) - 1, count)] = generator.laplace(size=count)
    width = round(generator.uniform(0.0005, 0.006) * RATE) + 2
    ring = np.exp(-np.arange(5 * width) / width) * generator.standard_normal(5 * width)
    return np.convolve(impulses, ring)[: len(seconds)] + 0.003 * generator.standard_normal(len(seconds))


def _motor(generator: np.random.Generator, seconds: np.ndarray) -> np.ndarray:
    speed = generator.uniform(8, 40) * (0.7 + 0.6 * _slow(generator, seconds, generator.uniform(0.3, 1)))
    place = np.cumsum(speed) / RATE % 1
    burst = np.exp(-place * generator.uniform(3, 12))
    return burst * _coloured(generator, len(seconds), 1, 40, generator.uniform(300, 4000))


NOISES: dict[str, Callable[[np.random.Generator, np.ndarray], np.ndarray]] = {
    "white_noise": _noise(0), "pink_noise": _noise(1), "brown_noise": _noise(2), "wind": _wind, "rumble": _rumble,
    "hum": _hum, "siren": _siren, "sweep": _sweep, "beeps": _beeps, "crackle": _crackle, "motor": _motor,
}  # fmt: skip


def effect_clips(fonts: list[FontFile], held_out: list[FontFile], count: int, seed: int) -> Iterator[Clip]:
    """Yields `count` effects, a third from programs while they last (8 pitches x 3 velocities each), else noises.

    A program, and ten noises of a kind that share a generator's family of seeds, are one group. Splits go by group:
    of the eight programs one is in validation and one in test.
    """
    program_clips = list(_program_clips(fonts, held_out, seed))[: count // 3]
    yield from program_clips
    kinds = list(NOISES)
    for index in range(count - len(program_clips)):
        kind, number = kinds[index % len(kinds)], index // len(kinds)
        group = f"gm/noise/{kind}-{number // 10:03d}"
        # The kind shifts the cycle, so that a small pack too has noises in every split.
        split = _SPLITS_OF_TEN[(number // 10 + index % len(kinds)) % 10]
        yield Clip(
            id=f"gm/noise/{kind}/{number:05d}",
            source="gm",
            recording=group,
            group=group,
            audio=NoiseAudio(kind, (seed, number)),
            split=split,
            labels=_LABELS,
        )


def _program_clips(fonts: list[FontFile], held_out: list[FontFile], seed: int) -> Iterator[Clip]:
    generator = np.random.default_rng([seed, 3])
    order = [int(program) for program in generator.permutation(list(PROGRAM_EFFECTS))]
    splits = dict(zip(order, (SPLITS[0],) * 6 + SPLITS[1:], strict=True))
    grid = [
        (font, program, pitch, velocity)
        for font in [*fonts, *held_out]
        for program in PROGRAM_EFFECTS
        for pitch in range(48, 80, 4)
        for velocity in _audible_velocities(font, program, pitch)
    ]
    for index in generator.permutation(len(grid)):
        font, program, pitch, velocity = grid[index]
        name = f"{program:03d}-{PROGRAM_EFFECTS[program]}"
        yield Clip(
            id=f"gm/{font.stem}/effect/{name}/{pitch:03d}-{velocity:03d}",
            source="gm",
            recording=f"gm/{font.stem}/{name}",
            group=f"gm/{font.stem}/{name}",
            audio=ProgramEffectAudio(font, program, pitch, velocity),
            split="test" if font in held_out else splits[program],
            labels=_LABELS,
        )


def _audible_velocities(font: FontFile, program: int, pitch: int) -> list[int]:
    loudest, rate = ProgramEffectAudio(font, program, pitch, 127).read()
    # As a pack has it: of the bird, most lies above 8 kHz.
    rms = float(np.sqrt(np.mean(np.square(soxr.resample(loudest, rate, decode.RATE)))))
    return [velocity for velocity in (60, 90, 127) if rms * velocity_gain(velocity) > QUIETEST_RMS]

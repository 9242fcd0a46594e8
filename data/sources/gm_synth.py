"""One note of a SoundFont as samples.

Why own code: symusic's synthesiser (0.5.9) does not read what a label needs. With the default font it plays 60 of 93
pitched programs out of tune (brass 61 eleven semitones high, fingered bass 33 an octave low) and gives velocities 1 and
127 the same samples.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.errors import DataError
from data.sources.gm_font import RANGES, FontFile, SoundFont, Zone, open_font

RATE = 32000
"""Hz. Against 96 kHz, and both brought down to 16 kHz by soxr, the median program's spectrum differs by -66 dB at
32 kHz (90 % below -43 dB, the worst, the glockenspiel, -24 dB), for half the time of 48 kHz (-73 dB): what linear
interpolation leaves between 16 and 24 kHz folds above 8 kHz, where the packer's resampling removes it."""

QUIETEST_RMS = 10 ** (-60 / 20)
"""Of a clip of 4 s: below it, int16 leaves little but its own rounding of a sound's tail."""
_END_FADE_S = 0.02
_VELOCITY_EXPONENT = 1.25
"""Velocity 25 is 17.6 dB below 127. The specification's own curve is the square; its 28 dB would leave the tails of
soft notes in the last bits of a pack's int16."""
_GAIN = 0.33
"""The loudest note of the default font, a timbale of the orchestra kit, peaks at 2.8 without it, at 0.93 with it."""
_ATTENUATION = 0.4
"""Fonts are made by ear for the EMU8000, which applied this share of what their initial attenuation says."""
_SILENCE_DB = 100.0
_MAX_STEP = 64.0
"""Six octaves above its root key; a recording played faster is none that a sound font means."""


@dataclass(frozen=True, slots=True)
class Voice:
    """A program, or a kit of the drum channel."""

    program: int
    is_drum: bool = False


def default_font() -> Path:
    """Returns the SoundFont that ships with `pretty_midi`.

    Raises:
        DataError: it is not in the installed package.
    """
    import pretty_midi  # here, for it takes half a second and fonts may be given

    path = Path(pretty_midi.__file__).parent / "TimGM6mb.sf2"
    if not path.is_file():
        raise DataError(f"Expected the default SoundFont at {path}, found no file; reinstall pretty_midi or name one.")
    return path


def velocity_gain(velocity: int) -> float:
    """How loud a note is against the same at velocity 127, as amplitude."""
    return (velocity / 127) ** _VELOCITY_EXPONENT


def render_note(
    font: FontFile, voice: Voice, pitch: int, velocity: int, held_s: float, released_s: float
) -> np.ndarray:
    """Renders one note, dry and with no gain but the font's and velocity's.

    Returns:
        float32 ``(S,)`` at `RATE`, ``held_s + released_s`` long; zeros where the font has no such program or key.
    """
    opened = open_font(font)
    num_samples = round((held_s + released_s) * RATE)
    mixed = np.zeros(num_samples, np.float32)
    for zone in opened.zones(128 if voice.is_drum else 0, voice.program, pitch, velocity):
        # A drum rings on, however short its note.
        sound = _render_zone(opened, zone, pitch, held_s + released_s if voice.is_drum else held_s, num_samples)
        mixed[: len(sound)] += sound
    mixed = _soften(mixed, velocity) * np.float32(_GAIN * velocity_gain(velocity))
    fade = min(round(_END_FADE_S * RATE), num_samples)
    mixed[num_samples - fade :] *= np.linspace(1, 0, fade, dtype=np.float32)
    return mixed


def _render_zone(font: SoundFont, zone: Zone, pitch: int, held_s: float, num_samples: int) -> np.ndarray:
    key = zone.get(46) if zone.get(46) >= 0 else pitch
    envelope = _envelope(zone, key, held_s, num_samples)
    sound = _read_sample(font, zone, key, len(envelope)) * envelope
    cutoff = 8.176 * 2 ** (zone.get(8) / 1200)
    if cutoff < 10000:
        spectrum = np.fft.rfft(sound, 1 << (len(sound) - 1).bit_length())
        ratio = (np.fft.rfftfreq(2 * len(spectrum) - 2, 1 / RATE) / cutoff).astype(np.float32)
        sound = np.fft.irfft(spectrum / np.sqrt(1 + ratio**4))[: len(sound)]
    angle = np.pi / 4 * (1 + np.clip(zone.get(17) / 500, -1, 1))
    # Both channels over the square root of two: a centred sound keeps its level.
    gain = 10 ** (-_ATTENUATION * zone.get(48) / 200) * (np.cos(angle) + np.sin(angle)) / np.sqrt(2)
    return (sound * gain).astype(np.float32)


def _read_sample(font: SoundFont, zone: Zone, key: int, num_samples: int) -> np.ndarray:
    header = font.headers[zone.sample]
    samples, start, end = font.sample(zone.sample)
    # What points outside, in damaged or careless fonts, is cut to what is there.
    first = max(0, start + zone.get(0) + 32768 * zone.get(4))
    end = min(end + zone.get(1) + 32768 * zone.get(12), len(samples))
    loop_start = int(header["loop_start"]) + zone.get(2) + 32768 * zone.get(45)
    loop_end = min(int(header["loop_end"]) + zone.get(3) + 32768 * zone.get(50), len(samples))
    sound = np.zeros(num_samples, np.float32)
    if end - first < 2:
        return sound
    root = zone.get(58) if zone.get(58) >= 0 else int(header["root"]) if header["root"] <= 127 else 60
    cents = (key - root) * zone.get(56) + 100 * zone.get(51) + zone.get(52) + int(header["correction"])
    step = min(float(header["rate"]) / RATE * 2 ** (cents / 1200), _MAX_STEP)
    places = step * np.arange(num_samples)
    recording = samples[first:end]
    if zone.get(54) & 1 and first <= loop_start < loop_end - 1:
        length = loop_end - loop_start
        # Unrolled to a whole number of loops that lasts, so that no position needs a modulo.
        turns = int(np.ceil(max(0.0, step * num_samples + first - loop_end) / length)) + 1
        recording = np.concatenate([samples[first:loop_end], np.tile(samples[loop_start:loop_end], turns)])
    left = places[: int(np.searchsorted(places, len(recording) - 1))].astype(np.int32)
    share = (places[: len(left)] - left).astype(np.float32)
    recording = recording - recording.mean()  # some loops are off centre by a tenth of full scale
    read = recording[left]
    sound[: len(left)] = read + share * (recording[left + 1] - read)
    return sound


def _envelope(zone: Zone, key: int, held_s: float, num_samples: int) -> np.ndarray:
    """The volume envelope up to its silence: attack linear in amplitude, decay and release linear in decibels."""
    delay, attack, hold, decay, release = (
        2 ** (min(max(timecents, RANGES[operator][0]), RANGES[operator][1]) / 1200)
        for operator, timecents in (
            (33, zone.get(33)),
            (34, zone.get(34)),
            (35, zone.get(35) + (60 - key) * zone.get(39)),
            (36, zone.get(36) + (60 - key) * zone.get(40)),
            (38, zone.get(38)),
        )
    )
    sustain_db = min(max(zone.get(37) / 10, 0.0), _SILENCE_DB)
    top = delay + attack + hold

    seconds = np.arange(num_samples, dtype=np.float32) / np.float32(RATE)
    lost = np.clip((seconds - top) * (_SILENCE_DB / decay), 0, sustain_db)
    let_go = round(held_s * RATE)
    if let_go < num_samples:
        lost[let_go:] = lost[let_go] + (seconds[let_go:] - held_s) * (_SILENCE_DB / release)
    silent = np.flatnonzero(lost >= _SILENCE_DB)
    if len(silent):
        lost, seconds = lost[: silent[0]], seconds[: silent[0]]
    return np.exp(lost * np.float32(-np.log(10) / 20)) * np.clip((seconds - np.float32(delay)) / attack, 0, 1)


def _soften(samples: np.ndarray, velocity: int) -> np.ndarray:
    """Dulls soft notes: a Hann window as low-pass, -6 dB near 4.5 kHz at velocity 25 and open at 127."""
    half = round(6 * (1 - velocity / 127))
    if not half or not len(samples):
        return samples
    taps = np.hanning(2 * half + 3)[1:-1].astype(np.float32)
    return np.convolve(samples, taps / taps.sum(), mode="same")

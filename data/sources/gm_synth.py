"""One note of a SoundFont as samples: what symusic's synthesiser renders, put right.

symusic 0.5.9 renders with prestosynth, a millisecond a note, which leaves out three things a note needs:

* velocity is ignored (velocity 1 and 127 give equal samples), so loudness and brightness follow it here;
* the volume envelope does not decay (a harp's loop sounds at one level for ever), so plucked and struck
  programs get a decay here, faster for higher pitches;
* the release is cut after some milliseconds, so a note is rendered to its end and faded from where it is let go.

A program that the font lacks renders as zeros. prestosynth never returns from some broken presets (the default
font's whistle, 78, below key 79), so a program is left out for every font if it hangs in the default one.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import symusic

from data.errors import DataError

RATE = 44100
"""Hz. prestosynth interpolates without a filter, so what it transposes upwards aliases. Below 8 kHz and against a
96 kHz rendering brought down by soxr, the spectrum differs less at 44.1 kHz than at 32 kHz, because most samples of
the default font were recorded at 44.1 kHz and its higher images then fall where the packer's filter removes them."""

_END_FADE_S = 0.005
_VELOCITY_EXPONENT = 1.25
"""Velocity 25 is 17.6 dB below 127. SoundFont 2.01's own curve is the square; its 28 dB would leave the tails of
soft notes in the last bits of a pack's int16."""


@dataclass(frozen=True, slots=True)
class Voice:
    """A program, or a kit of the drum channel, with what prestosynth leaves out of its envelope."""

    program: int
    is_drum: bool = False
    decay_s: float | None = None
    """Time to fall by 60 dB at middle C; None holds the level of the font's loop."""
    release_s: float = 0.3
    """Time to fall by 60 dB once let go."""


def default_font() -> Path:
    """Returns the SoundFont that ships with `pretty_midi`.

    Raises:
        DataError: it is not in the installed package.
    """
    import pretty_midi

    path = Path(pretty_midi.__file__).parent / "TimGM6mb.sf2"
    if not path.is_file():
        raise DataError(
            f"Expected the default SoundFont at {path}, found no file; reinstall pretty_midi or name a font."
        )
    return path


@lru_cache(maxsize=8)
def synthesizer(font: Path) -> symusic.Synthesizer:
    """Opens a SoundFont once per process.

    Raises:
        DataError: the file is missing or is no SoundFont.
    """
    if not font.is_file():
        raise DataError(f"Expected a SoundFont (.sf2 or .sf3), found no file at {font}; check the path.")
    with font.open("rb") as file:
        head = file.read(12)
    if head[:4] != b"RIFF" or head[8:] != b"sfbk":
        raise DataError(f"Expected a SoundFont (.sf2 or .sf3), found something else in {font}; name another file.")
    try:
        return symusic.Synthesizer(str(font), RATE, 0)
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"Expected a whole SoundFont, found {font} unreadable ({reason}); copy it again.") from error


def render_note(font: Path, voice: Voice, pitch: int, velocity: int, held_s: float, released_s: float) -> np.ndarray:
    """Renders one note, dry and without any gain but velocity's.

    Returns:
        float32 ``(S,)`` at `RATE`, ``held_s + released_s`` long; zeros where the font has no such program or key.
    """
    num_samples = round((held_s + released_s) * RATE)
    samples = np.zeros(num_samples, np.float32)
    rendered = _render(font, voice, pitch, held_s + released_s)[:num_samples]
    samples[: len(rendered)] = rendered
    samples = _soften(samples, velocity)
    samples *= _envelope(voice, pitch, held_s, num_samples) * np.float32((velocity / 127) ** _VELOCITY_EXPONENT)
    return samples


def _render(font: Path, voice: Voice, pitch: int, seconds: float) -> np.ndarray:
    score = symusic.Score(480).to("second")
    track = symusic.Track("", voice.program, voice.is_drum, ttype="second")
    track.notes.append(symusic.Note(0.0, seconds, pitch, 127, ttype="second"))
    score.tracks.append(track)
    # Mono is a sum of both channels without panning's loss; 0.25 brings nearly all programs below 1.
    rendered = synthesizer(font).render(score, stereo=False)
    return rendered[0] * np.float32(0.25) if rendered.size else np.zeros(0, np.float32)


def _soften(samples: np.ndarray, velocity: int) -> np.ndarray:
    """Dulls soft notes: a Hann window as low-pass, -6 dB near 4 kHz at velocity 25 and open at 127."""
    half = round(6 * (1 - velocity / 127))
    if not half:
        return samples
    taps = np.hanning(2 * half + 3)[1:-1].astype(np.float32)
    return np.convolve(samples, taps / taps.sum(), mode="same")


def _envelope(voice: Voice, pitch: int, held_s: float, num_samples: int) -> np.ndarray:
    seconds = np.arange(num_samples, dtype=np.float32) / RATE
    decibels = np.zeros(num_samples, np.float32)
    if voice.decay_s is not None:
        decibels -= 60 / (voice.decay_s * 2 ** ((60 - pitch) / 24)) * seconds
    if not voice.is_drum:  # a drum rings on, however short its note
        decibels -= 60 / voice.release_s * np.maximum(seconds - held_s, 0)
    envelope = 10 ** (decibels / 20)
    fade = min(round(_END_FADE_S * RATE), num_samples)
    envelope[num_samples - fade :] *= np.linspace(1, 0, fade, dtype=np.float32)
    return envelope

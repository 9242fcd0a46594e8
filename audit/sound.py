"""Sound to be heard: small Ogg files for pages, and the loudspeaker.

S samples.
"""

import io
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Literal

import numpy as np
import soundfile
import soxr

from audit.errors import AuditError

SUBTYPES = {"opus": "OPUS", "vorbis": "VORBIS"}
"""libsndfile's names of what an Ogg file holds."""
OPUS_RATES = (8_000, 12_000, 16_000, 24_000, 48_000)
"""Hz, that Opus knows (RFC 6716, section 2); another rate is converted to the highest."""
QUALITY = 0.1
"""Of 1: some 20 kbit/s of Vorbis, enough to tell instruments apart."""
FADE_SECONDS = 0.02
"""At the end of a sound that is cut off, which would click."""
BLOCK = 65_536
"""Samples written at once: libvorbis takes its memory from the stack, and a minute at once overflows it."""

PLAYERS = {
    "afplay": (),
    "ffplay": ("-nodisp", "-autoexit", "-loglevel", "error"),
    "paplay": (),
    "aplay": ("--quiet",),
}
"""Programs that play a WAV file and end, and their flags; the first that is installed is taken."""


def encoded(
    waveform: np.ndarray,
    rate: int,
    seconds: float | None = None,
    kind: Literal["opus", "vorbis"] = "vorbis",
    quality: float = QUALITY,
) -> bytes:
    """Makes a small Ogg file of a sound.

    Args:
        waveform: float ``(S,)``; what goes beyond full scale is scaled down as a whole.
        rate: Hz.
        seconds: keep the beginning, faded out at its end; None keeps everything.
        kind: how it is coded. Four seconds take 13 ms as Vorbis and 100 ms as Opus, at `QUALITY` 9 kB and 13 kB.
        quality: from 0 to 1. Opus goes from 6 to 256 kbit/s, Vorbis from its quality 0 to 10.

    Raises:
        ValueError: no samples, samples that are no numbers, or another kind or quality.
    """
    if waveform.ndim != 1 or not len(waveform):
        raise ValueError(f"samples (S,) with S at least 1 were expected, an array of shape {waveform.shape} was found")
    if kind not in SUBTYPES or not 0 <= quality <= 1:
        raise ValueError(f"{' or '.join(SUBTYPES)} of a quality in [0, 1] was expected, {kind} of {quality} was found")
    if not np.isfinite(waveform).all():
        raise ValueError("samples that are numbers were expected, NaN or infinity was found; leave that sound out")
    sound = _beginning(np.asarray(waveform, np.float32), rate, seconds)
    if kind == "opus" and rate not in OPUS_RATES:
        sound, rate = soxr.resample(sound, rate, OPUS_RATES[-1]), OPUS_RATES[-1]
    sound = _within_full_scale(sound)
    data = io.BytesIO()
    options = {"format": "OGG", "subtype": SUBTYPES[kind], "compression_level": 1 - quality}
    with soundfile.SoundFile(data, "w", samplerate=rate, channels=1, **options) as file:
        for start in range(0, len(sound), BLOCK):
            file.write(sound[start : start + BLOCK])
    return data.getvalue()


def play(waveform: np.ndarray, rate: int) -> None:
    """Plays a sound on this machine, and returns when it has ended.

    Args:
        waveform: float ``(S,)``; what goes beyond full scale is scaled down as a whole.
        rate: Hz.

    Raises:
        AuditError: no player is installed, or the player failed, as without a loudspeaker.
    """
    player = find_player()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "sound.wav"
        soundfile.write(file, _within_full_scale(np.asarray(waveform, np.float32)), rate, subtype="PCM_16")
        command = [player, *PLAYERS[player], str(file)]
        found = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
    if found.returncode:
        words = found.stderr.strip().splitlines() or [f"exit code {found.returncode}"]
        raise AuditError(f"{player} cannot play ({words[-1].strip()}); is there a loudspeaker? Leave out --play if not")


def find_player() -> str:
    """The program that plays sound here.

    Raises:
        AuditError: none is installed.
    """
    for player in PLAYERS:
        if shutil.which(player):
            return player
    advice = "afplay is part of macOS" if sys.platform == "darwin" else "install ffmpeg, which brings ffplay"
    raise AuditError(f"a player was expected ({', '.join(PLAYERS)}), none is installed; {advice}, or leave out --play")


def _beginning(sound: np.ndarray, rate: int, seconds: float | None) -> np.ndarray:
    count = len(sound) if seconds is None else max(1, round(seconds * rate))
    if count >= len(sound):
        return sound
    fade = min(count, round(FADE_SECONDS * rate))
    sound = sound[:count].copy()
    sound[count - fade :] *= np.linspace(1, 0, fade, dtype=np.float32)
    return sound


def _within_full_scale(sound: np.ndarray) -> np.ndarray:
    return sound / max(1.0, float(np.abs(sound).max()))

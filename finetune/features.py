"""Classic features of a clip: numbers that describe each tenth of a second, and how they are distributed over time.

One short-time Fourier transform serves all of them: 128 ms windows, 25 ms apart. The power spectra of each tenth of a
second are averaged (Welch's method), and what librosa makes of them is one vector a tenth.

Shapes: N clips, S samples, F frequency bins, T tenths of a second, K features of one tenth, E = 4 K of a clip.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import librosa
import numpy as np
import torch
from scipy.ndimage import median_filter
from torch.utils.data import DataLoader
from tqdm import tqdm

from backbones.log_mel import RATE
from data.loader import FULL_SCALE
from data.pack import Pack

TENTH = RATE // 10
HOP = TENTH // 4
WINDOW = 2048
MEL_BINS, MFCCS = 128, 40
CONTRAST_BANDS = 5  # octaves from 200 Hz: a sixth would lie above half the sampling rate
SUBFRAMES = 10
MEDIAN = 31  # frames or bins: 0.8 s, 240 Hz
QUARTILES = (25, 75)
VERSION = 1
"""Of what is computed here; features that were kept from another version are not used."""
_LEAST = 1e-10


class Sound:
    """A clip as the features see it.

    Args:
        waveform: float in [-1, 1], ``(S,)``; what is left over behind the last whole tenth of a second is not heard,
            and a clip that is shorter than one is filled up with silence.
    """

    def __init__(self, waveform: np.ndarray):
        self.num_tenths = max(1, len(waveform) // TENTH)
        whole = waveform[: self.num_tenths * TENTH].astype(np.float32)
        self.waveform = np.pad(whole, (0, self.num_tenths * TENTH - len(whole)))

    @cached_property
    def fine(self) -> np.ndarray:
        """Magnitudes ``(F, 4 T)``."""
        filled = np.pad(self.waveform, (0, max(0, WINDOW - len(self.waveform))))  # or librosa warns of a short clip
        spectrum = np.abs(librosa.stft(filled, n_fft=WINDOW, hop_length=HOP))
        return spectrum[:, : 4 * self.num_tenths]

    @cached_property
    def power(self) -> np.ndarray:
        """Power spectrum of each tenth of a second, ``(F, T)``."""
        return by_tenth(self.fine**2)


def by_tenth(fine: np.ndarray) -> np.ndarray:
    """Means ``(F, T)`` of what was computed of every frame, ``(F, 4 T)``."""
    return fine.reshape(len(fine), -1, 4).mean(axis=2)


def log_mel(sound: Sound) -> np.ndarray:
    """Power in mel bins in decibels, ``(MEL_BINS, T)``."""
    return librosa.power_to_db(librosa.feature.melspectrogram(S=sound.power, sr=RATE, n_fft=WINDOW, n_mels=MEL_BINS))


def mfcc(sound: Sound) -> np.ndarray:
    """Mel-frequency cepstral coefficients, ``(MFCCS, T)``."""
    return librosa.feature.mfcc(S=log_mel(sound), n_mfcc=MFCCS)


def chroma(sound: Sound) -> np.ndarray:
    """Strength of the twelve pitch classes against the strongest, tuned to A = 440 Hz, ``(12, T)``."""
    return librosa.feature.chroma_stft(S=sound.power, sr=RATE, n_fft=WINDOW, tuning=0.0)


def spectral(sound: Sound) -> np.ndarray:
    """Shape of the spectrum, zero crossings, and two entropies between 0 and 1, ``(13, T)``.

    In order: centroid, bandwidth, roll-off (Hz), flatness, contrast of each octave (dB), zero crossings a sample,
    entropy of the spectrum, entropy of the energy of ten parts of the tenth.
    """
    magnitude = np.sqrt(sound.power)
    settings = {"sr": RATE, "n_fft": WINDOW}
    parts = sound.waveform.reshape(sound.num_tenths, SUBFRAMES, -1)
    return np.concatenate([
        librosa.feature.spectral_centroid(S=magnitude, **settings),
        librosa.feature.spectral_bandwidth(S=magnitude, **settings),
        librosa.feature.spectral_rolloff(S=magnitude, **settings),
        librosa.feature.spectral_flatness(S=magnitude),
        librosa.feature.spectral_contrast(S=magnitude, n_bands=CONTRAST_BANDS, **settings),
        librosa.feature.zero_crossing_rate(sound.waveform, frame_length=TENTH, hop_length=TENTH, center=False),
        entropy(sound.power),
        entropy((parts**2).sum(axis=2).T),
    ])  # fmt: skip


def hpss(sound: Sound) -> np.ndarray:
    """Energies of what is harmonic and what is percussive in decibels, and the latter's share, ``(3, T)``.

    Fitzgerald 2010, "Harmonic/Percussive Separation using Median Filtering". It is `librosa.decompose.hpss`, whose own
    filters take eight times as long.
    """
    steady, sudden = medians(sound.fine), medians(sound.fine.T).T
    is_harmonic = librosa.util.softmask(steady, sudden, power=2, split_zeros=True)
    parts = (sound.fine * is_harmonic, sound.fine * (1 - is_harmonic))
    harmonic, percussive = (by_tenth(part**2).sum(axis=0) for part in parts)
    decibels = 10 * np.log10(np.maximum(np.stack([harmonic, percussive]), _LEAST))
    return np.concatenate([decibels, (percussive / np.maximum(harmonic + percussive, _LEAST))[None]])


def medians(rows: np.ndarray) -> np.ndarray:
    """Median of the `MEDIAN` values around each in its row, rows being mirrored at their ends.

    All rows as one, for scipy filters one row by a faster algorithm than several.
    """
    padded = np.pad(rows, ((0, 0), (MEDIAN // 2, MEDIAN // 2)), mode="symmetric")
    return median_filter(padded.ravel(), size=MEDIAN).reshape(padded.shape)[:, MEDIAN // 2 : -(MEDIAN // 2)]


def entropy(energy: np.ndarray) -> np.ndarray:
    """Entropy of each column of ``(K, T)`` over the largest that K shares can have, ``(1, T)``; 0 of silence."""
    share = energy / np.maximum(energy.sum(axis=0), _LEAST)
    return -(share * np.log(np.maximum(share, _LEAST))).sum(axis=0, keepdims=True) / np.log(len(energy))


FEATURES: dict[str, tuple[Callable[[Sound], np.ndarray], ...]] = {
    "log_mel": (log_mel,),
    "mfcc": (mfcc,),
    "chroma": (chroma,),
    "spectral": (spectral,),
    "hpss": (hpss,),
    "classic": (mfcc, chroma, spectral, hpss),
}
"""What each name computes; ``classic`` is all but the log-mel, which the MFCCs sum up."""


def clip_features(waveform: np.ndarray, features: str) -> np.ndarray:
    """Mean, deviation and quartiles over a clip's tenths of a second of each feature, float32 ``(E,)``.

    Args:
        waveform: float in [-1, 1], ``(S,)``, at 16 kHz.
        features: one of `FEATURES`.
    """
    sound = Sound(waveform)
    each = np.concatenate([compute(sound) for compute in FEATURES[features]])  # (K, T)
    found = np.concatenate([each.mean(axis=1), each.std(axis=1), *np.percentile(each, QUARTILES, axis=1)])
    return found.astype(np.float32)


@dataclass(frozen=True)
class ClassicFeatures:
    """Classic features of whole clips, computed in several processes.

    Attributes:
        features: one of `FEATURES`.
        processes: 0 computes in this one.
    """

    features: str
    processes: int

    @property
    def name(self) -> str:
        """For the file that keeps them."""
        return self.features

    @property
    def identity(self) -> str:
        """What their values depend on besides the sound."""
        return f"{self.features} {VERSION} librosa {librosa.__version__}"

    def of(self, pack: Pack, rows: np.ndarray, is_shown: bool = True) -> np.ndarray:
        """Features of some clips, float32 ``(N, E)``."""
        loader = DataLoader(
            _Clips(pack, rows, self.features),
            batch_size=None,
            num_workers=self.processes,
            collate_fn=np.asarray,
            generator=torch.Generator(),  # it draws a seed that nothing here uses, not from the global generator
        )
        bar = tqdm(loader, desc=self.features, unit="clip", disable=not is_shown)
        return np.stack(list(bar))


@dataclass(frozen=True)
class _Clips:
    """Features by place; what the loader hands to its processes."""

    pack: Pack
    rows: np.ndarray
    features: str

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: int) -> np.ndarray:
        return clip_features(self.pack.samples(self.rows[place]) / np.float32(FULL_SCALE), self.features)


def usable_cores() -> int:
    """How many processes compute at a time at best."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

"""Augmentation of a batch on its device: what a view of a clip sounds like.

What happens to a clip depends on its key alone. A transform that is off costs nothing; on a CPU each works on the clips
that it was drawn for and no others. Elsewhere choosing rows would make the host wait for the device, so every clip is
computed and the chosen ones are kept.

Sounding parts stay as long as they were, and zeros behind a clip's end stay zeros: what reverberation and filters let
ring on there is cut off. A clip that fills its row is a loop: what rings on behind its end, or is pushed out there, is
heard at its start. Silence stays silent. Levels are not brought back to [-1, 1].

Own code, for no library does this: torch_audiomentations 0.12 filters clip after clip and waits for the device at each,
draws from the global generator and knows no padding; torchaudio's and julius's filters and resamplers take one setting
a call.

Shapes: B rows of a batch, S samples, K frequencies of the spectrum, P of the filters.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import lru_cache, partial

import torch
from torch import Tensor

from data.decode import RATE
from data.draws import uniform_of_keys
from data.errors import DataError
from data.fourier import smooth_length, spectrum_of, waveform_of
from data.levels import clipped, power, ratio_of_db, silenced, with_background, without_padding
from data.playback import begun_at, played_at
from data.spectrum import (
    band_stop,
    bell,
    codec,
    frequencies,
    high_pass,
    low_pass,
    reverberated,
    tilt,
    times,
    with_noise,
)

CPU_SAMPLES_AT_ONCE = 524_288  # 2 MiB of floats: fewer spend their time on planning Fourier transforms, more on memory
FILTERS = {
    "high_pass": (high_pass, "high_pass_hz"),
    "low_pass": (low_pass, "low_pass_hz"),
    "bell": (bell, "bell_hz", "bell_db", "bell_octaves"),
    "tilt": (tilt, "tilt_db"),
    "codec": (codec, "codec_hz"),
    "frequency_mask": (band_stop, "frequency_mask_share", "frequency_mask_place"),
}
"""Factors of the spectrum, and what is drawn for each."""
IN_SPECTRUM = ("reverb", "noise", *FILTERS, "speed")
PLACES = ("time_mask_place", "frequency_mask_place")
"""Drawn evenly from 0 to 1, besides the fields."""


@dataclass(frozen=True)
class Augmentation:
    """Which transforms happen to how many clips, and how far they go.

    The fields stand in the order in which the transforms are applied. Probabilities lie in [0, 1]; 0, the default, is
    off. Ranges are drawn from evenly, those in Hz evenly in octaves.
    """

    clipping_probability: float = 0.0
    """Share of clips that are overdriven."""
    clipping_db: tuple[float, float] = (1.0, 9.0)
    """How far under the clip's peak the level lies that no sample passes."""
    clipping_soft: float = 0.5
    """Share of the overdriven clips that are bent (hyperbolic tangent) instead of cut off."""
    background_probability: float = 0.0
    """Share of clips that get a background, where the caller hands over backgrounds."""
    background_snr_db: tuple[float, float] = (5.0, 30.0)
    """Power of the clip over that of its background."""
    reverb_probability: float = 0.0
    """Share of clips that sound in a room, each in its own."""
    reverb_seconds: tuple[float, float] = (0.1, 0.5)
    """Reverberation time: until the room is quieter by 60 dB. The upper end costs time, at most 2."""
    reverb_wet: tuple[float, float] = (0.05, 0.4)
    """Share of the power that comes from the room and not directly, in [0, 1]."""
    noise_probability: float = 0.0
    """Share of clips that get noise."""
    noise_snr_db: tuple[float, float] = (10.0, 40.0)
    """Power of the clip, before reverberation, over that of the noise."""
    noise_slope_db: tuple[float, float] = (-6.0, 0.0)
    """Colour of the noise in dB an octave: 0 is white, -3 pink, -6 brown, each flat below 50 Hz."""
    high_pass_probability: float = 0.0
    """Share of clips that lose their lows."""
    high_pass_hz: tuple[float, float] = (40.0, 300.0)
    """Where the high-pass is 3 dB down; it falls by 12 dB an octave."""
    low_pass_probability: float = 0.0
    """Share of clips that lose their highs."""
    low_pass_hz: tuple[float, float] = (2000.0, 7000.0)
    """Where the low-pass is 3 dB down; it falls by 12 dB an octave."""
    bell_probability: float = 0.0
    """Share of clips that an equaliser raises or lowers around one frequency."""
    bell_hz: tuple[float, float] = (100.0, 6000.0)
    """The frequency."""
    bell_db: tuple[float, float] = (-9.0, 9.0)
    """How much it is raised."""
    bell_octaves: tuple[float, float] = (0.5, 2.0)
    """Width between the two frequencies that are raised by half as many decibels."""
    tilt_probability: float = 0.0
    """Share of clips that become brighter or darker."""
    tilt_db: tuple[float, float] = (-2.0, 2.0)
    """Gain in dB an octave above 1 kHz, and its opposite below."""
    codec_probability: float = 0.0
    """Share of clips that end at a frequency, as from a low bit rate or a telephone."""
    codec_hz: tuple[float, float] = (3000.0, 7000.0)
    """The frequency; the edge is a twentieth of it to either side."""
    frequency_mask_probability: float = 0.0
    """Share of clips from which a band is taken out."""
    frequency_mask_share: tuple[float, float] = (0.02, 0.15)
    """Width of the band as a share of the mel scale from 0 Hz to 8 kHz."""
    speed_probability: float = 0.0
    """Share of clips played faster or slower, background and all: pitch and duration change together, as on a tape."""
    speed_semitones: tuple[float, float] = (-1.0, 1.0)
    """How much higher. The clip is read as a loop, so that its length stays."""
    shift_probability: float = 0.0
    """Share of clips that begin elsewhere; what leaves at the end comes in at the start."""
    shift_seconds: tuple[float, float] = (-1.0, 1.0)
    """How much later the sound comes."""
    gain_probability: float = 0.0
    """Share of clips that become louder or quieter."""
    gain_db: tuple[float, float] = (-12.0, 6.0)
    """How much louder."""
    polarity_probability: float = 0.0
    """Share of clips whose sign is turned."""
    time_mask_probability: float = 0.0
    """Share of clips of which a stretch is silenced."""
    time_mask_share: tuple[float, float] = (0.02, 0.15)
    """Length of the stretch as a share of the clip."""

    def __post_init__(self):
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in _LIMITS:
                _check_range(field.name, value)
            elif not 0 <= value <= 1:
                raise DataError(f"{field.name} should lie between 0 and 1, {value} found; give a share of the clips")

    @classmethod
    def standard(cls) -> "Augmentation":
        """Everything at moderate rates: views for contrastive learning."""
        return cls(
            speed_probability=0.3, shift_probability=0.5, clipping_probability=0.1, background_probability=0.3,
            reverb_probability=0.3, noise_probability=0.3, high_pass_probability=0.2, low_pass_probability=0.2,
            bell_probability=0.4, tilt_probability=0.3, codec_probability=0.1, frequency_mask_probability=0.3,
            gain_probability=0.8, polarity_probability=0.5, time_mask_probability=0.3,
        )  # fmt: skip

    @torch.no_grad()
    def __call__(
        self, waveform: Tensor, keys: Tensor, num_samples: Tensor | None = None, background: Tensor | None = None
    ) -> Tensor:
        """Augments a batch.

        Args:
            waveform: float32 ``(B, S)`` at 16 kHz; left as it is.
            keys: int64 ``(B,)``, on the same device; nothing else decides what is drawn.
            num_samples: int64 ``(B,)``, how many of the S samples are sound, zeros behind them; None means all.
            background: float32 ``(B, S)``, another sound for each clip; None means that there are none.

        Returns:
            float32 ``(B, S)``, a new tensor.
        """
        if waveform.dim() != 2 or keys.shape != waveform.shape[:1]:
            raise ValueError(f"one key a clip was expected, {tuple(keys.shape)} for {tuple(waveform.shape)} found")
        if background is not None and background.shape != waveform.shape:
            raise ValueError(f"backgrounds of {tuple(waveform.shape)} were expected, {tuple(background.shape)} found")
        size = max(1, CPU_SAMPLES_AT_ONCE // max(1, waveform.shape[1]) if _picks_rows(waveform) else len(waveform))
        draws = self.draw(keys)
        rows = (waveform, keys, draws.settings, draws.is_met, num_samples, background)
        parts = [
            self._of_part(*(None if tensor is None else tensor[first : first + size] for tensor in rows))
            for first in range(0, len(waveform), size)
        ]
        return parts[0] if len(parts) == 1 else torch.cat([waveform[:0], *parts])

    def draw(self, keys: Tensor) -> "Draws":
        """What happens to the clips of some keys, int64 ``(B,)``.

        Each field has a place of its own in a key's sequence, so turning one transform on or off changes no other.
        """
        uniform = uniform_of_keys(keys, len(_COLUMNS))
        low, width, is_logarithm, probability = _bounds(self, keys.device)
        settings = low + uniform * width
        return Draws(self, torch.where(is_logarithm, settings.exp(), settings), uniform < probability)

    @classmethod
    def transforms(cls) -> list[str]:
        """Names of all transforms, in the order of their fields."""
        return [field.name.removesuffix("_probability") for field in fields(cls) if "_probability" in field.name]

    def is_on(self, transform: str) -> bool:
        """Whether a transform happens to any clip."""
        return getattr(self, f"{transform}_probability") > 0

    def _of_part(
        self, waveform: Tensor, keys: Tensor, settings: Tensor, is_met: Tensor, num_samples: Tensor | None,
        background: Tensor | None,
    ) -> Tensor:  # fmt: skip
        draws = Draws(self, settings, is_met)
        is_soft = draws.is_chosen("clipping_soft")
        waveform = draws.apply("clipping", clipped, waveform.clone(), draws["clipping_db"], is_soft)
        if background is not None:
            snr = draws["background_snr_db"]
            waveform = draws.apply("background", with_background, waveform, background, snr, num_samples)
        if any(map(self.is_on, IN_SPECTRUM)):
            is_changed = torch.stack([draws.is_chosen(f"{name}_probability") for name in IN_SPECTRUM]).any(0)
            waveform = apply_to(is_changed, self._in_spectrum, waveform, keys, settings, is_met, num_samples)
        shift = (draws["shift_seconds"] * RATE).round().long()
        waveform = draws.apply("shift", begun_at, waveform, shift, num_samples)
        if self.is_on("gain") or self.is_on("polarity"):
            level = torch.where(draws.is_chosen("gain_probability"), ratio_of_db(draws["gain_db"]), 1.0)
            level = torch.where(draws.is_chosen("polarity_probability"), -level, level)
            waveform.mul_(level[:, None])
        share, place = draws["time_mask_share"], draws["time_mask_place"]
        return draws.apply("time_mask", silenced, waveform, share, place, num_samples)

    def _in_spectrum(
        self, waveform: Tensor, keys: Tensor, settings: Tensor, is_met: Tensor, num_samples: Tensor | None
    ) -> Tensor:
        draws, count = Draws(self, settings, is_met), waveform.shape[1]
        points = smooth_length(count)
        spectrum = spectrum_of(waveform, points)  # (B, K)
        # Frequencies and times as they will be heard, once the clip is played faster or slower.
        factor = torch.exp(draws["speed_semitones"] * (math.log(2) / 12))
        factor = torch.where(draws.is_chosen("speed_probability"), factor, 1.0)
        hz = frequencies(waveform.device) * factor[:, None]  # (B, P)
        seconds = draws["reverb_seconds"] * factor

        longest = self.reverb_seconds[1] * 2 ** (max(0.0, *self.speed_semitones) / 12)
        room = partial(reverberated, longest=longest)
        spectrum = draws.apply("reverb", room, spectrum, keys, seconds, draws["reverb_wet"])
        noise = power(waveform, num_samples) / ratio_of_db(draws["noise_snr_db"]).square()
        spectrum = draws.apply("noise", with_noise, spectrum, keys, noise, hz, draws["noise_slope_db"])
        if any(map(self.is_on, FILTERS)):
            factors = torch.ones_like(hz)
            for name, (response, *of_filter) in FILTERS.items():
                if self.is_on(name):
                    is_filtered = draws.is_chosen(f"{name}_probability")[:, None]
                    factors *= torch.where(is_filtered, response(hz, *(draws[field] for field in of_filter)), 1.0)
            spectrum = times(spectrum, factors)
        waveform = without_padding(waveform_of(spectrum, points)[:, :count], num_samples)
        return draws.apply("speed", partial(_replayed, count), waveform, spectrum, factor, num_samples)


class Draws:
    """What was drawn for some clips.

    Attributes:
        settings: a value from each range, float32 ``(B, columns)``.
        is_met: whether each probability was met, bool ``(B, columns)``.
    """

    def __init__(self, config: Augmentation, settings: Tensor, is_met: Tensor):
        self.config, self.settings, self.is_met = config, settings, is_met

    def __getitem__(self, field: str) -> Tensor:
        """``(B,)``, from the range of a field or of one of `PLACES`."""
        return self.settings[:, _COLUMNS[field]]

    def is_chosen(self, field: str) -> Tensor:
        """bool ``(B,)``, with the probability that a field gives."""
        return self.is_met[:, _COLUMNS[field]]

    def apply(self, name: str, transform: Callable[..., Tensor], operand: Tensor, *settings: Tensor | None) -> Tensor:
        """Applies a transform to the clips that it was drawn for."""
        if not self.config.is_on(name):
            return operand
        return apply_to(self.is_chosen(f"{name}_probability"), transform, operand, *settings)


def apply_to(is_chosen: Tensor, transform: Callable[..., Tensor], operand: Tensor, *settings: Tensor | None) -> Tensor:
    """Applies a transform to the rows of `operand` that are chosen; on a CPU in place.

    Args:
        is_chosen: bool ``(B,)``.
        transform: from rows of `operand` and of each of the settings to new rows.
    """
    if not _picks_rows(operand):
        changed = transform(operand, *settings)
        return torch.where(is_chosen.view(-1, *[1] * (operand.dim() - 1)), changed, operand)
    rows = is_chosen.nonzero()[:, 0]
    if len(rows) == len(operand):
        return transform(operand, *settings)
    if len(rows):
        of_rows = (None if setting is None else setting[rows] for setting in settings)
        operand[rows] = transform(operand[rows], *of_rows)
    return operand


def _picks_rows(rows: Tensor) -> bool:
    """Whether the numbers of chosen rows can be had without waiting for the device."""
    return rows.device.type == "cpu"


def _replayed(count: int, waveform: Tensor, spectrum: Tensor, factor: Tensor, num_samples: Tensor | None) -> Tensor:
    """In the place of a waveform its spectrum, played faster or slower."""
    return played_at(spectrum, factor, count, num_samples)


_COLUMNS = {name: column for column, name in enumerate([*(field.name for field in fields(Augmentation)), *PLACES])}


@lru_cache(maxsize=16)
def _bounds(config: Augmentation, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of each column: the lower end of its range, its width, whether both are logarithms, and its probability."""
    of_field = {name: getattr(config, name, (0.0, 1.0)) for name in _COLUMNS}
    ranges = [value if isinstance(value, tuple) else (0.0, 1.0) for value in of_field.values()]
    shares = [0.0 if isinstance(value, tuple) else float(value) for value in of_field.values()]
    is_logarithm = torch.tensor([name.endswith("_hz") for name in _COLUMNS])
    ends = torch.tensor(ranges, dtype=torch.float64)
    low, high = torch.where(is_logarithm[:, None], ends.log(), ends).unbind(1)
    columns = (low.float(), (high - low).float(), is_logarithm, torch.tensor(shares))
    return tuple(column.to(device) for column in columns)


def _check_range(name: str, ends: tuple[float, float]) -> None:
    lowest, highest = _LIMITS[name]
    low, high = ends
    if not lowest <= low <= high <= highest:
        raise DataError(
            f"{name} should be a range within [{lowest:g}, {highest:g}], lower end first, [{low:g}, {high:g}] found; "
            "give two numbers"
        )


_LIMITS = {
    "speed_semitones": (-12, 12),
    "shift_seconds": (-3600, 3600),
    "clipping_db": (0, 60),
    "background_snr_db": (-60, 120),
    "reverb_seconds": (0.01, 2),
    "reverb_wet": (0, 1),
    "noise_snr_db": (-60, 120),
    "noise_slope_db": (-24, 24),
    "high_pass_hz": (20, RATE / 2),
    "low_pass_hz": (20, RATE / 2),
    "bell_hz": (20, RATE / 2),
    "bell_db": (-60, 60),
    "bell_octaves": (0.1, 10),
    "tilt_db": (-24, 24),
    "codec_hz": (20, RATE / 2),
    "frequency_mask_share": (0, 1),
    "gain_db": (-120, 60),
    "time_mask_share": (0, 1),
}

"""Reads a SoundFont (.sf2, .sf3): which recorded samples sound for a program, key and velocity, and how.

From the SoundFont 2.04 specification. Read: key and velocity ranges, addresses and loops, root key, tuning, volume
envelope, attenuation, pan and the static filter. Not read: modulators, LFOs, the modulation envelope, exclusive
classes.
"""

import io
import zlib
from collections import defaultdict
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import soundfile

from data.errors import DataError

_BAG = np.dtype([("generator", "<u2"), ("modulator", "<u2")])
_GENERATOR = np.dtype([("operator", "<u2"), ("amount", "<i2")])
_PRESET = np.dtype([("name", "S20"), ("program", "<u2"), ("bank", "<u2"), ("bag", "<u2"), ("unused", "<u4", 3)])
_INSTRUMENT = np.dtype([("name", "S20"), ("bag", "<u2")])
_SAMPLE = np.dtype(
    [("name", "S20"), ("start", "<u4"), ("end", "<u4"), ("loop_start", "<u4"), ("loop_end", "<u4"), ("rate", "<u4"),
     ("root", "u1"), ("correction", "i1"), ("link", "<u2"), ("kind", "<u2")]
)  # fmt: skip
_RECORDS = {"phdr": _PRESET, "pbag": _BAG, "pgen": _GENERATOR, "inst": _INSTRUMENT, "ibag": _BAG, "igen": _GENERATOR,
            "shdr": _SAMPLE}  # fmt: skip

INSTRUMENT, KEY_RANGE, VELOCITY_RANGE, SAMPLE = 41, 43, 44, 53
"""Generators that index or select; all others are parameters of the sound."""
DEFAULTS = {
    8: 13500, 33: -12000, 34: -12000, 35: -12000, 36: -12000, 38: -12000, 56: 100, 58: -1, 46: -1,
}  # fmt: skip
_ADDRESSES = (0, 1, 2, 3, 4, 12, 45, 46, 47, 50, 54, 57, 58)
"""Generators that only instruments may set (section 8.1.2): a preset's are ignored."""


@dataclass(frozen=True, slots=True)
class Zone:
    """One recorded sample as a program uses it for some keys and velocities."""

    keys: tuple[int, int]
    velocities: tuple[int, int]
    sample: int
    parameters: dict[int, int]
    """SoundFont generator to amount, the preset's added to the instrument's; absent means `DEFAULTS` or 0."""

    def get(self, operator: int) -> int:
        return self.parameters.get(operator, DEFAULTS.get(operator, 0))


class SoundFont:
    """A SoundFont's presets and samples.

    Raises:
        DataError: the file is missing or is no SoundFont, or is cut short.
    """

    def __init__(self, path: Path):
        if not path.is_file():
            raise DataError(f"Expected a SoundFont (.sf2 or .sf3), found no file at {path}; check the path.")
        content = path.read_bytes()
        if content[:4] != b"RIFF" or content[8:12] != b"sfbk":
            raise DataError(f"Expected a SoundFont (.sf2 or .sf3), found something else in {path}; name another file.")
        chunks = _chunks(content)
        missing = sorted({*_RECORDS, "smpl"} - set(chunks))
        if missing or len(content) < int.from_bytes(content[4:8], "little") + 8:
            raise DataError(f"Expected a whole SoundFont, found {path} cut short or damaged; copy it again.")
        tables = {name: np.frombuffer(chunks[name], dtype) for name, dtype in _RECORDS.items()}
        self.headers = tables["shdr"][:-1]
        self._data = chunks["smpl"]
        instruments = [
            _zones(tables["ibag"], tables["igen"], first["bag"], last["bag"], SAMPLE)
            for first, last in zip(tables["inst"][:-1], tables["inst"][1:], strict=True)
        ]
        self._zones: dict[tuple[int, int], list[Zone]] = defaultdict(list)
        for first, last in zip(tables["phdr"][:-1], tables["phdr"][1:], strict=True):
            place = (int(first["bank"]), int(first["program"]))
            for preset in _zones(tables["pbag"], tables["pgen"], first["bag"], last["bag"], INSTRUMENT):
                self._zones[place] += [_combined(preset, zone) for zone in instruments[preset[INSTRUMENT]]]
        self._samples: dict[int, np.ndarray] = {}

    def zones(self, bank: int, program: int, key: int, velocity: int) -> list[Zone]:
        """Returns what sounds; nothing where the font has no such program or key."""
        return [
            zone
            for zone in self._zones.get((bank, program), ())
            if zone.keys[0] <= key <= zone.keys[1] and zone.velocities[0] <= velocity <= zone.velocities[1]
        ]

    def sample(self, index: int) -> tuple[np.ndarray, int]:
        """Returns the samples to read from, float32, and where in them the recording's start lies."""
        if self.headers[index]["kind"] & 0x10:  # .sf3: each recording is an Ogg Vorbis file, its loop relative
            if index not in self._samples:
                header = self.headers[index]
                file = io.BytesIO(self._data[int(header["start"]) : int(header["end"])])
                self._samples[index] = soundfile.read(file, dtype="float32")[0]
            return self._samples[index], 0
        if -1 not in self._samples:
            usable = len(self._data) // 2 * 2
            self._samples[-1] = np.frombuffer(self._data[:usable], "<i2").astype(np.float32) / 32768
        return self._samples[-1], int(self.headers[index]["start"])

    def fingerprint(self, index: int) -> int:
        """Returns a checksum of a recording's stored bytes: equal recordings have equal ones, in any font."""
        header = self.headers[index]
        width = 1 if header["kind"] & 0x10 else 2
        return zlib.crc32(self._data[width * int(header["start"]) : width * int(header["end"])])


@lru_cache(maxsize=8)
def open_font(path: Path) -> SoundFont:
    """Opens a SoundFont once per process; raises `DataError` as `SoundFont` does."""
    return SoundFont(path)


def _chunks(content: bytes) -> dict[str, memoryview]:
    view, found, place = memoryview(content), {}, 12
    while place + 8 <= len(content):
        name, size = content[place : place + 4], int.from_bytes(content[place + 4 : place + 8], "little")
        if name == b"LIST":
            place += 12  # step into the list
            continue
        found[name.decode("latin-1")] = view[place + 8 : place + 8 + size]
        place += 8 + size + size % 2
    return found


def _zones(bags: np.ndarray, generators: np.ndarray, first: int, last: int, index: int) -> list[dict[int, int]]:
    """Returns each zone's generators over those of the global zone, which is the first if it indexes nothing."""
    zones, shared = [], {}
    for bag in range(first, last):
        rows = generators[bags[bag]["generator"] : bags[bag + 1]["generator"]]
        own = {int(operator): int(amount) for operator, amount in rows}
        if index in own:
            zones.append(shared | own)
        elif bag == first:
            shared = own
    return zones


def _combined(preset: dict[int, int], zone: dict[int, int]) -> Zone:
    parameters = dict(zone)
    for operator, amount in preset.items():
        if operator not in _ADDRESSES and operator not in (KEY_RANGE, VELOCITY_RANGE, INSTRUMENT):
            parameters[operator] = parameters.get(operator, DEFAULTS.get(operator, 0)) + amount
    ranges = []
    for operator in (KEY_RANGE, VELOCITY_RANGE):
        pairs = [
            (amount & 0x7F, (amount >> 8) & 0x7F) for d in (preset, zone) if (amount := d.get(operator)) is not None
        ]
        ranges.append((max((low for low, _ in pairs), default=0), min((high for _, high in pairs), default=127)))
    return Zone(ranges[0], ranges[1], zone[SAMPLE], parameters)

"""Reads a SoundFont (.sf2, .sf3): which recorded samples sound for a program, key and velocity, and how.

From the SoundFont 2.04 specification. Read: key and velocity ranges, addresses and loops, root key, tuning, volume
envelope, attenuation, pan and the static filter. Not read: modulators, LFOs, the modulation envelope, exclusive
classes.
"""

import io
import zlib
from collections import defaultdict
from collections.abc import Iterator, Sized
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import soundfile
import xxhash

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
RANGES = {
    8: (1500, 13500), 17: (-500, 500), 33: (-12000, 5000), 34: (-12000, 8000), 35: (-12000, 5000), 36: (-12000, 8000),
    37: (0, 1440), 38: (-12000, 8000), 39: (-1200, 1200), 40: (-1200, 1200), 46: (-1, 127), 48: (0, 1440),
    51: (-120, 120), 52: (-99, 99), 56: (0, 1200), 58: (-1, 127),
}  # fmt: skip
"""What section 8.1.3 allows; it asks to take the nearest for what lies outside."""
_COMPRESSED = 0x10
"""Bit of a sample's kind in an .sf3: an Ogg Vorbis file, found by its bytes, its loop counted from its own start."""
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
        """Returns what the zone says, within what the specification allows."""
        amount = self.parameters.get(operator, DEFAULTS.get(operator, 0))
        low, high = RANGES.get(operator, (amount, amount))
        return min(max(amount, low), high)


@dataclass(frozen=True, slots=True)
class FontFile:
    """A SoundFont on the disk: the same font wherever it lies, so that a moved clone finds its packs whole."""

    path: Path = field(repr=False, compare=False)
    stem: str
    checksum: str

    @classmethod
    def of(cls, path: Path) -> "FontFile":
        """Names the font at ``path``.

        Raises:
            DataError: there is no file.
        """
        path = Path(path)
        return cls(path, path.stem, xxhash.xxh3_128_hexdigest(_content(path)))


class SoundFont:
    """A SoundFont's presets and samples.

    Raises:
        DataError: the file is missing, is no SoundFont, is cut short, or points outside of its own tables.
    """

    def __init__(self, path: Path):
        self._path = path
        content = _content(path)
        if content[:4] != b"RIFF" or content[8:12] != b"sfbk":
            raise DataError(f"Expected a SoundFont (.sf2 or .sf3), found something else in {path}; name another file.")
        chunks = _chunks(content)
        missing = sorted({*_RECORDS, "smpl"} - set(chunks))
        if missing or len(content) < int.from_bytes(content[4:8], "little") + 8:
            raise self._damaged()
        if any(len(chunks[name]) % dtype.itemsize or not len(chunks[name]) for name, dtype in _RECORDS.items()):
            raise self._damaged()
        tables = {name: np.frombuffer(chunks[name], dtype) for name, dtype in _RECORDS.items()}
        self.headers = tables["shdr"][:-1]
        self._data = chunks["smpl"]
        instruments = [
            zones for _, zones in self._owners(tables["inst"], tables["ibag"], tables["igen"], SAMPLE, self.headers)
        ]
        self._zones: dict[tuple[int, int], list[Zone]] = defaultdict(list)
        presets = self._owners(tables["phdr"], tables["pbag"], tables["pgen"], INSTRUMENT, instruments)
        for header, zones in presets:
            place = (int(header["bank"]), int(header["program"]))
            for preset in zones:
                self._zones[place] += [_combined(preset, zone) for zone in instruments[preset[INSTRUMENT]]]
        self._samples: dict[int, np.ndarray] = {}

    def _damaged(self) -> DataError:
        return DataError(f"Expected a whole SoundFont, found {self._path} cut short or damaged; copy it again.")

    def _owners(
        self, owners: np.ndarray, bags: np.ndarray, generators: np.ndarray, index: int, indexed: Sized
    ) -> Iterator[tuple[np.void, list[dict[int, int]]]]:
        """Yields every preset or instrument with its zones, having checked that all its numbers point into tables."""
        # Rising, as section 7 asks: then no row is read twice, and reading ends however the file is damaged.
        for places, end in ((owners["bag"], len(bags)), (bags["generator"], len(generators) + 1)):
            if np.any(places[1:] < places[:-1]) or places[-1] >= end:
                raise self._damaged()
        for first, last in pairwise(owners):
            zones = _zones(bags, generators, int(first["bag"]), int(last["bag"]), index)
            if any(zone[index] >= len(indexed) for zone in zones):
                raise self._damaged()
            yield first, zones

    def zones(self, bank: int, program: int, key: int, velocity: int) -> list[Zone]:
        """Returns what sounds; nothing where the font has no such program or key."""
        return [
            zone
            for zone in self._zones.get((bank, program), ())
            if zone.keys[0] <= key <= zone.keys[1] and zone.velocities[0] <= velocity <= zone.velocities[1]
        ]

    def sample(self, index: int) -> tuple[np.ndarray, int, int]:
        """Returns the samples to read from, float32, and where in them the recording starts and ends.

        Raises:
            DataError: an .sf3's recording cannot be decoded.
        """
        header = self.headers[index]
        if header["kind"] & _COMPRESSED:
            if index not in self._samples:
                file = io.BytesIO(self._data[int(header["start"]) : int(header["end"])])
                try:
                    self._samples[index] = soundfile.read(file, dtype="float32", always_2d=True)[0][:, 0]
                except (soundfile.LibsndfileError, RuntimeError) as error:
                    raise self._damaged() from error
            return self._samples[index], 0, len(self._samples[index])
        if -1 not in self._samples:
            usable = len(self._data) // 2 * 2
            self._samples[-1] = np.frombuffer(self._data[:usable], "<i2").astype(np.float32) / 32768
        return self._samples[-1], int(header["start"]), int(header["end"])

    def fingerprint(self, index: int) -> int:
        """Returns a checksum of a recording's stored bytes: equal recordings have equal ones, in any font."""
        header = self.headers[index]
        width = 1 if header["kind"] & _COMPRESSED else 2
        return zlib.crc32(self._data[width * int(header["start"]) : width * int(header["end"])])


@lru_cache(maxsize=8)
def open_font(font: FontFile) -> SoundFont:
    """Opens a SoundFont once per process; raises `DataError` as `SoundFont` does."""
    return SoundFont(font.path)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(
            f"Expected a SoundFont (.sf2 or .sf3), found no file to read at {path} ({error.strerror}); check the path."
        ) from error


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
            zones.append(shared | own | {index: own[index] & 0xFFFF})  # an index is the one amount without a sign
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

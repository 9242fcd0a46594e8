"""Small SoundFonts, cut from the default one."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from data.sources import gm_font
from data.sources.gm_font import INSTRUMENT, KEY_RANGE, SAMPLE, VELOCITY_RANGE, FontFile, open_font
from data.sources.gm_synth import default_font


@pytest.fixture(scope="session")
def make_font() -> Callable[..., Path]:
    """``make_font(path, {(bank, program): keys}, compressed=False)``: a font of what these keys need."""

    def make(path: Path, keys: dict[tuple[int, int], tuple[int, ...]], compressed: bool = False) -> Path:
        font = open_font(FontFile.of(default_font()))
        zones = {
            place: list({zone.sample: zone for key in wanted for zone in font.zones(*place, key, 100)}.values())
            for place, wanted in keys.items()
        }
        used = sorted({zone.sample for found in zones.values() for zone in found})
        headers, sound = _samples(font, used, compressed)
        tables = _tables(zones, used) | {"shdr": headers.tobytes()}
        order = ("phdr", "pbag", "pmod", "pgen", "inst", "ibag", "imod", "igen", "shdr")
        version = _chunk("ifil", np.array([3 if compressed else 2, 4], "<u2").tobytes())
        lists = [
            b"INFO" + version,
            b"sdta" + _chunk("smpl", sound),
            b"pdta" + b"".join(_chunk(name, tables[name]) for name in order),
        ]
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(_chunk("RIFF", b"sfbk" + b"".join(_chunk("LIST", content) for content in lists)))
        return path

    return make


def _chunk(name: str, content: bytes) -> bytes:
    return name.encode() + len(content).to_bytes(4, "little") + content + bytes(len(content) % 2)


def _samples(font, used: list[int], compressed: bool) -> tuple[np.ndarray, bytes]:
    """Headers, the terminal one too, and the recordings: 46 zeros after each, or one Ogg Vorbis file each."""
    headers = np.concatenate([font.headers[used], np.zeros(1, font.headers.dtype)])
    sound = b""
    for header in headers[:-1]:
        recording = np.frombuffer(font._data[2 * int(header["start"]) : 2 * int(header["end"])], "<i2")
        if compressed:
            file = io.BytesIO()
            soundfile.write(file, recording, 44_100, format="OGG", subtype="VORBIS", compression_level=0.1)
            places = len(sound), len(sound) + len(file.getvalue()), 0
            sound += file.getvalue()
            header["kind"] |= 0x10
        else:
            places = len(sound) // 2, len(sound) // 2 + len(recording), len(sound) // 2
            sound += recording.tobytes() + bytes(92)
        for name in ("loop_start", "loop_end"):
            header[name] = int(header[name]) - int(header["start"]) + places[2]
        header["start"], header["end"] = places[:2]
    return headers, sound


def _tables(zones: dict, used: list[int]) -> dict[str, bytes]:
    """A preset of one zone and an instrument of all its zones for every place, each table with its terminal row."""
    presets, preset_bags, preset_generators = [], [], []
    instruments, bags, generators = [], [], []
    for number, ((bank, program), found) in enumerate(zones.items()):
        presets.append((b"", program, bank, len(preset_bags), (0, 0, 0)))
        preset_bags.append((len(preset_generators), 0))
        preset_generators.append((INSTRUMENT, number))
        instruments.append((b"", len(bags)))
        for zone in found:
            bags.append((len(generators), 0))
            generators += [(KEY_RANGE, 127 << 8), (VELOCITY_RANGE, 127 << 8)]
            generators += [
                pair for pair in zone.parameters.items() if pair[0] not in (KEY_RANGE, VELOCITY_RANGE, SAMPLE)
            ]
            generators.append((SAMPLE, used.index(zone.sample)))
    rows = {
        "phdr": [*presets, (b"EOP", 0, 0, len(preset_bags), (0, 0, 0))],
        "pbag": [*preset_bags, (len(preset_generators), 0)],
        "pgen": [*preset_generators, (0, 0)],
        "inst": [*instruments, (b"EOI", len(bags))],
        "ibag": [*bags, (len(generators), 0)],
        "igen": [*generators, (0, 0)],
    }
    tables = {name: np.array(values, gm_font._RECORDS[name]).tobytes() for name, values in rows.items()}
    return tables | {"pmod": bytes(10), "imod": bytes(10)}

"""What is true of each General MIDI program whatever the font: its range, how it is struck, how it is made."""

from dataclasses import dataclass

from data.sources.gm_synth import Voice
from data.taxonomy import INSTRUMENT_OF_GM_PROGRAM

_RANGES: tuple[tuple[tuple[int, ...], int, int], ...] = (
    ((0, 1, 2, 3), 28, 100), ((4, 5), 33, 93), ((6,), 36, 84), ((7,), 36, 84),
    ((8,), 60, 100), ((9,), 72, 103), ((10,), 60, 96), ((11,), 53, 89), ((12,), 45, 93), ((13,), 65, 103),
    ((14,), 60, 77), ((15,), 55, 84), ((16, 17, 18), 36, 90), ((19,), 36, 90), ((20,), 41, 84),
    ((21, 23), 53, 88), ((22,), 60, 93), ((24, 25), 40, 80), ((26, 27, 28, 29, 30), 40, 84), ((31,), 52, 84),
    ((32, 33, 34, 35, 36, 37, 38, 39), 28, 58),
    ((40, 110), 55, 93), ((41,), 48, 84), ((42,), 36, 74), ((43,), 28, 58), ((44, 45, 48, 49, 50, 51), 40, 88),
    ((46,), 36, 96), ((47,), 36, 57), ((52, 53, 54), 48, 80),
    ((56, 59), 54, 84), ((57,), 40, 72), ((58,), 30, 60), ((60,), 41, 76), ((61, 62, 63), 40, 84),
    ((64,), 56, 84), ((65,), 49, 80), ((66,), 44, 75), ((67,), 37, 68), ((68,), 58, 90), ((69,), 52, 81),
    ((70,), 35, 72), ((71,), 50, 88), ((72,), 74, 100), ((73,), 60, 94), ((74,), 60, 92), ((75,), 60, 92),
    ((76,), 60, 84), ((77,), 55, 84), ((78,), 67, 96), ((79,), 60, 88), ((80, 81, 82, 83, 84, 85, 86, 87), 48, 90),
    ((104,), 48, 77), ((105,), 50, 84), ((106,), 50, 79), ((107,), 50, 84), ((108,), 60, 84), ((109,), 55, 79),
    ((111,), 58, 81), ((112,), 72, 90), ((113,), 60, 84), ((114,), 55, 84), ((115,), 60, 84), ((116,), 36, 60),
    ((117,), 40, 64), ((118,), 40, 64), ((119,), 48, 72),
)  # fmt: skip

_ELECTRONIC = (2, 4, 5, 7, 16, 17, 18, 26, 27, 28, 29, 30, 31, 33, 34, 35, 36, 37)
_SYNTHETIC = (38, 39, 50, 51, 54, 62, 63, *range(80, 88), 118)
_DISTORTED = (29, 30)
_STRUCK = (0, 1, 2, 3, *range(8, 16), 47, 108, *range(112, 119))

KITS = (0, 8, 16, 24, 25, 32, 40, 48)
"""Standard, Room, Power, Electronic, TR-808, Jazz, Brush, Orchestra: Roland's GS numbers, which fonts follow."""
SYNTHETIC_KITS = (24, 25)


@dataclass(frozen=True, slots=True)
class Program:
    """One program that is an instrument."""

    instrument: str
    voice: Voice
    low: int
    """Lowest key of the realistic range."""
    high: int
    """Highest key, included."""
    production: str
    is_distorted: bool
    is_struck: bool


def _program(number: int, low: int, high: int) -> Program:
    production = "synthetic" if number in _SYNTHETIC else "electronic" if number in _ELECTRONIC else "acoustic"
    voice = Voice(number)
    return Program(
        INSTRUMENT_OF_GM_PROGRAM[number], voice, low, high, production, number in _DISTORTED, number in _STRUCK
    )


PROGRAMS = {number: _program(number, low, high) for numbers, low, high in _RANGES for number in sorted(numbers)}

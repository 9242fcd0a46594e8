"""Composes a few bars in a genre: who plays, in what tempo, over which chords, in which rhythm.

Times are in beats of four to a bar until the end, where swing and tempo make them seconds. What differs by genre
stands in `STYLES`, as data.
"""

from dataclasses import dataclass

import numpy as np

from data.sources.gm_programs import PROGRAMS
from data.sources.gm_synth import Voice

CHORDS = {"": (0, 4, 7), "m": (0, 3, 7), "7": (0, 4, 7, 10), "m7": (0, 3, 7, 10), "maj7": (0, 4, 7, 11), "5": (0, 7)}
MAJOR, MINOR, BLUES = (0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10), (0, 2, 3, 4, 5, 7, 9, 10)
BEATS = 4

Event = tuple[float, float, int, int]
"""Onset and length in beats, key, velocity."""


@dataclass(frozen=True, slots=True)
class Style:
    """What makes a genre."""

    tempo: tuple[float, float]
    """Beats a minute."""
    swing: float
    """How many beats an off-beat eighth comes late: 0 is straight, 1/6 a triplet."""
    leads: tuple[int, ...]
    """Programs of the predominant line."""
    comps: tuple[int, ...]
    basses: tuple[int, ...]
    pads: tuple[int, ...]
    progressions: tuple[tuple[tuple[int, ...], str], ...]
    """Scale, and chords of one bar each: semitones above the key, and after a colon a name from `CHORDS`."""
    comp: tuple[tuple[float, ...], ...]
    """Rhythms of the chords: onsets in beats."""
    comp_beats: float
    """How long a chord sounds."""
    is_broken: bool
    """Chords one note at a time."""
    bass: tuple[tuple[tuple[float, int], ...], ...]
    """Bass lines: onset in beats and semitones above the chord's root."""
    melody: tuple[tuple[float, ...], ...]
    """Rhythms of the predominant line."""
    kits: tuple[int, ...]
    drums: tuple[tuple[int, tuple[float, ...], int], ...]
    """Key on the drum channel, onsets in beats, velocity."""
    drums_share: float
    """How many songs have drums."""
    rubato: float = 0.0
    """How far, in beats, the time bends within two bars."""


_EIGHTHS = tuple(i / 2 for i in range(8))
STYLES = {
    "country_folk": Style(
        (92, 132), 0.0, (110, 22, 105, 21, 25), (25, 24, 105), (32, 33), (21, 22, 110),
        ((MAJOR, "0 5 7 0"), (MAJOR, "0 0 5 7"), (MAJOR, "0 7 0 5"), (MAJOR, "0 5 0 7")),
        ((1, 3), (1, 1.5, 3, 3.5)), 0.45, False, (((0, 0), (2, 7)), ((0, 0), (2, -5))),
        ((0, 1, 1.5, 2, 3), (0, 0.5, 1, 2, 2.5, 3), (0, 1.5, 2, 3, 3.5)),
        (0,), ((36, (0, 2), 88), (37, (1, 3), 85), (42, _EIGHTHS, 55)), 0.5,
    ),
    "classical": Style(
        (60, 104), 0.0, (40, 73, 68, 71, 42, 60), (0, 6, 46), (42, 43, 70), (48, 41, 49),
        ((MAJOR, "0 9:m 2:m 7"), (MAJOR, "0 5 7 0"), (MINOR, "0:m 5:m 7 0:m"), (MAJOR, "0 7 9:m 5"),
         (MINOR, "0:m 8 5:m 7")),
        (_EIGHTHS, tuple(i / 3 for i in range(12))), 0.6, True, (((0, 0),), ((0, 0), (2, 7)), ((0, 0), (2, 4))),
        ((0, 2, 3), (0, 1, 2), (0, 1.5, 2, 2.5, 3), (0, 3)),
        (48,), ((41, (0,), 60), (57, (0,), 35)), 0.06, 0.12,
    ),
    "pop_rock": Style(
        (104, 152), 0.0, (29, 30, 27, 81, 80, 53), (27, 29, 30, 0, 4, 16), (33, 34, 38), (50, 48, 18),
        ((MAJOR, "0 7 9:m 5"), (MAJOR, "9:m 5 0 7"), (MAJOR, "0 9:m 5 7"), (MINOR, "0:5 8:5 3:5 10:5"),
         (MAJOR, "0 5 0 7")),
        (_EIGHTHS, (0, 1.5, 2, 3, 3.5), (0, 0.5, 1.5, 2.5, 3)), 0.45, False,
        (tuple((b, 0) for b in _EIGHTHS), ((0, 0), (0.5, 0), (1.5, 0), (2, 0), (2.5, 0), (3.5, 7))),
        ((0, 0.5, 1.5, 2, 3), (0, 1, 1.5, 2.5, 3), (0.5, 1, 2, 2.5, 3.5)),
        (0, 8, 16), ((36, (0, 2, 2.5), 112), (38, (1, 3), 115), (42, _EIGHTHS, 75), (49, (0,), 60)), 0.85,
    ),
    "latin_soul": Style(
        (92, 122), 0.0, (56, 57, 73, 65, 11), (0, 24, 11), (32, 33, 35), (61, 48, 16),
        ((MINOR, "0:m7 5:m7 7:7 0:m7"), (MAJOR, "2:m7 7:7 0:maj7 9:7"), (MINOR, "0:m7 10:7 8:7 7:7"),
         (MAJOR, "0 5 7 5")),
        ((0, 0.5, 1, 1.5, 2.5, 3.5), (0.5, 1, 1.5, 2.5, 3, 3.5)), 0.4, False,
        (((1.5, 7), (3, 12)), ((0, 0), (1.5, 7), (3, 12))),
        ((0, 0.5, 1.5, 2.5, 3.5), (0.5, 1.5, 2, 3, 3.5), (0, 1.5, 3)),
        (0,),
        ((75, (0, 1.5, 3), 100), (62, (1, 1.5), 85), (63, (3, 3.5), 95), (64, (2.5,), 80), (70, _EIGHTHS, 60),
         (56, (0, 1, 2, 3), 70), (36, (0, 2), 70)), 0.85,
    ),
    "jazz_blues": Style(
        (96, 190), 1 / 6, (65, 66, 56, 59, 26, 71, 11), (0, 26, 4, 16), (32,), (61, 57),
        ((MAJOR, "2:m7 7:7 0:maj7 9:7"), (BLUES, "0:7 5:7 0:7 0:7"), (BLUES, "5:7 5:7 0:7 0:7"),
         (BLUES, "7:7 5:7 0:7 7:7"),
         (MINOR, "0:m7 5:m7 2:m7 7:7")),
        ((0, 1.5), (1.5, 3), (0.5, 2.5), (1, 3.5)), 0.6, False,
        (((0, 0), (1, 4), (2, 7), (3, 9)), ((0, 0), (1, 7), (2, 10), (3, 11)), ((0, 12), (1, 10), (2, 7), (3, 2))),
        ((0, 0.5, 1, 1.5, 2, 2.5, 3), (0.5, 1, 1.5, 2.5, 3.5), (0, 1.5, 2, 2.5, 3, 3.5)),
        (32, 40), ((51, (0, 1, 1.5, 2, 3, 3.5), 80), (44, (1, 3), 75), (36, (0, 1, 2, 3), 45), (38, (2.5,), 40)), 0.75,
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Note:
    """When, how long (seconds), which key and how hard."""

    start_s: float
    held_s: float
    pitch: int
    velocity: int


@dataclass(frozen=True, slots=True)
class Part:
    """One player."""

    role: str
    """lead, comp, bass, pad or drums."""
    voice: Voice
    notes: tuple[Note, ...]


def compose(genre: str, generator: np.random.Generator, seconds: float, sounding: frozenset[Voice]) -> list[Part]:
    """Writes a song that fills `seconds`, the predominant part first; nothing if the font has no predominant voice.

    Args:
        genre: a key of `STYLES`.
        generator: everything is drawn from it.
        seconds: how long.
        sounding: the programs and kits that the font has.
    """
    style = STYLES[genre]
    tempo = generator.uniform(*style.tempo)
    num_bars = int(np.ceil(seconds * tempo / 60 / BEATS))
    scale, names = style.progressions[generator.integers(len(style.progressions))]
    key = int(generator.integers(12))
    start = int(generator.integers(2)) * 2
    chords = [_chord(name) for name in names.split()]
    chords = [chords[(start + bar) % len(chords)] for bar in range(num_bars)]

    roles = {"lead": style.leads, "comp": style.comps, "bass": style.basses}
    if generator.random() < 0.35:
        roles["pad"] = style.pads
    parts, taken = [], set()
    for role, palette in roles.items():
        programs = [program for program in palette if Voice(program) in sounding and program not in taken]
        if role == "lead" and not programs:
            return []
        if not programs or (role == "bass" and generator.random() < 0.1):
            continue
        program = programs[generator.integers(len(programs))]
        taken.add(program)
        events = _WRITERS[role](style, generator, program, key, scale, chords)
        parts.append(_played(role, Voice(program), events, style, generator, tempo))
    kit = Voice(style.kits[generator.integers(len(style.kits))], is_drum=True)
    if generator.random() < style.drums_share and kit in sounding:
        events = [
            (bar * BEATS + onset, 0.5, drum, velocity)
            for bar in range(num_bars)
            for drum, onsets, velocity in style.drums
            for onset in onsets
            if drum not in (49, 57) or bar % 4 == 0
        ]
        parts.append(_played("drums", kit, events, style, generator, tempo))
    heard = [Part(p.role, p.voice, tuple(n for n in p.notes if n.start_s < seconds - 0.1)) for p in parts]
    return [part for part in heard if part.notes]


def _chord(name: str) -> tuple[int, tuple[int, ...]]:
    """Reads `2:m7` as the semitones of the root above the key, and the chord's tones."""
    root, _, quality = name.partition(":")
    return int(root), CHORDS[quality]


def _fold(pitch: int, low: int, high: int) -> int:
    """Moves a pitch by octaves into a range of at least one."""
    while pitch < low:
        pitch += 12
    while pitch > high:
        pitch -= 12
    return max(pitch, low)


def _lead(
    style: Style, generator: np.random.Generator, program: int, key: int, scale: tuple, chords: list
) -> list[Event]:
    played = PROGRAMS[program]
    centre = min(max((played.low + played.high) // 2, 62), played.high - 8)
    low, high = max(played.low, centre - 8), min(played.high, centre + 10)
    events, pitch = [], _fold(key, low, high)
    motif = style.melody[generator.integers(len(style.melody))]
    for bar, (root, tones) in enumerate(chords):
        rhythm = motif if bar % 2 == 0 else style.melody[generator.integers(len(style.melody))]
        in_chord = {(key + root + tone) % 12 for tone in tones}
        in_scale = {(key + degree) % 12 for degree in scale} | in_chord
        for onset, following in zip(rhythm, (*rhythm[1:], BEATS), strict=True):
            allowed = in_chord if onset % 1 == 0 else in_scale
            target = pitch + int(generator.integers(-5, 6))
            choices = [p for p in range(low, high + 1) if p % 12 in allowed and p != pitch]
            pitch = min(choices, key=lambda p: (abs(p - target), p))
            velocity = 96 + 10 * (onset == 0) + 6 * (onset % 1 == 0)
            events.append((bar * BEATS + onset, 0.9 * (following - onset), pitch, velocity))
    return events


def _comp(
    style: Style, generator: np.random.Generator, program: int, key: int, scale: tuple, chords: list
) -> list[Event]:
    low = max(PROGRAMS[program].low, 50)
    rhythm = style.comp[generator.integers(len(style.comp))]
    events = []
    for bar, (root, tones) in enumerate(chords):
        pitches = sorted(_fold(key + root + tone, low, low + 14) for tone in tones)
        order = (0, 2, 1, 2) if len(pitches) > 2 else (0, 1)
        for index, onset in enumerate(rhythm):
            chosen = [pitches[order[index % len(order)]]] if style.is_broken else pitches
            events += [(bar * BEATS + onset, style.comp_beats, pitch, 78) for pitch in chosen]
    return events


def _bass(
    style: Style, generator: np.random.Generator, program: int, key: int, scale: tuple, chords: list
) -> list[Event]:
    low = PROGRAMS[program].low
    events = []
    pattern = style.bass[generator.integers(len(style.bass))]
    for bar, (root, tones) in enumerate(chords):
        if style.swing:  # a walking line does not repeat itself
            pattern = style.bass[generator.integers(len(style.bass))]
        base = _fold(key + root, low, low + 11)
        for (onset, interval), following in zip(pattern, (*(b for b, _ in pattern[1:]), BEATS), strict=True):
            # Major thirds, sixths and sevenths become the chord's own.
            tone = 3 if interval == 4 and 3 in tones else interval
            pitch = _fold(base + tone, low, low + 24)
            events.append((bar * BEATS + onset, 0.85 * (following - onset), pitch, 92))
    return events


def _pad(
    style: Style, generator: np.random.Generator, program: int, key: int, scale: tuple, chords: list
) -> list[Event]:
    low = max(PROGRAMS[program].low, 52)
    return [
        (bar * BEATS, BEATS * 0.95, _fold(key + root + tone, low, low + 12), 70)
        for bar, (root, tones) in enumerate(chords)
        for tone in tones[:3]
    ]


_WRITERS = {"lead": _lead, "comp": _comp, "bass": _bass, "pad": _pad}


def _played(
    role: str, voice: Voice, events: list[Event], style: Style, generator: np.random.Generator, tempo: float
) -> Part:
    """Makes beats into seconds, with swing, rubato and a player's unevenness in time and touch."""
    notes = []
    late_s = generator.normal(0, 0.006)
    for beat, beats, pitch, velocity in events:
        swung = beat + style.swing * (beat % 1 == 0.5)
        swung += style.rubato * np.sin(2 * np.pi * beat / (2 * BEATS))
        swell = 1 + 1.5 * style.rubato * np.sin(2 * np.pi * beat / (4 * BEATS))
        touch = int(np.clip(round(velocity * swell + generator.normal(0, 5)), 20, 127))
        start_s = max(0.0, swung * 60 / tempo + late_s + generator.normal(0, 0.005))
        notes.append(Note(start_s, max(beats * 60 / tempo, 0.08), pitch, touch))
    return Part(role, voice, tuple(notes))

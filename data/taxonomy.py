"""Canonical instruments, the family of each, genres, and what each data set's own labels mean in these words.

Families are NSynth's eleven (Engel et al. 2017, arXiv 1704.01279, table 3) and ``percussion``. The labels of the data
sets are in `data.aliases`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

from data.aliases import GENRE_ALIASES, INSTRUMENT_ALIASES
from data.clip import NOTHING, UNKNOWN, Labels, LabelSet
from data.errors import DataError

VERSION = 2

INSTRUMENTS_OF_FAMILY: dict[str, tuple[str, ...]] = {
    "bass": ("double_bass_plucked", "electric_bass", "synth_bass"),
    "brass": (
        "trumpet", "trombone", "tuba", "french_horn", "brass_section", "synth_brass", "cornet", "euphonium",
    ),
    "flute": (
        "flute", "piccolo", "recorder", "pan_flute", "bottle", "shakuhachi", "whistle", "ocarina", "bamboo_flute",
        "dizi",
    ),
    "guitar": (
        "acoustic_guitar", "electric_guitar", "banjo", "sitar", "shamisen", "lap_steel_guitar", "mandolin",
        "ukulele", "oud", "liuqin", "zhongruan",
    ),
    "keyboard": ("piano", "electric_piano", "harpsichord", "clavinet"),
    "mallet": (
        "celesta", "glockenspiel", "music_box", "vibraphone", "marimba", "xylophone", "tubular_bells",
        "dulcimer", "kalimba", "steel_drums",
    ),
    "organ": ("organ", "accordion", "harmonica", "concertina", "harmonium", "melodica"),
    "reed": ("saxophone", "oboe", "english_horn", "bassoon", "clarinet", "bagpipe", "shanai"),
    "string": (
        "violin", "viola", "cello", "double_bass", "harp", "koto", "string_section", "synth_strings", "erhu",
        "guzheng",
    ),
    "synth_lead": ("synth_lead",),
    "vocal": ("voice", "choir", "synth_voice"),
    "percussion": (
        "timpani", "drum_kit", "kick_drum", "snare_drum", "tom", "hi_hat", "cymbal", "cowbell", "hand_drum",
        "shaker", "clave", "triangle", "tambourine", "woodblock", "agogo", "taiko", "bell", "clap", "scraper",
        "synth_drum", "gong", "castanets", "sleigh_bells", "wind_chimes",
    ),
}  # fmt: skip
"""Lossy where NSynth is: sitar, shamisen and the other lutes go with the guitars (plucked), koto, guzheng and harp
with the strings, the struck dulcimer with the mallets, the free reeds (accordion to melodica) with the organs."""

FAMILIES = tuple(INSTRUMENTS_OF_FAMILY)
FAMILY_OF_INSTRUMENT = {name: family for family, names in INSTRUMENTS_OF_FAMILY.items() for name in names}

_KIT = ("kick_drum", "snare_drum", "tom", "hi_hat", "cymbal")
_HIDES: dict[str, tuple[str, ...]] = {
    "string_section": ("violin", "viola", "cello", "double_bass"),
    "brass_section": ("trumpet", "trombone", "tuba", "french_horn", "cornet", "euphonium"),
    "choir": ("voice",), "voice": ("choir",),
    "drum_kit": (*_KIT, "synth_drum"), "synth_drum": (*_KIT, "drum_kit"),
    **dict.fromkeys(_KIT, ("drum_kit", "synth_drum")),
}  # fmt: skip
"""A list that names the section and not the violin, or the snare drum and not the kit, does not say that the other is
silent."""

GENRES = (
    "country_folk", "classical", "pop_rock", "latin_soul", "jazz_blues", "electronic", "hip_hop", "world",
    "experimental",
)  # fmt: skip
"""IRMAS's five, and what the Free Music Archive (OpenMIC) and MedleyDB name beside them."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """What one label of a data set says in canonical words."""

    instrument: str | None
    """None where the label names none exactly, as "guitar"."""
    family: str | None
    """None where it cannot be told, as "synthesizer"."""
    is_instrument: bool | None
    """False for a dog bark; None for what may or may not hold music, as "crowd"."""
    candidates: frozenset[str] = frozenset()
    """The instruments of which at least one sounds; empty where it may be any, or none is."""


def _meaning(target: str) -> Meaning:
    """Reads the right-hand side of an alias: instruments, ``family:`` and a name, or one of three words."""
    if target in _WORDS:
        return Meaning(None, None, _WORDS[target])
    names = [
        name
        for word in target.split()
        for name in (INSTRUMENTS_OF_FAMILY[word[7:]] if word.startswith("family:") else (word,))
    ]
    families = {FAMILY_OF_INSTRUMENT[name] for name in names}
    return Meaning(
        instrument=names[0] if len(names) == 1 else None,
        family=families.pop() if len(families) == 1 else None,
        is_instrument=True,
        candidates=frozenset(names),
    )


_WORDS = {"any": True, "maybe": None, "none": False}

_GM_PROGRAMS: tuple[tuple[str, tuple[int, ...]], ...] = (
    ("piano", (0, 1, 2, 3)), ("electric_piano", (4, 5)), ("harpsichord", (6,)), ("clavinet", (7,)),
    ("celesta", (8,)), ("glockenspiel", (9,)), ("music_box", (10,)), ("vibraphone", (11,)), ("marimba", (12,)),
    ("xylophone", (13,)), ("tubular_bells", (14,)), ("dulcimer", (15,)),
    ("organ", (16, 17, 18, 19, 20)), ("accordion", (21, 23)), ("harmonica", (22,)),
    ("acoustic_guitar", (24, 25)), ("electric_guitar", (26, 27, 28, 29, 30, 31)),
    ("double_bass_plucked", (32,)), ("electric_bass", (33, 34, 35, 36, 37)), ("synth_bass", (38, 39)),
    ("violin", (40, 110)), ("viola", (41,)), ("cello", (42,)), ("double_bass", (43,)),
    ("string_section", (44, 45, 48, 49)), ("harp", (46,)), ("timpani", (47,)), ("synth_strings", (50, 51)),
    ("choir", (52,)), ("voice", (53,)), ("synth_voice", (54,)),
    ("trumpet", (56, 59)), ("trombone", (57,)), ("tuba", (58,)), ("french_horn", (60,)), ("brass_section", (61,)),
    ("synth_brass", (62, 63)),
    ("saxophone", (64, 65, 66, 67)), ("oboe", (68,)), ("english_horn", (69,)), ("bassoon", (70,)),
    ("clarinet", (71,)), ("piccolo", (72,)), ("flute", (73,)), ("recorder", (74,)), ("pan_flute", (75,)),
    ("bottle", (76,)), ("shakuhachi", (77,)), ("whistle", (78,)), ("ocarina", (79,)),
    ("synth_lead", (80, 81, 82, 83, 84, 85, 86, 87)),
    ("sitar", (104,)), ("banjo", (105,)), ("shamisen", (106,)), ("koto", (107,)), ("kalimba", (108,)),
    ("bagpipe", (109,)), ("shanai", (111,)),
    ("bell", (112,)), ("agogo", (113,)), ("steel_drums", (114,)), ("woodblock", (115,)), ("taiko", (116,)),
    ("tom", (117,)), ("synth_drum", (118,)), ("cymbal", (119,)),
)  # fmt: skip
INSTRUMENT_OF_GM_PROGRAM = {program: name for name, programs in _GM_PROGRAMS for program in programs}
"""General MIDI program, 0 to 127, to instrument. Left out: 55, the orchestra hit, is a chord of many families;
88 to 103, pads and synthesiser effects, have a family that nobody can name; 120 to 127 are no instruments.
Lossy: tremolo and pizzicato strings (44, 45) are string sections, the bandoneon (23) an accordion."""

_GM_DRUMS: tuple[tuple[str, tuple[int, ...]], ...] = (
    ("kick_drum", (35, 36)), ("snare_drum", (37, 38, 40)), ("clap", (39,)), ("tom", (41, 43, 45, 47, 48, 50)),
    ("hi_hat", (42, 44, 46)), ("cymbal", (49, 51, 52, 53, 55, 57, 59)), ("tambourine", (54,)), ("cowbell", (56,)),
    ("hand_drum", (60, 61, 62, 63, 64, 65, 66)), ("agogo", (67, 68)), ("shaker", (69, 70)), ("scraper", (73, 74)),
    ("clave", (75,)), ("woodblock", (76, 77)), ("triangle", (80, 81)),
)  # fmt: skip
INSTRUMENT_OF_GM_DRUM = {key: name for name, keys in _GM_DRUMS for key in keys}
"""Key on General MIDI's drum channel to instrument. Left out: the vibraslap (58), the whistles (71, 72) and the
cuica (78, 79), which are none of these."""

ALIASES: dict[str, dict[str, Meaning]] = {
    source: {label: _meaning(target) for label, target in table.items()} for source, table in INSTRUMENT_ALIASES.items()
}
# MusicNet counts General MIDI's programs from 1.
ALIASES["musicnet"] = {
    str(program + 1): _meaning(INSTRUMENT_OF_GM_PROGRAM.get(program, "any" if program < 120 else "none"))
    for program in range(128)
}
"""Source to its own labels, exactly as published, to what they mean."""


def meaning_of(source: str, name: str) -> Meaning:
    """Looks up one label of a data set.

    Raises:
        DataError: the taxonomy has no such data set, or the label is not one of it.
    """
    return _look_up(ALIASES, source, name, "label")


def genres_of(source: str, names: Iterable[str]) -> LabelSet:
    """The genres of a recording; complete if every name that the data set gives it has a genre here.

    Raises:
        DataError: a name is not one that the taxonomy knows of this data set.
    """
    found = [_look_up(GENRE_ALIASES, source, name, "genre") for name in names]
    present = tuple(dict.fromkeys(genre for genre in found if genre is not None))
    return LabelSet(present, complete=bool(found) and None not in found)


def labels_of(source: str, present: Iterable[str], absent: Iterable[str] = (), complete: bool = False) -> Labels:
    """What a data set's own labels say at the levels is-instrument, family and instrument, and no more than that.

    * A label that names one instrument gives the instrument and its family; one that names several ("guitar") gives
      what they share. Absent, it makes all of them absent, and a family only if it covers the whole of it.
    * A complete list leaves open what its labels leave open: the other mallets beside "mallet_percussion", the violin
      in a string section, everything beside a "synthesizer". What stays closed is absent.
    * A complete list with no instrument is no instrument. An incomplete one that names a dog does not say that nobody
      plays.

    Args:
        source: a key of `ALIASES`.
        present: labels that sound.
        absent: labels that are known not to sound.
        complete: nothing sounds but what is present.

    Raises:
        DataError: a label is unknown, or said to be both present and absent.
    """
    present, absent = tuple(present), tuple(absent)
    if both := set(present) & set(absent):
        raise DataError(f"a label of {source} is either present or absent, found both for {sorted(both)}; keep one")
    sounding = [meaning_of(source, name) for name in present]
    silent = [meaning_of(source, name).candidates for name in absent]
    if complete and all(meaning.is_instrument is False for meaning in sounding):
        return Labels(is_instrument=False, family=NOTHING, instrument=NOTHING)

    instruments = {meaning.instrument: None for meaning in sounding if meaning.instrument}  # a set that keeps its order
    families = {meaning.family: None for meaning in sounding if meaning.family}
    no_instruments = set().union(*silent)
    no_families = {family for family, names in INSTRUMENTS_OF_FAMILY.items() if any(map(set(names).issubset, silent))}
    if complete and all(meaning.candidates or meaning.is_instrument is False for meaning in sounding):
        open_ = {
            other for meaning in sounding for name in meaning.candidates for other in (name, *_HIDES.get(name, ()))
        }
        no_instruments |= set(FAMILY_OF_INSTRUMENT) - open_
        no_families |= set(FAMILIES) - {FAMILY_OF_INSTRUMENT[name] for name in open_}
    return Labels(
        is_instrument=True if any(meaning.is_instrument for meaning in sounding) else None,
        family=_label_set(FAMILIES, families, no_families),
        instrument=_label_set(tuple(FAMILY_OF_INSTRUMENT), instruments, no_instruments),
    )


def _label_set(names: tuple[str, ...], present: Iterable[str], absent: set[str]) -> LabelSet:
    """Complete if every name is one or the other; what is known to sound is not absent."""
    present = tuple(present)
    left = absent - set(present)
    if len(left) + len(present) == len(names):
        return LabelSet(present, complete=True)
    return LabelSet(present, tuple(name for name in names if name in left)) if present or left else UNKNOWN


def _look_up(tables: dict[str, dict], source: str, name: str, kind: str):
    if source not in tables:
        raise DataError(f"expected one of {', '.join(tables)} as the name of a data set, found {source!r}")
    if name not in tables[source]:
        close = get_close_matches(name, tables[source], n=3, cutoff=0.5)
        hint = f"did it mean {' or '.join(close)}?" if close else "add it to data/aliases.py"
        raise DataError(f"expected a {kind} of {source}, found {name!r}; {hint}")
    return tables[source][name]

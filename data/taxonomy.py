"""Canonical instruments, the family of each, genres, and how each data set's names map to them.

Families are NSynth's eleven (Engel et al. 2017, arXiv 1704.01279, table 3) and ``percussion``.
"""

VERSION = 1

INSTRUMENTS_OF_FAMILY: dict[str, tuple[str, ...]] = {
    "bass": ("double_bass_plucked", "electric_bass", "synth_bass"),
    "brass": ("trumpet", "trombone", "tuba", "french_horn", "brass_section", "synth_brass"),
    "flute": ("flute", "piccolo", "recorder", "pan_flute", "bottle", "shakuhachi", "whistle", "ocarina"),
    "guitar": ("acoustic_guitar", "electric_guitar", "banjo", "sitar", "shamisen"),
    "keyboard": ("piano", "electric_piano", "harpsichord", "clavinet"),
    "mallet": (
        "celesta", "glockenspiel", "music_box", "vibraphone", "marimba", "xylophone", "tubular_bells",
        "dulcimer", "kalimba", "steel_drums",
    ),
    "organ": ("organ", "accordion", "harmonica"),
    "reed": ("saxophone", "oboe", "english_horn", "bassoon", "clarinet", "bagpipe", "shanai"),
    "string": ("violin", "viola", "cello", "double_bass", "harp", "koto", "string_section", "synth_strings"),
    "synth_lead": ("synth_lead",),
    "vocal": ("voice", "choir", "synth_voice"),
    "percussion": (
        "timpani", "drum_kit", "kick_drum", "snare_drum", "tom", "hi_hat", "cymbal", "cowbell", "hand_drum",
        "shaker", "clave", "triangle", "tambourine", "woodblock", "agogo", "taiko", "bell", "clap", "scraper",
        "synth_drum",
    ),
}  # fmt: skip
"""Lossy where NSynth is: sitar and shamisen go with the guitars (plucked, fretted), koto and harp with the
strings, the struck dulcimer with the mallets, the free-reed accordion and harmonica with the organs."""

FAMILIES = tuple(INSTRUMENTS_OF_FAMILY)
FAMILY_OF_INSTRUMENT = {name: family for family, names in INSTRUMENTS_OF_FAMILY.items() for name in names}
GENRES = ("country_folk", "classical", "pop_rock", "latin_soul", "jazz_blues")

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

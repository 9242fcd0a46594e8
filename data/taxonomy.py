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
        "shaker", "clave", "triangle", "tambourine", "woodblock", "agogo", "taiko",
    ),
}  # fmt: skip
"""Lossy where NSynth is: sitar and shamisen go with the guitars (plucked, fretted), koto and harp with the
strings, the struck dulcimer with the mallets, the free-reed accordion and harmonica with the organs."""

FAMILIES = tuple(INSTRUMENTS_OF_FAMILY)
FAMILY_OF_INSTRUMENT = {name: family for family, names in INSTRUMENTS_OF_FAMILY.items() for name in names}
GENRES = ("country_folk", "classical", "pop_rock", "latin_soul", "jazz_blues")

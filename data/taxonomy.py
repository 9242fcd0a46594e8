"""Canonical instruments, the family of each, genres, and what each data set's own labels mean in these words.

Families are NSynth's eleven (Engel et al. 2017, arXiv 1704.01279, table 3) and ``percussion``.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

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
        "ukulele", "oud", "liuqin", "zhongruan", "saraswati_veena", "tanpura",
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
        "guzheng", "sarangi",
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
    "experimental", "spoken",
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
"""Some instrument, nobody knows which; perhaps an instrument; no instrument."""


def _aliases(table: dict[str, str]) -> dict[str, Meaning]:
    """From ``{target: "label | label"}``; several instruments in a target mean: one or more of these."""
    return {label: _meaning(target) for target, labels in table.items() for label in labels.split(" | ")}


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

# A voice, in all data sets, is one that sings or raps, alone or with others. Speech is no instrument.
_IRMAS = _aliases({
    "cello": "cel", "clarinet": "cla", "flute": "flu", "acoustic_guitar": "gac", "electric_guitar": "gel",
    "organ": "org", "piano": "pia", "saxophone": "sax", "trumpet": "tru", "violin": "vio", "voice": "voi",
})  # fmt: skip

# Its classes are AudioSet's: drums leave out the cymbals, which leave out nothing that is struck like one.
# Lossy: a synthesizer may play the part of any family.
_OPENMIC = _aliases({
    "accordion": "accordion", "banjo": "banjo", "family:bass": "bass", "cello": "cello", "clarinet": "clarinet",
    "cymbal hi_hat": "cymbals", "drum_kit kick_drum snare_drum tom hand_drum taiko timpani synth_drum": "drums",
    "flute": "flute", "acoustic_guitar electric_guitar lap_steel_guitar": "guitar",
    "family:mallet": "mallet_percussion", "mandolin": "mandolin", "organ": "organ", "piano": "piano",
    "saxophone": "saxophone", "any": "synthesizer", "trombone": "trombone", "trumpet": "trumpet",
    "ukulele": "ukulele", "violin": "violin", "voice": "voice",
})  # fmt: skip

# Lossy: sections of one instrument are that instrument, the yangqin is a dulcimer, the bandoneon an accordion, the
# bass drum a kick drum, goblet drums, congas, bongos and tabla are hand drums, maracas, cabasa and rattle shakers.
# "Main System" is the room, in which everybody plays; "Unlabeled", a sampler or an effect may be anything.
_MEDLEYDB = _aliases({
    "erhu": "erhu", "violin": "violin | violin section", "viola": "viola | viola section",
    "cello": "cello | cello section", "double_bass double_bass_plucked": "double bass",
    "string_section": "string section", "acoustic_guitar": "acoustic guitar", "banjo": "banjo",
    "guzheng": "guzheng", "harp": "harp", "harpsichord": "harpsichord", "liuqin": "liuqin", "mandolin": "mandolin",
    "oud": "oud", "lap_steel_guitar": "slide guitar | lap steel guitar", "ukulele": "ukulele",
    "zhongruan": "zhongruan", "sitar": "sitar", "dulcimer": "dulcimer | yangqin", "piano": "piano | tack piano",
    "dizi": "dizi", "flute": "flute | flute section", "piccolo": "piccolo", "bamboo_flute": "bamboo flute",
    "pan_flute": "panpipes", "recorder": "recorder",
    "saxophone": "alto saxophone | baritone saxophone | tenor saxophone | soprano saxophone",
    "clarinet": "bass clarinet | clarinet | clarinet section", "oboe": "oboe", "english_horn": "english horn",
    "bassoon": "bassoon", "bagpipe": "bagpipe", "trumpet": "trumpet | trumpet section", "cornet": "cornet",
    "trombone": "trombone | trombone section", "french_horn": "french horn | french horn section",
    "euphonium": "euphonium", "tuba": "tuba", "brass_section": "brass section",
    "brass_section saxophone": "horn section", "harmonica": "harmonica", "concertina": "concertina",
    "accordion": "accordion | bandoneon", "harmonium": "harmonium", "organ": "pipe organ | electronic organ",
    "melodica": "melodica",
    "voice": "male singer | female singer | male rapper | female rapper | beatboxing | vocalists",
    "none": "male speaker | female speaker", "maybe": "crowd | sampler | fx/processed sound | Unlabeled",
    "triangle": "triangle", "sleigh_bells": "sleigh bells", "cowbell": "cowbell",
    "shaker": "cabasa | rattle | shaker | maracas", "hi_hat": "high hat", "gong": "gong", "scraper": "guiro",
    "family:percussion": "gu | auxiliary percussion", "cymbal": "cymbal",
    "tubular_bells wind_chimes": "chimes", "castanets": "castanet", "clap": "claps", "xylophone": "xylophone",
    "vibraphone": "vibraphone", "marimba": "marimba", "glockenspiel": "glockenspiel", "whistle": "whistle",
    "timpani": "timpani", "tom": "toms", "snare_drum": "snare drum", "kick_drum": "kick drum | bass drum",
    "hand_drum": "bongo | conga | darbuka | doumbek | tabla", "tambourine": "tambourine", "drum_kit": "drum set",
    "electric_guitar": "clean electric guitar | distorted electric guitar", "electric_bass": "electric bass",
    "synth_drum": "drum machine", "electric_piano": "electric piano",
    "any": "synthesizer | theremin | scratches | Main System",
})  # fmt: skip

# MusicNet counts General MIDI's programs from 1; those that have no instrument here are sound effects or chords.
_MUSICNET = {
    str(program + 1): _meaning(INSTRUMENT_OF_GM_PROGRAM.get(program, "any" if program < 120 else "none"))
    for program in range(128)
}

# Church bells may be rung as music.
_ESC50 = _aliases({
    "maybe": "church_bells",
    "none": "dog | rooster | pig | cow | frog | cat | hen | insects | sheep | crow | rain | sea_waves | "
    "crackling_fire | crickets | chirping_birds | water_drops | wind | pouring_water | toilet_flush | thunderstorm | "
    "crying_baby | sneezing | clapping | breathing | coughing | footsteps | laughing | brushing_teeth | snoring | "
    "drinking_sipping | door_wood_knock | mouse_click | keyboard_typing | door_wood_creaks | can_opening | "
    "washing_machine | vacuum_cleaner | clock_alarm | clock_tick | glass_breaking | helicopter | chainsaw | siren | "
    "car_horn | engine | train | airplane | fireworks | hand_saw",
})  # fmt: skip

# AudioSet's tree, whose guitars include the bass guitar and whose percussion includes the mallets; a parent stands
# for its children, so hand over the most specific labels of a clip only. Lossy: a piano may be electric, a bass drum
# is a kick drum, tabla are hand drums. Bells, chimes and telephones may play music; a crowd may sing.
_FSD50K = _aliases({
    "accordion": "Accordion", "acoustic_guitar": "Acoustic_guitar", "kick_drum": "Bass_drum",
    "electric_bass": "Bass_guitar", "cowbell": "Cowbell", "cymbal": "Crash_cymbal", "cymbal hi_hat": "Cymbal",
    "drum_kit": "Drum_kit", "electric_guitar": "Electric_guitar", "glockenspiel": "Glockenspiel", "gong": "Gong",
    "harmonica": "Harmonica", "harp": "Harp", "hi_hat": "Hi-hat", "marimba xylophone": "Marimba_and_xylophone",
    "organ": "Organ", "piano": "Piano", "shaker": "Rattle_(instrument)", "snare_drum": "Snare_drum",
    "hand_drum": "Tabla", "tambourine": "Tambourine", "trumpet": "Trumpet",
    "voice": "Female_singing | Male_singing | Singing", "family:mallet": "Mallet_percussion",
    "family:brass": "Brass_instrument", "family:flute family:reed": "Wind_instrument_and_woodwind_instrument",
    "violin viola cello double_bass string_section erhu": "Bowed_string_instrument",
    "acoustic_guitar electric_guitar lap_steel_guitar electric_bass": "Guitar | Strum",
    "family:guitar electric_bass double_bass_plucked harp koto guzheng": "Plucked_string_instrument",
    "kick_drum snare_drum tom hand_drum taiko timpani tambourine synth_drum": "Drum",
    "family:percussion family:mallet": "Percussion",
    "any": "Keyboard_(musical) | Music | Musical_instrument | Scratching_(performance_technique)",
    "maybe": "Bell | Chime | Church_bell | Crowd | Doorbell | Human_voice | Ringtone | Wind_chime",
    "none": "Accelerating_and_revving_and_vroom | Aircraft | Alarm | Animal | Applause | Bark | "
    "Bathtub_(filling_or_washing) | Bicycle | Bicycle_bell | Bird | Bird_vocalization_and_bird_call_and_bird_song | "
    "Boat_and_Water_vehicle | Boiling | Boom | Breathing | Burping_and_eructation | Bus | Buzz | Camera | Car | "
    "Car_passing_by | Cat | Chatter | Cheering | Chewing_and_mastication | Chicken_and_rooster | "
    "Child_speech_and_kid_speaking | Chink_and_clink | Chirp_and_tweet | Chuckle_and_chortle | Clapping | Clock | "
    "Coin_(dropping) | Computer_keyboard | Conversation | Cough | Crack | Crackle | Cricket | Crow | "
    "Crumpling_and_crinkling | Crushing | Crying_and_sobbing | Cupboard_open_or_close | Cutlery_and_silverware | "
    "Dishes_and_pots_and_pans | Dog | Domestic_animals_and_pets | Domestic_sounds_and_home_sounds | Door | "
    "Drawer_open_or_close | Drill | Drip | Engine | Engine_starting | Explosion | Fart | "
    "Female_speech_and_woman_speaking | Fill_(with_liquid) | Finger_snapping | Fire | Fireworks | "
    "Fixed-wing_aircraft_and_airplane | Fowl | Frog | Frying_(food) | Gasp | Giggle | Glass | Growling | "
    "Gull_and_seagull | Gunshot_and_gunfire | Gurgling | Hammer | Hands | Hiss | Human_group_actions | Idling | "
    "Insect | Keys_jangling | Knock | Laughter | Liquid | Livestock_and_farm_animals_and_working_animals | "
    "Male_speech_and_man_speaking | Mechanical_fan | Mechanisms | Meow | Microwave_oven | Motor_vehicle_(road) | "
    "Motorcycle | Ocean | Packing_tape_and_duct_tape | Pour | Power_tool | Printer | Purr | "
    "Race_car_and_auto_racing | Rail_transport | Rain | Raindrop | Ratchet_and_pawl | Rattle | Respiratory_sounds | "
    "Run | Sawing | Scissors | Screaming | Screech | Shatter | Shout | Sigh | Sink_(filling_or_washing) | Siren | "
    "Skateboard | Slam | Sliding_door | Sneeze | Speech | Speech_synthesizer | Splash_and_splatter | Squeak | "
    "Stream | Subway_and_metro_and_underground | Tap | Tearing | Telephone | Thump_and_thud | Thunder | "
    "Thunderstorm | Tick | Tick-tock | Toilet_flush | Tools | Traffic_noise_and_roadway_noise | Train | "
    "Trickle_and_dribble | Truck | Typewriter | Typing | Vehicle | Vehicle_horn_and_car_horn_and_honking | "
    "Walk_and_footsteps | Water | Water_tap_and_faucet | Waves_and_surf | Whispering | "
    "Whoosh_and_swoosh_and_swish | Wild_animals | Wind | Wood | Writing | Yell | Zipper_(clothing)",
})  # fmt: skip

_MUSAN = _aliases({"any": "music", "none": "speech | noise"})
_URBANSOUND8K = _aliases({
    "any": "street_music",
    "none": "air_conditioner | car_horn | children_playing | dog_bark | drilling | engine_idling | gun_shot | "
    "jackhammer | siren",
})  # fmt: skip

_MIR = _MEDLEYDB | _IRMAS | _OPENMIC
ALIASES: dict[str, dict[str, Meaning]] = {
    "irmas": _IRMAS, "openmic": _OPENMIC, "medleydb": _MEDLEYDB, "musicnet": _MUSICNET, "esc50": _ESC50,
    "fsd50k": _FSD50K, "musan": _MUSAN, "urbansound8k": _URBANSOUND8K, "mir": _MIR,
}  # fmt: skip
"""Source to its own labels, exactly as published, to what they mean."""


def _genres(table: dict[str | None, str]) -> dict[str, str | None]:
    return {name: genre for genre, names in table.items() for name in names.split(" | ")}


GENRE_ALIASES: dict[str, dict[str, str | None]] = {
    "irmas": _genres({
        "country_folk": "cou_fol", "classical": "cla", "pop_rock": "pop_roc", "latin_soul": "lat_sou",
        "jazz_blues": "jaz_blu",
    }),
    "medleydb": _genres({
        "classical": "Classical", "pop_rock": "Rock | Pop", "jazz_blues": "Jazz", "hip_hop": "Rap",
        "world": "World/Folk", None: "Singer/Songwriter | Fusion | Electronic/Fusion | Musical Theatre",
    }),
}  # fmt: skip
"""Source to its own names of genres to one of `GENRES`, or None for a name that says nothing here."""


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
        hint = f"did it mean {' or '.join(close)}?" if close else "add it to data/taxonomy.py"
        raise DataError(f"expected a {kind} of {source}, found {name!r}; {hint}")
    return tables[source][name]

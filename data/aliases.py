"""What every data set calls its instruments and genres, in the words of `data.taxonomy`.

Beside the tree, because some nine hundred labels and the code that reads them do not fit one file. A table turns each
label, exactly as published, into instruments. Several instruments mean: one or more of these, nobody knows which;
``family:mallet`` stands for all mallets; ``any`` is some instrument, ``maybe`` perhaps one, ``none`` no instrument.
"""


def _labels(table: dict) -> dict:
    """From ``{target: "label | label"}`` to ``{label: target}``."""
    return {label: target for target, labels in table.items() for label in labels.split(" | ")}


# A voice, in all data sets, is one that sings or raps, alone or with others. Speech is no instrument.
_IRMAS = _labels({
    "cello": "cel", "clarinet": "cla", "flute": "flu", "acoustic_guitar": "gac", "electric_guitar": "gel",
    "organ": "org", "piano": "pia", "saxophone": "sax", "trumpet": "tru", "violin": "vio", "voice": "voi",
})  # fmt: skip

# Its classes are AudioSet's, asked about one by one: drums leave out the cymbals, the guitar the banjo, mandolin and
# ukulele. Lossy: a synthesizer may play the part of any family.
_OPENMIC = _labels({
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
_MEDLEYDB = _labels({
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

# Church bells may be rung as music.
_ESC50 = _labels({
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
_FSD50K = _labels({
    "accordion": "Accordion", "acoustic_guitar": "Acoustic_guitar", "kick_drum": "Bass_drum",
    "electric_bass": "Bass_guitar", "cowbell": "Cowbell", "cymbal": "Crash_cymbal", "cymbal hi_hat": "Cymbal",
    "drum_kit": "Drum_kit", "electric_guitar": "Electric_guitar", "glockenspiel": "Glockenspiel", "gong": "Gong",
    "harmonica": "Harmonica", "harp": "Harp", "hi_hat": "Hi-hat", "marimba xylophone": "Marimba_and_xylophone",
    "organ": "Organ", "piano": "Piano", "shaker": "Rattle_(instrument)", "snare_drum": "Snare_drum",
    "hand_drum": "Tabla", "tambourine": "Tambourine", "trumpet": "Trumpet",
    "voice": "Female_singing | Male_singing | Singing", "family:mallet": "Mallet_percussion",
    "family:brass": "Brass_instrument", "family:flute family:reed": "Wind_instrument_and_woodwind_instrument",
    "violin viola cello double_bass double_bass_plucked string_section erhu": "Bowed_string_instrument",
    "acoustic_guitar electric_guitar lap_steel_guitar electric_bass": "Guitar | Strum",
    "family:guitar electric_bass double_bass_plucked harp koto guzheng": "Plucked_string_instrument",
    "kick_drum snare_drum tom hand_drum taiko timpani synth_drum": "Drum",
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

# Its annotations say Y or N under vocals.
_MUSAN = _labels({"any": "music", "voice": "vocals", "none": "speech | noise"})
_URBANSOUND8K = _labels({
    "any": "street_music",
    "none": "air_conditioner | car_horn | children_playing | dog_bark | drilling | engine_idling | gun_shot | "
    "jackhammer | siren",
})  # fmt: skip

# What mirdata and soundata call the instruments of Slakh2100, TinySOL, Good-sounds, PHENICX-Anechoic, Orchset, JTD,
# IDMT-SMT-Audio-Effects, MedleyDB's subsets, Medley-solos-DB and URBAN-SED. Where two sets mean different things by a
# name it means both: a "bass" is plucked in JTD and bowed in Good-sounds. Lossy: Slakh's second strings hold a few
# orchestra hits. Not here is FSD50K, whose names mean other things.
_MIR = _MEDLEYDB | _IRMAS | _OPENMIC | _ESC50 | _URBANSOUND8K | _labels({
    "family:keyboard": "Piano", "family:mallet": "Chromatic Percussion", "family:organ": "Organ",
    "acoustic_guitar electric_guitar": "Guitar", "family:bass": "Bass",
    "violin viola cello double_bass string_section harp timpani": "Strings",
    "string_section synth_strings family:vocal": "Strings (continued)", "family:brass": "Brass | brass",
    "saxophone oboe english_horn bassoon clarinet": "Reed", "family:flute": "Pipe", "synth_lead": "Synth Lead",
    "any": "Synth Pad | Synth Effects | Ethnic", "family:percussion family:mallet": "Percussive",
    "family:percussion": "Drums", "none": "Sound Effects | Sound effects",
    "tuba": "Bass Tuba", "french_horn": "French Horn | horn", "trombone": "Trombone", "trumpet": "Trumpet in C",
    "accordion": "Accordion", "double_bass": "Contrabass | doublebass", "violin": "Violin", "viola": "Viola",
    "cello": "Violoncello", "bassoon": "Bassoon", "clarinet": "Clarinet in B-flat", "flute": "Flute", "oboe": "Oboe",
    "saxophone": "Alto Saxophone | sax_alto | sax_tenor | sax_baritone | sax_soprano",
    "family:bass double_bass": "bass", "violin viola cello double_bass string_section harp": "strings",
    "family:flute family:reed": "winds", "electric_guitar": "G", "electric_bass": "B",
})  # fmt: skip

INSTRUMENT_ALIASES: dict[str, dict[str, str]] = {
    "irmas": _IRMAS, "openmic": _OPENMIC, "medleydb": _MEDLEYDB, "esc50": _ESC50, "fsd50k": _FSD50K,
    "musan": _MUSAN, "urbansound8k": _URBANSOUND8K, "mir": _MIR,
}  # fmt: skip
"""Source to label to instruments; MusicNet's are numbers, which `data.taxonomy` has."""

# The Free Music Archive's genres. Lossy: its singer-songwriters are folk, its reggae is international.
_FMA = _labels({
    "country_folk": "Country | Folk | Bluegrass | Americana | Country & Western | Western Swing | Psych-Folk | "
    "Free-Folk | Freak-Folk | British Folk | Singer-Songwriter",
    "classical": "Classical | 20th Century Classical | Composed Music | Chamber Music | Choral Music | Symphony | "
    "Opera | Contemporary Classical",
    "pop_rock": "Pop | Rock | Punk | Post-Rock | Metal | Krautrock | Loud-Rock | Noise-Rock | Psych-Rock | "
    "Electro-Punk | Indie-Rock | Industrial | No Wave | Experimental Pop | Garage | New Wave | Post-Punk | Sludge | "
    "Progressive | Death-Metal | Hardcore | Power-Pop | Space-Rock | Black-Metal | Rockabilly | Synth Pop | Goth | "
    "Shoegaze | Thrash | Surf | Grindcore | Rock Opera | Lo-Fi",
    "latin_soul": "Soul-RnB | Funk | Deep Funk | Disco | Latin America | Latin | Cumbia | Salsa | Brazilian | Tango",
    "jazz_blues": "Jazz | Blues | Free-Jazz | Jazz: Vocal | Jazz: Out | Be-Bop | Big Band/Swing | Nu-Jazz | "
    "Modern Jazz",
    "electronic": "Electronic | Ambient Electronic | Techno | House | Glitch | Minimal Electronic | "
    "Breakcore - Hard | IDM | Chiptune | Chip Music | Trip-Hop | Dance | Drum & Bass | Chill-out | Bigbeat | "
    "Dubstep | Skweee | Downtempo | Breakbeat | Jungle",
    "hip_hop": "Hip-Hop | Nerdcore | Alternative Hip-Hop | Rap | Abstract Hip-Hop | Hip-Hop Beats | Wonky",
    "world": "International | French | Afrobeat | Indian | African | Middle East | Polka | Balkan | Europe | "
    "Asia-Far East | N. Indian Traditional | South Indian Traditional | Bollywood | Pacific | Celtic | "
    "North African | Flamenco | Romany (Gypsy) | Reggae - Dub | Reggae - Dancehall | Spanish | Klezmer | Turkish | "
    "Fado",
    "experimental": "Experimental | Avant-Garde | Noise | Electroacoustic | Drone | Audio Collage | Sound Collage | "
    "Field Recordings | Musique Concrete | Improv | Sound Art | Sound Poetry | Minimalism",
    None: "Ambient | Banter | Christmas | Comedy | Compilation | Easy Listening | Easy Listening: Vocal | Gospel | "
    "Holiday | Instrumental | Interview | Kid-Friendly | Lounge | Musical Theater | New Age | Novelty | "
    "Old-Time / Historic | Poetry | Radio | Radio Art | Radio Theater | Sound Effects | Soundtrack | Spoken | "
    "Spoken Weird | Spoken Word | Talk Radio | Unclassifiable",
})  # fmt: skip

GENRE_ALIASES: dict[str, dict[str, str | None]] = {
    "irmas": _labels({
        "country_folk": "cou_fol", "classical": "cla", "pop_rock": "pop_roc", "latin_soul": "lat_sou",
        "jazz_blues": "jaz_blu",
    }),
    "openmic": _FMA,
    "medleydb": _labels({
        "classical": "Classical", "pop_rock": "Rock | Pop", "jazz_blues": "Jazz", "hip_hop": "Rap",
        "world": "World/Folk", "electronic": "Electronic/Fusion",
        None: "Singer/Songwriter | Fusion | Musical Theatre",
    }),
    "musan": _labels({
        "country_folk": "country | folk", "classical": "westernart | baroque | classical | romantic | mondernist",
        "pop_rock": "pop | rock | indierock | metal", "latin_soul": "latin | soul | rnb | funk",
        "jazz_blues": "jazz | blues", "electronic": "electronica | dance", "hip_hop": "hiphop | rap",
        "experimental": "experimental", None: "adventure | gospel",
    }),
}  # fmt: skip
GENRE_ALIASES["mir"] = GENRE_ALIASES["irmas"] | GENRE_ALIASES["medleydb"] | _FMA | _labels({
    "country_folk": "country", "classical": "classical", "pop_rock": "rock | pop | metal", "latin_soul": "disco",
    "jazz_blues": "jazz | blues", "hip_hop": "hip-hop", "world": "reggae",
})  # fmt: skip
"""Source to its own names of genres to one of `GENRES`, or None for a name that says nothing here."""

"""The source ``medleydb``, on folders laid out as the published ones."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml

from data.clip import UNKNOWN, Clip, LabelSet, Reject
from data.errors import DataError
from data.sources.medleydb import MedleydbOptions, clips
from data.taxonomy import FAMILY_OF_INSTRUMENT
from data.writer import write_pack

RATE = 8_000
"""Hz; the published 44.1 kHz take longer to write."""
HOP_S = 2048 / 44_100
SILENCE = 0.0474
SONGS = {
    "AClassicEducation_NightOwl": ("Singer/Songwriter", "no", ["electric bass", "drum set", "male singer"]),
    "BrandonWebster_DontHearAThing": ("Musical Theatre", "no", ["piano", "female singer"]),
    "Phoenix_BrokenPledgeChicagoReel": ("World/Folk", "yes", ["acoustic guitar", "violin"]),
    "Schubert_Erstarrung": ("Classical", "no", ["piano", "male singer"]),
    "Wolf_DieBekherte": ("Classical", "no", ["piano", "female singer"]),
}
SECONDS = {"AClassicEducation_NightOwl": 25.0, "Phoenix_BrokenPledgeChicagoReel": 12.0}
ACTIVE = {
    # Of the first song: bass all the time, drums in the first and, for 0.2 s, in the second clip, the singer softly in
    # the first and aloud in the second; nobody after 20 s.
    "S01": [(0.0, 20.0, 0.99)],
    "S02": [(2.0, 9.0, 0.99), (12.0, 12.2, 0.99)],
    "S03": [(0.0, 9.0, 0.3), (11.0, 18.0, 0.8)],
}


def metadata(song: str) -> dict:
    genre, has_bleed, instruments = SONGS[song]
    return {
        "album": "",
        "artist": song.split("_")[0],
        "composer": ["traditional"],
        "excerpt": "no",
        "genre": genre,
        "has_bleed": has_bleed,
        "instrumental": "no",
        "mix_filename": f"{song}_MIX.wav",
        "origin": "Dolan Studio",
        "producer": [""],
        "raw_dir": f"{song}_RAW",
        "stem_dir": f"{song}_STEMS",
        "stems": {
            f"S{number:02d}": {
                "component": "",
                "filename": f"{song}_STEM_{number:02d}.wav",
                "instrument": instrument,
                "raw": {"R01": {"filename": f"{song}_RAW_{number:02d}_01.wav", "instrument": instrument}},
            }
            for number, instrument in enumerate(instruments, start=1)
        },
        "title": song.split("_")[1],
        "version": 1.2,
        "website": None,
    }


def write_metadata(folder: Path, song: str, change=lambda fields: None) -> None:
    fields = metadata(song)
    change(fields)
    (folder / "Metadata").mkdir(parents=True, exist_ok=True)
    (folder / "Metadata" / f"{song}_METADATA.yaml").write_text(yaml.safe_dump(fields))


def write_activations(folder: Path, song: str, active: dict, seconds: float) -> Path:
    times = np.arange(0, seconds, HOP_S)
    table = np.full((len(times), 1 + len(active)), SILENCE)
    table[:, 0] = times
    for column, spans in enumerate(active.values(), start=1):
        for start, end, confidence in spans:
            table[(times >= start) & (times < end), column] = confidence
    path = folder / "Annotations" / "Instrument_Activations" / "ACTIVATION_CONF" / f"{song}_ACTIVATION_CONF.lab"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savetxt(path, table, header="time," + ",".join(active), delimiter=",", fmt="%.4f", comments="")
    return path


@pytest.fixture
def medleydb(tmp_path):
    """Five songs; the activations of one."""
    folder = tmp_path / "MedleyDB"
    rng = np.random.default_rng(0)
    for song, (_, _, instruments) in SONGS.items():
        noise = rng.uniform(-0.3, 0.3, (round(SECONDS.get(song, 1.5) * RATE), 2))
        for kind, count in (("RAW", "{:02d}_01"), ("STEM", "{:02d}")):
            place = folder / "Audio" / song / f"{song}_{'STEMS' if kind == 'STEM' else kind}"
            place.mkdir(parents=True)
            for number in range(1, len(instruments) + 1):
                soundfile.write(place / f"{song}_{kind}_{count.format(number)}.wav", noise[:, :1] / number, RATE)
        soundfile.write(folder / "Audio" / song / f"{song}_MIX.wav", noise, RATE, subtype="PCM_16")
        write_metadata(folder, song)
    write_metadata(folder, "Wolf_DieBekherte", lambda fields: fields.update(title="its audio is here too"))
    (folder / "Metadata" / "Bach10_01AchGottundHerr_METADATA.yaml").write_text("of a song without audio: {")
    write_activations(folder, "AClassicEducation_NightOwl", ACTIVE, 25.0)
    return folder


def found(folder: Path, **options) -> dict[str, Clip]:
    return {item.id: item for item in clips(MedleydbOptions(folder, **options)) if isinstance(item, Clip)}


def rejects(folder: Path, **options) -> dict[str, str]:
    return {
        item.recording: item.reason for item in clips(MedleydbOptions(folder, **options)) if isinstance(item, Reject)
    }


def absent(labels: LabelSet) -> set[str]:
    names = set(FAMILY_OF_INSTRUMENT)
    return names - set(labels.present) if labels.complete else set(labels.absent)


OWL = "medleydb/AClassicEducation_NightOwl"


def test_a_clip_of_a_mix_has_the_instruments_that_sound_in_it(medleydb):
    clip = found(medleydb, medleydb_take="mixes")
    assert [name for name in clip if name.startswith(OWL)] == [f"{OWL}_MIX@0", f"{OWL}_MIX@10"]
    first, second = clip[f"{OWL}_MIX@0"].labels, clip[f"{OWL}_MIX@10"].labels
    others = set(FAMILY_OF_INSTRUMENT) - {"electric_bass"}
    # A kit may be named by its parts, a singer may be a choir: data.taxonomy leaves both open.
    kit = {"drum_kit", "synth_drum", "kick_drum", "snare_drum", "tom", "hi_hat", "cymbal"}
    assert set(first.instrument.present) == {"electric_bass", "drum_kit"}
    assert absent(first.instrument) == others - kit - {"voice", "choir"}
    assert (first.drums, first.is_instrument, first.is_weak) == (True, True, False)
    assert set(second.instrument.present) == {"electric_bass", "voice"}
    assert absent(second.instrument) == others - kit - {"voice", "choir"}
    assert second.drums is None  # 0.2 s are too few to count and too many to deny


def test_clips_in_which_nothing_sounds_are_left_out(medleydb):
    reasons = rejects(medleydb)
    folder = "Audio/AClassicEducation_NightOwl/AClassicEducation_NightOwl"
    assert reasons[f"{folder}_MIX.wav"] == "nothing sounds in some of its clips: 1 of 3"
    assert reasons[f"{folder}_STEMS/AClassicEducation_NightOwl_STEM_02.wav"].endswith("1 of 3")
    assert set(reasons) == {f"{folder}_MIX.wav"} | {
        f"{folder}_STEMS/AClassicEducation_NightOwl_STEM_0{number}.wav" for number in (1, 2, 3)
    }
    assert all(item.is_left_out for item in clips(MedleydbOptions(medleydb)) if isinstance(item, Reject))


def test_a_stem_has_its_instrument_and_no_other(medleydb):
    clip = found(medleydb, medleydb_take="stems")
    assert not [name for name in clip if "_MIX" in name]
    drums = clip[f"{OWL}_STEM_02@0"].labels
    assert (drums.instrument.present, drums.drums, drums.is_weak) == (("drum_kit",), True, False)
    assert {"electric_bass", "voice", "violin"} <= absent(drums.instrument)
    assert clip[f"{OWL}_STEM_02@10"].labels.is_weak  # 0.2 s of drums
    assert clip[f"{OWL}_STEM_03@0"].labels.is_weak  # a soft singer
    bass = clip[f"{OWL}_STEM_01@10"].labels
    assert (bass.instrument, bass.drums) == (LabelSet(("electric_bass",), complete=True), False)


def test_a_stem_with_bleed_says_nothing_of_others(medleydb):
    clip = found(medleydb)
    violin = clip["medleydb/Phoenix_BrokenPledgeChicagoReel_STEM_02@0"].labels
    assert (violin.instrument, violin.family) == (LabelSet(("violin",)), LabelSet(("string",)))
    assert violin.drums is None
    stems = [clip[f"medleydb/BrandonWebster_DontHearAThing_STEM_0{number}"].labels for number in (1, 2)]
    assert stems[0].instrument == LabelSet(("piano",), complete=True)
    assert stems[1].instrument == LabelSet(("voice",))  # has bleed, though its song says otherwise


def test_without_activations_a_song_of_several_clips_is_weak(medleydb):
    clip = found(medleydb)
    mix = clip["medleydb/Phoenix_BrokenPledgeChicagoReel_MIX@0"].labels
    assert mix.instrument == LabelSet(("acoustic_guitar", "violin"), complete=True)
    assert (mix.is_weak, mix.drums) == (True, False)
    assert clip["medleydb/Phoenix_BrokenPledgeChicagoReel_STEM_01@10"].labels.is_weak
    whole = clip["medleydb/Schubert_Erstarrung_MIX"].labels
    assert set(whole.instrument.present) == {"piano", "voice"}
    assert not whole.is_weak  # it is one clip


def test_genres_groups_and_open_splits(medleydb):
    clip = found(medleydb)
    assert {item.split for item in clip.values()} == {None}
    assert clip["medleydb/Schubert_Erstarrung_STEM_01"].labels.genre == LabelSet(("classical",), complete=True)
    assert clip[f"{OWL}_MIX@0"].labels.genre == UNKNOWN  # a singer-songwriter may be of any
    assert clip[f"{OWL}_MIX@10"].group == clip[f"{OWL}_STEM_02@0"].group == OWL.split("_")[0]
    # Two students sang the songs of six composers.
    assert {clip[f"medleydb/{song}_MIX"].group for song in ("Schubert_Erstarrung", "Wolf_DieBekherte")} == {
        "medleydb/NYU_singers"
    }


def test_it_becomes_a_pack_in_which_no_artist_crosses_a_split(medleydb, tmp_path):
    pack = write_pack(clips(MedleydbOptions(medleydb)), tmp_path / "pack", processes=1)
    splits = {}
    for row in pack.manifest.select(["group", "split"]).to_pylist():
        splits.setdefault(row["group"], set()).add(row["split"])
    assert {len(found) for found in splits.values()} == {1}
    assert pack.info.num_clips == len(found(medleydb))


@pytest.mark.parametrize(
    "place", ["Audio/Schubert_Erstarrung", "Metadata", "repository/medleydb/data/Metadata", "Metadata/v1"]
)
def test_tables_are_found_wherever_they_lie(medleydb, place):
    expected = set(found(medleydb))
    target = medleydb / place
    target.mkdir(parents=True, exist_ok=True)
    shutil.move(medleydb / "Metadata" / "Schubert_Erstarrung_METADATA.yaml", target / "moved")
    shutil.move(target / "moved", target / "Schubert_Erstarrung_METADATA.yaml")
    assert set(found(medleydb)) == expected


def test_version_2_and_links_to_another_disk(medleydb):
    expected = set(found(medleydb))
    shutil.move(medleydb / "Audio", medleydb.parent / "V2")
    (medleydb / "V2").symlink_to(medleydb.parent / "V2")
    (medleydb.parent / "V2" / "back").symlink_to(medleydb.parent)  # a loop
    assert set(found(medleydb)) == expected


def test_the_names_of_the_first_release(medleydb):
    song, old = "Phoenix_BrokenPledgeChicagoReel", "Phoenix_BrokenPledge-ChicagoReel"
    path = write_activations(medleydb, song, {"S01": [(0, 12, 0.9)], "S02": []}, 12.0)
    path.rename(path.with_name(f"{old}_ACTIVATION_CONF.lab"))
    labels = found(medleydb)[f"medleydb/{song}_MIX@0"].labels
    assert labels.instrument == LabelSet(("acoustic_guitar",), complete=True)


def test_a_stem_of_several_instruments(medleydb):
    def change(fields):
        fields["stems"]["S03"]["instrument"] = ["male singer", "tambourine"]

    write_metadata(medleydb, "AClassicEducation_NightOwl", change)
    clip = found(medleydb)
    stem = clip[f"{OWL}_STEM_03@10"].labels
    assert stem.instrument.present == ("voice", "tambourine")
    assert stem.is_weak  # nobody knows which of the two sounds
    mix = clip[f"{OWL}_MIX@10"].labels
    assert mix.instrument.present == ("electric_bass",)
    assert absent(mix.instrument).isdisjoint({"voice", "tambourine"})


def test_a_stem_that_the_activations_leave_out(medleydb):
    write_activations(medleydb, "AClassicEducation_NightOwl", {name: ACTIVE[name] for name in ("S01", "S02")}, 25.0)
    clip = found(medleydb)
    assert "voice" not in absent(clip[f"{OWL}_MIX@0"].labels.instrument)
    assert clip[f"{OWL}_STEM_03@20"].labels.is_weak


def test_recordings_that_are_missing_or_broken_are_named(medleydb):
    shutil.rmtree(medleydb / "Audio/Schubert_Erstarrung/Schubert_Erstarrung_STEMS")
    shutil.rmtree(medleydb / "Audio/Wolf_DieBekherte/Wolf_DieBekherte_RAW")
    (medleydb / "Audio/Wolf_DieBekherte/Wolf_DieBekherte_STEMS/Wolf_DieBekherte_STEM_01.wav").unlink()
    (medleydb / "Audio/Wolf_DieBekherte/Wolf_DieBekherte_MIX.wav").write_text("no sound")
    (medleydb / "Metadata/BrandonWebster_DontHearAThing_METADATA.yaml").unlink()
    named = rejects(medleydb)
    wolf = "Audio/Wolf_DieBekherte/Wolf_DieBekherte"
    missing = "missing: named in Wolf_DieBekherte_METADATA.yaml, not in Wolf_DieBekherte_STEMS/"
    assert named[f"{wolf}_STEMS/Wolf_DieBekherte_STEM_01.wav"] == missing
    assert named[f"{wolf}_MIX.wav"].startswith("cannot be decoded")
    assert (
        named["Audio/BrandonWebster_DontHearAThing"]
        == "no BrandonWebster_DontHearAThing_METADATA.yaml, so nothing is known about it"
    )
    stems = "Audio/Schubert_Erstarrung/Schubert_Erstarrung_STEMS"
    assert named[stems] == "missing: the folder of the song's stems"
    assert stems not in rejects(medleydb, medleydb_take="mixes")


def remove(key):
    return lambda fields: fields.pop(key)


def of_stem(**changes):
    return lambda fields: fields["stems"]["S02"].update(changes)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (of_stem(filename="../../Wolf_DieBekherte/Wolf_DieBekherte_MIX.wav"), "stem S02: a path below .* leads out"),
        (of_stem(filename="/etc/passwd"), "stem S02: a path below .* '/etc/passwd' leads out of it"),
        (of_stem(filename=None), "stem S02: the field 'filename' was expected, found None"),
        (of_stem(instrument="kazzoo"), "stem S02: expected a label of medleydb, found 'kazzoo'"),
        (of_stem(instrument={"violin": 1}), "stem S02: the field 'instrument' was expected"),
        (lambda fields: fields.update(mix_filename="../x.wav"), "a path below .* '../x.wav' leads out of it"),
        (lambda fields: fields.update(stem_dir="../.."), "a path below .* '../..' leads out of it"),
        (lambda fields: fields.update(stems={"first": {}}), "a stem should have a name like S01, 'first' found"),
        (lambda fields: fields.update(stems={3: {}}), "a stem should have a name like S01, 3 found"),
        (lambda fields: fields.update(stems=[]), r"the field 'stems' was expected, found \[\]"),
        (lambda fields: fields.update(has_bleed="perhaps"), "has_bleed should be yes or no, 'perhaps' found"),
        (lambda fields: fields.update(genre="Polkka"), "expected a genre of medleydb, found 'Polkka'"),
        (remove("has_bleed"), "has_bleed should be yes or no, None found"),
        (remove("genre"), "the field 'genre' was expected, found None"),
    ],
)
def test_metadata_that_cannot_be_used_are_said_with_their_place(medleydb, change, words):
    write_metadata(medleydb, "Schubert_Erstarrung", change)
    with pytest.raises(DataError, match=f"Schubert_Erstarrung_METADATA.yaml: {words}"):
        found(medleydb)


@pytest.mark.parametrize("text", ["a: {", "- 1", "\x00", "!!python/object/apply:os.system [ls]", "[" * 1000, ""])
def test_yaml_that_is_none_or_another(medleydb, text):
    (medleydb / "Metadata/Schubert_Erstarrung_METADATA.yaml").write_text(text)
    with pytest.raises(DataError, match=r"Schubert_Erstarrung_METADATA\.yaml.* get it again"):
        found(medleydb)


def test_has_bleed_as_yaml_reads_a_bare_yes(medleydb):
    write_metadata(medleydb, "Schubert_Erstarrung", lambda fields: fields.update(has_bleed=True))
    assert found(medleydb)["medleydb/Schubert_Erstarrung_STEM_01"].labels.instrument == LabelSet(("piano",))


def test_a_folder_that_is_not_medleydb_and_options_that_are_none(tmp_path):
    with pytest.raises(DataError, match=r"MedleyDB was expected in .*, no song found"):
        found(tmp_path)
    with pytest.raises(DataError, match="--medleydb_take should be one of both, mixes, stems, 'raw' found"):
        MedleydbOptions(tmp_path, medleydb_take="raw")
    with pytest.raises(DataError, match="--clip_seconds"):
        MedleydbOptions(tmp_path, clip_seconds=0.1)

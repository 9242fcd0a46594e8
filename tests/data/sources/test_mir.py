"""The source ``mir``, on folders laid out as mirdata and soundata expect the published ones."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from data.clip import UNKNOWN, Clip, LabelSet, Reject
from data.errors import DataError
from data.sources import mir
from data.sources.mir import MirOptions, clips
from data.writer import write_pack

REAL = Path(__file__).parents[4] / "shared" / "data"
PHENICX = "audio/mozart/bassoon1.wav", "audio/mozart/bassoon2.wav"
TINYSOL = """\
Path,Fold,Family,Instrument (abbr.),Instrument (in full),Technique (abbr.),Technique (in full),Pitch,Pitch ID,Dynamics,\
Dynamics ID,Instance ID,String ID (if applicable),Needed digital retuning
Strings/Contrabass/ordinario/Cb-ord-A2-mf-2c-N.wav,4,Strings,Cb,Contrabass,ord,ordinario,A2,45,mf,2,1,2.0,FALSE
Strings/Contrabass/ordinario/Cb-ord-C3-pp-1c-N.wav,0,Strings,Cb,Contrabass,ord,ordinario,C3,48,pp,0,1,1.0,FALSE
Winds/Clarinet_Bb/ordinario/ClBb-ord-C4-mf-N-N.wav,1,Winds,ClBb,Clarinet in B-flat,ord,ordinario,C4,60,mf,2,0,,FALSE
"""
SOLOS = """\
subset,instrument,instrument_id,song_id,uuid4
training,distorted electric guitar,1,7,0a
test,female singer,2,8,0b
test,female singer,2,8,0c
"""


@pytest.fixture
def mirdata():
    return pytest.importorskip("mirdata", reason="needs mirdata: pip install 'luthier[mir]'")


@pytest.fixture
def soundata():
    return pytest.importorskip("soundata", reason="needs soundata: pip install 'luthier[mir]'")


def write(path: Path, seconds: float = 0.5, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.random.default_rng(seed).uniform(-0.5, 0.5, round(seconds * 8_000)), 8_000)


def write_index(package, name: str, folder: Path, audio: dict[str, str | None], **others: list[str]) -> None:
    """Puts an index into the data set's folder, as a user without a network would."""
    listed = {track: {"audio": [path, "md5"], **others} for track, path in audio.items()}
    kind = "tracks" if package.__name__ == "mirdata" else "clips"
    path = folder / Path(package.initialize(name).index_path).name
    path.write_text(json.dumps({"version": "1.0", kind: listed}))


@pytest.fixture
def tinysol(mirdata, tmp_path):
    """Three notes of two instruments."""
    folder = tmp_path / "tinysol"
    (folder / "annotation").mkdir(parents=True)
    (folder / "annotation" / "TinySOL_metadata.csv").write_text(TINYSOL)
    paths = [f"audio/{row.split(',', 1)[0]}" for row in TINYSOL.splitlines()[1:]]
    for seed, path in enumerate(paths):
        write(folder / path, seed=seed)
    write_index(mirdata, "tinysol", folder, {Path(path).stem: path for path in paths})
    return folder


@pytest.fixture
def solos(mirdata, tmp_path):
    """Medley-solos-DB, three clips."""
    folder = tmp_path / "medley_solos_db"
    (folder / "annotation").mkdir(parents=True)
    (folder / "annotation" / "Medley-solos-DB_metadata.csv").write_text(SOLOS)
    audio = {}
    for row in SOLOS.splitlines()[1:]:
        subset, _, number, _, uuid = row.split(",")
        audio[uuid] = f"audio/Medley-solos-DB_{subset}-{number}_{uuid}.wav"
        write(folder / audio[uuid])
    write_index(mirdata, "medley_solos_db", folder, audio)
    return folder


@pytest.fixture
def gtzan(mirdata, tmp_path):
    """A song of 3 s, named by its genre."""
    folder = tmp_path / "gtzan_genre"
    write(folder / "gtzan_genre/genres/hiphop/hiphop.00001.wav", seconds=3.5)
    audio = {"hiphop.00001": "gtzan_genre/genres/hiphop/hiphop.00001.wav"}
    write_index(mirdata, "gtzan_genre", folder, audio, beats=[None, None], tempo=[None, None])
    return folder


def found(folder: Path, **options) -> dict[str, Clip]:
    return {item.id: item for item in clips(MirOptions(folder, **options)) if isinstance(item, Clip)}


def test_single_notes_of_one_instrument(tinysol):
    clip = found(tinysol)
    bass = clip["mir/tinysol/Cb-ord-A2-mf-2c-N"]
    assert bass.labels.instrument == LabelSet(("double_bass",), complete=True)
    assert bass.labels.family == LabelSet(("string",), complete=True)
    assert (bass.labels.pitch, bass.labels.drums, bass.labels.is_instrument) == (45, False, True)
    assert bass.recording == "tinysol/audio/Strings/Contrabass/ordinario/Cb-ord-A2-mf-2c-N.wav"
    assert bass.split is None  # a fold is no split
    assert {item.group for item in clip.values()} == {"mir/tinysol/Contrabass", "mir/tinysol/Clarinet in B-flat"}
    assert clip["mir/tinysol/ClBb-ord-C4-mf-N-N"].labels.instrument == LabelSet(("clarinet",), complete=True)


def test_it_becomes_a_pack(tinysol, tmp_path):
    pack = write_pack(clips(MirOptions(tinysol)), tmp_path / "pack", processes=1)
    assert pack.manifest["id"].to_pylist() == [
        "mir/tinysol/Cb-ord-A2-mf-2c-N",
        "mir/tinysol/Cb-ord-C3-pp-1c-N",
        "mir/tinysol/ClBb-ord-C4-mf-N-N",
    ]
    assert pack.manifest["instrument_present"].to_pylist() == [["double_bass"], ["double_bass"], ["clarinet"]]


def test_the_name_of_the_data_set_where_the_folder_has_another(tinysol):
    renamed = tinysol.rename(tinysol.with_name("notes"))
    assert len(found(renamed, mir_dataset="tinysol")) == 3
    with pytest.raises(DataError, match="--mir_dataset should name a data set of mirdata or soundata, 'notes' found"):
        found(renamed)
    with pytest.raises(DataError, match=r"'tinysole' found; perhaps tinysol"):
        found(renamed, mir_dataset="tinysole")


def test_published_splits_and_songs(solos):
    clip = found(solos)
    assert [(item.split, item.group) for item in clip.values()] == [
        ("train", "mir/medley_solos_db/7"),
        ("test", "mir/medley_solos_db/8"),
        ("test", "mir/medley_solos_db/8"),
    ]
    assert clip["mir/medley_solos_db/0a"].labels.instrument == LabelSet(("electric_guitar",), complete=True)
    assert clip["mir/medley_solos_db/0b"].labels.family == LabelSet(("vocal",), complete=True)


def test_a_genre_of_a_song_that_is_cut(gtzan):
    clip = found(gtzan, clip_seconds=1.5)
    assert list(clip) == [f"mir/gtzan_genre/hiphop.00001@{start}" for start in ("0", "1.5")]
    labels = clip["mir/gtzan_genre/hiphop.00001@1.5"].labels
    assert labels.genre == LabelSet(("hip_hop",), complete=True)
    assert (labels.is_weak, labels.is_instrument, labels.instrument, labels.drums) == (True, None, UNKNOWN, None)


def test_microphones_share_a_player(mirdata, tmp_path):
    folder = tmp_path / "good_sounds"
    takes, audio = {}, {}
    for number, microphone in (("1", "akg"), ("2", "neumann")):
        audio[number] = f"good-sounds/sound_files/flute_almudena_reference/{microphone}/0000.wav"
        write(folder / audio[number])
        takes[number] = {"id": int(number), "microphone": microphone, "filename": audio[number][12:], "sound_id": 1}
    sound = {"id": 1, "instrument": "sax_alto", "player": "almudena", "semitone": 48, "klass": "good-sound"}
    tables = {"packs": {}, "ratings": {}, "sounds": {"1": sound}, "takes": takes}
    for name, table in tables.items():
        (folder / f"{name}.json").write_text(json.dumps(table))
    write_index(mirdata, "good_sounds", folder, audio)
    clip = found(folder)
    assert {item.group for item in clip.values()} == {"mir/good_sounds/almudena"}
    assert {item.labels.instrument for item in clip.values()} == {LabelSet(("saxophone",), complete=True)}


def test_a_track_of_several_recordings(mirdata, tmp_path):
    folder = tmp_path / "phenicx_anechoic"
    for seed, path in enumerate(PHENICX):
        write(folder / path, seed=seed)
    notes = {"notes": ["annotations/mozart/bassoon.txt", "md5"], "notes_original": ["a.txt", "md5"]}
    tracks = {"mozart-bassoon": {f"audio_{path[-12:-4]}": [path, "md5"] for path in PHENICX} | notes}
    index = Path(mirdata.initialize("phenicx_anechoic").index_path).name
    (folder / index).write_text(json.dumps({"version": "1", "tracks": tracks}))
    clip = found(folder)
    assert list(clip) == [f"mir/phenicx_anechoic/mozart-bassoon/bassoon{number}" for number in (1, 2)]
    assert {item.group for item in clip.values()} == {"mir/phenicx_anechoic/mozart"}


def test_tags_of_soundata(soundata, tmp_path):
    folder = tmp_path / "fsdnoisy18k"
    (folder / "FSDnoisy18k.meta").mkdir(parents=True)
    rows = (
        "fname,label,aso_id,manually_verified,noisy_small\n1.wav,Acoustic_guitar,/m/042v_gx,1,0\n2.wav,Slam,/m/x,0,0\n"
    )
    (folder / "FSDnoisy18k.meta" / "train.csv").write_text(rows)
    (folder / "FSDnoisy18k.meta" / "test.csv").write_text("fname,label,aso_id\n")
    for number in (1, 2):
        write(folder / f"FSDnoisy18k.audio_train/{number}.wav")
    audio = {number: f"FSDnoisy18k.audio_train/{number}.wav" for number in ("1", "2")}
    write_index(soundata, "fsdnoisy18k", folder, audio)
    with pytest.raises(
        DataError, match=r"not known are tags 'Slam': add them to mir in data/aliases\.py, or take them"
    ):
        found(folder)
    guitar, slam = found(folder, mir_unmapped="unknown").values()
    assert (guitar.split, guitar.group) == ("train", "freesound/1")
    assert guitar.labels.instrument == LabelSet(("acoustic_guitar",))
    assert (slam.labels.is_instrument, slam.labels.instrument, slam.labels.drums) == (None, UNKNOWN, None)


def test_labels_that_the_taxonomy_does_not_know(solos):
    table = solos / "annotation" / "Medley-solos-DB_metadata.csv"
    text = table.read_text().replace("training,distorted electric guitar", "training,kazoo")
    table.write_text(text.replace("test,female singer,2,8,0b", "test,saw,2,8,0b"))
    with pytest.raises(
        DataError, match="all labels of medley_solos_db in mirdata, not known are instruments 'kazoo', "
    ):
        found(solos)
    clip = found(solos, mir_unmapped="unknown")
    assert clip["mir/medley_solos_db/0a"].labels.instrument == UNKNOWN
    voice = clip["mir/medley_solos_db/0c"].labels.instrument
    assert voice.present == ("voice",)
    assert "violin" in voice.absent
    with pytest.raises(DataError, match="--mir_unmapped should be one of refuse, unknown, 'guess' found"):
        MirOptions(solos, mir_unmapped="guess")


def test_without_its_index_nothing_is_downloaded(tinysol, mirdata, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("tried to use the network")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    monkeypatch.setattr("urllib.request.urlretrieve", refuse)
    (tinysol / Path(mirdata.initialize("tinysol").index_path).name).unlink()
    monkeypatch.setattr("mirdata.core.Index.get_path", lambda index: f"/nowhere/{index.filename}")
    with pytest.raises(
        DataError, match=r"mirdata's index of tinysol was expected at /nowhere/.*\.download\(\['index'\]"
    ):
        found(tinysol)


def test_a_damaged_table_or_index(tinysol, mirdata):
    index = tinysol / Path(mirdata.initialize("tinysol").index_path).name
    text = index.read_text()
    index.write_text(text[: len(text) // 2])
    with pytest.raises(DataError, match="mirdata cannot read tinysol"):
        found(tinysol)
    index.write_text(text)
    (tinysol / "annotation" / "TinySOL_metadata.csv").unlink()
    with pytest.raises(DataError, match=r"mirdata cannot read tinysol \(Metadata not found"):
        found(tinysol)


def test_an_index_that_leads_out_of_the_folder(tinysol, mirdata):
    write(tinysol.parent / "secret.wav")
    write_index(mirdata, "tinysol", tinysol, {"Cb-ord-A2-mf-2c-N": "../secret.wav"})
    with pytest.raises(DataError, match=r"a path below .* was expected, '\.\./secret\.wav' leads out of it"):
        found(tinysol)


def test_missing_and_broken_recordings_are_named(tinysol):
    place = tinysol / "audio/Strings/Contrabass/ordinario"
    (place / "Cb-ord-A2-mf-2c-N.wav").unlink()
    (place / "Cb-ord-C3-pp-1c-N.wav").write_text("no sound")
    missing, broken = (item for item in clips(MirOptions(tinysol)) if isinstance(item, Reject))
    assert missing.recording == "tinysol/audio/Strings/Contrabass/ordinario/Cb-ord-A2-mf-2c-N.wav"
    assert missing.reason == "missing: named in the index of tinysol, not in the folder"
    assert broken.reason.startswith("cannot be decoded")


def test_a_track_without_a_recording_is_named(tinysol, mirdata):
    write_index(mirdata, "tinysol", tinysol, {"Cb-ord-A2-mf-2c-N": None})
    reason = "missing: the index names no recording"
    assert list(clips(MirOptions(tinysol))) == [Reject("mir", "tinysol/Cb-ord-A2-mf-2c-N", reason)]


def test_a_data_set_without_labels(mirdata, tmp_path):
    folder = tmp_path / "candombe"
    write(folder / "a.wav")
    write_index(mirdata, "candombe", folder, {"a": "a.wav"}, beats=["a.csv", "md5"])
    with pytest.raises(DataError, match="mirdata names no instruments, genres or tags in candombe; take it as folder="):
        found(folder)


def test_what_has_a_source_of_its_own_is_left_to_it(tmp_path):
    (tmp_path / "irmas").mkdir()
    with pytest.raises(DataError, match="irmas has a source of its own; give it as irmas="):
        found(tmp_path / "irmas")
    with pytest.raises(DataError, match="the folder of a data set was expected at"):
        found(tmp_path / "tinysol")


def test_the_extra_is_not_installed(tmp_path, monkeypatch):
    def refuse(name):
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(mir.importlib, "import_module", refuse)
    with pytest.raises(DataError, match=r"the source mir needs mirdata .*; pip install 'luthier\[mir\]'"):
        found(tmp_path, mir_dataset="tinysol")


@pytest.mark.parametrize("name", sorted(mir.SOLO | mir.OWN_SOURCE.keys() | mir.GROUP_OF.keys()))
def test_the_tables_name_data_sets_that_there_are(mirdata, soundata, name):
    assert name in mirdata.list_datasets() + soundata.list_datasets()


@pytest.mark.skipif(not REAL.is_dir(), reason="needs a few real files of the data sets")
@pytest.mark.parametrize(
    ("name", "audio", "instruments", "group", "split"),
    [
        ("tinysol", "audio/Winds/Flute/ordinario/Fl-ord-C4-mf-N-T14d.wav", ("flute",), "mir/tinysol/Flute", None),
        (
            "medley_solos_db",
            "audio/Medley-solos-DB_validation-3_d07b1fc0-567d-52c2-fef4-239f31c9d40e.wav",
            ("flute",),
            "mir/medley_solos_db/210",
            "validation",
        ),
        (
            "good_sounds",
            "good-sounds/sound_files/flute_almudena_reference/akg/0000.wav",
            ("flute",),
            "mir/good_sounds/almudena",
            None,
        ),
        (
            "medleydb_pitch",
            "audio/AClassicEducation_NightOwl_STEM_08.wav",
            ("voice",),
            "medleydb/AClassicEducation",
            None,
        ),
        ("medleydb_melody", "audio/MusicDelta_Beethoven_MIX.wav", (), "medleydb/MusicDelta", None),
    ],
)
def test_real_excerpts(mirdata, tmp_path, name, audio, instruments, group, split):
    track = {
        "medley_solos_db": audio[-40:-4],
        "good_sounds": "1",
        "medleydb_melody": "MusicDelta_Beethoven",
    }.get(name, Path(audio).stem)
    others = [*(f"melody{number}" for number in (1, 2, 3)), "pitch", "notes_pyin"]
    folder = Path(shutil.copytree(REAL / name, tmp_path / name))
    write_index(mirdata, name, folder, {track: audio}, **{other: ["none", "md5"] for other in others})
    (clip,) = found(folder).values()
    assert (clip.labels.instrument.present, clip.group, clip.split) == (instruments, group, split)
    assert clip.labels.genre.present == (("classical",) if name == "medleydb_melody" else ())
    sound, rate = clip.audio.read()
    assert len(sound) / rate > 0.3

"""The source ``musan``, on folders laid out as the published one."""

import numpy as np
import pytest
import soundfile

from data.clip import NOTHING, UNKNOWN, LabelSet, Reject
from data.errors import DataError
from data.sources.musan import MusanOptions, clips
from data.writer import write_pack

SECONDS = {
    "speech/librivox/speech-librivox-0000": 7.5,
    "speech/us-gov/speech-us-gov-0000": 1.0,
    "noise/free-sound/noise-free-sound-0000": 0.5,
    "noise/free-sound/noise-free-sound-0001": 0.03,
    "noise/sound-bible/noise-sound-bible-0000": 2.0,
    "music/fma/music-fma-0026": 4.5,
    "music/fma/music-fma-0097": 1.0,
    "music/fma/music-fma-0098": 1.0,
    "music/hd-classical/music-hd-0039": 1.0,
    "music/rfm/music-rfm-0000": 1.0,
}
ANNOTATIONS = {
    "speech/librivox": "speech-librivox-0000 m english\n",
    "noise/free-sound": "noise-free-sound-0000\n",
    "music/fma": "music-fma-0026 blues Y Cullah\n\nmusic-fma-0097 pop,electronica N Quiet_Music_for_Tiny_Robots\n",
    "music/hd-classical": "music-hd-0039 westernart,nobodyknows N Kevin_MacLoad Erik_Satie\n",
    "music/rfm": "music-rfm-0000 rock N Kevin_MacLeod\n",
}


@pytest.fixture
def musan(tmp_path):
    """Ten recordings, some with annotations, each folder with its licences."""
    folder = tmp_path / "musan"
    rng = np.random.default_rng(0)
    for name, seconds in SECONDS.items():
        path = folder / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        (path.parent / "LICENSE").write_text("Public domain.\n")
        soundfile.write(path, rng.uniform(-0.5, 0.5, round(seconds * 16_000)), 16_000)
    for name, text in ANNOTATIONS.items():
        (folder / name / "ANNOTATIONS").write_text(text)
    (folder / "README").write_text("MUSAN\n")
    return folder


def by_id(folder, **options):
    found = clips(MusanOptions(folder, **options))
    return {item.id.rsplit("/", 1)[1]: item for item in found if not isinstance(item, Reject)}


def test_speech_and_noise_are_known_to_be_no_instruments(musan):
    found = by_id(musan)
    assert list(found) == [
        "speech-librivox-0000", "speech-us-gov-0000", "noise-free-sound-0000", "noise-free-sound-0001",
        "noise-sound-bible-0000",
    ]  # fmt: skip
    for clip in found.values():
        labels = clip.labels
        assert (labels.is_instrument, labels.family, labels.instrument) == (False, NOTHING, NOTHING)
        assert (labels.drums, labels.is_weak) == (False, False)
        assert (clip.recording, clip.split) == (f"{clip.id.removeprefix('musan/')}.wav", None)
        assert clip.group == clip.id
    assert found["speech-us-gov-0000"].id == "musan/speech/us-gov/speech-us-gov-0000"


def test_long_recordings_are_cut(musan, tmp_path):
    options = MusanOptions(musan, musan_parts=("speech",), clip_seconds=3.0, hop_seconds=1.5)
    pack = write_pack(clips(options), tmp_path / "pack", processes=1)
    rows = {row["id"]: row for row in pack.manifest.to_pylist()}
    assert [(name, row["start_s"], row["duration_s"]) for name, row in rows.items()] == [
        ("musan/speech/librivox/speech-librivox-0000@0", 0.0, 3.0),
        ("musan/speech/librivox/speech-librivox-0000@1.5", 1.5, 3.0),
        ("musan/speech/librivox/speech-librivox-0000@3", 3.0, 3.0),
        ("musan/speech/librivox/speech-librivox-0000@4.5", 4.5, 3.0),
        ("musan/speech/us-gov/speech-us-gov-0000", 0.0, 1.0),
    ]
    first = [row for name, row in rows.items() if "librivox" in name]
    assert {row["group"] for row in first} == {"musan/speech/librivox/speech-librivox-0000"}
    assert len({row["split"] for row in first}) == 1
    assert {row["is_instrument"] for row in first} == {False}  # nothing that is absent there sounds in a part


def test_music_is_known_to_hold_instruments_but_not_which(musan):
    found = by_id(musan, musan_parts=("music",), clip_seconds=2.0)
    weak = found["music-fma-0026@2"].labels
    assert (weak.is_instrument, weak.is_weak) == (True, True)
    assert (weak.instrument, weak.family) == (LabelSet(("voice",)), LabelSet(("vocal",)))
    assert weak.genre == LabelSet(("jazz_blues",), complete=True)
    robots = found["music-fma-0097"].labels
    assert (robots.instrument, robots.family) == (LabelSet(absent=("voice",)), UNKNOWN)
    assert robots.genre == LabelSet(("pop_rock", "electronic"), complete=True)
    assert (robots.is_weak, robots.drums) == (False, None)
    assert found["music-hd-0039"].labels.genre == LabelSet(("classical",))  # a name that the taxonomy has not
    nothing_said = found["music-fma-0098"].labels
    assert nothing_said.is_instrument is True
    assert (nothing_said.instrument, nothing_said.genre) == (UNKNOWN, UNKNOWN)


def test_the_group_of_music_is_the_artist_however_spelt(musan):
    found = by_id(musan, musan_parts=("music",))
    assert found["music-hd-0039"].group == found["music-rfm-0000"].group == "musan/artist/Kevin_MacLeod"
    assert found["music-fma-0026"].group == "musan/artist/Cullah"
    assert found["music-fma-0098"].group == "musan/music/fma/music-fma-0098"


def test_it_becomes_a_pack_and_broken_recordings_are_named(musan, tmp_path):
    (musan / "noise/sound-bible/noise-sound-bible-0001.wav").write_text("not a sound")
    pack = write_pack(clips(MusanOptions(musan)), tmp_path / "pack", processes=1, max_reject_share=0.5)
    assert pack.info.num_clips == 4
    text = (tmp_path / "pack" / "rejected.csv").read_text()
    assert "noise/sound-bible/noise-sound-bible-0001.wav,cannot be decoded" in text
    assert "noise/free-sound/noise-free-sound-0001.wav," in text
    assert "too short" in text


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("music-rfm-0000 rock N", "'music-rfm-0000 rock N' found"),
        ("music-rfm-0000 rock maybe Kevin", "'music-rfm-0000 rock maybe Kevin' found"),
    ],
)
def test_damaged_annotations_are_said_with_their_place(musan, line, found):
    (musan / "music/rfm/ANNOTATIONS").write_text(f"\n{line}\n")
    with pytest.raises(DataError, match=rf"ANNOTATIONS, line 2: id, genres, Y or N for vocals .*{found}"):
        by_id(musan, musan_parts=("music",))
    by_id(musan)  # nobody asked for music


def test_wrong_folders_and_options(musan):
    (musan / "music/rfm/ANNOTATIONS").unlink()
    with pytest.raises(DataError, match=r"annotations were expected at .*rfm.ANNOTATIONS"):
        by_id(musan, musan_parts=("music",))
    with pytest.raises(DataError, match=r"MUSAN was expected in .* speech not found; give the folder musan"):
        by_id(musan / "music")
    with pytest.raises(DataError, match="--musan_parts should be one of speech, noise, music, 'songs' found"):
        MusanOptions(musan, musan_parts=("songs",))
    with pytest.raises(DataError, match="--clip_seconds should be from 1"):
        MusanOptions(musan, clip_seconds=0.5)

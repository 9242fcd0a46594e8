"""The source ``esc50``, on folders laid out as the published one."""

import numpy as np
import pytest
import soundfile

from data.clip import NOTHING, UNKNOWN, Reject
from data.errors import DataError
from data.sources.esc50 import Esc50Options, clips
from data.writer import write_pack

HEADER = "filename,fold,target,category,esc10,src_file,take"
ROWS = (
    "1-100032-A-0.wav,1,0,dog,True,100032,A",
    "4-188703-B-8.wav,4,8,sheep,False,188703,B",
    "4-188703-C-8.wav,4,8,sheep,False,188703,C",
    "5-197988-A-46.wav,5,46,church_bells,False,197988,A",
    "1-17124-A-43.wav,1,43,car_horn,False,17124,A",
)


@pytest.fixture
def esc50(tmp_path):
    """Five clips of four recordings, half a second long."""
    folder = tmp_path / "ESC-50-master"
    (folder / "audio").mkdir(parents=True)
    (folder / "meta").mkdir()
    (folder / "meta" / "esc50.csv").write_text("\n".join((HEADER, *ROWS)) + "\n")
    rng = np.random.default_rng(0)
    for row in ROWS:
        soundfile.write(folder / "audio" / row.split(",")[0], rng.uniform(-0.5, 0.5, 22_050), 44_100)
    return folder


def by_id(folder, **options):
    return {item.id: item for item in clips(Esc50Options(folder, **options)) if not isinstance(item, Reject)}


def rejects(folder, **options):
    return [item for item in clips(Esc50Options(folder, **options)) if isinstance(item, Reject)]


def test_everyday_sounds_are_known_to_be_no_instruments(esc50):
    found = by_id(esc50)
    assert list(found) == [f"esc50/{row.split('.')[0]}" for row in sorted(ROWS) if "church" not in row]
    for clip in found.values():
        labels = clip.labels
        assert (labels.is_instrument, labels.family, labels.instrument) == (False, NOTHING, NOTHING)
        assert (labels.drums, labels.genre, labels.is_weak) == (False, UNKNOWN, False)


def test_folds_are_no_splits_and_groups_are_freesound_recordings(esc50):
    found = by_id(esc50)
    assert {clip.split for clip in found.values()} == {None}
    assert found["esc50/1-100032-A-0"].group == "freesound/100032"
    assert found["esc50/4-188703-B-8"].group == found["esc50/4-188703-C-8"].group == "freesound/188703"


def test_church_bells_are_left_out_or_kept_as_unknown(esc50):
    (reject,) = rejects(esc50)
    assert reject == Reject(
        "esc50",
        "audio/5-197988-A-46.wav",
        "unclear: church_bells leaves open whether an instrument sounds",
        is_left_out=True,
    )
    clip = by_id(esc50, kinds=("non_instrument", "unclear"))["esc50/5-197988-A-46"]
    assert (clip.labels.is_instrument, clip.labels.family, clip.labels.instrument) == (None, UNKNOWN, UNKNOWN)
    assert not rejects(esc50, kinds=("non_instrument", "unclear"))


def test_it_becomes_a_pack(esc50, tmp_path):
    pack = write_pack(clips(Esc50Options(esc50)), tmp_path / "pack", processes=1)
    assert pack.info.num_clips == 4
    assert set(pack.manifest["is_instrument"].to_pylist()) == {False}
    assert "church_bells" in (tmp_path / "pack" / "rejected.csv").read_text()


def test_missing_stray_and_unreadable_recordings_are_named(esc50, tmp_path):
    audio = esc50 / "audio"
    (audio / "1-17124-A-43.wav").rename(audio / "stray.wav")
    (audio / "4-188703-B-8.wav").unlink()
    (audio / "4-188703-B-8.wav").symlink_to("nowhere")
    (audio / "4-188703-C-8.wav").unlink()
    (audio / "4-188703-C-8.wav").mkdir()
    (audio / "._1-100032-A-0.wav").write_bytes(b"Mac OS X")
    pack = write_pack(clips(Esc50Options(esc50)), tmp_path / "pack", processes=1, max_reject_share=0.9)
    assert pack.manifest["id"].to_pylist() == ["esc50/1-100032-A-0"]
    text = (tmp_path / "pack" / "rejected.csv").read_text()
    assert 'audio/1-17124-A-43.wav,"missing: named in meta/esc50.csv, not in audio/"' in text
    assert 'audio/stray.wav,"not named in meta/esc50.csv, so nothing is known about it"' in text
    assert "audio/4-188703-B-8.wav,cannot be read: No such file or directory" in text
    assert "audio/4-188703-C-8.wav,cannot be" in text
    assert "._" not in text


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("dog", "wolf", r"esc50.csv, line 2: .*'wolf'"),
        ("100032,A", "1e5,A", r"line 2: the number of a Freesound recording was expected, '1e5' found"),
        ("4-188703-C-8.wav", "4-188703-B-8.wav", r"should list every recording once, 4-188703-B-8.wav occurs twice"),
        ("category", "class", r"should have a column 'category'"),
    ],
)
def test_a_damaged_table_is_said_with_its_place(esc50, old, new, words):
    table = esc50 / "meta" / "esc50.csv"
    table.write_text(table.read_text().replace(old, new, 1))
    with pytest.raises(DataError, match=words):
        list(clips(Esc50Options(esc50)))


def test_a_name_that_leads_out_of_the_folder_is_not_followed(esc50, tmp_path):
    soundfile.write(tmp_path / "secret.wav", np.ones(22_050) / 2, 44_100)
    table = esc50 / "meta" / "esc50.csv"
    table.write_text(table.read_text().replace("1-100032-A-0.wav", "../../secret.wav"))
    assert "missing: named in meta/esc50.csv, not in audio/" in {reject.reason for reject in rejects(esc50)}
    assert not any("secret" in name for name in by_id(esc50))


def test_wrong_folders_and_options(esc50):
    with pytest.raises(DataError, match=r"ESC-50 was expected in .* give the folder ESC-50-master"):
        list(clips(Esc50Options(esc50 / "meta")))
    with pytest.raises(DataError, match="--kinds should be one of non_instrument, instrument, unclear, 'noise' found"):
        Esc50Options(esc50, kinds=("noise",))
    (esc50 / "audio").rename(esc50 / "sound")
    with pytest.raises(DataError, match=r"recordings were expected in .*audio"):
        list(clips(Esc50Options(esc50)))

"""Packs, tables of corrections and recordings from somebody else."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from data.codes import CODES_NAME
from data.decode import AudioFile, seconds_of
from data.files import checksum_of
from data.labels import LabelTable
from data.pack import INFO_NAME, MANIFEST_NAME, Pack, shard_name
from data.pcm import to_pcm
from data.relabel import read_corrections, relabel


def look_through(folder: Path) -> None:
    """All that a training run, an audit and a description read of a pack."""
    pack = Pack.open(folder)
    rows = np.concatenate([pack.rows(split) for split in ("train", "validation", "test")])
    labels = LabelTable(pack)
    labels.take(rows)
    assert labels.single_family.shape == (len(pack),)
    assert labels.timbre_names is not None
    out = np.empty((min(len(rows), 4), 400), np.int16)
    pack.read_crops(rows[:4], np.zeros(len(out), np.int64), 400, out)
    assert f"{pack!r}{pack.info.describe_splits()}{pack.fingerprint}{pack.sound_fingerprint}"
    assert len(pack.manifest) == len(pack)
    pack.verify()


@pytest.fixture
def rewritten(copied_pack) -> Callable[[str, str, bytes], None]:
    """``rewritten(name, key, content)``: writes a file of a pack, and says in pack.json that it shall be so."""
    info = json.loads((copied_pack / INFO_NAME).read_text())

    def write(name: str, key: str, content: bytes) -> None:
        (copied_pack / name).write_bytes(content)
        (copied_pack / INFO_NAME).write_text(json.dumps(info | {key: checksum_of(content)}))

    return write


def test_what_describes_a_pack(attack, damaged_json, copied_pack):
    file = copied_pack / INFO_NAME
    attack(damaged_json(file.read_bytes()), file.write_bytes, lambda: look_through(copied_pack))


@pytest.mark.parametrize("is_forged", [False, True])
def test_manifests(attack, damaged, copied_pack, rewritten, is_forged):
    file = copied_pack / MANIFEST_NAME
    write = (lambda content: rewritten(file.name, "manifest_checksum", content)) if is_forged else file.write_bytes
    attack(damaged(file.read_bytes()), write, lambda: look_through(copied_pack))


@pytest.mark.parametrize("is_forged", [False, True])
def test_codes(attack, damaged, copied_pack, rewritten, is_forged):
    file = copied_pack / CODES_NAME
    write = (lambda content: rewritten(file.name, "codes_checksum", content)) if is_forged else file.write_bytes
    attack(damaged(file.read_bytes()), write, lambda: look_through(copied_pack))


def test_shards(attack, damaged, copied_pack):
    file = copied_pack / shard_name(0)
    attack(damaged(file.read_bytes()), file.write_bytes, lambda: look_through(copied_pack), share=0.25)


CORRECTIONS = """clip,level,correction,given
toy/0000,family,brass,string
toy/0001,instrument,also violin; no piano,
toy/0003,genre,unknown,
toy/0004,family,none,brass
"""


def test_corrections(attack, damaged, toy_pack, tmp_path):
    file, out = tmp_path / "corrections.csv", tmp_path / "relabelled"

    def read() -> None:
        shutil.rmtree(out, ignore_errors=True)
        relabel(toy_pack, read_corrections(file), out)

    attack(damaged(CORRECTIONS.encode()), file.write_bytes, read, share=0.5)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_recordings(attack, damaged, make_tone, tmp_path, suffix):
    file = tmp_path / f"recording.{suffix}"
    soundfile.write(file, make_tone(0.4, 440, 22_050), 22_050)

    def read() -> None:
        assert seconds_of(file) >= 0
        to_pcm(AudioFile.of(file), 0.1)
        to_pcm(AudioFile.of(file, 0.1, 0.2), 0.1)

    attack(damaged(file.read_bytes()), file.write_bytes, read)

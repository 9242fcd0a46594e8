"""The end of a preparation: drawn splits, dropped duplicates, and kills at any moment."""

import csv
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from data import finish, statistics
from data.clip import SPLITS, Reject
from data.errors import DataError
from data.leaks import find_leaks
from data.pack import Pack
from data.rejected import read_rejected
from data.writer import write_pack

ROOT = Path(__file__).parents[2]
WATCHED = (str(ROOT / "data"), shutil.__file__)

PREPARATION = """
import sys, time
from dataclasses import dataclass
import numpy as np
from data.clip import Clip
from data.writer import write_pack

@dataclass(frozen=True)
class Noise:
    number: int
    def read(self):
        time.sleep(0.005)
        return np.random.default_rng(self.number).uniform(-.5, .5, (8000, 1)).astype(np.float32), 16000

splits = [None, None, None, "train", "test"]
clips = [Clip(f"toy/{k}", "toy", f"{k}", f"toy/{k // 4}", Noise(k % 290), splits[k // 4 % 5]) for k in range(320)]
write_pack(clips, sys.argv[1], processes=2)
"""


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def mixed(make_clips) -> list:
    """Clips of which some are open, some given, some of them twice, one broken and one left out."""
    clips = make_clips(40)
    given = [replace(clip, split="train") for clip in make_clips(70)[40:60]]
    test = [replace(clip, split="test") for clip in make_clips(75)[60:]]
    again = [replace(clip, id=f"{clip.id}b", recording=f"{clip.recording}b", group=f"{clip.group}b")
             for clip in (clips[2], clips[39], given[0])]  # fmt: skip
    leaking = replace(test[3], id="toy/leak", recording="leak", group="toy/leak", split="train")
    broken = replace(clips[5], audio=replace(clips[5].audio, amplitude=0.0))
    return [*clips[:5], broken, *clips[6:], *given, leaking, *test, *again, Reject("toy", "x", "a dog", True)]


def test_one_clip_of_every_sound_is_kept(make_clips, tmp_path):
    pack = write_pack(mixed(make_clips), tmp_path / "pack", processes=1)
    assert (len(pack), pack.info.num_rejected, pack.info.num_duplicates, pack.info.num_left_out) == (74, 1, 4, 1)
    with open(pack.folder / "rejected.csv", newline="") as file:
        assert [tuple(row.values()) for row in csv.DictReader(file)] == [
            ("left_out", "toy", "x", "a dog", "", ""),
            ("broken", "toy", "0005", "silent: peak -inf dBFS, at least -80 dBFS expected", "toy/0005", ""),
            ("duplicate", "toy", "leak", "same sound as toy/0063", "toy/leak", "train"),
            ("duplicate", "toy", "0002b", "same sound as toy/0002", "toy/0002b", ""),
            ("duplicate", "toy", "0039b", "same sound as toy/0039", "toy/0039b", ""),
            ("duplicate", "toy", "0040b", "same sound as toy/0040", "toy/0040b", "train"),
        ]
    assert len(set(pack.column("checksum"))) == len(pack)
    assert [str(leak) for leak in find_leaks(pack.manifest, read_rejected(pack.folder))] == [
        "sounds in train and test: 1 (toy/leak = toy/0063), 1 train and 1 test clips; dropped from train"
    ]


def test_what_is_dropped_leaves_no_gap(make_clips, tmp_path):
    pack = write_pack(mixed(make_clips), tmp_path / "pack", processes=1)
    pack.verify()
    for shard, size in enumerate(pack.info.shard_bytes):
        rows = np.flatnonzero(pack.shard == shard)
        ends = np.cumsum(pack.num_samples[rows])
        np.testing.assert_array_equal(pack.offset[rows], ends - pack.num_samples[rows])
        assert 2 * ends[-1] == size == (pack.folder / f"shard_{shard:05d}.i16").stat().st_size


def test_kept_duplicates_cross_no_split(make_clips, tmp_path):
    pack = write_pack(mixed(make_clips), tmp_path / "pack", processes=1, duplicates="keep")
    assert (len(pack), pack.info.num_duplicates) == (77, 1)
    assert [row.id for row in read_rejected(pack.folder) if row.kind == "duplicate"] == ["toy/leak"]
    splits = dict(zip(pack.column("id"), pack.column("split"), strict=True))
    for one, other in (("toy/0002", "toy/0002b"), ("toy/0039", "toy/0039b"), ("toy/0040", "toy/0040b")):
        assert splits[one] == splits[other]
    assert {leak.dropped_from for leak in find_leaks(pack.manifest, read_rejected(pack.folder))} == {"train"}


def test_drawn_and_given_splits_are_told_apart(make_clips, tmp_path):
    pack = write_pack(mixed(make_clips), tmp_path / "pack", processes=1, split_shares=(0.5, 0.25, 0.25))
    assert pack.info.split_shares == {"train": 0.5, "validation": 0.25, "test": 0.25}
    is_drawn = pack.column("is_split_drawn")
    assert is_drawn.sum() == 39
    assert set(pack.column("split")[39:59]) == {"train"}
    drawn = pack.column("split")[is_drawn]
    assert [abs(np.mean(drawn == split) - share) < 0.07 for split, share in pack.info.split_shares.items()] == [
        True
    ] * 3
    with pytest.raises(DataError, match="--split_shares should be the shares of train, validation, test"):
        write_pack(mixed(make_clips), tmp_path / "other", split_shares=(1, 2, 3))
    with pytest.raises(DataError, match="--duplicates should be one of drop, keep, 'remove' found"):
        write_pack(mixed(make_clips), tmp_path / "other", duplicates="remove")


def test_neither_duplicates_nor_what_is_left_out_count_as_rejects(make_clips, tmp_path):
    clips = make_clips(3)
    copies = [replace(clips[0], id=f"toy/{number}") for number in range(30)]
    left_out = [Reject("toy", f"{number}", "music", is_left_out=True) for number in range(50)]
    pack = write_pack([*clips, *copies, *left_out], tmp_path / "pack", processes=1, max_reject_share=0.0)
    assert (len(pack), pack.info.num_duplicates, pack.info.num_left_out) == (3, 30, 50)
    with pytest.raises(DataError, match="none found; check their folders; 50 were left out on purpose"):
        write_pack(left_out, tmp_path / "none", processes=1)


def test_a_name_that_is_no_text_is_rejected_and_named(make_clips, tmp_path):
    clips = make_clips(20)
    clips[3] = replace(clips[3], recording="b\udcff.wav", id="toy/b\udcff.wav")
    pack = write_pack(clips, tmp_path / "pack", processes=1)
    assert len(pack) == 19
    assert [row.recording for row in read_rejected(pack.folder)] == ["b\\udcff.wav"]


def test_statistics_are_those_of_the_training_clips_alone(make_clips, tmp_path, monkeypatch):
    """Drawn splits: the sample is the one that a pack of nothing but the training clips would have."""
    monkeypatch.setattr(statistics, "MAX_CLIPS", 40)
    pack = write_pack(make_clips(100), tmp_path / "pack", processes=1)
    training = set(pack.column("id")[pack.rows("train")])
    train = [replace(clip, split="train") for clip in make_clips(100) if clip.id in training]
    alone = write_pack(train, tmp_path / "alone", processes=1)
    assert pack.info.log_mel_mean == alone.info.log_mel_mean
    assert pack.info.log_mel_std == alone.info.log_mel_std
    everything = write_pack(make_clips(100, split="train"), tmp_path / "everything", processes=1)
    assert pack.info.log_mel_mean != everything.info.log_mel_mean


def in_a_child(work) -> tuple[int, bytes]:
    """Runs ``work(write)`` in a fork; returns how it ended and the last that it wrote to us."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        code = 1
        try:
            os.close(reader)
            work(lambda text: os.write(writer, text))
            code = 0
        finally:
            os._exit(code)
    os.close(writer)
    with open(reader, "rb") as file:
        said = file.read()
    return os.waitpid(child, 0)[1], said


def moments(folder: Path, clips, tell, kill_at=None) -> None:
    """Writes a pack, counting the calls and returns in our code, and kills its process at one of them."""
    count, finishing, ours = 0, 0, os.getpid()

    def watch(frame, event, _):
        nonlocal count, finishing
        if frame.f_code.co_filename.startswith(WATCHED):
            count += 1
            if frame.f_code is finish.finish.__code__ and not finishing:
                finishing = count
            if count == kill_at and os.getpid() == ours:
                os.kill(ours, signal.SIGKILL)

    sys.setprofile(watch)
    write_pack(clips, folder, processes=1)
    sys.setprofile(None)
    tell(f"{finishing} {count}".encode())


@pytest.mark.parametrize("seed", range(3))
def test_a_kill_at_any_moment_changes_no_byte(make_clips, tmp_path, seed):
    clips = mixed(make_clips)
    status, said = in_a_child(lambda tell: moments(tmp_path / "0" / "pack", clips, tell))
    assert status == 0
    finishing, last = map(int, said.split())
    expected = contents(tmp_path / "0" / "pack")
    assert set(expected) >= {"manifest.parquet", "pack.json", "rejected.csv", "shard_00004.i16"}
    generator = random.Random(seed)
    draws = [generator.randrange(1, finishing) for _ in range(2)]
    draws += [generator.randrange(finishing, last) for _ in range(5)]
    for number, kill_at in enumerate(draws, 1):
        folder = tmp_path / str(number) / "pack"
        status, _ = in_a_child(lambda tell, at=kill_at, folder=folder: moments(folder, clips, tell, at))
        assert os.WIFSIGNALED(status), f"not killed at {kill_at} of {last}"
        write_pack(clips, folder, processes=1)
        assert contents(folder) == expected, f"killed at {kill_at} of {last}, finishing from {finishing}"


def test_a_kill_between_the_shards_that_are_closed_up(make_clips, tmp_path, monkeypatch):
    clips = mixed(make_clips)
    expected = contents(write_pack(clips, tmp_path / "unbroken" / "pack", processes=1).folder)

    def stop(*_):
        raise KeyboardInterrupt

    folder = tmp_path / "broken" / "pack"
    monkeypatch.setattr(finish, "hours_of", stop)  # after the shards, before the manifest's totals
    with pytest.raises(KeyboardInterrupt):
        write_pack(clips, folder, processes=1)
    monkeypatch.undo()
    closed = {path.name: path.stat().st_size for path in folder.glob("*.i16")}
    assert closed == {name: len(content) for name, content in expected.items() if name.endswith(".i16")}
    damaged = folder / "shard_00004.i16"
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:-2])
    with pytest.raises(DataError, match=r"shard_00004\.i16 should hold \d+ bytes and holds \d+; start over"):
        write_pack(clips, folder, processes=1)
    damaged.write_bytes(whole)
    write_pack(clips, folder, processes=1)
    assert contents(folder) == expected


@pytest.mark.slow
def test_twenty_kills_from_outside(tmp_path):
    command = [sys.executable, "-c", PREPARATION]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    began = time.monotonic()
    subprocess.run([*command, tmp_path / "unbroken" / "pack"], env=environment, check=True)
    seconds = time.monotonic() - began
    generator = random.Random(0)
    killed, kills = tmp_path / "killed" / "pack", 0
    while kills < 20:
        process = subprocess.Popen([*command, killed], env=environment)
        try:
            process.wait(generator.uniform(0.3, 1.0) * seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            kills += 1
            time.sleep(0.3)  # its own processes end with it
        else:
            assert process.returncode == 0
            assert contents(killed) == contents(tmp_path / "unbroken" / "pack")
            shutil.rmtree(killed)
    subprocess.run([*command, killed], env=environment, check=True)
    assert contents(killed) == contents(tmp_path / "unbroken" / "pack")
    pack = Pack.open(killed)
    pack.verify()
    assert (len(pack), pack.info.num_duplicates) == (290, 30)
    assert {split for split in SPLITS if len(pack.rows(split))} == set(SPLITS)

"""Writing packs: the same bytes however many processes, and after any kill."""

import csv
import errno
import filecmp
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from data import files
from data.clip import Reject
from data.errors import DataError
from data.pack import Pack
from data.writer import write_pack

ROOT = Path(__file__).parents[2]

SLOW_PREPARATION = """
import sys, time
from dataclasses import dataclass
import numpy as np
from data.clip import Clip
from data.writer import write_pack

@dataclass(frozen=True)
class Slow:
    number: int
    def read(self):
        time.sleep(float(sys.argv[3]))
        return np.random.default_rng(self.number).uniform(-.5, .5, (8000, 1)).astype(np.float32), 16000

clips = [Clip(f"toy/{k}", "toy", f"{k}", f"toy/{k // 4}", Slow(k)) for k in range(160)]
write_pack(clips, sys.argv[1], processes=int(sys.argv[2]))
"""


@dataclass(frozen=True)
class Broken:
    """An `Audio` that ends its process, or fails."""

    kind: str

    def read(self):
        if self.kind == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.kind == "reject":
            raise DataError("silent: peak -inf dBFS")
        raise RuntimeError("a mistake in a source")


def assert_same_folders(one: Path, other: Path):
    names = sorted(path.name for path in one.iterdir())
    assert names == sorted(path.name for path in other.iterdir())
    assert filecmp.cmpfiles(one, other, names, shallow=False)[0] == names


def test_the_number_of_processes_changes_no_byte(make_clips, tmp_path):
    clips = [*make_clips(50, rate=44_100), Reject("toy", "x", "because")]
    for processes in (1, 2):
        write_pack(clips, tmp_path / str(processes) / "pack", processes=processes)
    assert_same_folders(tmp_path / "1" / "pack", tmp_path / "2" / "pack")


def test_a_killed_preparation_continues_to_the_same_bytes(tmp_path):
    def command(folder, processes):
        return [sys.executable, "-c", SLOW_PREPARATION, str(tmp_path / folder / "pack"), processes, "0.01"]

    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(command("unbroken", "1"), env=environment, check=True)
    killed = tmp_path / "killed" / "pack"
    for _ in range(2):
        before = len(list(killed.glob(".partial/rows_*.arrow")))
        process = subprocess.Popen(command("killed", "2"), env=environment)
        while len(list(killed.glob(".partial/rows_*.arrow"))) <= before:
            time.sleep(0.005)
            assert process.poll() is None
        time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
        time.sleep(0.3)  # its own processes end with it: nothing is written from here on
        finished = {path: path.stat().st_mtime_ns for path in killed.glob(".partial/rows_*.arrow")}
        assert before < len(finished) < 10
        with pytest.raises(DataError, match="half written"):
            Pack.open(killed)
    shards = {path: path.stat().st_mtime_ns for path in killed.glob("shard_*.i16")}
    kept = [killed / f"shard_{path.stem.removeprefix('rows_')}.i16" for path in finished]
    subprocess.run(command("killed", "2"), env=environment, check=True)
    assert_same_folders(tmp_path / "unbroken" / "pack", killed)
    assert all(path.stat().st_mtime_ns == shards[path] for path in kept), "a finished unit was done again"
    Pack.open(killed).verify()


def test_ctrl_c_ends_at_once_and_leaves_no_process_writing(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW_PREPARATION, str(tmp_path / "pack"), "2", "0.05"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        start_new_session=True,
        # A shell that starts the tests in the background makes them ignore Ctrl-C, and what they start too.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while not list(tmp_path.glob("pack/.partial/rows_*.arrow")):
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=5)  # the pipe closes only when its last holder has ended
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
    assert not (tmp_path / "pack" / "pack.json").exists()


def test_a_process_that_dies_is_an_error_and_not_a_wait(make_clips, tmp_path):
    clips = make_clips(60)
    clips[30] = replace(clips[30], audio=Broken("die"))
    with pytest.raises(DataError, match="a process that reads clips died"):
        write_pack(clips, tmp_path / "pack", processes=2)


def test_a_full_disk_is_said_and_nothing_looks_whole(make_clips, tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(DataError, match=r"cannot write .* \(No space left on device\); free some room"):
        write_pack(make_clips(5), tmp_path / "pack", processes=1)
    left = [path.name for path in (tmp_path / "pack").rglob("*") if path.is_file()]
    assert left == ["lock"]


def test_rejects_are_named_and_too_many_fail(make_clips, tmp_path):
    clips = make_clips(20)
    clips[4] = replace(clips[4], audio=Broken("reject"), start_s=30.0)
    found = [Reject("toy", "a.wav", "empty: the file has 0 bytes"), *clips]
    with pytest.raises(DataError, match=r"2 of 21 clips were rejected, more than the share of 0\.05 allowed"):
        write_pack(found, tmp_path / "pack", processes=1, max_reject_share=0.05)
    with open(tmp_path / "pack" / "rejected.csv", newline="") as file:
        assert list(csv.reader(file)) == [
            ["kind", "source", "recording", "reason", "id", "split"],
            ["broken", "toy", "a.wav", "empty: the file has 0 bytes", "", ""],
            ["broken", "toy", "0004", "at 30 s: silent: peak -inf dBFS", "toy/0004", ""],
        ]
    assert not (tmp_path / "pack" / "pack.json").exists()
    pack = write_pack(found, tmp_path / "pack", processes=1, max_reject_share=0.1)
    assert (pack.info.num_clips, pack.info.num_rejected) == (19, 2)
    pack.verify()


def test_a_unit_of_nothing_but_rejects(make_clips, tmp_path):
    clips = [replace(clip, audio=Broken("reject")) for clip in make_clips(16)] + make_clips(40)[16:]
    pack = write_pack(clips, tmp_path / "pack", processes=1, max_reject_share=0.9)
    assert pack.info.shard_bytes[0] == 0
    assert len(pack.samples(0)) == pack.num_samples[0]
    pack.verify()


def test_nothing_to_pack(make_clips, tmp_path):
    with pytest.raises(DataError, match="none found"):
        write_pack([], tmp_path / "none", processes=1)
    clips = [replace(clip, audio=Broken("reject")) for clip in make_clips(3)]
    with pytest.raises(DataError, match="all 3 clips were rejected"):
        write_pack(clips, tmp_path / "all", processes=1, max_reject_share=1.0)


def test_a_whole_pack_is_kept_and_another_only_replaced_when_told(make_clips, tmp_path):
    folder = tmp_path / "pack"
    first = write_pack(make_clips(20), folder, processes=1)
    (folder / "describe.png").write_text("not ours to remove")
    calls = []
    again = write_pack(make_clips(20), folder, processes=1, progress=lambda *call: calls.append(call))
    assert (again.fingerprint, calls) == (first.fingerprint, [])
    with pytest.raises(DataError, match=r"other clips or options; .* --overwrite"):
        write_pack(make_clips(20), folder, processes=1, seed=5)
    other = write_pack(make_clips(50), folder, processes=1, overwrite=True)
    assert len(other) == 50
    smaller = write_pack(make_clips(20), folder, processes=1, overwrite=True)
    assert smaller.fingerprint == first.fingerprint
    assert sorted(path.name for path in folder.iterdir()) == [
        "codes.arrow", "describe.png", "manifest.parquet", "pack.json", "rejected.csv",
        "shard_00000.i16", "shard_00001.i16",
    ]  # fmt: skip


def test_a_half_written_pack_of_another_plan(make_clips, tmp_path):
    clips = make_clips(40)
    with pytest.raises(RuntimeError, match="a mistake in a source"):
        write_pack([*clips[:39], replace(clips[39], audio=Broken("mistake"))], tmp_path / "pack", processes=1)
    with pytest.raises(DataError, match="half written with other clips or options"):
        write_pack(clips, tmp_path / "pack", processes=1)
    assert len(write_pack(clips, tmp_path / "pack", processes=1, overwrite=True)) == 40


def test_a_folder_with_something_else_is_left_alone(make_clips, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(DataError, match="holds files and is no pack"):
        write_pack(make_clips(3), tmp_path, processes=1, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_statistics_come_from_the_training_split_alone(make_clips, tmp_path):
    train = [replace(clip, split="train") for clip in make_clips(10)]
    test = [replace(clip, split="test", id=f"{clip.id}b", group=f"{clip.group}b") for clip in make_clips(30)[10:]]
    alone = write_pack(train, tmp_path / "alone", processes=1).info
    both = write_pack([*train, *test], tmp_path / "both", processes=1).info
    assert (both.log_mel_mean, both.log_mel_std) == (alone.log_mel_mean, alone.log_mel_std)
    assert np.isfinite(alone.log_mel_mean)
    none = write_pack(test, tmp_path / "none", processes=1).info
    assert (none.log_mel_mean, none.log_mel_std) == (None, None)

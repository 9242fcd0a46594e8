"""The commands, as a person types them."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from data import prepare
from data.pack import Pack

ROOT = Path(__file__).parents[2]


def command(module: str, *arguments: object, **options) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, **options
    )


def assert_one_sentence(result: subprocess.CompletedProcess, words: str):
    assert result.returncode == 2, result.stderr
    assert words in result.stderr
    assert "Traceback" not in result.stderr
    assert len([line for line in result.stderr.splitlines() if line.startswith("error:")]) == 1


@pytest.fixture
def recordings(write_wav, make_tone) -> Path:
    """Twenty good recordings and two bad ones."""
    for number in range(20):
        write_wav(f"{number:02d}.ogg", make_tone(0.5, 200 + 20 * number, 44_100), 44_100)
    write_wav("silent.wav", np.zeros(16_000))
    folder = write_wav("nan.wav", np.full(16_000, np.nan), subtype="FLOAT").parent
    (folder.parent / "labels.csv").write_text("file,instrument\n00.ogg,violin\n01.ogg,flute\n")
    return folder


def test_folder_to_pack_and_again(recordings, tmp_path):
    out = tmp_path / "packs" / "mine"
    arguments = (f"folder={recordings}", "--labels", tmp_path / "labels.csv", "--out", out, "--processes", 2)
    result = command("data.prepare", *arguments)
    assert result.returncode == 0, result.stderr
    assert "22/22" in result.stderr
    assert "         1  silent\n" in result.stdout
    assert "         1  holds NaN or infinite values\n" in result.stdout
    assert f"pack: {out}" in result.stdout
    assert sorted(path.name for path in out.iterdir()) == [
        "codes.arrow", "manifest.parquet", "pack.json", "rejected.csv", "shard_00000.i16", "shard_00001.i16",
    ]  # fmt: skip
    pack = Pack.open(out)
    pack.verify()
    assert (len(pack), pack.info.num_rejected) == (20, 2)
    assert pack.column("instrument_present")[:3].tolist() == [("violin",), ("flute",), ()]
    assert pack.info.sources["folder"]["licence"] == "your own recordings"
    written = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    again = command("data.prepare", *arguments)
    assert again.returncode == 0
    assert f"{out} is already whole" in again.stdout
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == written
    other = command("data.prepare", f"folder={recordings}", "--out", out)
    assert_one_sentence(other, "holds a pack of other clips or options")


def test_no_time_is_spent_on_importing_pandas(recordings, tmp_path):
    code = (
        "import sys; from data import command, prepare\n"
        f"arguments = ['folder={recordings}', '--out', {str(tmp_path / 'pack')!r}]\n"
        "command.run(lambda: prepare.main(arguments) or print('pandas' in sys.modules))"
    )
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert said.splitlines()[-1] == "False"


def test_a_full_disk(recordings, tmp_path):
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))  # bytes a file may have, less than a shard

    out = tmp_path / "pack"
    result = command("data.prepare", f"folder={recordings}", "--out", out, "--processes", 2, preexec_fn=limit)
    assert_one_sentence(result, "(File too large); free some room and run the command again")
    assert not list(out.glob("*.i16"))
    assert not (out / "pack.json").exists()
    assert command("data.prepare", f"folder={recordings}", "--out", out, "--processes", 2).returncode == 0
    Pack.open(out).verify()


@pytest.mark.parametrize("is_progress_read", [True, False])
def test_a_reader_that_leaves_is_no_traceback(recordings, tmp_path, is_progress_read):
    arguments = [sys.executable, "-m", "data.prepare", f"folder={recordings}", "--out", tmp_path / "pack"]
    reader, writer = os.pipe()
    os.close(reader)  # as `head` does when it has its lines, only sooner
    errors = subprocess.PIPE if is_progress_read else writer
    process = subprocess.Popen(arguments, cwd=ROOT, stdout=writer, stderr=errors, text=True)
    os.close(writer)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 141
    if is_progress_read:
        assert "22/22" in said
        assert "Error" not in said
        Pack.open(tmp_path / "pack").verify()


def test_a_mistake_in_a_source_shows_where(tmp_path):
    script = (
        "from data import command, prepare, sources\n"
        "import dataclasses\n"
        "sources.SOURCES['gm'] = dataclasses.replace(sources.SOURCES['gm'], clips=lambda options: 1 / 0)\n"
        f"command.run(lambda: prepare.main(['gm', '--out', {str(tmp_path / 'pack')!r}]))"
    )
    result = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 1
    assert "ZeroDivisionError" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["folders=x", "--out", "y"], "mir, 'folders' found, perhaps folder"),
        (["gm", "--labels", "x"], "--labels is for folder, given was gm; leave the flag out"),
        (["nsynth", "--out", "y"], "the source nsynth is given as nsynth=DIR, 'nsynth' found"),
        (["gm=x"], "the source gm is given as gm, 'gm=x' found"),
        (["folder=/nowhere/at/all"], "--out should name the folder of the pack"),
        (["folder=/nowhere/at/all", "--out", "y"], "expected at /nowhere/at/all, no folder found"),
        (["gm", "--clip_seconds", "5"], "--clip_seconds is for folder, medleydb, musicnet, musan, mir, given was gm"),
        (["folder=/x", "--hop_seconds", "0", "--out", "y"], "--hop_seconds should be from 0.01 to --clip_seconds (30)"),
    ],
)
def test_wrong_arguments_get_a_sentence(arguments, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert prepare.main(arguments) == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert not list(tmp_path.iterdir())
    prepare.main(arguments)
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["gm", "--colour", "red"], ["gm", "--processes", "0"], ["gm", "--notes", "many"], [],
        ["gm", "--min_seconds", "-1"], ["gm", "--min_seconds", "nan"],
        ["gm", "--max_reject_share", "7"], ["gm", "--max_reject_share", "some"],
    ],
)  # fmt: skip
def test_unknown_flags_end_with_code_2(arguments, capsys):
    with pytest.raises(SystemExit, match="2"):
        prepare.main(arguments)
    assert "error:" in capsys.readouterr().err


def test_a_source_twice_and_a_flag_for_both(write_wav, tmp_path, capsys):
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 80_000))
    one, two = (write_wav(f"{name}/{name}.flac", samples).parent for name, samples in zip("ab", noise, strict=True))
    arguments = [f"folder={one}", f"folder={two}", "--clip_seconds", "2", "--hop_seconds", "1.5", "--out"]
    assert prepare.main([*arguments, str(tmp_path / "pack")]) == 0
    starts = [f"folder/{name}.flac@{start}" for name in "ab" for start in ("0", "1.5", "3")]
    assert Pack.open(tmp_path / "pack").manifest["id"].to_pylist() == starts
    capsys.readouterr()
    assert prepare.main([f"folder={one}", f"folder={one}", "--out", str(tmp_path / "twice")]) == 2
    assert "'folder/a.flac' occurs twice; name a source folder only once" in capsys.readouterr().err


def test_help_explains_every_flag_with_examples(capsys):
    with pytest.raises(SystemExit, match="0"):
        prepare.main(["--help"])
    text = capsys.readouterr().out
    assert "python -m data.prepare gm" in text
    for flag in ("--out", "--labels", "--clip_seconds", "--notes", "--effects", "--overwrite", "--max_reject_share"):
        assert flag in text
    assert "Longer recordings are cut" in text

"""Prediction on recordings, from Python and as a command."""

import csv
import io
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor, nn

from backbones.ast_encoder import AstBackbone
from backbones.log_mel import RATE
from benchmarks.predict import peak_above_model
from checkpoints.config import run_command
from checkpoints.errors import CheckpointError
from checkpoints.run import RunFolder
from checkpoints.weights import save_backbone
from data.decode import seconds_of
from data.errors import DataError
from finetune import predict as command
from finetune.heads import HeadSpec
from finetune.hearing import hear
from finetune.model import RECIPE, FineTuned
from finetune.predict import ERRORS, Settings, main, predict
from finetune.streaming import blocks_of, chunks_of

SPECS = [
    HeadSpec("instrument", "binary", ("double_bass", "piccolo")),
    HeadSpec("genre", "classes", ("classical", "jazz_blues")),
]


class Ear(nn.Module):
    """Hears a double bass as far as sound lies below 1 kHz, a piccolo as far as it lies above."""

    specs = SPECS
    num_samples = RATE

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.thresholds = {"instrument": torch.tensor([0.3, 0.3])}
        self.heard: list[tuple[int, list[int] | None]] = []

    def probabilities(self, waveform: Tensor, num_samples: Tensor | None = None) -> dict[str, Tensor]:
        """Of each head."""
        self.heard.append((len(waveform), None if num_samples is None else num_samples.tolist()))
        assert waveform.shape[1] == self.num_samples
        assert not self.training
        power = torch.fft.rfft(waveform).abs().square()
        above = power[:, 1000:].sum(1) / power.sum(1)
        both = torch.stack([1 - above, above], dim=1) * self.weight
        return {"instrument": both, "genre": both}


@pytest.fixture
def ear(monkeypatch) -> Ear:
    """Stands in for the run ``runs/ear`` too."""
    found = Ear().eval()

    def load(path: Path, device: torch.device) -> Ear:
        assert path == Path("runs/ear")
        return found.to(device)

    monkeypatch.setattr(command.FineTuned, "load", load)
    return found


@pytest.fixture
def song(write_wav, make_tone) -> Path:
    """100 Hz, silence from just before 2 s to just behind 4 s, 3 kHz up to 7 s, in stereo at 44.1 kHz."""
    parts = make_tone(1.9, 100, 44_100), make_tone(2.2, 100, 44_100, amplitude=0), make_tone(2.9, 3000, 44_100)
    sound = np.concatenate(parts)
    return write_wav("song.wav", np.stack([sound, 0.5 * sound], axis=1), 44_100)


@pytest.fixture(scope="module")
def fine_tuned() -> FineTuned:
    """A real network, untrained, that hears a second."""
    torch.manual_seed(0)
    backbone = AstBackbone.untrained("tiny", 96, mean=-4.0, std=4.0)
    model = FineTuned(backbone, None, "head", "mean", SPECS, "linear", 8, 1, RATE)
    nn.init.normal_(model.heads.get_parameter(next(name for name, _ in model.heads.named_parameters())), std=0.05)
    return model.eval()


def run(*arguments: object) -> int:
    """The exit code of the command."""
    with pytest.raises(SystemExit) as exit_:
        run_command(lambda: exit_with(main([str(argument) for argument in arguments])), ERRORS)
    return exit_.value.code


def exit_with(code: int) -> None:
    raise SystemExit(code)


def test_it_hears_what_sounds_and_when(ear, song):
    found = predict(ear, song)
    assert found.seconds == pytest.approx(7, abs=1e-3)
    assert found.times[:, 0].tolist() == [0.5 * number for number in range(13)]
    assert found.is_silent.nonzero()[0].tolist() == [4, 5, 6]  # of the half-silent, one half sounds
    assert found.present == {"instrument": ["piccolo", "double_bass"], "genre": ["jazz_blues"]}
    spans = [(span.start_s, span.end_s, span.name) for span in found.spans("instrument")]
    assert spans == [(0, 2.25, "double_bass"), (3.75, 7, "piccolo")]
    assert not found.heads["instrument"].probabilities[4:7].any()
    sounding = found.heads["instrument"].probabilities[~found.is_silent]
    np.testing.assert_allclose(found.heads["instrument"].pooled, sounding.mean(axis=0), rtol=1e-6)


def test_chunks_are_batched_and_settings_obeyed(ear, song):
    found = predict(ear, song, batch_size=4, hop_seconds=0.25, pooling="max", heads=("instrument",), threshold=0.999)
    assert len(found.times) == 25
    assert [size for size, _ in ear.heard] == [4, 4, 4, 4, 4]  # 20 of them sound
    assert list(found.heads) == ["instrument"]
    assert found.heads["instrument"].thresholds.tolist() == pytest.approx([0.999, 0.999])
    assert found.heads["instrument"].pooled.min() > 0.99


def test_chunks_equal_what_the_network_gives_for_them_alone(fine_tuned, song):
    found = predict(fine_tuned, song, batch_size=5, hop_seconds=0.4)
    sound = np.concatenate(list(blocks_of(song, seconds_of(song))))
    for row, (first, silent) in enumerate(zip(found.times[:, 0], found.is_silent, strict=True)):
        if not silent:
            start = round(first * RATE)
            alone = fine_tuned.probabilities(torch.from_numpy(sound[None, start : start + RATE]))
            for name, head in found.heads.items():
                # Batches of other sizes are multiplied in another order: float32's rounding through twelve layers.
                np.testing.assert_allclose(head.probabilities[row], alone[name][0], atol=1e-5)
    assert np.ptp(found.heads["instrument"].probabilities[~found.is_silent], axis=0).min() > 1e-3


def test_short_sound_is_heard_as_it_is(ear, fine_tuned, write_wav, make_tone):
    path = write_wav("short.wav", make_tone(0.3, 100))
    found = predict(ear, path)
    assert found.times.tolist() == [[0, 0.3]]
    assert ear.heard == [(1, [4800])]
    assert found.present["instrument"] == ["double_bass"]
    padded = np.zeros((1, RATE), np.float32)
    padded[0, :4800] = soundfile.read(path, dtype="float32")[0]
    expected = fine_tuned.probabilities(torch.from_numpy(padded), torch.tensor([4800]))["instrument"]
    found = predict(fine_tuned, path).heads["instrument"].probabilities
    np.testing.assert_allclose(found, expected, atol=1e-6)
    with pytest.raises(DataError, match=r"too short: 0.0249 s, at least 0.025 s expected"):
        predict(ear, write_wav("tiny.wav", make_tone(399 / RATE, 100)))
    with pytest.raises(DataError, match="too short: 0 s"):
        predict(ear, write_wav("none.wav", np.zeros(0)))


def test_silence_is_nothing_and_is_not_asked_about(ear, write_wav):
    found = predict(ear, write_wav("silent.wav", np.zeros(3 * RATE)), threshold=0.0)
    assert found.is_silent.all()
    assert ear.heard == []
    assert found.present == {"instrument": [], "genre": []}
    assert not found.heads["instrument"].pooled.any()


def test_the_network_is_left_as_it_was(ear, song):
    predict(ear.train(), song)
    assert ear.training
    with pytest.raises(DataError):
        predict(ear, song.with_name("missing.wav"))
    assert ear.training


def test_broken_weights_are_said(ear, song):
    nn.init.constant_(ear.weight, float("nan"))
    with pytest.raises(CheckpointError, match="instrument answers with NaN"):
        predict(ear, song)


def test_what_does_not_fit_the_device_is_said(ear, monkeypatch):
    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(ear, "probabilities", fail)
    chunks = chunks_of([np.random.default_rng(0).uniform(-1, 1, RATE).astype(np.float32)], RATE, RATE)
    with pytest.raises(ValueError, match="give a smaller one"):
        hear(ear, chunks, Settings(), lambda seconds: None)


def test_a_run_folder_is_enough(fine_tuned, tmp_path, song, capsys):
    folder = RunFolder.create(tmp_path / "run", RECIPE, {})
    save_backbone(fine_tuned.backbone, folder.backbone)
    fine_tuned.save(folder)
    expected = predict(fine_tuned, song).heads["instrument"].probabilities
    np.testing.assert_allclose(predict(tmp_path / "run", song, "cpu").heads["instrument"].probabilities, expected)
    assert run(tmp_path / "run", song, "--device", "cpu", "--threshold", 0.01) == 0
    assert capsys.readouterr().out.startswith(f"{song}  0:07.0, 13 chunks, 3 of them silent\n")
    assert run(tmp_path, song) == 2
    assert "a run was expected in" in capsys.readouterr().err


def test_a_folder_is_heard_with_what_it_takes(ear, song, tmp_path, capsys):
    song.with_name("broken.flac").write_bytes(b"no sound")
    song.with_name("odd,\n.wav").write_bytes(song.read_bytes() + b"\0")
    out, figures = tmp_path / "out" / "heard.csv", tmp_path / "figures"
    assert run("runs/ear", song.parent, song, "--out", out, "--plot", figures) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert f"left out {song.with_name('broken.flac')}: cannot be decoded" in captured.err
    assert (
        "2 of 3 recordings heard; 1 could not be, they are named above with the reasons; 1 were given" in captured.err
    )
    with open(out, newline="") as file:
        assert {row["recording"] for row in csv.DictReader(file)} == {str(song), str(song.with_name("odd,\n.wav"))}
    assert sorted(file.name for file in figures.iterdir()) == ["odd,\\n.wav.png", "song.wav.png"]
    assert [file.name for file in out.parent.iterdir()] == ["heard.csv"]


def test_a_missing_file_among_many_is_named(ear, song, tmp_path, capsys):
    out = tmp_path / "heard.json"
    assert run("runs/ear", song, song.with_name("missing.wav"), "--out", out) == 1
    found = json.loads(out.read_text())
    assert [Path(one["recording"]).name for one in found["recordings"]] == ["song.wav"]
    assert [(Path(one["recording"]).name, one["reason"]) for one in found["failed"]] == [
        ("missing.wav", "cannot be read: No such file or directory")
    ]
    assert "missing.wav: cannot be read: No such file or directory\n" in capsys.readouterr().err


def test_json_goes_to_the_terminal_alone(ear, song, capsys):
    assert run("runs/ear", song, "--format", "json", "--heads", "instrument") == 0
    captured = capsys.readouterr()
    assert list(json.loads(captured.out)["heads"]) == ["instrument"]
    assert captured.err == ""


def test_an_interruption_leaves_no_half_file(ear, song, tmp_path, monkeypatch, capsys):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ear, "probabilities", interrupt)
    (tmp_path / "out").mkdir()
    assert run("runs/ear", song, "--out", tmp_path / "out" / "heard.csv") == 130
    assert list((tmp_path / "out").iterdir()) == []
    assert capsys.readouterr().err == f"interrupted; {tmp_path / 'out' / 'heard.csv'} was not written\n"


def test_a_terminal_gets_a_bar(ear, song, monkeypatch):
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", terminal)
    assert run("runs/ear", song.parent) == 0
    shown = terminal.getvalue().split("\r")
    assert any(re.search(r"1/1 recordings: 100%\|.*<00:00", one) for one in shown)
    assert not shown[-1].strip()  # nothing is left of it


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["{film}"], "film.mp4: cannot be decoded: .*take the sound out of anything else first"),
        (["{folder}/none.wav"], "none.wav: cannot be read: No such file or directory$"),
        (["{folder}/empty"], "recordings .* were expected in this folder, none found$"),
        (["{film}", "{folder}/none.wav"], "none of 2 recordings could be heard; the first is .*film.mp4"),
        (["{song}", "--heads", "instrument,pitch"], "--heads should name some of instrument, genre, .*'pitch' found$"),
        (["{song}", "--hop_seconds", "1.5"], "--hop_seconds should be at most a chunk's 1 s, 1.5 found$"),
        (["{song}", "--hop_seconds", "0.01"], "--hop_seconds should be 0.05 or more, 0.01 found$"),
        (["{song}", "--hop_seconds", "nan"], "--hop_seconds should be 0.05 or more, nan found$"),
        (["{song}", "--chunk_seconds", "1000"], "--chunk_seconds should be from 0.5 to 60, 1000 found$"),
        (["{song}", "--threshold", "7"], "--threshold should be from 0 to 1, 7 found$"),
        (["{song}", "--device", "abacus"], "--device should name one that is there, as cpu or cuda:0, 'abacus' found$"),
        (["{song}", "--out", "{song}"], "is one of the recordings and would be overwritten; choose another"),
        (["{song}", "--out", "{folder}"], "a file was expected at .*, a folder found"),
        (["{song}", "--plot", "{film}"], "a folder was expected at .*film.mp4"),
    ],
)
def test_bad_input_gets_one_sentence(ear, song, tmp_path, capsys, arguments, sentence):
    film = song.with_name("film.mp4")
    film.write_bytes(b"\0\0\0\x20ftypisom" + bytes(500))
    (song.parent / "empty").mkdir()
    before = song.read_bytes()
    names = {"film": film, "song": song, "folder": song.parent}
    out = [] if "--out" in arguments else ["--out", tmp_path / "out.csv"]
    assert run("runs/ear", *(argument.format(**names) for argument in arguments), *out) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert re.search(sentence, error), error
    assert song.read_bytes() == before
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.slow(minutes=2)
def test_three_hours_take_less_than_a_gib_above_the_network(tmp_path):
    assert peak_above_model("tiny", hours=3.0, hop_seconds=4.0) < 1.0

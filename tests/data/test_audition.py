"""What the audition command leaves on the disk."""

import numpy as np
import pytest
import soundfile

from data.audition import audition, main
from data.augment import Augmentation
from data.decode import RATE


@pytest.mark.filterwarnings("error")
def test_it_writes_a_figure_and_a_sound_of_each_transform(toy_pack, tmp_path, capsys):
    assert main([str(toy_pack.folder), "--out", str(tmp_path / "out")]) == 0
    names = {file.name for file in (tmp_path / "out").iterdir()}
    transforms = set(Augmentation.transforms()) - {"background"}  # the pack knows no clip without an instrument
    assert names == {"augment.png", "as_it_is.wav", "standard.wav", *(f"{name}.wav" for name in transforms)}
    assert (tmp_path / "out" / "augment.png").read_bytes()[:4] == b"\x89PNG"
    heard, rate = soundfile.read(tmp_path / "out" / "as_it_is.wav", dtype="float32")
    assert rate == RATE
    assert np.array_equal(heard, toy_pack.samples(0) / np.float32(32_768))
    turned, _ = soundfile.read(tmp_path / "out" / "polarity.wav", dtype="float32")
    assert np.array_equal(turned, -heard)
    assert "for a background" in capsys.readouterr().out


def test_each_is_named_with_what_was_drawn(make_tone):
    heard = audition(make_tone(0.5, 440), make_tone(0.5, 90), key=5)
    assert list(heard) == ["as it is", *Augmentation.transforms(), "standard"]
    drawn, sound = heard["gain"]
    measured = 20 * np.log10(np.abs(sound).max() / 0.5)
    assert float(drawn.removeprefix("db ")) == pytest.approx(measured, rel=0.06)
    assert heard["noise"][0].startswith("snr_db ")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--clip", "toy/none"], "there is no clip 'toy/none'"),
        (["--out", "{file}"], "a folder was expected at"),
    ],
)
def test_bad_input_gets_one_sentence(toy_pack, tmp_path, capsys, arguments, sentence):
    (tmp_path / "file").touch()
    arguments = [argument.format(file=tmp_path / "file") for argument in arguments]
    assert main([str(toy_pack.folder), *arguments]) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1
    assert main([str(tmp_path)]) == 2

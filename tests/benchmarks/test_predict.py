"""The benchmark of prediction measures what it says."""

import numpy as np
import soundfile
import torch

from benchmarks.predict import CHUNK_SECONDS, DEFAULT, SOURCE_RATE, SPECS, speeds, untrained, write_recording
from data.decode import RATE, seconds_of
from finetune.streaming import blocks_of, is_silent


def test_recordings_are_as_long_as_asked_and_never_silent(tmp_path):
    path = write_recording(tmp_path / "a.flac", 21.5)
    about = soundfile.info(path)
    assert (about.channels, about.samplerate, about.duration) == (2, SOURCE_RATE, 21.5)
    sound = np.concatenate(list(blocks_of(path, seconds_of(path))))
    assert len(sound) == round(21.5 * RATE)
    assert not any(is_silent(part) for part in np.array_split(sound, 86))


def test_the_network_answers_all_heads():
    model = untrained("tiny")
    found = model.probabilities(torch.randn(1, round(CHUNK_SECONDS * RATE)))
    assert {name: values.shape[1] for name, values in found.items()} == {spec.name: len(spec.classes) for spec in SPECS}


def test_speeds_are_seconds_of_sound_a_second(tmp_path, capsys):
    path = write_recording(tmp_path / "a.flac", 2 * CHUNK_SECONDS)
    found = speeds("tiny", path, rounds=2, seconds=0.01, cores=1)
    assert len(found) == 2
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in capsys.readouterr().out.splitlines()]
    speed = {row[0]: float(row[1]) for row in rows[2:]}
    assert len(speed) == 4
    assert min(found) - 0.1 <= speed[DEFAULT] <= max(found) + 0.1
    assert speed["decoding and resampling alone"] > speed[DEFAULT] > 0.1

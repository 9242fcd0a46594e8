"""Notes of two fonts: whether they are one recording."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from benchmarks.renderings import MAX_CORRELATION, SOUNDING, Note, correlation, from_onset, note_rows, unshared
from data.clip import Clip, Labels, LabelSet
from data.errors import DataError
from data.sources.gm_font import FontFile
from data.sources.gm_notes import NoteAudio
from data.sources.gm_synth import Voice, default_font
from data.writer import write_pack


def noise(rows: int, samples: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, samples, generator=torch.Generator().manual_seed(seed))


def test_ids_say_what_a_note_is():
    assert Note.of("gm/A B.c/note/040-violin/062-100") == Note("A B.c", Voice(40), 62, 100)
    assert Note.of("gm/Font/note/kit008-038-snare_drum/038-025") == Note("Font", Voice(8, is_drum=True), 38, 25)
    for other in ("gm/Font/effect/120-fret_noise/048-060", "gm/noise/wind/00001", "nsynth/guitar_acoustic_014-060-100"):
        assert Note.of(other) is None


def test_correlation_is_the_highest_of_all_lags():
    first, second = noise(3, SOUNDING), noise(3, SOUNDING, seed=1)
    first[:, 0] = second[:, 0] = 0.5  # they sound from the start
    expected = [
        np.abs(np.correlate(a, b, mode="full")).max() / (np.linalg.norm(a) * np.linalg.norm(b))
        for a, b in zip(first.double().numpy(), second.double().numpy(), strict=True)
    ]
    assert correlation(first, second).tolist() == pytest.approx(expected, rel=1e-4)


def test_gain_polarity_and_a_later_start_change_nothing():
    sound = noise(2, SOUNDING)
    later = torch.nn.functional.pad(-0.01 * sound, (1234, 0))
    assert correlation(sound, later).tolist() == pytest.approx([1, 1], abs=1e-3)


def test_strangers_and_silence_do_not_correlate():
    time = torch.arange(SOUNDING) / 16_000
    sines = torch.sin(2 * torch.pi * torch.tensor([[440.0], [466.2]]) * time)
    assert correlation(sines[:1], sines[1:]).item() < 0.2
    assert correlation(sines, torch.zeros(2, SOUNDING)).tolist() == [0, 0]


def test_a_sound_counts_from_its_onset():
    sound = torch.zeros(2, SOUNDING + 100)
    sound[0, 90:] = 0.5
    sound[0, 50] = 0.001  # below a hundredth of the peak
    found = from_onset(sound)
    assert found.shape == (2, SOUNDING)
    assert torch.equal(found[0], (torch.arange(SOUNDING) < SOUNDING + 10).float())
    assert not found[1].any()


@dataclass(frozen=True)
class Altered:
    """A note that starts later, quieter and upside down, as an `Audio`."""

    note: NoteAudio

    def read(self) -> tuple[np.ndarray, int]:
        samples, rate = self.note.read()
        return np.concatenate([np.zeros((500, 1), np.float32), -0.4 * samples]), rate


@pytest.fixture(scope="module")
def packs(tmp_path_factory):
    font, folder = FontFile.of(default_font()), tmp_path_factory.mktemp("packs")
    voices = {"040-violin": ("string", Voice(40)), "056-trumpet": ("brass", Voice(56))}

    def clip(stem: str, name: str, audio) -> Clip:
        labels = Labels(is_instrument=True, family=LabelSet((voices[name][0],), complete=True), timbre=name)
        return Clip(f"gm/{stem}/note/{name}/060-100", "gm", name, f"gm/{stem}/{name}", audio, "train", labels=labels)

    violin = NoteAudio(font, Voice(40), 60, 100)
    ours = [clip(font.stem, "040-violin", violin)]
    theirs = [
        clip("other", "040-violin", Altered(violin)),
        clip("other", "056-trumpet", NoteAudio(font, Voice(56), 67, 100)),  # not what the font plays at 60
        Clip("gm/noise/wind/1", "gm", "wind", "gm/noise/wind", violin, "train", labels=Labels(is_instrument=False)),
    ]
    return tuple(write_pack(clips, folder / name, processes=1) for name, clips in (("ours", ours), ("theirs", theirs)))


def test_drops_what_both_fonts_have_from_one_recording(packs):
    ours, theirs = packs
    found = unshared(ours, theirs)
    assert theirs.column("id")[found.rows].tolist() == ["gm/other/note/056-trumpet/060-100"]
    assert found.dropped == {"string": 1}
    assert (found.num_notes, found.num_equal) == (2, 1)
    assert f"1 of 2 notes, which correlate above {MAX_CORRELATION}" in found.describe()
    assert "(string 1); 1 clips that the training pack has too" in found.describe()


def test_no_clip_of_the_training_pack_itself_is_left(packs):
    ours, _ = packs
    found = unshared(ours, ours)
    assert len(found.rows) == found.num_notes == 0
    assert found.num_equal == len(note_rows(ours, np.arange(len(ours)))) == 1


def test_asks_for_the_file_of_a_font_that_it_does_not_know(packs):
    ours, theirs = packs
    with pytest.raises(DataError, match="notes of the font other, its file was expected and TimGM6mb found"):
        unshared(theirs, ours)

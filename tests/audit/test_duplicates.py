"""Copies are found by their sound, and what only resembles is not taken for one."""

import io
from dataclasses import dataclass, replace

import numpy as np
import pytest
import soundfile

from audit.alignment import are_equal, correlation
from audit.duplicates import LEAST_CORRELATION, Compared, candidates, find_duplicates, threshold_of
from audit.neighbours import Neighbours
from audit.sketches import Sketches, keys_of, nearest_sketches, sketch_of, sketches_of
from data.clip import Labels, LabelSet
from data.writer import write_pack

RATE = 16_000


def note(seed: int, seconds: float = 1.0) -> np.ndarray:
    """A decaying sound of partials and noise that no other seed makes, int16 ``(S,)``."""
    generator = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    hz = generator.uniform(100, 3000, 12)
    sound = np.sin(2 * np.pi * hz[:, None] * time + generator.uniform(0, 6, (12, 1))).sum(axis=0)
    sound = sound * np.exp(-3 * time) + 0.05 * generator.normal(size=len(time))
    return rounded(0.5 * sound / np.abs(sound).max())


def rounded(sound: np.ndarray) -> np.ndarray:
    return np.clip(np.round(sound * 32768), -32768, 32767).astype(np.int16)


def with_gain(samples: np.ndarray, gain: float) -> np.ndarray:
    return rounded(samples / 32768 * gain)


def with_noise(samples: np.ndarray, db: float) -> np.ndarray:
    sound = samples / 32768
    noise = np.random.default_rng(99).normal(size=len(sound))
    return rounded(sound + noise * np.sqrt(np.square(sound).mean()) * 10 ** (-db / 20))


def through_mp3(samples: np.ndarray) -> np.ndarray:
    coded = io.BytesIO()
    soundfile.write(coded, samples / 32768, RATE, format="MP3", subtype="MPEG_LAYER_III")
    coded.seek(0)
    return rounded(soundfile.read(coded)[0])


def steady(hz: float, second: float, phase: float = 0.0) -> np.ndarray:
    """A tone with a second partial, int16 ``(S,)``."""
    time = np.arange(RATE) / RATE
    return rounded(0.4 * np.sin(2 * np.pi * hz * time + phase) + second * np.sin(4 * np.pi * hz * time))


# One pair


ALTERED = {
    "gain": lambda samples: with_gain(samples, 0.31),
    "noise": lambda samples: with_noise(samples, 20),
    "mp3": through_mp3,
    "later": lambda samples: np.concatenate([np.zeros(3000, np.int16), samples]),
    "cut": lambda samples: samples[900:],
    "turned": lambda samples: with_gain(samples, -0.9),
}


@pytest.mark.parametrize("kind", ALTERED)
def test_a_copy_fits(kind):
    for seed in range(5):
        samples = note(seed)
        copy = ALTERED[kind](samples)
        assert correlation(samples, copy) > 0.98
        assert correlation(copy, samples) == pytest.approx(correlation(samples, copy), abs=1e-5)
        assert correlation(samples, copy[::-1]) < 0.8
        assert are_equal(samples, copy) == (kind == "gain")


def test_the_correlation_is_that_of_the_noise_and_of_a_slow_search():
    samples = note(1, 0.3)
    assert correlation(samples, with_noise(samples, 10)) == pytest.approx(1 / np.sqrt(1 + 0.1), abs=0.01)
    x, y = samples.astype(float), note(2, 0.4).astype(float)
    best = max(range(-2000, 2001), key=lambda shift: abs(slow_product(x, y, shift)))
    own, other = overlap(x, y, best)
    expected = abs(own @ other) / np.sqrt((own @ own) * (other @ other))
    assert abs(best) < 2000
    assert correlation(samples, note(2, 0.4)) == pytest.approx(expected, abs=1e-4)


def overlap(x: np.ndarray, y: np.ndarray, shift: int) -> tuple[np.ndarray, np.ndarray]:
    """What sounds together where y begins `shift` samples after x."""
    x, y = (x[shift:], y) if shift >= 0 else (x, y[-shift:])
    return x[: len(y)], y[: len(x)]


def slow_product(x: np.ndarray, y: np.ndarray, shift: int) -> float:
    own, other = overlap(x, y, shift)
    return float(own @ other)


def test_different_sounds_do_not_fit():
    for seed in range(10):
        assert correlation(note(seed), note(seed + 100)) < 0.6
    silence = np.zeros(RATE, np.int16)
    assert correlation(note(1), silence) == 0 == correlation(silence, silence)


def test_a_tone_fits_backwards_too():
    one, other = steady(440, 0.02), steady(440, -0.05, phase=1.0)
    assert correlation(one, other) > LEAST_CORRELATION
    assert correlation(one, other[::-1]) > LEAST_CORRELATION


def test_equal_is_but_for_loudness_and_rounding():
    samples = note(3)
    assert are_equal(samples, samples)
    for gain in (0.003, 0.1, 0.9, 1.7):
        assert are_equal(samples, with_gain(samples, gain))
        assert are_equal(with_gain(samples, gain), samples)
    assert are_equal(with_gain(samples, 0.7), with_gain(samples, 0.2))  # both were rounded
    changed = samples.copy()
    changed[5000] += 9
    assert not are_equal(samples, changed)
    assert not are_equal(samples, samples[:-1])
    assert not are_equal(samples, -samples)
    silence = np.zeros(10, np.int16)
    assert are_equal(silence, silence)
    assert not are_equal(silence, np.ones(10, np.int16))


# What is worth comparing


@pytest.mark.parametrize("kind", ["gain", "noise", "mp3", "turned"])
def test_sketches_of_copies_are_alike(kind):
    of_copies = [float(sketch_of(note(seed)) @ sketch_of(ALTERED[kind](note(seed)))) for seed in range(10)]
    of_others = [float(sketch_of(note(seed)) @ sketch_of(note(seed + 100))) for seed in range(10)]
    assert min(of_copies) > 0.95 > max(of_others)
    assert not sketch_of(np.zeros(RATE, np.int16)).any()


def test_keys_know_no_loudness():
    samples = note(4)
    assert np.array_equal(keys_of(samples), keys_of(samples))
    assert (keys_of(with_gain(samples, 0.4)) == keys_of(samples)).any()
    assert not (keys_of(samples) == keys_of(note(5))).any()
    assert (keys_of(with_gain(samples, 0.0001)) == -1).all()
    assert (keys_of(samples[:2]) == -1).all()


def test_candidates_are_neighbours_and_clips_that_share_a_key():
    keys = np.array([[7, -1], [8, -1], [7, 5], [9, 5], [7, -1]])
    neighbours = np.array([[1, 3], [0, -1], [-1, -1], [4, 0], [3, 1]])
    first, second = candidates(Sketches(np.zeros((5, 1)), keys), neighbours)
    found = list(zip(first.tolist(), second.tolist(), strict=True))
    assert found == [(0, 1), (0, 2), (0, 3), (0, 4), (1, 4), (2, 3), (3, 4)]


def test_the_most_alike_sketches_are_found_in_cells_too(monkeypatch):
    generator = np.random.default_rng(0)
    unit = generator.random((2000, 32)).astype(np.float32)
    unit[1000:] = unit[:1000] + 0.01 * generator.random((1000, 32))
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    sketches = Sketches(unit.astype(np.float16), np.zeros((2000, 4), int))
    twin = (np.arange(2000) + 1000) % 2000
    exact = nearest_sketches(sketches, 3)
    assert exact.shape == (2000, 4)
    assert (exact == twin[:, None]).any(axis=1).all()
    assert not (exact == np.arange(2000)[:, None]).any()
    monkeypatch.setattr("audit.sketches.EXACT_UP_TO", 100)
    assert (nearest_sketches(sketches, 3) == twin[:, None]).any(axis=1).mean() > 0.97
    assert nearest_sketches(Sketches(sketches.unit[:2], sketches.keys[:2]), 3).shape == (2, 2)


# The threshold


def made_up(correlation: list[float], backwards: list[float]) -> Compared:
    number = np.arange(len(correlation))
    is_across = np.ones(len(number), bool)
    return Compared(number, number + 1, np.array(correlation), np.array(backwards), ~is_across, is_across)


def test_the_threshold_keeps_out_other_instruments_and_steady_tones():
    copies = [0.995] * 8
    nobody = np.zeros(20, bool)
    assert threshold_of(made_up(copies, [0.0] * 8), nobody[:8]) == LEAST_CORRELATION
    tones = [0.97, 0.97, 0.97, 0.97, 0.98]
    differ = np.repeat([False, True], [8, 5])
    assert threshold_of(made_up([*copies, *tones], [0.0] * 13), differ) == 0.98
    assert threshold_of(made_up([*copies, *tones], [0.0] * 8 + tones), nobody[:13]) == 0.995
    assert threshold_of(made_up([*copies, 0.97], [0.0] * 9), np.arange(9) == 8) == LEAST_CORRELATION
    labelled_at_random = np.arange(40) % 4 == 0
    assert threshold_of(made_up([1.0] * 40, [0.0] * 40), labelled_at_random) == LEAST_CORRELATION
    assert threshold_of(made_up([0.99, 0.99], [0.99, 0.99]), nobody[:2]) == 1.0
    assert threshold_of(made_up([], []), nobody[:0]) == LEAST_CORRELATION


# A pack


@dataclass(frozen=True)
class Given:
    """Samples as an `Audio`."""

    samples: bytes

    def read(self) -> tuple[np.ndarray, int]:
        return np.frombuffer(self.samples, np.int16)[:, None].astype(np.float32) / 32768, RATE


PLANTED = {24: ("gain", 2), 25: ("noise", 3), 26: ("mp3", 8), 27: ("later", 9), 28: ("gain", 14)}
"""Rows of copies, how they were made, and of which row."""


@pytest.fixture(scope="module")
def pack(make_clips, tmp_path_factory):
    """24 notes, six to a group, and five copies of some; a group is in one split but for a copy of it."""
    sounds = [note(seed) for seed in range(24)]
    sounds += [ALTERED[kind](sounds[of]) for kind, of in PLANTED.values()]
    groups = [row // 6 for row in range(24)] + [10, 11, 12, 13, 2]
    clips = []
    for row, (clip, sound, group) in enumerate(zip(make_clips(29), sounds, groups, strict=True)):
        labels = Labels(family=LabelSet(("string" if row < 27 else "brass",), complete=True))
        split = "test" if group in (10, 11, 12) else "train"
        clips.append(replace(clip, audio=Given(sound.tobytes()), group=f"g{group}", split=split, labels=labels))
    return write_pack(clips, tmp_path_factory.mktemp("packs") / "copies", processes=1, seed=1)


class Vectors:
    """Embeddings that know nothing."""

    def __init__(self, pack):
        self.pack = pack

    def unit(self, rows=slice(None)) -> np.ndarray:
        return np.eye(len(self.pack), dtype=np.float32)[rows]


def neighbours_of(pairs: list[tuple[int, int]], count: int) -> Neighbours:
    rows = np.full((count, 2), -1)
    for first, second in pairs:
        rows[first, 0], rows[second, 0] = second, first
    rows[:, 1] = (np.arange(count) + 1) % count
    return Neighbours(np.zeros(rows.shape, np.float32), rows)


def test_copies_are_found_and_told_by_where_they_lie(pack):
    near = neighbours_of([(of, row) for row, (_, of) in PLANTED.items()], len(pack))
    found = find_duplicates(Vectors(pack), near, near)
    ids = pack.column("id")

    def named(rows):
        return {(ids[PLANTED[row][1]], ids[row]) for row in rows}

    assert {(pair.first, pair.second) for pair in found.leaks} == named([24, 25, 26])
    assert {(pair.first, pair.second) for pair in found.touching} == named([27])
    assert {(pair.first, pair.second) for pair in found.pairs} == named([28])
    assert (found.num_leaks, found.num_touching, found.num_pairs) == (3, 1, 1)
    leak = found.leaks[0]
    assert leak.is_exact
    assert leak.correlation > 0.9999
    assert leak.splits == ("train", "test")
    assert leak.groups == ("g0", "g10")
    assert leak.similarity == 0
    assert [pair.is_exact for pair in found.leaks[1:]] == [False, False]
    assert found.threshold == LEAST_CORRELATION
    assert "laid over each other" in found.reason
    assert len(find_duplicates(Vectors(pack), near, near, most=1).leaks) == 1


def test_copies_are_found_however_far_apart_an_embedding_puts_them(pack):
    nobody = Neighbours(np.zeros((len(pack), 1), np.float32), np.full((len(pack), 1), -1))
    found = find_duplicates(Vectors(pack), nobody, nobody)
    assert (found.num_leaks, found.num_touching, found.num_pairs) == (3, 1, 1)


def test_a_pack_without_copies_has_none(toy_pack):
    rows = (np.arange(len(toy_pack))[:, None] + np.array([1, 2])) % len(toy_pack)
    near = Neighbours(np.zeros(rows.shape, np.float32), rows)
    found = find_duplicates(Vectors(toy_pack), near, near)
    assert (found.num_pairs, found.num_leaks, found.num_touching) == (0, 0, 0)


def test_sketches_are_of_every_clip(pack):
    sketches = sketches_of(pack)
    assert sketches.unit.shape == (29, 256)
    assert sketches.keys.shape == (29, 4)
    assert np.array_equal(sketches.keys[5], keys_of(pack.samples(5)))
    assert np.allclose(sketches.unit[7], sketch_of(pack.samples(7)), atol=1e-3)

"""Classic features: sounds with known answers, librosa's own numbers, and the same from any number of processes."""

import librosa
import numpy as np
import pytest

from finetune.features import (
    FEATURES,
    MEL_BINS,
    MFCCS,
    TENTH,
    ClassicFeatures,
    Sound,
    by_tenth,
    chroma,
    clip_features,
    hpss,
    mfcc,
    spectral,
)

SIZES = {"log_mel": MEL_BINS, "mfcc": MFCCS, "chroma": 12, "spectral": 13, "hpss": 3, "classic": MFCCS + 28}


def noise(seconds: float) -> np.ndarray:
    return 0.1 * np.random.default_rng(0).standard_normal(round(16_000 * seconds)).astype(np.float32)


def clicks(seconds: float, apart: float = 0.1) -> np.ndarray:
    sound = np.zeros(round(16_000 * seconds), np.float32)
    sound[:: round(16_000 * apart)] = 0.9
    return sound


@pytest.mark.parametrize("features", FEATURES)
def test_each_tenth_of_a_second_has_a_vector(features):
    sound = Sound(noise(1.23))
    assert sound.num_tenths == 12
    for compute in FEATURES[features]:
        assert compute(sound).shape[1] == 12
    assert clip_features(noise(1.23), features).shape == (4 * SIZES[features],)


@pytest.mark.parametrize("waveform", [np.zeros(16_000), np.zeros(700), np.full(16_000, 0.5), noise(0.03)])
def test_silence_a_constant_and_a_clip_shorter_than_a_tenth_have_finite_features(waveform):
    assert np.isfinite(clip_features(waveform.astype(np.float32), "classic")).all()


def test_a_tone_is_where_it_is(make_tone):
    centroid, bandwidth, rolloff, flatness, *_, crossings, entropy, of_energy = spectral(Sound(make_tone(1.0, 1000)))
    inside = slice(1, -1)  # the ends are mirrored
    assert centroid[inside] == pytest.approx(1000, rel=0.02)
    assert bandwidth[inside].max() < 200
    assert rolloff[inside] == pytest.approx(1000, rel=0.02)
    assert crossings[inside] == pytest.approx(2 * 1000 / 16_000, rel=0.02)
    assert of_energy[inside] == pytest.approx(1.0, abs=1e-3)
    of_noise = spectral(Sound(noise(1.0)))
    assert (of_noise[0] > 3000).all()
    assert flatness.max() < 0.05 < of_noise[3].min()
    assert entropy.max() < 0.4 < 0.8 < of_noise[-2].min()


def test_energy_in_one_of_ten_parts_has_no_entropy():
    assert spectral(Sound(clicks(1.0)))[-1] == pytest.approx(0.0, abs=1e-6)


def test_the_strongest_pitch_class_is_that_of_the_tone(make_tone):
    for hz, pitch_class in ((440.0, 9), (880.0, 9), (523.25, 0)):
        assert (chroma(Sound(make_tone(1.0, hz))).argmax(axis=0) == pitch_class).all()


def test_clicks_are_percussive_and_tones_harmonic(make_tone):
    assert hpss(Sound(make_tone(2.0, 440)))[2, 2:-2].max() < 0.1
    share = hpss(Sound(clicks(2.4, apart=0.8)))[2]
    assert share[[8, 16]].min() > 0.9


def test_medians_are_those_of_librosa(make_tone):
    sound = Sound(make_tone(1.0, 440) + noise(1.0) + clicks(1.0))
    harmonic, percussive = (by_tenth(part**2).sum(axis=0) for part in librosa.decompose.hpss(sound.fine))
    found = hpss(sound)
    np.testing.assert_allclose(found[0], 10 * np.log10(harmonic), atol=1e-3)
    np.testing.assert_allclose(found[1], 10 * np.log10(percussive), atol=1e-3)
    np.testing.assert_allclose(found[2], percussive / (harmonic + percussive), atol=1e-4)


def test_mfccs_of_a_steady_sound_are_those_of_librosa(make_tone):
    waveform = make_tone(2.0, 440) + make_tone(2.0, 1330)
    theirs = librosa.feature.mfcc(y=waveform, sr=16_000, n_mfcc=MFCCS, hop_length=TENTH)
    ours = mfcc(Sound(waveform))
    np.testing.assert_allclose(ours[:, 5:-5].mean(axis=1), theirs[:, 5:-5].mean(axis=1), atol=2.0)


def test_statistics_are_mean_deviation_and_quartiles(make_tone):
    half = np.concatenate([make_tone(1.0, 440), np.zeros(16_000, np.float32)])
    each = hpss(Sound(half))
    found = clip_features(half, "hpss").reshape(4, 3)
    np.testing.assert_allclose(found[0], each.mean(axis=1), rtol=1e-5)
    np.testing.assert_allclose(found[1], each.std(axis=1), rtol=1e-5)
    np.testing.assert_allclose(found[2:], np.percentile(each, (25, 75), axis=1), rtol=1e-5)


def test_processes_change_nothing(toy_pack):
    rows = np.array([5, 3, 80])
    one = ClassicFeatures("mfcc", 0).of(toy_pack, rows, is_shown=False)
    two = ClassicFeatures("mfcc", 2).of(toy_pack, rows, is_shown=False)
    assert one.dtype == np.float32
    np.testing.assert_array_equal(one, two)
    alone = clip_features(toy_pack.samples(3) / np.float32(32_768), "mfcc")
    np.testing.assert_array_equal(one[1], alone)


def test_what_features_depend_on_is_told():
    assert ClassicFeatures("mfcc", 0).identity == ClassicFeatures("mfcc", 2).identity
    assert ClassicFeatures("mfcc", 0).identity != ClassicFeatures("chroma", 0).identity

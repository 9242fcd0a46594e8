import io

import numpy as np
import pytest
from PIL import Image

from audit.spectrograms import HIGH_HZ, LOW_HZ, SHADES, spectrogram, spectrogram_png


def row_of(hz, height):
    """Where a frequency lies in a picture, by the mel scale's own formula."""
    mel = [2595 * np.log10(1 + value / 700) for value in (LOW_HZ, hz, HIGH_HZ)]
    return height - (mel[1] - mel[0]) / (mel[2] - mel[0]) * (height + 1)


@pytest.mark.parametrize("rate", [16_000, 44_100])
@pytest.mark.parametrize("hz", [120, 440, 3000])
def test_a_tone_is_a_line_at_its_pitch(make_tone, rate, hz):
    picture = spectrogram(make_tone(2.0, hz, rate), rate, 60, 64)
    assert picture.shape == (64, 60)
    assert picture.dtype == np.float32
    assert picture.max() == 1
    loudest = picture[:, 5:-5].argmax(axis=0)
    assert np.abs(loudest - row_of(hz, 64)).max() <= 1.5


def test_time_goes_from_left_to_right(make_tone):
    sound = np.concatenate([np.zeros(16_000, np.float32), make_tone(1.0, 500)])
    picture = spectrogram(sound, 16_000, 100, 32)
    assert picture[:, :45].max() == 0
    assert (picture[:, 55:].max(axis=0) > 0.9).all()


def test_loudness_changes_nothing_and_a_tenth_of_the_amplitude_is_20_db(make_tone):
    loud, quiet = make_tone(1.0, 500, amplitude=0.9), make_tone(1.0, 500, amplitude=0.009)
    picture = spectrogram(loud, 16_000, 40, 32)
    np.testing.assert_allclose(picture, spectrogram(quiet, 16_000, 40, 32), atol=1e-3)
    both = spectrogram(np.concatenate([loud, 0.1 * loud]), 16_000, 40, 32).max(axis=0)
    assert both[10] - both[30] == pytest.approx(20 / 72, abs=0.01)


def test_silence_is_black_and_one_sample_has_a_picture():
    assert spectrogram(np.zeros(4000, np.float32), 16_000, 20, 16).max() == 0
    assert spectrogram(np.ones(1, np.float32), 16_000, 20, 16).shape == (16, 20)


def test_long_sounds_are_seen_in_every_column():
    rng = np.random.default_rng(0)
    picture = spectrogram(rng.standard_normal(16_000 * 60).astype(np.float32), 16_000, 30, 24)
    assert picture.min() > 0.5


@pytest.mark.parametrize(("samples", "width"), [(np.zeros(0), 10), (np.zeros((2, 9)), 10), (np.zeros(9), 0)])
def test_what_has_no_picture_is_refused(samples, width):
    with pytest.raises(ValueError, match=r"expected, .* was"):
        spectrogram(samples, 16_000, width, 10)


def test_the_file_holds_the_picture_and_is_small(make_tone):
    rng = np.random.default_rng(0)
    sound = make_tone(3.0, 300) + 0.05 * rng.standard_normal(48_000).astype(np.float32)
    file = spectrogram_png(sound, 16_000)
    assert len(file) < 6_000
    assert file == spectrogram_png(sound, 16_000)
    image = Image.open(io.BytesIO(file))
    assert (image.format, image.size) == ("PNG", (192, 64))
    shades = np.rint(spectrogram(sound, 16_000, 192, 64) * (SHADES - 1))
    np.testing.assert_array_equal(np.asarray(image), shades)
    brightness = np.asarray(image.convert("L"), dtype=int)
    assert brightness[shades == SHADES - 1].min() > 200
    assert brightness[shades == 0].max(initial=0) < 10

import io
import stat

import numpy as np
import pytest
import soundfile

from audit.errors import AuditError
from audit.sound import PLAYERS, encoded, find_player, play


def decoded(data):
    with soundfile.SoundFile(io.BytesIO(data)) as file:
        return file.read(), file.samplerate, file.subtype


def pitch_of(sound, rate):
    return np.abs(np.fft.rfft(sound * np.hanning(len(sound)))).argmax() * rate / len(sound)


@pytest.mark.parametrize("kind", ["opus", "vorbis"])
@pytest.mark.parametrize(("rate", "comes_as"), [(16_000, (16_000, 16_000)), (44_100, (48_000, 44_100))])
def test_what_is_encoded_can_be_heard(make_tone, kind, rate, comes_as):
    data = encoded(make_tone(2.0, 440, rate), rate, kind=kind)
    sound, found, subtype = decoded(data)
    assert subtype == kind.upper()
    assert found == comes_as[kind == "vorbis"]
    assert len(sound) / found == pytest.approx(2.0, abs=0.03)
    assert pitch_of(sound, found) == pytest.approx(440, abs=1)
    assert np.sqrt(np.mean(sound**2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.05)
    assert len(data) < 12_000


def test_more_quality_takes_more_room(make_tone):
    rng = np.random.default_rng(0)
    noise = (0.1 * rng.standard_normal(32_000)).astype(np.float32)
    for kind in ("opus", "vorbis"):
        assert len(encoded(noise, 16_000, kind=kind, quality=0.1)) < len(encoded(noise, 16_000, kind=kind, quality=0.6))


def test_the_beginning_is_kept_and_faded_out(make_tone):
    sound, _, _ = decoded(encoded(make_tone(3.0, 440), 16_000, seconds=1.0, quality=0.8))
    assert len(sound) == 16_000
    assert np.abs(sound[-20:]).max() < 0.1 < np.abs(sound[-1_000:-700]).max()
    whole, _, _ = decoded(encoded(make_tone(0.5, 440), 16_000, seconds=1.0, quality=0.8))
    assert len(whole) == 8_000
    assert np.abs(whole[-40:]).max() > 0.3


def test_minutes_are_encoded_and_loud_ones_scaled(make_tone):
    sound, _, _ = decoded(encoded(make_tone(90.0, 440, amplitude=4.0), 16_000, quality=0.3))
    assert len(sound) == 90 * 16_000
    assert np.abs(sound).max() == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize(
    ("samples", "options", "words"),
    [
        (np.zeros(0), {}, "S at least 1"),
        (np.array([0.0, np.nan]), {}, "NaN"),
        (np.zeros(9), {"kind": "mp3"}, "opus or vorbis"),
        (np.zeros(9), {"quality": 2}, "quality in"),
    ],
)
def test_what_cannot_be_encoded_is_refused(samples, options, words):
    with pytest.raises(ValueError, match=words):
        encoded(samples, 16_000, **options)


@pytest.fixture
def install(tmp_path, monkeypatch):
    """``install(name, script)`` makes a shell script the only player there is."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def put(name, script):
        file = folder / name
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(file.stat().st_mode | stat.S_IXUSR)

    return put


@pytest.mark.parametrize("name", PLAYERS)
def test_a_player_gets_the_sound(install, tmp_path, make_tone, name):
    heard = tmp_path / "heard.wav"
    install(name, f'for file; do :; done; /bin/cp "$file" {heard}')
    play(make_tone(0.2, 440, amplitude=2.0), 16_000)
    sound, rate = soundfile.read(heard)
    assert (len(sound), rate) == (3_200, 16_000)
    assert pitch_of(sound, rate) == pytest.approx(440, abs=5)


def test_a_player_that_fails_is_named_with_its_reason(install, make_tone):
    install("aplay", "echo one >&2; echo 'no such device' >&2; exit 1")
    with pytest.raises(AuditError, match=r"aplay cannot play \(no such device\)"):
        play(make_tone(0.1, 440), 16_000)


def test_without_a_player_there_is_a_sentence(install):
    with pytest.raises(AuditError, match=r"none is installed; .* leave out --play"):
        find_player()

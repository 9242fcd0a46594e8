import hashlib
import pickle
import subprocess
import sys
from collections import defaultdict

import numpy as np
import pytest

from data.clip import NOTHING, SPLITS
from data.errors import DataError
from data.plan import Options, make_plan
from data.sources.gm import GmOptions, clips
from data.sources.gm_bands import BandAudio
from data.sources.gm_font import FontFile
from data.sources.gm_notes import NoteAudio, splits_of, timbres_of
from data.sources.gm_programs import PROGRAMS
from data.sources.gm_songs import STYLES
from data.sources.gm_synth import RATE, Voice, default_font, render_note
from data.taxonomy import FAMILIES, FAMILY_OF_INSTRUMENT, INSTRUMENT_OF_GM_PROGRAM

FONT = FontFile.of(default_font())


@pytest.fixture(scope="module")
def rendered():
    return list(clips(GmOptions(notes=800, bands=50, effects=200, band_seconds=4)))


def test_every_clip_is_unique_and_no_group_crosses_splits(rendered):
    splits = defaultdict(set)
    for clip in rendered:
        splits[clip.group].add(clip.split)
    assert len({clip.id for clip in rendered}) == len(rendered) == 1050
    assert all(len(names) == 1 for names in splits.values())


def test_every_family_and_genre_and_effects_are_in_every_split(rendered):
    seen = {(clip.split, family) for clip in rendered if clip.labels.timbre for family in clip.labels.family.present}
    assert seen == {(split, family) for split in SPLITS for family in FAMILIES}
    assert {clip.split for clip in rendered if clip.labels.is_instrument is False} == set(SPLITS)
    assert {name for clip in rendered for name in clip.labels.genre.present} == set(STYLES)


def test_more_timbres_can_be_trained_on():
    timbres = timbres_of(FONT)
    shares = {}
    for unseen in (0.0, 0.3, 0.6):
        splits = splits_of(timbres, {timbre.name: timbre.name for timbre in timbres}, 0, unseen)
        shares[unseen] = sum(split != "train" for split in splits.values()) / len(timbres)
        seen = {(splits[timbre.name], timbre.family) for timbre in timbres}
        assert seen == {(split, family) for split in SPLITS for family in FAMILIES}
    assert shares[0.0] < 0.2
    assert abs(shares[0.3] - 0.3) < 0.1
    assert abs(shares[0.6] - 0.6) < 0.1


def test_notes_are_balanced_over_families(rendered):
    counts = [
        sum(c.labels.family.present == (family,) and c.labels.timbre is not None for c in rendered)
        for family in FAMILIES
    ]
    assert max(counts) - min(counts) <= 1


def test_twins_share_a_group(rendered):
    # The default font's pianos are one recording.
    groups = {clip.labels.timbre: clip.group for clip in rendered if clip.labels.timbre}
    assert groups["gm/TimGM6mb/000-piano"] == groups["gm/TimGM6mb/001-piano"]


def test_every_program_of_the_taxonomy_has_a_range():
    assert set(PROGRAMS) == set(INSTRUMENT_OF_GM_PROGRAM)


def test_reads_are_finite_unclipped_centred_and_end_in_silence(rendered):
    for clip in rendered[::20]:
        samples, rate = pickle.loads(pickle.dumps(clip.audio)).read()
        assert samples.dtype == np.float32
        assert samples.shape == (4 * rate, 1)
        assert 1e-3 < np.abs(samples).max() < 1, clip.id
        assert abs(samples.mean()) < 0.01, clip.id
        assert np.abs(samples[-3:]).max() < 1e-2, clip.id


def test_another_process_renders_the_same_bits(rendered, tmp_path):
    chosen = [rendered[3].audio, rendered[805].audio, rendered[851].audio, rendered[-1].audio]
    (tmp_path / "audio").write_bytes(pickle.dumps(chosen))
    script = (
        "import hashlib, pickle, sys\n"
        "chosen = pickle.load(open(sys.argv[1], 'rb'))\n"
        "for audio in chosen: print(hashlib.sha256(audio.read()[0].tobytes()).hexdigest())"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "audio")]
    there = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert there == [hashlib.sha256(audio.read()[0].tobytes()).hexdigest() for audio in chosen]


@pytest.mark.parametrize("program", [0, 6, 24, 33, 40, 42, 56, 61, 66, 71, 73, 80])
def test_the_pitch_is_the_label(program):
    pitch = (PROGRAMS[program].low + PROGRAMS[program].high) // 2
    sound = render_note(FONT, Voice(program), pitch, 100, 2.0, 0.0)[RATE // 5 :]
    lag = RATE / (440 * 2 ** ((pitch - 69) / 12))
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound)), 1 << 18)) ** 2
    similarity = np.fft.irfft(spectrum)
    # The autocorrelation peaks at the period, within half a semitone, and as high as at twice the period.
    lags = np.arange(int(lag / 1.5), int(lag * 1.45) + 2)
    assert abs(12 * np.log2(lags[similarity[lags].argmax()] / lag)) < 0.5
    assert similarity[round(lag)] > 0.5 * similarity[0]


def test_the_loudest_key_of_any_kit_does_not_clip():
    loudest = render_note(FONT, Voice(48, is_drum=True), 66, 127, 0.4, 0.0)
    assert 0.8 < np.abs(loudest).max() < 1


def test_velocity_is_heard():
    soft, loud = (render_note(FONT, Voice(0), 60, velocity, 1.0, 0.0) for velocity in (25, 127))
    assert 10 < 20 * np.log10(np.abs(loud).max() / np.abs(soft).max()) < 25


def test_a_plucked_note_decays_and_a_released_one_stops():
    harp = render_note(FONT, Voice(46), 60, 100, 3.0, 1.0)
    violin = render_note(FONT, Voice(40), 72, 100, 3.0, 1.0)
    level = lambda sound, second: np.sqrt(np.mean(sound[int(second * RATE) : int((second + 0.1) * RATE)] ** 2))  # noqa: E731
    assert level(harp, 2.5) < 0.2 * level(harp, 0.1)
    assert level(violin, 2.5) > 0.3 * level(violin, 0.5)
    assert level(violin, 3.8) < 0.05 * level(violin, 2.5)


def test_effects_are_known_to_be_no_instrument(rendered):
    for clip in rendered[-200:]:
        assert clip.labels.is_instrument is False
        assert clip.labels.family == clip.labels.instrument == NOTHING


def test_the_predominant_is_first_and_loudest(rendered):
    for clip in rendered[800:810]:
        parts, stems = clip.audio.parts(), clip.audio.stems()
        assert clip.labels.instrument.present[0] == PROGRAMS[parts[0].voice.program].instrument
        levels = [np.sqrt(np.mean(stem**2)) for stem in stems]
        assert levels[0] > 1.25 * max(levels[1:], default=0)
        assert clip.labels.drums == any(part.voice.is_drum for part in parts)
        families = {FAMILY_OF_INSTRUMENT[name] for name in clip.labels.instrument.present}
        assert set(clip.labels.family.present) == families


def test_genres_differ_in_rhythm():
    onsets, drums, ratios = {}, {}, {}
    for genre in STYLES:
        songs = [BandAudio(FONT, genre, 0, number, 8.0).parts() for number in range(20)]
        onsets[genre] = np.mean([len({round(n.start_s, 1) for part in song for n in part.notes}) / 8 for song in songs])
        drums[genre] = np.mean([any(part.voice.is_drum for part in song) for song in songs])
        ratios[genre] = np.median([_swing_ratio(song) for song in songs if song[-1].role == "drums"])
    assert onsets["classical"] < 0.8 * onsets["pop_rock"]
    assert drums["classical"] < 0.3 < drums["country_folk"] + 0.1 < drums["pop_rock"]
    assert 1.6 < ratios["jazz_blues"] < 2.5
    assert all(0.8 < ratios[genre] < 1.2 for genre in ("country_folk", "pop_rock", "latin_soul"))


def _swing_ratio(song):
    """Long over short eighth in the part of the kit that plays them: ride, hi-hat or shaker."""
    for key in (51, 42, 70):
        times = np.sort([note.start_s for note in song[-1].notes if note.pitch == key])
        if len(times):
            gaps = np.diff(times)
            gaps = gaps[gaps < 1.6 * np.median(gaps)] if key != 51 else gaps[gaps < 0.8 * gaps.max()]
            half = len(gaps) // 2
            gaps = np.sort(gaps)
            return np.median(gaps[half:]) / np.median(gaps[:half])
    return 1.0


def test_held_out_fonts_are_tested_on_only(make_font, tmp_path):
    fonts = [make_font(tmp_path / f"{name}.sf2", {(0, 0): (60,), (0, 40): (72,), (0, 122): (60,)}) for name in "ab"]
    options = GmOptions(fonts=fonts[:1], held_out_fonts=fonts[1:], notes=300, bands=0, effects=60)
    from_other = [clip for clip in clips(options) if clip.id.startswith("gm/b/")]
    assert {clip.labels.is_instrument for clip in from_other} == {True, False}
    assert {clip.split for clip in from_other} == {"test"}


def test_a_moved_font_is_the_same_plan_and_a_changed_one_another(make_font, tmp_path):
    def fingerprint(path):
        return make_plan(clips(GmOptions(fonts=(path,), notes=20, bands=5, effects=5)), Options()).fingerprint

    path = make_font(tmp_path / "here" / "small.sf2", {(0, 0): (60,), (0, 40): (72,)})
    moved = tmp_path / "there" / "small.sf2"
    moved.parent.mkdir()
    moved.write_bytes(path.read_bytes())
    first = fingerprint(path)
    assert fingerprint(moved) == first
    content = bytearray(path.read_bytes())
    content[200] ^= 1  # of a recording
    moved.write_bytes(content)
    assert fingerprint(moved) != first


def test_what_nobody_hears_is_left_out(rendered):
    notes = [clip.audio for clip in rendered if isinstance(clip.audio, NoteAudio)]
    softest = [audio for audio in notes if audio.velocity == 25][::12]
    assert all(np.sqrt(np.mean(np.square(audio.read()[0]))) > 10 ** (-64 / 20) for audio in softest)
    shaker = [a for a in notes if a.voice == Voice(8, is_drum=True) and a.pitch == 70]
    assert all(audio.velocity > 25 for audio in shaker)


@pytest.mark.parametrize("content", [None, b"", b"no font at all", "cut"])
def test_a_bad_font_is_one_sentence(tmp_path, content):
    path = tmp_path / "bad.sf2"
    if content is not None:
        path.write_bytes(default_font().read_bytes()[:100_000] if content == "cut" else content)
    with pytest.raises(DataError, match="Expected a"):
        next(clips(GmOptions(fonts=(path,))))


@pytest.mark.parametrize("wrong", [{"notes": -1}, {"seed": -2}, {"band_seconds": 0.0}])
def test_wrong_options_are_refused(wrong):
    with pytest.raises(DataError, match="Expected"):
        GmOptions(**wrong)

"""What is heard and seen on a page."""

import io

import numpy as np
import pytest
import soundfile
from PIL import Image

from audit.media import CELLS, HEIGHT, POINT_SECONDS, SECONDS, WIDTH, evenly, gather_media, in_base64
from audit.neighbours import Neighbours
from audit.points import clips_named, points_of
from benchmarks.page import example_findings


@pytest.fixture(scope="module")
def gathered(toy_pack):
    """Findings and points of a small audit."""
    count = len(toy_pack)
    findings = example_findings(toy_pack.column("id").tolist(), files=["take.wav"], most=2)
    near = Neighbours(np.zeros((count, 1), np.float32), np.zeros((count, 1), np.int64))
    place = np.random.default_rng(0).random((count, 2)).astype(np.float32)
    return findings, points_of(toy_pack, findings, np.arange(count), place, near)


def test_everything_is_heard_where_there_is_room(toy_pack, gathered, make_tone):
    findings, points = gathered
    media = gather_media(findings, points, toy_pack, {"take.wav": make_tone(9.0, 440)})
    assert media.sounds.keys() == media.pictures.keys() == {"take.wav", *points.clips}
    assert media.num_left_out == 0
    length = {name: soundfile.info(io.BytesIO(sound)).duration for name, sound in media.sounds.items()}
    assert length["take.wav"] == pytest.approx(SECONDS, abs=0.01)
    assert max(length.values()) <= SECONDS + 0.01
    assert POINT_SECONDS < SECONDS
    own = clips_named(findings)[0]
    heard, rate = soundfile.read(io.BytesIO(media.sounds[own]))
    row = points.clips.index(own)
    said = toy_pack.samples(row) / 32768
    assert rate == 16_000
    assert abs(len(heard) - len(said)) < 200
    peaks = [np.abs(np.fft.rfft(sound[4000:8000])).argmax() for sound in (heard, said)]
    assert abs(peaks[0] - peaks[1]) <= 1
    assert Image.open(io.BytesIO(media.pictures[own])).size == (WIDTH, HEIGHT)


def test_what_findings_name_comes_first_and_the_room_is_kept(toy_pack, gathered, make_tone):
    findings, points = gathered
    files = {"take.wav": make_tone(1.0, 440)}
    media = gather_media(findings, points, toy_pack, files, megabytes=0.12)
    size = sum(in_base64(one) for one in (*media.sounds.values(), *media.pictures.values()))
    assert 0.09e6 < size <= 0.12e6
    wanted = ["take.wav", *clips_named(findings)]
    assert list(media.sounds) == wanted[: len(media.sounds)]
    assert media.num_left_out == len(wanted) - len(media.sounds) > 0


def test_no_room_is_no_sound(toy_pack, gathered):
    media = gather_media(*gathered, toy_pack, {"take.wav": np.zeros(16_000, np.float32)}, megabytes=0)
    assert not media.sounds
    assert not media.pictures


def test_every_beginning_is_spread_over_the_map():
    random = np.random.default_rng(0)
    crowd = random.random((5000, 2)) / CELLS  # in one cell
    loners = np.array([[0.5, 0.5], [0.9, 0.1], [1, 1]])
    order = evenly(np.concatenate([crowd, loners]).astype(np.float32))
    assert sorted(order.tolist()) == list(range(5003))
    assert {5000, 5001, 5002} < set(order[:4].tolist())


def test_an_empty_map_has_no_order():
    assert len(evenly(np.zeros((0, 2), np.float32))) == 0

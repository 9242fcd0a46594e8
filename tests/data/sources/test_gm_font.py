"""Reading SoundFonts: plain, compressed and damaged."""

import time

import numpy as np
import pytest

from data.errors import DataError
from data.sources.gm_font import FontFile, SoundFont
from data.sources.gm_synth import RATE, Voice, default_font, render_note

FONT = FontFile.of(default_font())
KEYS = {(0, 0): (60,), (0, 40): (72,), (0, 56): (67,), (0, 73): (79,), (128, 0): (38,)}
NUM_DAMAGES = 400


@pytest.fixture(scope="module")
def small(make_font, tmp_path_factory):
    """The same font as .sf2 and as .sf3."""
    folder = tmp_path_factory.mktemp("fonts")
    return {
        "sf2": FontFile.of(make_font(folder / "small.sf2", KEYS)),
        "sf3": FontFile.of(make_font(folder / "small.sf3", KEYS, compressed=True)),
    }


@pytest.mark.parametrize("kind", ["sf2", "sf3"])
@pytest.mark.parametrize("place", KEYS)
def test_compressed_recordings_sound_like_the_plain_ones(small, kind, place):
    voice, pitch = Voice(place[1], is_drum=place[0] == 128), KEYS[place][0]
    plain = render_note(FONT, voice, pitch, 100, 1.5, 0.5)
    found = render_note(small[kind], voice, pitch, 100, 1.5, 0.5)
    level = np.sqrt(np.mean(plain**2))
    assert abs(20 * np.log10(np.sqrt(np.mean(found**2)) / level)) < 0.3
    # Sample by sample: any other pitch, start or loop would leave an error as large as the sound.
    assert np.sqrt(np.mean((found - plain) ** 2)) < (0.15 * level if kind == "sf3" else 1e-6)


def test_sf3_is_smaller_and_counts_its_loop_from_the_recording(small):
    assert small["sf3"].path.stat().st_size < 0.6 * small["sf2"].path.stat().st_size
    plain, packed = (SoundFont(small[kind].path).headers for kind in ("sf2", "sf3"))
    np.testing.assert_array_equal(packed["loop_start"], plain["loop_start"] - plain["start"])
    # A note held far beyond the end of its recording still sounds.
    held = render_note(small["sf3"], Voice(40), 72, 100, 6.0, 0.0)
    assert np.abs(held[5 * RATE :]).max() > 0.2 * np.abs(held[:RATE]).max()


@pytest.mark.parametrize("kind", ["sf2", "sf3"])
def test_damaged_tables_are_one_sentence_or_a_working_font(small, kind, tmp_path):
    content = small[kind].path.read_bytes()
    tables = content.rindex(b"pdta")
    generator = np.random.default_rng(3)
    refused = []
    for number in range(NUM_DAMAGES // 2):
        damaged = bytearray(content)
        if number % 8 == 7:
            # Cut, with sizes that admit it: what is left of the tables looks whole.
            del damaged[generator.integers(tables + 4, len(damaged)) :]
            damaged[4:8] = (len(damaged) - 8).to_bytes(4, "little")
        else:
            for place in generator.integers(tables + 4, len(damaged), generator.choice([1, 3, 30])):
                damaged[place] = generator.choice([0, 255, damaged[place] ^ 1 << generator.integers(8)])
        path = tmp_path / f"{number}.{kind}"
        path.write_bytes(damaged)
        began = time.process_time()
        try:
            font = FontFile.of(path)
            for (bank, program), keys in KEYS.items():
                sound = render_note(font, Voice(program, is_drum=bank == 128), keys[0], 100, 0.2, 0.1)
                assert np.isfinite(sound).all(), number
        except DataError as error:
            refused.append(str(error))
        assert time.process_time() - began < 2, number
        path.unlink()
    assert 0.1 < len(refused) / (NUM_DAMAGES // 2) < 0.95
    assert all("copy it again" in sentence for sentence in refused)

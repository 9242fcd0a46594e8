"""Queries of a pack of tones, embedded by their spectra, which a recording of a tone has too."""

import json
import os

import numpy as np
import pytest
import soundfile
import soxr
from PIL import Image

from audit import embed, query
from audit.embeddings import Embeddings, write_embeddings
from audit.errors import AuditError
from audit.findings import Query
from audit.gallery import families_shared
from audit.index import Index, build_index
from audit.query import ERRORS, ask, main
from audit.tables import Clips
from checkpoints.config import run_command
from data.decode import FULL_SCALE
from data.errors import DataError

BANDS = 80


def spectrum_of(waveform):
    """Energy in bands of 25 Hz, float32 ``(E,)``."""
    spectrum = np.abs(np.fft.rfft(waveform, n=16_000))[: BANDS * 25]
    return np.sqrt((spectrum**2).reshape(BANDS, 25).sum(axis=1)).astype(np.float32)


@pytest.fixture(scope="module")
def folder(toy_pack, tmp_path_factory):
    """Folder of an exact index of the pack of tones; the clip number i is a tone of 200 + 10 i Hz."""
    folder = tmp_path_factory.mktemp("queried") / "toy"
    sounds = [toy_pack.samples(row).astype(np.float32) / FULL_SCALE for row in range(len(toy_pack))]
    vectors = np.stack([spectrum_of(sound) for sound in sounds])
    build_index(write_embeddings(folder, vectors, toy_pack, run="runs/spectra"), folder / "index-exact")
    return folder / "index-exact"


@pytest.fixture(autouse=True)
def embedder(request, monkeypatch):
    """Lets embeddings find what made them."""
    if "small_run" not in request.fixturenames:
        monkeypatch.setattr(Embeddings, "embedder", lambda self: spectrum_of)


@pytest.fixture
def index(folder):
    return Index.open(folder)


def similarities(index, vector):
    unit = index.embeddings.unit()
    return unit @ (vector / np.linalg.norm(vector))


def nearest_of(index, vector, rows, k):
    """The slow version: sort all."""
    order = sorted(rows, key=lambda row: -similarities(index, vector)[row])
    return order[:k]


def test_a_clip_finds_the_nearest_others_and_never_itself(index):
    (answer,) = ask(index, ["toy/0040"], 6)
    assert (answer.name, answer.row) == ("toy/0040", 40)
    others = [row for row in range(120) if row != 40]
    expected = nearest_of(index, index.embeddings.vectors[40], others, 6)
    np.testing.assert_allclose(
        answer.similarity, similarities(index, index.embeddings.vectors[40])[expected], atol=1e-5
    )
    assert 40 not in answer.rows
    assert set(answer.rows.tolist()) <= set(range(30, 51))
    np.testing.assert_array_equal(answer.waveform, index.embeddings.pack.samples(40) / np.float32(FULL_SCALE))


def test_a_clip_is_dropped_by_its_row_where_twins_go_before_it(toy_pack, tmp_path):
    vectors = np.ones((120, 4), np.float32)  # all are alike: any position may be its own
    build_index(write_embeddings(tmp_path / "twins", vectors, toy_pack), tmp_path / "twins" / "index")
    index = Index.open(tmp_path / "twins" / "index")
    for name in ("toy/0000", "toy/0077", "toy/0119"):
        (answer,) = ask(index, [name], 119)
        assert sorted([*answer.rows.tolist(), answer.row]) == list(range(120))


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_a_recording_of_a_clip_finds_that_clip(index, write_wav, rate):
    sound = index.embeddings.pack.samples(70).astype(np.float32) / FULL_SCALE
    stereo = np.repeat(soxr.resample(sound, 16_000, rate)[:, None], 2, axis=1)
    path = write_wav("tone.flac", stereo, rate)
    (answer,) = ask(index, [str(path)], 3)
    assert answer.row is None
    assert answer.rows[0] == 70
    assert answer.similarity[0] == pytest.approx(1, abs=1e-3)
    np.testing.assert_allclose(answer.waveform[20:-20], sound[20:-20], atol=1e-3)  # resampled without what lay beyond
    assert answer.as_query(Clips(index.embeddings.pack)).clip is None


def test_a_recording_is_embedded_as_the_clips_were(small_run, toy_pack, write_wav, tmp_path):
    embeddings = embed.main(embed.Config(run=str(small_run), pack=toy_pack.folder, out=tmp_path / "embeddings"))
    index = build_index(embeddings, tmp_path / "index")
    for row in (0, 70):  # half a second and more, so one window and two
        (answer,) = ask(index, [str(write_wav(f"{row}.wav", toy_pack.samples(row)))], 2)
        assert answer.rows[0] == row
        assert answer.similarity[0] == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(
    ("filters", "exclude_group"), [(["family=string"], False), ([], True), (["split!=test", "family=brass"], True)]
)
def test_what_may_be_found_is_found_exactly(index, monkeypatch, filters, exclude_group):
    monkeypatch.setattr(query, "ROWS_AT_ONCE", 7)
    pack = index.embeddings.pack
    group, split, family = pack.column("group"), pack.column("split"), pack.column("family_present")
    for row in (0, 41, 119):
        allowed = [
            other
            for other in range(120)
            if other != row
            and not (exclude_group and group[other] == group[row])
            and not ("family=string" in filters and family[other] != ("string",))
            and not ("family=brass" in filters and family[other] != ("brass",))
            and not ("split!=test" in filters and split[other] == "test")
        ]
        (answer,) = ask(index, [pack.column("id")[row]], 9, filters, exclude_group)
        vector = index.embeddings.vectors[row]
        expected = nearest_of(index, vector, allowed, 9)
        assert set(answer.rows.tolist()) <= set(allowed)
        np.testing.assert_allclose(answer.similarity, similarities(index, vector)[expected], atol=1e-5)
        np.testing.assert_allclose(similarities(index, vector)[answer.rows], answer.similarity, atol=1e-5)


def test_answers_become_findings(index):
    (answer,) = ask(index, ["toy/0001"], 2)
    found = answer.as_query(Clips(index.embeddings.pack))
    assert isinstance(found, Query)
    assert (found.name, found.clip) == ("toy/0001", "toy/0001")
    assert [one.clip for one in found.neighbours] == [f"toy/{row:04d}" for row in answer.rows]
    assert json.dumps([one.similarity for one in found.neighbours])


def test_more_neighbours_than_there_are_is_an_error(index, write_wav, make_tone):
    with pytest.raises(AuditError, match=r"120 neighbours of toy/0000 were asked for, only 119 clips may be found"):
        ask(index, ["toy/0000"], 120)
    with pytest.raises(AuditError, match=r"only 40 clips"):
        ask(index, [str(write_wav("a.wav", make_tone(1, 440)))], 41, ["family=string"])
    with pytest.raises(ValueError, match="1 or more, 0 found"):
        ask(index, ["toy/0000"], 0)


def test_what_is_no_query_is_named_in_a_sentence(index, write_wav, make_tone, tmp_path):
    with pytest.raises(DataError, match=r"nothing\.wav is neither; clips are named like toy/0000"):
        ask(index, ["nothing.wav"])
    with pytest.raises(DataError, match=r"cannot be asked for: cannot be read: it is a folder"):
        ask(index, [str(tmp_path)])
    with pytest.raises(DataError, match=r"silence.wav cannot be asked for: silent: peak"):
        ask(index, [str(write_wav("silence.wav", np.zeros(16_000)))])
    with pytest.raises(DataError, match=r"nan.wav cannot be asked for: holds 9 NaN"):
        ask(index, [str(write_wav("nan.wav", np.where(np.arange(16_000) < 9, np.nan, 0.1), subtype="FLOAT"))])
    with pytest.raises(DataError, match=r"short.wav cannot be asked for: too short"):
        ask(index, [str(write_wav("short.wav", make_tone(0.01, 440)))])
    text = tmp_path / "text.wav"
    text.write_text("no sound")
    with pytest.raises(DataError, match=r"text.wav cannot be asked for: cannot be decoded"):
        ask(index, [str(text)])


@pytest.mark.parametrize(
    ("gives", "words"),
    [
        (np.full(BANDS, np.nan, np.float32), "has no direction"),
        (np.zeros(BANDS, np.float32), "has no direction"),
        (np.ones(BANDS + 1, np.float32), f"embeddings of {BANDS} numbers were expected .*, it gives {BANDS + 1}"),
    ],
)
def test_what_a_model_should_not_give_is_an_error(index, write_wav, make_tone, monkeypatch, gives, words):
    monkeypatch.setattr(Embeddings, "embedder", lambda self: lambda waveform: gives)
    with pytest.raises(AuditError, match=words):
        ask(index, [str(write_wav("a.wav", make_tone(1, 440)))])


def test_the_command_writes_a_table(folder, capsys):
    assert main([str(folder), "toy/0042", "toy/0002", "-k", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "toy/0042  0:00.9, string"
    header = ["rank", "similarity", "distance", "start", "duration", "split", "data", "set", "clip", "labels"]
    assert lines[1].split() == header
    rank, similarity, distance, start, duration, split, source, clip, labels = lines[2].split()
    assert rank == "1"
    assert float(similarity) + float(distance) == pytest.approx(1)
    assert (source, clip[:6], labels in ("?", "string", "brass", "flute")) == ("toy", "toy/00", True)
    assert split in ("train", "validation", "test")
    assert (start, duration[:3]) == ("0:00.0", "0:0")
    assert [line.split()[0] for line in lines[2:5]] == ["1", "2", "3"]
    assert lines[6] == "toy/0002  0:00.5, ?"
    assert len({line.find("toy/") for line in lines[2:5]} | {lines[1].find("clip")}) == 1  # columns are aligned


def test_the_command_writes_json(folder, capsys, write_wav, make_tone):
    path = write_wav("a tone.wav", make_tone(1, 500))
    assert main([str(folder), str(path), "toy/0003", "-k", "2", "--json", "--filter", "family=string,flute"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["format"], found["version"], found["k"]) == ("luthier query", 1, 2)
    assert found["filters"] == ["family=string,flute"]
    first, second = found["queries"]
    assert (first["name"], first["clip"], first["seconds"]) == (str(path), None, 1.0)
    assert second["clip"] == "toy/0003"
    best = first["neighbours"][0]
    assert list(best) == [
        "rank", "similarity", "distance", "clip", "labels", "source", "recording", "group", "split", "start_s",
        "duration_s",
    ]  # fmt: skip
    assert (best["clip"], best["source"], best["recording"], best["group"]) == ("toy/0030", "toy", "0030", "toy/6")
    assert best["labels"] == {"family": ["string"], "instrument": [], "genre": [], "is_instrument": True}
    assert best["duration_s"] == pytest.approx(0.8)
    assert best["similarity"] + best["distance"] == pytest.approx(1)


def test_the_command_draws_spectrograms(folder, capsys, tmp_path, write_wav, make_tone):
    path = tmp_path / "made" / "neighbours.png"
    names = ["toy/0042", str(write_wav("$a_b$.wav", make_tone(1, 440)))]  # which is no formula
    assert main([str(folder), *names, "-k", "3", "--plot", str(path)]) == 0
    assert str(path) in capsys.readouterr().err
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert image.width > 4 * 150
        assert image.height > 2 * 150


def test_families_of_neighbours_are_compared_with_that_of_the_query(index):
    (answer,) = ask(index, ["toy/0042"], 30)
    pack = index.embeddings.pack
    families = pack.column("family_present")
    for row, same in zip(answer.rows, families_shared(answer, pack), strict=True):
        assert same == (-1 if row % 3 == 2 else int(families[row] == families[42]))


def test_the_command_plays_the_query_and_then_its_neighbours(folder, capsys, monkeypatch):
    played = []
    monkeypatch.setattr(query, "play", lambda waveform, rate: played.append((len(waveform), rate)))
    monkeypatch.setattr(query, "find_player", lambda: "aplay")
    assert main([str(folder), "toy/0042", "-k", "2", "--play"]) == 0
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "playing  toy/0042"
    assert said[1].startswith("playing  1 of 2: toy/")
    assert played[0] == (14_720, 16_000)
    assert len(played) == 3


def test_where_nothing_can_play_nothing_is_searched(folder, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(AuditError, match="none is installed"):
        main([str(folder), "toy/0042", "--play"])
    assert capsys.readouterr().out == ""


def test_a_picture_goes_over_no_recording(folder, write_wav, make_tone, tmp_path):
    path = write_wav("a.wav", make_tone(1, 440))
    with pytest.raises(DataError, match="would be overwritten"):
        main([str(folder), str(path), "--plot", str(path)])
    with pytest.raises(DataError, match="a folder found"):
        main([str(folder), str(path), "--plot", str(tmp_path)])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["toy/0000", "--filter", "family=strings"], "error: a family was expected"),
        (["toy/0000", "--filter", "pitch=127"], "error: clips with pitch=127 were asked for"),
        (["toy/0000", "-k", "1000"], "error: 1000 neighbours of toy/0000 were asked for"),
        (["toy/9999"], "error: a clip of"),
        (["toy/0000", "--exclude-grp"], "unrecognized arguments"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(folder, capsys, arguments, words):
    with pytest.raises(SystemExit) as ended:
        run_command(lambda: main([str(folder), *arguments]), ERRORS)
    said = capsys.readouterr()
    assert ended.value.code == 2
    assert words in said.err
    assert said.out == ""


def test_names_that_are_no_text_are_printed(folder, capsys, tmp_path, make_tone):
    path = tmp_path / os.fsdecode(b"caf\xe9.wav")
    with open(path, "wb") as file:
        soundfile.write(file, make_tone(1, 440), 16_000, format="WAV")
    assert main([str(folder), str(path), "-k", "1"]) == 0
    assert main([str(folder), str(path), "-k", "1", "--json"]) == 0
    assert "caf\\udce9.wav" in capsys.readouterr().out.encode().decode()

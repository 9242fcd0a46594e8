"""Predictions as a table, CSV and JSON."""

import csv
import io
import json
import os
from pathlib import Path

import numpy as np

from finetune.outputs import About, Csv, Json, Table
from finetune.prediction import HeadPrediction, Prediction, pool_over_time
from finetune.recordings import Failure

ODD = 'a "b",\nc\r.wav'


def prediction_of(path: str, rows=((0.9, 0.2, 0.0), (0.7, 0.3, 0.6), (0, 0, 0))) -> Prediction:
    p = np.array(rows, np.float32)
    is_silent = ~p.any(axis=1)
    times = np.stack([np.arange(len(p)) * 2.0, np.arange(len(p)) * 2.0 + 2], 1)
    pooled = pool_over_time(p[~is_silent], "mean")
    head = HeadPrediction("instrument", "binary", ("oboe", "harp", "gong"), p, pooled, np.float32([0.5, 0.5, 0.5]))
    genre = HeadPrediction("genre", "classes", ("jazz", "pop", "folk"), p, pooled, None)
    return Prediction(Path(path), times, is_silent, {"instrument": head, "genre": genre}, "mean")


def about(top: int | None = None) -> About:
    return About("runs/x", 2.0, 1.0, top)


def test_a_table_says_what_is_heard_and_when():
    lines = Table(about()).add(prediction_of("song.wav")).splitlines()
    assert lines[0] == "song.wav  0:06.0, 3 chunks, 1 of them silent"
    assert lines[1:3] == ["  instrument, mean: oboe 0.80", "  genre, mean: jazz 0.80"]
    assert [line.split() for line in lines[3:8]] == [
        ["start", "end", "head", "class", "probability"],
        ["0:00.0", "0:04.0", "instrument", "oboe", "0.80"],
        ["0:00.0", "0:04.0", "genre", "jazz", "0.80"],
        ["0:02.0", "0:04.0", "instrument", "gong", "0.60"],
        [],
    ]
    likeliest = Table(about(2)).add(prediction_of("song.wav"))
    assert "instrument, mean: oboe 0.80, gong 0.30" in likeliest


def test_a_table_of_nothing_is_short():
    text = Table(about()).add(prediction_of("quiet.wav", rows=[(0, 0, 0)]))
    assert text == "quiet.wav  0:02.0, 1 chunk, all silent\n  instrument, mean: -\n  genre, mean: -\n\n"


def test_csv_has_a_row_for_each_class_and_span():
    output = Csv(about())
    text = output.add(prediction_of(ODD)) + output.add(prediction_of("b.wav")) + output.end([])
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [row["recording"] for row in rows] == [ODD] * 9 + ["b.wav"] * 9
    of_instrument = [row for row in rows[:9] if row["head"] == "instrument"]
    assert [(row["part"], row["class"], row["is_heard"]) for row in of_instrument] == [
        ("recording", "oboe", "1"), ("recording", "gong", "0"), ("recording", "harp", "0"),
        ("span", "oboe", "1"), ("span", "gong", "1"),
    ]  # fmt: skip
    span = of_instrument[-1]
    assert (float(span["start_s"]), float(span["end_s"]), float(span["probability"])) == (2.0, 4.0, 0.6)
    likeliest = list(csv.DictReader(io.StringIO(Csv(about(1)).add(prediction_of("b.wav")))))
    assert {row["class"] for row in likeliest} == {"oboe", "jazz"}


def test_json_has_every_number():
    output, predictions = Json(about(top=1)), [prediction_of(ODD), prediction_of("b.wav")]
    text = "".join(map(output.add, predictions)) + output.end([Failure(Path("c.wav"), "empty: the file has 0 bytes")])
    found = json.loads(text)
    assert (found["format"], found["version"], found["run"]) == ("luthier prediction", 1, "runs/x")
    assert (found["chunk_seconds"], found["hop_seconds"], found["pooling"]) == (2.0, 1.0, "mean")
    assert found["heads"]["instrument"] == {
        "kind": "binary", "classes": ["oboe", "harp", "gong"], "thresholds": [0.5, 0.5, 0.5],
    }  # fmt: skip
    assert found["heads"]["genre"]["thresholds"] is None
    assert found["failed"] == [{"recording": "c.wav", "reason": "empty: the file has 0 bytes"}]
    for recording, prediction in zip(found["recordings"], predictions, strict=True):
        assert recording["recording"] == str(prediction.path)
        assert recording["times"] == prediction.times.tolist()
        assert recording["is_silent"] == [False, False, True]
        head = prediction.heads["instrument"]
        np.testing.assert_allclose(recording["heads"]["instrument"]["probabilities"], head.probabilities, atol=5e-6)
        np.testing.assert_allclose(recording["heads"]["instrument"]["pooled"], head.pooled, atol=5e-6)
        assert recording["heads"]["instrument"]["present"] == ["oboe"]
        assert [span["class"] for span in recording["heads"]["instrument"]["spans"]] == ["oboe", "gong"]


def test_names_that_are_no_text_can_be_written():
    path = Path(os.fsdecode(b"caf\xe9\n\x1b[2J.wav"))
    assert json.loads(Json(about()).add(prediction_of(str(path))) + "]}")["recordings"][0]["recording"]
    Table(about()).add(prediction_of(str(path))).encode()

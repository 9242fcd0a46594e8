"""A whole report: what lies on the disk, what it says of planted faults, and what it refuses."""

import csv
import json
import sys
from dataclasses import dataclass

import numpy as np
import pyarrow.parquet as pq
import pytest

from audit import report
from audit.embeddings import write_embeddings
from audit.errors import AuditError
from audit.examine import Settings, examine
from audit.index import build_index
from audit.report import ERRORS, FILES, main, write_report
from checkpoints.config import run_command
from data.clip import Clip, Labels, LabelSet
from data.writer import write_pack

FAMILIES = ("flute", "string", "reed")
CLIPS = 120
COPY, MISLABELLED = 7, 30
"""A clip of the training split that lies in the test split once more, a little softer; one with a wrong family."""


@dataclass(frozen=True)
class Noise:
    """Noise through a family's filter, as an `Audio`."""

    number: int
    family: int
    gain: float = 1.0

    def read(self):
        spectrum = np.fft.rfft(np.random.default_rng(self.number).standard_normal(16_000))
        place = np.arange(len(spectrum)) / len(spectrum)
        shaped = np.fft.irfft(spectrum * np.exp(-(((place - 0.2 - 0.25 * self.family) / 0.1) ** 2)))
        return (self.gain * 0.3 * shaped / np.abs(shaped).max()).astype(np.float32)[:, None], 16_000


def clip(number, family, audio, split):
    labels = Labels(is_instrument=True, family=LabelSet((FAMILIES[family],), complete=True), pitch=40 + number % 30)
    name = f"toy/{number:03d}"
    return Clip(
        id=name, source="toy", recording=name, group=f"toy/{number // 4}", audio=audio, split=split, labels=labels
    )


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    """Three families in groups of four clips, a copy across the splits and a wrong label among them."""
    clips = []
    for number in range(CLIPS):
        family = number // 4 % 3
        told = (family + 1) % 3 if number == MISLABELLED else family
        split = ("train", "train", "validation", "test")[number // 30]
        clips.append(clip(number, told, Noise(number, family), split))
    clips.append(clip(CLIPS, COPY // 4 % 3, Noise(COPY, COPY // 4 % 3, 0.5), "test"))
    return write_pack(clips, tmp_path_factory.mktemp("packs") / "noises", processes=1)


def vectors_of(pack, seed=0):
    """Where the families lie apart, and copies together."""
    found = []
    for row in range(len(pack)):
        spectrum = np.abs(np.fft.rfft(pack.samples(row).astype(np.float64), n=16_000))[:8000].reshape(40, 200)
        energy = np.sqrt((spectrum**2).sum(axis=1))
        found.append(energy / np.linalg.norm(energy))
    found = np.stack(found).astype(np.float32)
    return found + 0.001 * np.random.default_rng(seed).standard_normal(found.shape).astype(np.float32)


def index_of(pack, folder, seed=0):
    return build_index(write_embeddings(folder, vectors_of(pack, seed), pack), folder / "index-exact")


@pytest.fixture(scope="module")
def index(pack, tmp_path_factory):
    return index_of(pack, tmp_path_factory.mktemp("embedded") / "noises")


@pytest.fixture(autouse=True)
def without_umap(monkeypatch):
    """It compiles for half a minute; tests/audit/test_map.py runs it."""
    monkeypatch.setattr(report, "map_of", lambda embeddings, rows, seed, cache: embeddings.unit(rows)[:, :2].clip(0, 1))


@pytest.fixture(scope="module")
def findings(index):
    return examine(index, Settings(k=20)).findings


def test_planted_faults_are_found(findings, pack):
    (leak,) = findings.duplicates.leaks
    assert {leak.first, leak.second} == {f"toy/{COPY:03d}", f"toy/{CLIPS:03d}"}
    assert leak.is_exact
    assert set(leak.splits) == {"train", "test"}
    assert findings.suspects[0].clip == f"toy/{MISLABELLED:03d}"
    assert findings.suspects[0].given == FAMILIES[(MISLABELLED // 4 + 1) % 3]
    assert findings.suspects[0].suggested == FAMILIES[MISLABELLED // 4 % 3]


def test_scores_are_those_of_families_that_lie_apart(findings):
    scores = {(score.level, score.measure): score for score in findings.scores}
    assert {measure for level, measure in scores if level == "family"} == {
        "purity@1", "purity@10", "map_at_r", "v_measure",
    }  # fmt: skip
    assert all(score.value > 0.9 for score in scores.values())
    assert all(score.low <= score.value <= score.high for score in scores.values())
    assert any(note.startswith("genre") for note in findings.notes)


def test_files_say_the_same(index, pack, tmp_path, capsys):
    main([str(index.folder), f"--out={tmp_path / 'report'}", "--k=20", "--query=toy/003", "--megabytes=1"])
    said = capsys.readouterr().out
    assert {file.name for file in (tmp_path / "report").iterdir()} == set(FILES)
    assert all(f"wrote    {tmp_path / 'report' / name}" in said for name in FILES)
    told = json.loads((tmp_path / "report/report.json").read_text())
    assert told["queries"][0]["clip"] == "toy/003"
    assert len(told["queries"][0]["neighbours"]) == 10
    assert told["duplicates"]["num_leaks"] == 1
    table = pq.read_table(tmp_path / "report/clips.parquet")
    assert table["id"].to_pylist() == pack.column("id").tolist()
    nearest = table["neighbours"].to_pylist()
    assert all(own not in theirs for own, theirs in zip(table["id"].to_pylist(), nearest, strict=True))
    assert sum(table["occurrences"].to_pylist()) == 20 * len(pack)
    assert "leak" in table["findings"].to_pylist()[COPY]
    assert "suspect label" in table["findings"].to_pylist()[MISLABELLED]
    with open(tmp_path / "report/corrections.csv", encoding="utf-8") as file:
        assert next(csv.DictReader(file))["clip"] == f"toy/{MISLABELLED:03d}"
    page = (tmp_path / "report/report.html").read_text()
    assert f"toy/{MISLABELLED:03d}" in page
    assert "{{" not in page


def test_a_second_report_says_the_same(index, tmp_path):
    first, second = (write_report(index, tmp_path / name, Settings(k=20), megabytes=0.1) for name in ("one", "two"))
    assert first == second
    assert (tmp_path / "one/report.json").read_bytes() == (tmp_path / "two/report.json").read_bytes()


def test_two_runs_are_compared(index, pack, tmp_path):
    other = index_of(pack, tmp_path / "other", seed=1)
    comparison = examine(index, Settings(k=20), before=other).findings.comparison
    assert {(score.level, score.measure) for score in comparison.scores} == {
        (score.level, score.measure) for score in examine(other, Settings(k=20)).findings.scores
    }
    assert 0.5 < comparison.overlap < 1
    assert examine(index, Settings(k=20), before=index).findings.comparison.overlap == 1


def test_a_tiny_pack_is_audited_too(make_clips, tmp_path):
    pack = write_pack(make_clips(3), tmp_path / "tiny", processes=1)
    embeddings = write_embeddings(tmp_path / "embedded", np.eye(3, 4, dtype=np.float32), pack)
    findings = write_report(build_index(embeddings, tmp_path / "index"), tmp_path / "report")
    assert not findings.suspects
    assert "2 of every clip" in findings.about["neighbours"]


def test_runs_over_other_packs_are_refused(index, toy_pack, tmp_path):
    vectors = np.random.default_rng(0).standard_normal((len(toy_pack), 8)).astype(np.float32)
    other = build_index(write_embeddings(tmp_path / "other", vectors, toy_pack), tmp_path / "index")
    with pytest.raises(AuditError, match="same pack"):
        examine(index, Settings(), before=other)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--k=0"], "--k should be 1 or more"),
        (["--map_points=1"], "--map_points should be 2 or more"),
        (["--megabytes=-1"], "--megabytes should be 0 or more"),
        (["--query=nowhere"], "neither"),
        (["--compare=nowhere"], "an index was expected at nowhere"),
    ],
)
def test_refusals(index, tmp_path, monkeypatch, capsys, flags, said):
    monkeypatch.setattr(sys, "argv", ["report", str(index.folder), f"--out={tmp_path / 'out'}", *flags])
    with pytest.raises(SystemExit) as ended:
        run_command(main, ERRORS)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err

"""Which runs the results table takes, what is kept of it, and what it says."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import bands, results
from benchmarks.fonts import mfcc_statistics
from benchmarks.published import PUBLISHED
from benchmarks.renderings import Unshared
from benchmarks.results_real import COLUMNS, LABELS, nsynth_scores
from benchmarks.results_rows import (
    BASELINES,
    ENTRIES,
    SHIPPED_ROW,
    init_of,
    instrument_plans,
    pretraining_seconds,
    pretrainings,
)
from benchmarks.results_scores import Heard, kept
from benchmarks.results_table import SCORES, Row, figure_of, goals, real_table, report, score_table
from checkpoints.errors import CheckpointError
from data.clip import Labels, LabelSet
from data.errors import DataError
from data.prepare import prepare_gm
from data.sources.gm import GmOptions
from data.writer import write_pack


@pytest.fixture
def options(tmp_path):
    options = results.parser().parse_args([
        "--test_data", str(tmp_path / "other"), "--data", str(tmp_path / "pack"), "--runs", str(tmp_path / "runs"),
        "--seeds", "2", "--steps", "30", "--mae_steps", "20",
    ])  # fmt: skip
    options.flags, options.mae_flags, options.tune_flags = {"patchout": "0.5"}, {}, {"steps": "12"}
    return options


def plans_of(options, rows, found):
    asked = {"data": options.data, "test_data": options.test_data, "sources": ["gm/*/band"], "labels": bands.LABELS}
    return instrument_plans(options, rows, found, options.runs / "bands", **asked)


def test_every_row_has_the_runs_it_takes_and_no_other(options):
    found = pretrainings(options, list(ENTRIES.values()))
    assert set(found) == {
        ("ast", "mae"), ("ast", "mae_ntxent"), ("ast", "mae_supcon"), ("ast", "mae_triplet"), ("wav2vec2", "given"),
        ("cnn", "given"),
    }  # fmt: skip
    assert all(len(of_seeds) == 2 for of_seeds in found.values())
    assert [plan.config.seed for plan in found["ast", "mae_triplet"]] == [0, 1]
    assert found["ast", "mae_supcon"][1].config.init == str(found["ast", "mae"][1].run.path)
    cnn, wav2vec2 = found["cnn", "given"][0].config, found["wav2vec2", "given"][0].config
    assert (cnn.backbone, cnn.objective, cnn.patchout, cnn.steps) == ("cnn", "supcon", 0.5, 30)
    assert found["cnn", "given"][0].after.config.backbone == "cnn"
    assert (wav2vec2.backbone, wav2vec2.patchout, wav2vec2.init) == ("wav2vec2", 0.0, "untrained")
    plans = plans_of(options, ENTRIES, found)
    assert len(plans) == 2 * len(ENTRIES) - 2, "nothing is drawn for the two classic features"
    assert len({plan.run.path for plan in plans.values()}) == len(plans)
    assert plans["untrained", 1].config.init == plans["recurrent", 0].config.init == "untrained"
    assert plans["mae_ntxent", 1].config.init == str(found["ast", "mae_ntxent"][1].run.path)
    lora = plans["ast_lora", 0].config
    assert (lora.init, lora.method, lora.steps, lora.heads) == ("ast-tiny", "lora", 12, ["instrument"])
    assert pretrainings(options, [ENTRIES[name] for name in (*BASELINES, "ast_full")]) == {}


def test_weights_that_are_given_are_not_trained_here(options):
    options.wav2vec2, options.cnn = "facebook/wav2vec2-base", "runs/mine"
    rows = {name: ENTRIES[name] for name in ("wav2vec2_lora", "cnn_probe")}
    found = pretrainings(options, list(rows.values()))
    assert found == {}
    plans = plans_of(options, rows, found)
    assert plans["wav2vec2_lora", 1].config.init == "facebook/wav2vec2-base"
    assert plans["cnn_probe", 0].config.init == "runs/mine"
    assert pretraining_seconds(rows["cnn_probe"], 0, found) == 0


def test_a_seed_whose_pretraining_has_collapsed_is_left_out_with_its_own(options):
    rows = {"mae_supcon": ENTRIES["mae_supcon"]}
    found = pretrainings(options, list(rows.values()))
    collapsed = found["ast", "mae_supcon"][1]
    collapsed.run.write_config(collapsed.recipe, {})
    collapsed.run.log({"step": 15, "embedding_std": 0.001, "effective_rank": 1.1})
    assert init_of(rows["mae_supcon"], 1, options, found) is None
    assert list(plans_of(options, rows, found)) == [("mae_supcon", 0)]


def test_scores_are_kept_as_long_as_they_are_of_the_same_things(tmp_path):
    file, made = tmp_path / "scores" / "row_0.json", []

    def measure():
        made.append(1)
        return {"knn": 0.5}

    assert kept(file, [1, "pack", (2, 3)], measure) == kept(file, [1, "pack", (2, 3)], measure) == {"knn": 0.5}
    assert len(made) == 1
    kept(file, [1, "other pack", (2, 3)], measure)
    assert len(made) == 2
    file.write_text('{"of": ')
    with pytest.raises(CheckpointError, match=r"row_0\.json is damaged; delete it"):
        kept(file, [1], measure)


def row(name: str, *linear: float, **scores: float) -> Row:
    return Row(name, ENTRIES[name].label, [{"unseen_linear": value, **scores} for value in linear])


def test_the_weights_that_ship_are_held_against_the_better_probe_of_every_baseline():
    rows = [
        row("mfcc_svm", 0.40, unseen_knn=0.30, instrument_map=0.6),
        row("untrained", 0.20, 0.24, unseen_knn=0.45),
        row(SHIPPED_ROW, 0.58, 0.62, unseen_knn=0.5, instrument_map=0.55),
    ]
    found = goals(rows)
    assert found[0].startswith(
        "met    points of family accuracy on an unseen font over 40 MFCCs, RBF SVM: 20, goal"[:3]
    )
    assert "over 40 MFCCs, RBF SVM: 20, goal at least 15" in found[0]
    assert found[1].startswith("MISSED")
    assert "aim: 20, goal at least 25" in found[1]
    assert "instrument mAP on an unseen font over 40 MFCCs, RBF SVM: -5, goal at least 0" in found[2]
    assert "over AST untrained, linear probe: 15, goal at least 0" in found[3]
    assert len(found) == 4
    assert goals(rows[:2]) == []


def test_the_table_shows_means_spreads_sizes_and_gaps(tmp_path):
    rows = [row("log_mel", 0.3), row("mae", 0.5, 0.7, parameters=5.6e6, seconds=1234.0)]
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in score_table(rows).splitlines()]
    assert lines[0][1 : 1 + len(SCORES)] == list(SCORES.values())
    place = 1 + list(SCORES).index("unseen_linear")
    assert [line[place] for line in lines[2:]] == ["0.300", "0.600 ± 0.141"]
    assert lines[3][-3:] == ["5.60", "1,234", "2"]
    assert lines[2][-3:] == ["", "", "1"]
    assert "aim" not in report(rows)
    results.write(tmp_path / "docs" / "results", report(rows), rows)
    assert json.loads((tmp_path / "docs" / "results.json").read_text())[1]["scores"][1]["unseen_linear"] == 0.7
    assert (tmp_path / "docs" / "results.png").stat().st_size > 1000
    assert len(figure_of(rows).axes) == 2


def test_published_numbers_stand_beside_ours_with_their_sources():
    for name, published in PUBLISHED.items():
        assert all(set(one.values) <= set(COLUMNS[name]) and one.values and one.source for one in published)
        assert all(0 < value < 1 for one in published for value in one.values.values())
    text = real_table("irmas", [Row("mae", "AST, MAE", [{"irmas_f1_micro": 0.5}]), Row("untrained", "none", [])])
    lines = text.splitlines()
    assert len(lines) == 2 + 1 + len(PUBLISHED["irmas"])
    assert [cell.strip() for cell in lines[2].split("|")[1:-1]] == ["AST, MAE", "0.500", "", "", "here", ""]
    assert "0.674" in text
    assert "arXiv 2306.08850" in text


def test_weights_that_are_not_there_are_named_before_anything_runs(tmp_path):
    with pytest.raises(CheckpointError, match="nothing is at no-weights"):
        results.parse(["--test_data", str(tmp_path), "--rows", "ast_lora", "--ast", "no-weights"])
    options = results.parse(["--test_data", str(tmp_path), "--rows", "mae", "--quick", "--flags", "lr=1e-3"])
    assert (options.steps, options.flags["lr"], options.tune_flags["steps"]) == (4, "1e-3", "4")
    assert options.runs == Path("runs/results")


def test_real_data_sets_are_asked_by_their_protocols(options, tmp_path):
    rows = {name: ENTRIES[name] for name in ("mfcc_svm", "ast_lora")}
    for name, labels in LABELS.items():
        plans = instrument_plans(
            options, rows, {}, tmp_path / name, data=tmp_path / "pack", test_data=None, sources=None, labels=labels
        )
        for plan in plans.values():
            config = plan.config if plan.method == "lora" else plan.config.fine_tuning()
            assert (config.protocol, config.test_data, config.sources) == (name, None, [name])
            assert ("instrument" in config.assume_complete) == (name == "irmas")
            assert not config.predominant_only


def test_families_and_pitches_of_nsynth_are_told_of_its_test_split(make_clips, tmp_path):
    ear = Heard(mfcc_statistics, "mfcc", None, has_svm=True)
    clips = []
    for split, count in (("train", 12), ("test", 4)):
        for number in range(count):
            family, pitch = (("string", 50), ("flute", 90))[number % 2]
            clip = make_clips(1, split=split, id=f"nsynth/{split}/{number}", group=f"{split}/{number}")[0]
            labels = Labels(is_instrument=True, family=LabelSet((family,), complete=True), pitch=pitch)
            audio = type(clip.audio)(200.0 + 20 * pitch + number, 1.0)
            fields = {name: getattr(clip, name) for name in ("id", "source", "recording", "group", "split")}
            clips.append(type(clip)(**fields | {"recording": clip.id}, audio=audio, labels=labels))
    pack = write_pack(clips, tmp_path / "nsynth", processes=0)
    assert nsynth_scores(pack, ear, torch.device("cpu")) == {"family": 1.0, "pitch": 1.0}
    train_alone = write_pack(clips[:12], tmp_path / "half", processes=0)
    with pytest.raises(DataError, match="should hold NSynth's training and test split"):
        nsynth_scores(train_alone, ear, torch.device("cpu"))


@pytest.mark.slow(minutes=2)
def test_one_command_makes_the_table_and_the_next_one_finds_it(tmp_path, monkeypatch, capsys):
    for name, seed in (("pack", 0), ("other", 1)):
        prepare_gm(tmp_path / name, GmOptions(notes=120, bands=24, effects=16, seed=seed), processes=0)
    # Both are of one font, for there is no other that a test could render: nothing is dropped as alike.
    monkeypatch.setattr(
        "benchmarks.results_scores.unshared", lambda pack, other, fonts: Unshared(np.arange(len(other)), 0, {}, 0)
    )
    flags = ["--data", tmp_path / "pack", "--test_data", tmp_path / "other", "--runs", tmp_path / "runs", "--quick",
             "--rows", "log_mel", "mae", "--parallel", "1", "--out", tmp_path / "docs" / "results"]  # fmt: skip
    monkeypatch.setattr("sys.argv", ["results", *map(str, flags)])
    results.main()
    first = json.loads((tmp_path / "docs" / "results.json").read_text())
    assert [row["name"] for row in first] == ["log_mel", "mae"]
    assert set(SCORES) | {"seconds"} <= first[0]["scores"][0].keys()
    assert first[1]["scores"][0]["parameters"] > 5e6
    monkeypatch.setattr("benchmarks.bands.subprocess.run", pytest.fail)
    monkeypatch.setattr("benchmarks.results_scores.probe_families", pytest.fail)
    capsys.readouterr()
    results.main()
    assert json.loads((tmp_path / "docs" / "results.json").read_text()) == first
    assert "AST, MAE, linear probe" in capsys.readouterr().out

"""Probes from the command line to the run folder, what they learn, and what they refuse."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from accelerate import Accelerator
from safetensors import safe_open
from safetensors.torch import load_file

from backbones import ast_encoder
from checkpoints.config import parse_config
from checkpoints.errors import CheckpointError
from checkpoints.run import RunFolder
from data.clip import Labels
from data.errors import DataError
from data.pack import Pack
from data.writer import write_pack
from finetune import adapters, embeddings, probe
from finetune.choice import CLASSIFIERS
from finetune.ensemble import FUSIONS
from finetune.probe import Config, main

ROOT = Path(__file__).parents[2]


@pytest.fixture
def flags(band_pack, small_ast, tmp_path) -> dict[str, str]:
    return {
        "data": str(band_pack.folder), "init": str(small_ast), "cpu_threads": "1", "processes": "0",
        "cache": str(tmp_path / "features"), "out": str(tmp_path / "probe"),
    }  # fmt: skip


@pytest.fixture(autouse=True)
def no_figures(monkeypatch):
    """They take most of the time of a run of a second."""
    monkeypatch.setattr(probe, "figures_of", lambda predictions, specs: {})


def run_of(flags: dict[str, str], **more: str) -> RunFolder:
    return main(parse_config(Config, [f"--{name}={value}" for name, value in (flags | more).items()], ""))


def scores(run: RunFolder) -> dict:
    return json.loads((run.path / "scores.json").read_text())


def test_a_run_leaves_its_scores_and_what_was_said_and_no_model(flags, band_pack, capsys):
    run = run_of(flags)
    said = capsys.readouterr().out
    names = {path.name for path in run.path.iterdir()}
    assert names == {"config.yaml", "metrics.jsonl", "scores.json", "predictions.safetensors"}
    assert yaml.safe_load((run.path / "config.yaml").read_text())["recipe"] == "finetune/probe.py"
    found = scores(run)
    assert set(found) == {"validation", "test", "seconds", "features_seconds", "clips", "size"}
    assert (found["clips"], found["size"]) == (48, 32)
    heads = {"instrument", "family", "pitch", "is_instrument"}
    assert {key.removesuffix("_known") for key in found["test"]} >= heads
    assert "| instrument " in said
    assert "the best of 5 settings" in said
    lines = run.read_log()
    assert [line["c"] for line in lines] == [setting["c"] for setting in CLASSIFIERS["logistic"].settings]
    assert {f"{head}_validation" for head in heads} <= set(lines[0])
    tensors = load_file(run.path / "predictions.safetensors")
    assert tensors["test.rows"].tolist() == band_pack.rows("test").tolist()
    assert tensors["test.instrument"].shape == (12, 3)
    with safe_open(run.path / "predictions.safetensors", "pt") as opened:
        assert set(json.loads(opened.metadata()["instrument"])) == {"flute", "clarinet", "violin"}


@pytest.mark.parametrize("classifier", ["logistic", "svm", "gradient_boosting", "knn"])
def test_classic_features_tell_tones_apart(flags, classifier):
    run = run_of(flags, features="classic", classifier=classifier, heads="[instrument]")
    assert scores(run)["test"]["instrument_map"] > 0.9
    assert scores(run)["size"] == 4 * 68


def test_an_attentive_probe_learns_from_tokens(flags):
    run = run_of(flags, classifier="attentive", heads="[instrument,pitch]")
    assert scores(run)["validation"]["instrument_map"] > 0.5
    assert len(run.read_log()) == len(CLASSIFIERS["attentive"].settings)


def test_a_second_probe_starts_from_what_was_kept(flags, tmp_path, monkeypatch):
    one = run_of(flags)

    def refuse(*_):
        raise AssertionError("the backbone was run again")

    monkeypatch.setattr(embeddings.FrozenBackbone, "of", refuse)
    two = run_of(flags, out=str(tmp_path / "second"))
    assert scores(one)["test"] == scores(two)["test"]
    # Fewer labels and another classifier need no others either.
    few = run_of(flags, out=str(tmp_path / "few"), label_share="0.25", classifier="knn")
    assert scores(few)["clips"] == 12


def test_another_pack_is_tested(flags, band_pack, toy_pack, make_clips, tmp_path):
    run = run_of(flags, test_data=str(toy_pack.folder), heads="[family]", features="mfcc")
    tensors = load_file(run.path / "predictions.safetensors")
    assert tensors["test.rows"].tolist() == toy_pack.rows("test").tolist()
    whole = write_pack(make_clips(10, split="train"), tmp_path / "whole", processes=1)
    run = run_of(flags, test_data=str(whole.folder), heads="[family]", features="mfcc", out=str(tmp_path / "other"))
    assert load_file(run.path / "predictions.safetensors")["test.rows"].tolist() == list(range(10))


def test_an_ensemble_is_scored_beside_its_parts(flags, short_run, tmp_path, capsys):
    own = short_run | {"out": str(tmp_path / "tuned"), "eval_every": "0", "save_minutes": "100", "steps": "1"}
    own["heads"] = "[instrument,family]"
    tuned = adapters.main(parse_config(adapters.Config, [f"--{name}={value}" for name, value in own.items()], ""))
    for fusion in FUSIONS:
        run = run_of(
            flags, features="classic", classifier="svm", ensemble=str(tuned.path), fusion=fusion,
            out=str(tmp_path / fusion),
        )  # fmt: skip
        found = scores(run)
        assert set(found["parts"]) == {"probe", "fine_tuned", "ensemble"}
        assert found["parts"]["ensemble"]["test"] == found["test"]
        assert found["parts"]["fine_tuned"]["test"] == pytest.approx(
            json.loads((tuned.path / "scores.json").read_text())["test"], abs=1e-4
        )
        best = max(found["parts"][part]["validation"]["instrument_map"] for part in ("probe", "fine_tuned"))
        assert found["validation"]["instrument_map"] >= best - 0.02
    said = capsys.readouterr().out
    assert "fine_tuned instrument mAP" in said
    assert "ensemble   instrument mAP" in said
    with pytest.raises(
        CheckpointError, match="should share a head, the former has instrument, family, the latter pitch"
    ):
        run_of(flags, ensemble=str(tuned.path), heads="[pitch]", out=str(tmp_path / "none"))


def test_figures_are_drawn(flags, monkeypatch):
    monkeypatch.undo()
    run = run_of(flags, features="mfcc", heads="[instrument]")
    assert {path.name for path in run.pictures()} == {"classes_instrument.png", "confusion_instrument.png"}


def test_the_untrained_backbone_depends_on_the_seed_alone(flags, tmp_path, monkeypatch):
    monkeypatch.setitem(ast_encoder.PRESETS, "tiny", ast_encoder.PRESETS["tiny"] | {"num_hidden_layers": 2})
    found = [
        load_file(
            run_of(
                flags, init="untrained", clip_seconds="1.0", heads="[instrument]", seed=seed,
                out=str(tmp_path / name), cache=str(tmp_path / f"features_{name}"),
            ).path / "predictions.safetensors"
        )["test.instrument"]
        for name, seed in (("a", "0"), ("b", "0"), ("c", "1"))
    ]  # fmt: skip
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_a_backbone_hears_windows_of_the_length_that_is_asked_for(flags):
    for more, num_samples in (([], 15_600), (["--clip_seconds=0.5"], 8000)):  # the former are its 96 frames
        config = parse_config(Config, [*(f"--{name}={value}" for name, value in flags.items()), *more], "")
        asked, pack = config.fine_tuning(), Pack.open(config.data)
        source = probe.source_of(config, asked, probe.parts_of(config, asked, pack), Accelerator())
        assert source.num_samples == num_samples


def test_predominant_labels_alone_teach_less(flags, tmp_path):
    whole = run_of(flags, features="mfcc", heads="[instrument]")
    said = run_of(
        flags, features="mfcc", heads="[instrument]", predominant_only="true", assume_complete="[instrument]",
        out=str(tmp_path / "predominant"),
    )  # fmt: skip
    assert scores(said)["test"]["instrument_known"] == scores(whole)["test"]["instrument_known"]
    assert scores(said)["test"]["instrument_map"] < scores(whole)["test"]["instrument_map"] + 0.02


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"features": "mfcc", "classifier": "attentive"}, "--classifier attentive needs tokens"),
        ({"clip_seconds": "0"}, "--clip_seconds must be positive"),
        ({"processes": "-1"}, "--processes must not be negative"),
        ({"backbone": "cnn", "pooling": "class_token"}, "--pooling class_token needs a backbone that has one"),
        ({"label_share": "2"}, "--label_share must be at most 1"),
        ({"classifier": "forest"}, "--classifier"),
        ({"heads": "[genre]"}, "--heads asks for genre, which these training clips cannot teach"),
        ({"init": "/nowhere"}, "nothing is at /nowhere"),
        ({"ensemble": "/nowhere"}, "a run was expected in /nowhere"),
    ],
)
def test_bad_flags_get_one_sentence(flags, more, sentence):
    with pytest.raises(CheckpointError) as error:
        run_of(flags, **more)
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)
    assert not (Path(flags["out"]) / "metrics.jsonl").exists()


def test_a_split_without_clips_gets_one_sentence(flags, make_clips, tmp_path):
    labels = [Labels(is_instrument=bool(number % 2)) for number in range(30)]
    clips = make_clips(30)
    for count, missing in ((10, "validation"), (20, "test")):
        split = [
            "train" if number < 10 else "validation" if missing == "test" else "test" for number in range(10 + count)
        ]
        own = [
            type(clip)(clip.id, clip.source, clip.recording, f"toy/{number}", clip.audio, split[number], labels=label)
            for number, (clip, label) in enumerate(zip(clips[: 10 + count], labels, strict=False))
        ]
        pack = write_pack(own, tmp_path / missing, processes=1)
        with pytest.raises(DataError, match=f"a probe needs {missing} clips"):
            run_of(flags, data=str(pack.folder), features="mfcc")


def test_labels_that_the_heads_do_not_know_get_one_sentence(flags, make_clips, tmp_path):
    silent = write_pack(make_clips(6, labels=Labels(), split="test"), tmp_path / "unlabelled", processes=1)
    with pytest.raises(CheckpointError, match="labels of instrument were expected to score by"):
        run_of(flags, test_data=str(silent.folder), heads="[instrument]", features="mfcc")


def test_a_pack_of_another_rate_is_refused(flags, copied_pack):
    info = json.loads((copied_pack / "pack.json").read_text())
    (copied_pack / "pack.json").write_text(json.dumps(info | {"rate": 22_050}))
    with pytest.raises(DataError, match="sound at 16000 Hz was expected"):
        run_of(flags, test_data=str(copied_pack))


def test_too_many_clips_for_an_svm_get_one_sentence(flags, monkeypatch):
    monkeypatch.setattr(probe, "MOST_SVM_CLIPS", 20)
    with pytest.raises(DataError, match="an SVM learns from 20 clips at most"):
        run_of(flags, features="mfcc", classifier="svm")
    assert scores(run_of(flags, features="mfcc", classifier="svm", label_share="0.4"))["clips"] == 19


@pytest.mark.slow
def test_two_processes_find_the_same(flags, tmp_path):
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    found = []
    for processes, name in ((1, "one"), (2, "two")):
        own = flags | {"cache": str(tmp_path / f"features_{name}"), "out": str(tmp_path / name)}
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        ended = subprocess.run(
            [sys.executable, *launcher, "finetune/probe.py", *(f"--{n}={value}" for n, value in own.items())],
            cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert ended.returncode == 0, ended.stderr
        found.append(load_file(tmp_path / name / "predictions.safetensors"))
    assert all(torch.allclose(found[0][key], found[1][key], atol=1e-4) for key in found[0])


def test_help_says_what_there_is(capsys):
    with pytest.raises(SystemExit) as ended:
        parse_config(Config, ["--help"], probe.__doc__)
    assert ended.value.code == 0
    said = capsys.readouterr().out
    for word in (
        "--features",
        "gradient_boosting",
        "--ensemble",
        "--label_share",
        "accelerate launch finetune/probe.py",
    ):
        assert word in said

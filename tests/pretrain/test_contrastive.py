"""The contrastive recipe: what it writes, what it refuses, that it learns, and that a resume is exact."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

import pretrain.contrastive
from backbones import ast_encoder, wav2vec2
from backbones.ast_encoder import AstBackbone
from checkpoints.config import parse_config, recipe_config, run_command
from checkpoints.errors import CheckpointError
from checkpoints.weights import load_backbone, save_backbone
from data.augment import Augmentation
from data.clip import NOTHING, Labels
from data.errors import DataError
from data.mixing import Mixing
from data.writer import write_pack
from pretrain.contrastive import ERRORS, RECIPE, Config, main

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def two_layers(monkeypatch):
    for presets in (ast_encoder.PRESETS, wav2vec2.WAV2VEC2_PRESETS):
        monkeypatch.setitem(presets, "tiny", presets["tiny"] | {"num_hidden_layers": 2})


@pytest.fixture
def config(family_pack, tmp_path) -> Config:
    return Config(
        data=family_pack.folder, init="untrained", clip_seconds=0.5, batch_size=12, clips_per_class=3, steps=4,
        log_every=1, eval_every=0, probe_clips=24, test_clips=18, save_minutes=60, out=tmp_path / "run",
        cpu_threads=1, augment=Augmentation(gain_probability=0.5),
    )  # fmt: skip


def test_a_run_folder_holds_what_later_commands_need(config):
    run = main(config)
    names = {path.relative_to(run.path).as_posix() for path in run.path.rglob("*") if path.is_file()}
    assert {
        "config.yaml", "metrics.jsonl", "backbone/config.json", "backbone/model.safetensors",
        "backbone/preprocessor_config.json", "state/step_00000004/state.json", "figures/curves.png",
        "figures/map.png", "figures/families.png", "figures/distances.png",
    } <= names  # fmt: skip
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pkl", ".tmp"))]
    saved = yaml.safe_load((run.path / "config.yaml").read_text())
    assert saved["recipe"] == "pretrain/contrastive.py"
    assert saved["augment"]["gain_probability"] == 0.5
    lines = run.read_log()
    assert [line["step"] for line in lines if "loss" in line] == [1, 2, 3, 4]
    assert lines[0]["loss"] == pytest.approx(lines[0]["loss_triplet"])
    for name in ("knn", "linear", "family_map_at_r", "start_knn", "log_mel_linear", "embedding_std", "distance_timbre"):
        assert 0 <= lines[-1][name] < 2, name
    with Image.open(run.figures / "map.png") as picture:
        assert min(picture.size) > 300
    assert load_backbone(run.backbone).kind == "ast"


@pytest.mark.parametrize(
    "changes",
    [
        {"objective": "ntxent", "backbone": "wav2vec2"},
        {"objective": "supcon", "backbone": "wav2vec2-cnn"},
        {"objective": "triplet + 0.5*mae", "backbone": "cnn", "clip_seconds": 1.0, "grad_cache": 5},
        {"objective": "arcface + 0.1*triplet", "class_level": "family", "class_distance": "centroids"},
        {"objective": "center", "pooling": "attentive", "class_level": "timbre"},
        {"miner": "family_balanced", "soft_margin": True, "views": 2, "mix": Mixing(probability=1.0)},
    ],
    ids=lambda changes: changes.get("objective", "family_balanced"),
)
def test_every_objective_and_backbone_runs_a_few_steps(config, changes):
    for name, value in changes.items():
        setattr(config, name, value)
    config.steps = 2
    run = main(config)
    lines = [line for line in run.read_log() if "loss" in line]
    assert all(torch.tensor(line["loss"]).isfinite() for line in lines)
    assert all(line["skipped_steps"] == 0 for line in lines)
    assert load_backbone(run.backbone).kind == config.backbone


def test_a_few_steps_bring_families_together_on_timbres_never_trained_on(config):
    config.batch_size, config.steps, config.lr, config.warmup, config.augment = 24, 60, 1e-3, 0.3, Augmentation()
    config.probe_clips, config.test_clips = 48, 36
    scores = main(config).read_log()[-1]
    assert scores["family_map_at_r"] > scores["start_family_map_at_r"] + 0.1
    assert scores["family_map_at_r"] > scores["log_mel_family_map_at_r"]


def test_a_resumed_run_is_the_unbroken_run_to_the_last_bit(config, tmp_path):
    config.save_minutes, config.keep_states, config.objective = 0, 9, "triplet + 0.1*mae"
    config.augment, config.mix = Augmentation.standard(), Mixing(probability=0.5)
    unbroken = main(config)
    broken = Path(shutil.copytree(unbroken.path, tmp_path / "broken"))
    for step in (3, 4):
        shutil.rmtree(broken / "state" / f"step_0000000{step}")
    arguments = ["--resume", str(broken)]
    resumed = main(recipe_config(Config, RECIPE, arguments, ""))
    losses = [[line["loss"] for line in run.read_log() if "loss" in line] for run in (unbroken, resumed)]
    assert losses[0] == losses[1]
    first, second = (load_file(run.state / "step_00000004" / "model.safetensors") for run in (unbroken, resumed))
    assert all(first[name].equal(second[name]) for name in first)


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["triplet", "ntxent + 0.5*supcon"])
def test_two_processes_learn_what_one_does(family_pack, tmp_path, launch, losses_of, objective):
    torch.manual_seed(0)
    save_backbone(AstBackbone.untrained("tiny", 48, -5.0, 4.0), tmp_path / "backbone")
    losses = []
    for processes in (1, 2):
        out = tmp_path / f"of_{processes}"
        flags = {
            "data": family_pack.folder, "init": tmp_path / "backbone", "clip_seconds": 0.5, "batch_size": 12,
            "clips_per_class": 3, "steps": 4, "log_every": 1, "eval_every": 0, "probe_clips": 24, "test_clips": 18,
            "cpu_threads": 1, "out": out, "objective": objective, "patchout": 0.25,
        }  # fmt: skip
        done = launch({name: str(value) for name, value in flags.items()}, processes, RECIPE)
        assert done.returncode == 0, done.stderr[-2000:]
        losses.append(losses_of(out))
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)  # sums in another order


def test_it_starts_from_the_newest_masked_autoencoder_and_says_so(config, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("checkpoints.shipped.SHIPPED", tmp_path / "pretrained")
    config.init, config.steps = "newest", 1
    main(config)
    assert "init     untrained" in capsys.readouterr().out
    from pretrain.mae import Config as MaeConfig
    from pretrain.mae import main as mae

    first = mae(
        MaeConfig(data=config.data, clip_seconds=0.5, batch_size=8, steps=1, probe_clips=0, eval_clips=4,
                  out=Path("runs/first"), cpu_threads=1)
    )  # fmt: skip
    config.out, config.lr = Path("runs/second"), 1e-12
    run = main(config)
    assert "init     runs/first" in capsys.readouterr().out
    assert run.config()["init"] == "runs/first", "not newest, which may be another one tomorrow"
    name = "encoder.layer.0.intermediate.dense.weight"
    before, after = (load_file(one.backbone / "model.safetensors")[name] for one in (first, run))
    torch.testing.assert_close(after, before, atol=1e-9, rtol=0)


def test_a_collapsed_run_is_stopped_in_one_sentence(config, monkeypatch):
    config.steps, config.eval_every = 3, 1
    monkeypatch.setattr(
        pretrain.embedding_scores.EmbeddingEvaluation, "__call__",
        lambda self, model, run, step: {"projection_std": 0.0001, "effective_rank": 1.0},
    )  # fmt: skip
    with pytest.raises(CheckpointError, match=r"the embeddings have collapsed: .* lower --lr"):
        main(config)


def test_without_timbres_or_labels_views_are_what_is_left(config, make_clips, tmp_path):
    clips = make_clips(40, labels=Labels(), split="train") + make_clips(
        12, labels=Labels(is_instrument=False, family=NOTHING, instrument=NOTHING), split="validation", rate=8000
    )
    clips = [type(clip)(**{key: getattr(clip, key) for key in clip.__slots__} | {"id": f"toy/{number}",
             "recording": f"{number}", "group": f"toy/{number}"}) for number, clip in enumerate(clips)]  # fmt: skip
    config.data = write_pack(clips, tmp_path / "bare", processes=1).folder
    config.objective, config.steps = "ntxent", 2
    lines = [line for line in main(config).read_log() if "loss" in line]
    assert all(line["loss"] > 0 for line in lines)
    config.objective, config.views, config.out = "triplet", 1, tmp_path / "second"
    lines = [line for line in main(config).read_log() if "loss" in line]
    assert [line["loss"] for line in lines] == [0.0, 0.0], "no pair is known to be the same"


def test_refusals(config, tmp_path):
    for flags, words in (
        ({"objective": "tripet"}, "'tripet' found"), ({"objective": "mae"}, "add another term"),
        ({"objective": "ntxent", "views": 1}, "needs two views"), ({"genre_margin": 0.5}, "less than --margin"),
        ({"soft_margin": True}, "add --miner hard"), ({"steps": 1, "epochs": 1.0}, "choose one"),
        ({"objective": "triplet + mae", "backbone": "wav2vec2"}, "needs a backbone on the log-mel"),
        ({"batch_size": 0}, "must be positive"),
        ({"level_weights": [1.0, 1.0]}, "numbers of 0 or more for timbre, instrument, family"),
        ({"level_weights": [0.0] * 4}, "not all 0"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=words):
            Config(**flags)
    config.batch_size = 13
    with pytest.raises(DataError, match="classes of 3; choose a --batch_size"):
        main(config)


def test_bad_input_ends_with_one_sentence_and_code_2(capsys):
    for arguments, words in (
        (["--augment.gian_db", "[0,1]"], "did you mean --augment.gain_db?"),
        (["--objective", "tripet"], "'tripet' found"),
        (["--data", "nowhere"], "a pack was expected at nowhere"),
    ):
        with pytest.raises(SystemExit) as ended:
            run_command(lambda arguments=arguments: main(recipe_config(Config, RECIPE, arguments, "")), ERRORS)
        assert ended.value.code == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ")
        assert words in line


def test_yaml_reaches_what_is_nested(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump({"augment": {"gain_probability": 0.25}, "mix": {"probability": 0.5}}))
    parsed = parse_config(Config, ["--mix.clips", "[2,3]", "--config", str(file)], "")
    assert (parsed.augment.gain_probability, parsed.mix.probability, parsed.mix.clips) == (0.25, 0.5, (2, 3))
    file.write_text(yaml.safe_dump({"augment": {"gian_probability": 0.25}}))
    with pytest.raises(CheckpointError, match=r"unknown key 'augment.gian_probability'; did you mean"):
        parse_config(Config, ["--config", str(file)], "")


def test_metrics_are_json(config):
    config.steps = 1
    for line in main(config).metrics.read_text().splitlines():
        json.loads(line)

"""Scores of embeddings whose knowledge is known in advance, what is written when, and what counts as a collapse."""

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from torch import Tensor
from transformers import ASTConfig, ASTModel

from backbones.ast_encoder import AstBackbone
from checkpoints.run import RunFolder
from data.clip import NOTHING, Labels, LabelSet
from data.labels import INSTRUMENTS, LabelTable
from data.pack import Pack
from data.taxonomy import FAMILY_OF_INSTRUMENT
from data.writer import write_pack
from pretrain.embedding_model import EmbeddingModel
from pretrain.embedding_scores import (
    DEPTH_NAMES,
    HEADLINES,
    MIN_CLIPS,
    EmbeddingEvaluation,
    ScoredClips,
    collapse_of,
    describe,
    spread_of,
)
from pretrain.objectives import Classes, classes_of

SAMPLES, CPU = 8000, torch.device("cpu")
PLAYED = ("violin", "cello", "trumpet", "flute")
GENRE_NAMES = ("classical", "jazz_blues")
PITCHES = (60, 62, 64)
NOISE = Labels(is_instrument=False, family=NOTHING, instrument=NOTHING)


def note(instrument: str, timbre: str, pitch: int) -> Labels:
    family = LabelSet((FAMILY_OF_INSTRUMENT[instrument],), complete=True)
    return Labels(True, family, LabelSet((instrument,), complete=True), timbre, pitch=pitch)


def contents() -> list[tuple[str, str, Labels]]:
    """Group, split and labels of 64 clips: four timbres of each instrument, genres, noises; half to train on."""
    clips = []
    for timbre in range(4):
        split = ("train", "validation")[timbre % 2]
        for instrument in PLAYED:
            name = f"{instrument}-{timbre}"
            clips += [(name, split, note(instrument, name, pitch)) for pitch in PITCHES]
        for genre in GENRE_NAMES:
            known = LabelSet((genre,), complete=True)
            clips.append((f"{genre}-{timbre}", split, Labels(is_instrument=True, genre=known)))
        clips += [(f"noise-{timbre}-{number}", split, NOISE) for number in range(2)]
    return clips


@pytest.fixture(scope="module")
def pack(make_clips, tmp_path_factory) -> Pack:
    """Clip number n is a sine of 200 + 10 n Hz."""
    known = contents()
    clips = [
        replace(clip, group=group, split=split, labels=labels)
        for clip, (group, split, labels) in zip(make_clips(len(known)), known, strict=True)
    ]
    return write_pack(clips, tmp_path_factory.mktemp("packs") / "scores", processes=1)


@pytest.fixture(scope="module")
def evaluation(pack) -> EmbeddingEvaluation:
    return EmbeddingEvaluation(Accelerator(cpu=True), pack, None, SAMPLES, 200, 200)


def numbers_of(waveform: Tensor) -> list[int]:
    """Which clips of the pack these are, by their frequency."""
    peak = torch.fft.rfft(waveform, n=16_000).abs().argmax(dim=1)
    return ((peak - 200) / 10).round().long().clamp(0, len(contents()) - 1).tolist()


def embedding_by(vector_of: Callable[[int], Tensor]) -> Callable[[Tensor, Tensor | None], Tensor]:
    """An embedding that knows which clip it hears."""
    return lambda waveform, num_samples: torch.stack([vector_of(number) for number in numbers_of(waveform)])


def one_hot(names: tuple, name: object, length: float) -> Tensor:
    return length * torch.tensor([float(one == name) for one in names])


def perfect(number: int) -> Tensor:
    """Family before instrument before timbre before pitch, and beside them genre and whether it is an instrument."""
    group, _, labels = contents()[number]
    parts = ["".join(labels.family.present), "".join(labels.instrument.present), "".join(labels.genre.present)]
    families = ("string", "brass", "flute")
    return torch.cat([
        one_hot((*families, ""), parts[0], 4.0), one_hot(PLAYED, parts[1], 2.0), one_hot(GENRE_NAMES, parts[2], 2.0),
        one_hot((True, False), labels.is_instrument, 6.0), one_hot(tuple(range(4)), int(group.split("-")[1]), 0.5),
        one_hot(PITCHES, labels.pitch, 0.25),
    ])  # fmt: skip


def test_the_chosen_clips_are_spread_over_all_that_can_be_scored(pack):
    clips = ScoredClips.choose(pack, pack.rows("validation"), 24)
    labels = clips.labels
    assert len(clips.rows) == 24
    assert set(clips.rows) <= set(pack.rows("validation"))
    assert (labels["is_instrument"] == 0).sum() == 4
    assert ((labels["genre"] == 1).sum(dim=1) == 1).sum() == 4
    assert np.bincount(clips.family[clips.family >= 0], minlength=12).max() <= 6, "families get equal shares"
    groups = pack.column("group")[clips.rows]
    assert np.array_equal(clips.group == clips.group[:, None], groups == groups[:, None])
    assert len(ScoredClips.choose(pack, np.empty(0, np.int64), 24).rows) == 0


def test_a_perfect_embedding_scores_1(evaluation):
    values, tested = evaluation.scores(embedding_by(perfect))
    assert len(tested) == len(evaluation.test.rows) == 32
    ones = {"knn", "linear", "instrument_auc", "pitch_accuracy"}
    ones |= {f"{level}_precision_at_1" for level in ("family", "instrument", "genre")}
    ones |= {f"{level}_map_at_r" for level in ("family", "instrument", "genre")}
    assert {name: values[name] for name in ones} == dict.fromkeys(ones, 1.0)
    assert "wrong_neighbour_depth" not in values, "no neighbour is wrong"
    depths = [values[f"distance_{name}"] for name in DEPTH_NAMES]
    assert depths == sorted(depths)
    assert len(set(depths)) == 5


def test_a_useless_embedding_is_at_chance_level(evaluation):
    values, _ = evaluation.scores(embedding_by(lambda number: torch.ones(4)))
    assert values["linear"] == pytest.approx(1 / 3)
    assert values["instrument_auc"] == 0.5
    assert values["embedding_std"] == pytest.approx(0, abs=1e-6)
    assert values["uniformity"] == pytest.approx(0, abs=1e-6)
    assert values["alignment"] == 0

    def random(number: int) -> Tensor:
        return torch.randn(16, generator=torch.Generator().manual_seed(number))

    values, _ = evaluation.scores(embedding_by(random))
    assert 0 < values["knn"] < 0.7
    assert 0.1 < values["instrument_auc"] < 0.9
    assert values["family_map_at_r"] < 0.5
    assert values["instrument_map_at_r"] < 0.4
    assert 2 <= values["wrong_neighbour_depth"] <= 4


def test_neighbours_of_the_same_group_never_count(evaluation):
    """Every timbre is one point, and beside it lies one of another family."""
    partner = {"violin": "trumpet", "cello": "flute"}

    def by_timbre(number: int) -> Tensor:
        instrument, *rest = contents()[number][0].split("-")
        pairs = ("trumpet-1", "trumpet-3", "flute-1", "flute-3")
        at = one_hot(pairs, "-".join([partner.get(instrument, instrument), *rest]), 1.0)
        return torch.cat([at, torch.tensor([0.5 if instrument in partner else 0.0, float(not at.any())])])

    values, _ = evaluation.scores(embedding_by(by_timbre))
    assert values["family_precision_at_1"] == 0
    assert values["instrument_precision_at_1"] == 0
    assert values["wrong_neighbour_depth"] == 3


def test_scores_of_levels_that_nobody_knows_are_absent(make_clips, tmp_path):
    """Families and timbres alone are known, as in NSynth."""
    clips = []
    for clip, (group, split, labels) in zip(make_clips(64), contents(), strict=True):
        if labels.timbre:
            labels = replace(labels, instrument=LabelSet(), pitch=None)
            clips.append(replace(clip, group=group, split=split, labels=labels))
    pack = write_pack(clips, tmp_path / "families", processes=1)
    evaluation = EmbeddingEvaluation(Accelerator(cpu=True), pack, None, SAMPLES, 60, 60)
    values, _ = evaluation.scores(lambda waveform, num_samples: waveform[:, :32])
    assert {"knn", "linear", "family_map_at_r", "wrong_neighbour_depth", "embedding_std"} <= set(values)
    for absent in ("instrument_", "genre_", "pitch_", "distance_instrument", "distance_non_instrument"):
        assert not [name for name in values if name.startswith(absent)], absent
    assert "distance_family" in values, "other timbres of a family, whatever their instruments are"
    depth = evaluation._depth
    assert depth.dtype == torch.int8
    assert (depth.diagonal() == -1).all()
    assert set(depth.flatten().tolist()) == {-1, 0, 2, 3}


def test_without_labels_to_learn_from_neighbours_are_scored(pack, make_clips, tmp_path):
    bare = write_pack(make_clips(8, labels=Labels(), split="train"), tmp_path / "bare", processes=1)
    evaluation = EmbeddingEvaluation(Accelerator(cpu=True), bare, pack, SAMPLES, 200, 200)
    assert len(evaluation.train.rows) == 0
    assert len(evaluation.test.rows) == len(pack), "all splits of another pack are tested"
    values, _ = evaluation.scores(embedding_by(perfect))
    assert values["family_map_at_r"] == 1
    assert not values.keys() & {"knn", "linear", "instrument_auc", "pitch_accuracy"}


def model_of() -> EmbeddingModel:
    torch.manual_seed(0)
    config = ASTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, patch_size=16,
        frequency_stride=16, time_stride=16, num_mel_bins=32, max_length=48, hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    return EmbeddingModel(AstBackbone(ASTModel(config), -5.0, 4.0), "mean", 12, 6, 0, None)


def files_of(run: RunFolder) -> set[str]:
    return {path.relative_to(run.path).as_posix() for path in run.path.rglob("*") if path.is_file()}


def test_an_evaluation_scores_draws_and_saves_until_the_embedding_collapses(pack, tmp_path, capsys):
    evaluation = EmbeddingEvaluation(Accelerator(cpu=True), pack, None, SAMPLES, 60, 60)
    model, run = model_of(), RunFolder(tmp_path / "run")
    evaluation.measure_fixed_lines(model)
    said = capsys.readouterr().out
    assert "clips of 16 timbres or recordings, on" in said
    assert "before training kNN" in said
    assert "log-mel statistics kNN" in said
    assert set(evaluation.fixed) == {f"{line}_{score}" for line in ("log_mel", "start") for score in HEADLINES}

    values = evaluation(model, run, 3)
    assert evaluation.fixed.items() <= values.items()
    assert values["knn"] == evaluation.fixed["start_knn"], "the model has not changed"
    assert values["projection_std"] > 0.01
    assert all(np.isfinite(value) and type(value) is float for value in values.values())
    assert model.training
    pictures = {f"figures/{name}.png" for name in ("map", "families", "distances")}
    assert {*pictures, "backbone/model.safetensors"} <= files_of(run)

    saved = load_file(run.backbone / "model.safetensors")
    with torch.no_grad():
        model.encoder.ast.layernorm.bias += 1
        model.projector.layers[-1].weight.zero_()
    values = evaluation(model, run, 4)
    assert collapse_of(values).startswith("the embeddings have collapsed: their projections deviate by 0.0000 ")
    kept = load_file(run.backbone / "model.safetensors")
    assert all(kept[name].equal(tensor) for name, tensor in saved.items()), "what was learned before stays"


def test_other_processes_score_print_and_write_nothing(pack, tmp_path, capsys):
    waited = []
    other = SimpleNamespace(is_main_process=False, device=CPU, wait_for_everyone=lambda: waited.append(True))
    evaluation = EmbeddingEvaluation(other, pack, None, SAMPLES, 60, 60)
    run = RunFolder(tmp_path / "run")
    evaluation.measure_fixed_lines(model_of())
    assert evaluation(model_of(), run, 1) == {}
    assert waited == [True]
    assert evaluation.fixed == {}
    assert not run.path.exists()
    assert capsys.readouterr().out == ""


def test_a_pack_without_clips_to_test_says_so_and_saves(make_clips, tmp_path, capsys):
    bare = write_pack(make_clips(8, labels=Labels(), split="train"), tmp_path / "bare", processes=1)
    evaluation = EmbeddingEvaluation(Accelerator(cpu=True), bare, None, SAMPLES, 60, 60)
    assert "no clips of known families, genres or non-instruments to test on" in capsys.readouterr().out
    run = RunFolder(tmp_path / "run")
    evaluation.measure_fixed_lines(model_of())
    assert evaluation(model_of(), run, 1) == {}
    assert {name.split("/")[0] for name in files_of(run)} == {"backbone"}


def test_a_few_clips_say_nothing_of_a_collapse(pack, tmp_path):
    evaluation = EmbeddingEvaluation(Accelerator(cpu=True), pack, None, SAMPLES, 60, 60)
    evaluation.test = ScoredClips.choose(pack, pack.rows("validation")[:3], 60)
    values = evaluation(model_of(), RunFolder(tmp_path / "run"), 1)
    assert not values.keys() & {"projection_std", "embedding_std", "effective_rank", "uniformity"}
    assert all(np.isfinite(value) for value in values.values())
    assert collapse_of(values) is None
    assert spread_of({"size": lambda unit: len(unit)}, torch.eye(MIN_CLIPS)) == {"size": MIN_CLIPS}


@pytest.mark.parametrize(
    ("values", "has_collapsed"),
    [
        ({}, False),
        ({"projection_std": 0.5, "effective_rank": 20.0}, False),
        ({"projection_std": 0.04, "effective_rank": 5.0}, False),  # after masked reconstruction
        ({"projection_std": 0.7, "effective_rank": 1.9999}, False),  # three families, each at a point
        ({"projection_std": 0.0004, "effective_rank": 9.0}, True),  # rounding alone spans many directions
        ({"projection_std": 0.7, "effective_rank": 1.01}, True),  # all on a line
        ({"projection_std": float("nan"), "effective_rank": 9.0}, True),
    ],
)
def test_what_counts_as_a_collapse(values, has_collapsed):
    sentence = collapse_of(values)
    assert (sentence is not None) == has_collapsed
    if sentence:
        assert "--lr" in sentence
        assert sentence.count(". ") == 0, "one sentence"


def test_scores_in_words():
    values = {"knn": 0.5, "linear": 0.25, "log_mel_knn": 0.125, "log_mel_linear": 0.0, "pitch_accuracy": 1.0}
    assert describe(values) == "this run kNN 0.500 linear 0.250; log-mel statistics kNN 0.125 linear 0.000; pitch 1.000"
    assert describe({}) == ""


def test_distances_of_classes_by_centroids(evaluation, pack):
    """Violin and cello point the same way, the trumpet the other, all with a large part in common."""
    angles = {"violin": [3.0, 0.1], "cello": [3.0, 0.0], "trumpet": [-3.0, 0.0], "flute": [0.0, 3.0]}

    def embed(number: int) -> Tensor:
        return torch.tensor([*angles.get(contents()[number][0].split("-")[0], [0.0, 0.0]), 50.0])

    model = model_of()
    model.embed = embedding_by(embed)
    tree = classes_of(LabelTable(pack), "instrument")
    found = evaluation.with_centroid_distance(tree, model)
    assert (found.level, found.names) == (tree.level, tree.names)
    place = {name: INSTRUMENTS.index(name) for name in (*angles, "piano")}
    violin = found.distance[place["violin"]]
    assert violin[place["violin"]] == 0
    assert violin[place["cello"]] < 0.01
    assert violin[place["trumpet"]] > 0.9
    assert 0.2 < violin[place["flute"]] < 0.8
    assert violin[place["piano"]] == tree.distance[place["violin"], place["piano"]], "nobody plays it here"
    assert found.distance.equal(found.distance.T)
    assert model.training
    nothing = Classes("timbre", ("a",), torch.zeros(1, 1))
    labels = {name: torch.full((3,), -1) for name in ("timbre", "is_instrument", "is_weak")}
    bare = SimpleNamespace(train=SimpleNamespace(labels=labels))
    assert EmbeddingEvaluation.with_centroid_distance(bare, nothing, model) is nothing

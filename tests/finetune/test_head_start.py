"""Heads that start as a linear probe are that probe, and training goes on from it."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from checkpoints.config import parse_config
from checkpoints.weights import load_backbone
from data.labels import LabelTable
from data.loader import heads_of_clips
from finetune import adapters
from finetune.head_start import C, start_heads, why_random
from finetune.heads import HeadSpec
from finetune.model import FineTuned
from finetune.targets import targets_of

SPECS = [HeadSpec("instrument", "binary", ("flute", "violin", "clarinet")), HeadSpec("pitch", "classes", ("60", "61"))]


def model_of(folder, **changes) -> FineTuned:
    settings = {"pooling": "mean", "specs": SPECS, "form": "linear", "hidden": 8, "sections": 1, "num_samples": 16_000}
    torch.manual_seed(1)
    return FineTuned(load_backbone(folder), None, "head", **(settings | changes))


def started(folder, pack, validated=True) -> tuple[FineTuned, float]:
    model = model_of(folder)
    others = pack.rows("validation") if validated else np.empty(0, np.int64)
    start = start_heads(model, pack, LabelTable(pack), pack.rows("train"), others, frozenset(), torch.device("cpu"))
    return model, start.c


def logits_of(model: FineTuned, pack, rows) -> tuple[np.ndarray, dict[str, torch.Tensor]]:
    batch = next(heads_of_clips(pack, rows, 16_000, len(rows))).to("cpu")
    with torch.no_grad():
        embedding, tokens = model.eval().embed(batch.waveform, batch.num_samples)
        return embedding.numpy().astype(np.float64), model.heads(embedding, tokens)


def test_the_heads_answer_as_scikit_learns_logistic_regressions_do(small_ast, band_pack):
    model, c = started(small_ast, band_pack)
    rows = band_pack.rows("train")
    features, logits = logits_of(model, band_pack, rows)
    scaled = (features - features.mean(0)) / features.std(0)
    targets = targets_of(LabelTable(band_pack).take(rows), SPECS)
    for place in range(3):
        peer = LogisticRegression(C=c, tol=1e-8, max_iter=5000).fit(scaled, targets["instrument"].value[:, place])
        np.testing.assert_allclose(logits["instrument"][:, place], peer.decision_function(scaled), atol=5e-3)
    known = targets["pitch"].is_known.numpy()
    peer = LogisticRegression(C=c, tol=1e-8, max_iter=5000).fit(scaled[known], targets["pitch"].value[known])
    # Of two classes scikit-learn has one vector where the softmax has two, so only who is penalised how much differs.
    assert (logits["pitch"].argmax(1).numpy()[known] == peer.predict(scaled[known])).mean() > 0.9


def test_without_validation_clips_the_penalty_is_a_fixed_one(small_ast, band_pack):
    assert started(small_ast, band_pack, validated=False)[1] == C[1]
    assert started(small_ast, band_pack)[1] in C


def test_a_network_in_training_stays_in_training_and_its_backbone_as_it_was(small_ast, band_pack):
    model = model_of(small_ast)
    before = {name: value.clone() for name, value in model.backbone.state_dict().items()}
    rows = band_pack.rows("train")
    start_heads(model.train(), band_pack, LabelTable(band_pack), rows, rows[:0], frozenset(), torch.device("cpu"))
    assert model.training
    for name, value in model.backbone.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize(
    "changes", [{"form": "deep"}, {"form": "attention"}, {"sections": 2}, {"pooling": "attentive"}]
)
def test_only_linear_heads_of_a_fixed_pooling_can_start_as_a_probe(small_ast, changes):
    assert why_random(model_of(small_ast, **changes))
    assert why_random(model_of(small_ast)) is None


def test_a_run_begins_at_the_probes_score_and_says_so(short_run, capsys):
    first = {}
    for start in ("probe", "random"):
        flags = short_run | {"head_start": start, "out": f"{short_run['out']}_{start}"}
        run = adapters.main(parse_config(adapters.Config, [f"--{name}={value}" for name, value in flags.items()], ""))
        first[start] = next(line["loss_instrument"] for line in run.read_log() if "loss_instrument" in line)
    said = capsys.readouterr().out
    assert "start from a linear probe of" in said
    assert "start from noise: --head_start says so" in said
    assert first["probe"] < 0.9 * first["random"]

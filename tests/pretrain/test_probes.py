"""Probes and the errors of simple predictors, against answers known in advance."""

import numpy as np
import pytest
import torch

from backbones.ast_encoder import AstBackbone
from backbones.log_mel import LogMel
from backbones.mae import MaskedAutoencoder
from data.clip import Labels, LabelSet
from data.loader import heads_of_clips
from data.taxonomy import FAMILIES
from data.writer import write_pack
from pretrain.probes import ProbeClips, log_mel_embedding, probe
from pretrain.validation import masked_errors, target_for

CPU = torch.device("cpu")


def test_no_timbre_is_both_learned_from_and_tested(family_pack):
    clips = ProbeClips.choose(family_pack, 60)
    groups = family_pack.column("group")
    assert set(groups[clips.train.rows]).isdisjoint(groups[clips.test.rows])
    assert len(clips.train.rows) == 60
    assert len(clips.test.rows) == 30
    assert np.bincount(clips.train.family[clips.train.family > 0]).max() == 20, "families get equal shares"
    assert clips.train.num_timbres == len(set(groups[family_pack.rows("train")])), "timbres are taken in turn"


def test_there_is_nothing_to_probe_without_labels(make_clips, tmp_path):
    clips = make_clips(20, labels=Labels())
    assert ProbeClips.choose(write_pack(clips, tmp_path / "bare", processes=1), 10) is None


def test_another_pack_is_tested_with_all_its_splits(family_pack, make_clips, tmp_path):
    labels = Labels(family=LabelSet(("string",), complete=True))
    other = write_pack(make_clips(20, labels=labels), tmp_path / "other", processes=1)
    clips = ProbeClips.choose(family_pack, 60, other)
    assert clips.train.pack is family_pack
    assert clips.test.pack is other
    assert len(clips.test.rows) == 20
    assert {FAMILIES[family] for family in clips.test.family} == {"string"}
    assert clips.describe().endswith(f"others in {other.folder}")


def test_probes_tell_perfect_from_useless_embeddings(family_pack):
    clips = ProbeClips.choose(family_pack, 72)
    family = {row: name for part in (clips.train, clips.test) for row, name in zip(part.rows, part.family, strict=True)}

    def perfect(batch):
        return torch.eye(12)[[family[row] for row in batch.rows.tolist()]] + 0.01

    def useless(batch):
        return torch.ones(len(batch.rows), 4)

    scores = probe(perfect, clips, 8000)
    assert (scores["knn"], scores["linear"]) == (1.0, 1.0)
    assert scores["effective_rank"] == pytest.approx(2, abs=1e-3), "three points span two directions"
    assert probe(useless, clips, 8000)["linear"] == pytest.approx(1 / 3)


def test_log_mel_statistics_tell_the_families_of_the_toy_pack_apart(family_pack):
    clips = ProbeClips.choose(family_pack, 72)
    scores = probe(log_mel_embedding(LogMel(-5.0, 4.0), CPU), clips, 8000)
    assert scores["linear"] > 0.9


def test_log_mel_statistics_are_those_of_the_sounding_frames(family_pack):
    log_mel = LogMel(0.0, 0.5)
    rows = family_pack.rows("train")[:3]
    short = next(heads_of_clips(family_pack, rows, 30_000, 3))  # clips of 19,200 samples, padded
    assert short.num_samples.tolist() == [19_200] * 3
    padded = log_mel_embedding(log_mel, CPU)(short)
    alone = log_mel(next(heads_of_clips(family_pack, rows, 19_200, 3)).to(CPU).waveform)[0]
    expected = torch.cat([alone.mean(1), alone.std(1, unbiased=False)], dim=1)
    torch.testing.assert_close(padded, expected, atol=1e-4, rtol=1e-4)


@pytest.fixture(scope="module")
def model() -> MaskedAutoencoder:
    torch.manual_seed(0)
    return MaskedAutoencoder(AstBackbone.untrained("tiny", 64, -5.0, 4.0), 32, 1, 2)


@pytest.mark.parametrize("target", ["normalised", "raw"])
def test_the_errors_of_an_oracle_and_of_simple_predictors(model, family_pack, monkeypatch, target):
    rows = family_pack.rows("validation")[:10]
    mask = {"mask_ratio": 0.75, "kind": "random"}
    forward, transform = MaskedAutoencoder.forward, target_for(target)

    def oracle(self, *arguments, **keywords):
        out = forward(self, *arguments, **keywords)
        return out._replace(prediction=transform(out.target))

    monkeypatch.setattr(MaskedAutoencoder, "forward", oracle)
    errors = masked_errors(model, family_pack, rows, mask, transform)
    assert errors["masked_error"] == 0
    assert errors["mean_error"] > 0.01
    assert errors["nearest_error"] > 0.01

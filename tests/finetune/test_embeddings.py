"""What a frozen backbone makes of whole clips: windows, averages, tokens, and numbers that are kept."""

from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch
from accelerate import Accelerator
from safetensors import safe_open

from backbones import ast_encoder
from backbones.builders import Backbone, untrained_backbone
from backbones.log_mel import frames_of
from checkpoints.weights import checksum_of_weights
from data.errors import DataError
from data.loader import as_floats
from finetune.embeddings import FrozenBackbone, FrozenTokens, kept

CPU = torch.device("cpu")
WINDOW = 6400


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ast_encoder.PRESETS, "tiny", ast_encoder.PRESETS["tiny"] | {"num_hidden_layers": 2})
        torch.manual_seed(0)
        return untrained_backbone("ast", "tiny", frames_of(WINDOW), -6.0, 4.0)


@pytest.fixture
def rows(toy_pack) -> np.ndarray:
    """Clips from 0.5 s to 0.99 s: one that takes two windows, one that takes three, and a repetition of them."""
    lengths = toy_pack.num_samples
    assert lengths[0] == 8000
    assert lengths[49] == 15_840
    return np.array([0, 49, 3, 49])


def window(pack, row: int, start: int) -> torch.Tensor:
    return as_floats(torch.from_numpy(pack.samples(row)[start : start + WINDOW].copy()))[None]


@torch.no_grad()
def test_an_embedding_is_the_mean_over_windows(backbone, toy_pack, rows):
    found = FrozenBackbone(backbone, "mean", WINDOW, CPU).of(toy_pack, rows, is_shown=False)
    assert found.shape == (4, 192)
    assert found.dtype == np.float32
    for place, starts in ((0, (0, 1600)), (1, (0, 4720, 9440))):
        own = [backbone(window(toy_pack, rows[place], start)).tokens.mean(dim=1)[0] for start in starts]
        np.testing.assert_allclose(found[place], torch.stack(own).mean(dim=0), atol=1e-5)
    np.testing.assert_array_equal(found[1], found[3])


@torch.no_grad()
def test_a_clip_shorter_than_a_window_sounds_as_if_it_were_alone(backbone, toy_pack):
    long = FrozenBackbone(backbone, "mean", 16_000, CPU).of(toy_pack, np.array([0, 49]), is_shown=False)
    sound = as_floats(torch.from_numpy(toy_pack.samples(0).copy()))[None]
    padded = torch.nn.functional.pad(sound, (0, 8000))
    alone = backbone(padded, torch.tensor([8000]))
    np.testing.assert_allclose(long[0], alone.tokens[~alone.is_padding].mean(dim=0), atol=1e-5)


def test_each_pooling_has_its_own_embedding(backbone, toy_pack, rows):
    found = {
        pooling: FrozenBackbone(backbone, pooling, WINDOW, CPU).of(toy_pack, rows[:1], is_shown=False)
        for pooling in ("mean", "class_token", "mean_layers", "mean_max_layers")
    }
    assert [values.shape[1] for values in found.values()] == [192, 192, 192, 384]
    assert not np.allclose(found["mean"], found["mean_layers"])


@torch.no_grad()
def test_tokens_lie_behind_one_another_and_short_clips_end_in_nothing(backbone, toy_pack, rows):
    source = FrozenTokens(backbone, WINDOW, CPU, longest=15_840)
    found = source.of(toy_pack, rows, is_shown=False)
    own = backbone(window(toy_pack, 49, 4720)).tokens[0]
    num_patches = len(own)
    assert found.shape == (4, 3 * num_patches, 192)
    assert found.dtype == np.float16
    np.testing.assert_allclose(found[1, num_patches : 2 * num_patches], own, atol=5e-3)
    assert np.isfinite(found[1]).all()
    assert np.isfinite(found[0, : 2 * num_patches]).all()
    assert np.isnan(found[0, 2 * num_patches :]).all()


def test_tokens_that_do_not_fit_into_memory_get_one_sentence(backbone, toy_pack, rows, monkeypatch):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=1000))
    with pytest.raises(DataError, match="the tokens of 4 clips take"):
        FrozenTokens(backbone, WINDOW, CPU, longest=15_840).of(toy_pack, rows, is_shown=False)


def test_the_backbone_stays_as_it_was(backbone, toy_pack, rows):
    before = checksum_of_weights(backbone)
    FrozenBackbone(backbone, "mean", WINDOW, CPU).of(toy_pack, rows, is_shown=False)
    assert checksum_of_weights(backbone) == before
    assert not backbone.training


class Counted:
    """A source that counts what it is asked for."""

    name = "counted"

    def __init__(self, identity: str = "one"):
        self.identity, self.asked = identity, 0

    def of(self, pack, rows, is_shown=True):
        self.asked += len(rows)
        return np.stack([rows, rows * 2], axis=1).astype(np.float32)


def test_what_was_computed_once_is_kept(toy_pack, tmp_path, capsys):
    source, rows, accelerator = Counted(), np.array([1, 2, 5]), Accelerator()
    one = kept(source, toy_pack, rows, tmp_path / "kept", accelerator)
    two = kept(source, toy_pack, rows, tmp_path / "kept", accelerator)
    np.testing.assert_array_equal(one, two)
    assert source.asked == 3
    (file,) = (tmp_path / "kept").iterdir()
    assert file.name.startswith("counted-")
    assert str(file) in capsys.readouterr().out
    with safe_open(file, "np") as opened:
        assert opened.metadata() == {"pack": str(toy_pack.folder), "of": "one"}


def test_other_clips_another_source_and_a_damaged_file_are_computed_anew(toy_pack, tmp_path):
    source, rows, accelerator = Counted(), np.array([1, 2, 5]), Accelerator()
    kept(source, toy_pack, rows, tmp_path, accelerator)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:40])
    np.testing.assert_array_equal(kept(source, toy_pack, rows, tmp_path, accelerator)[:, 0], rows)
    assert source.asked == 6
    kept(source, toy_pack, rows[:2], tmp_path, accelerator)
    assert source.asked == 8
    other = Counted("two")
    kept(other, toy_pack, rows, tmp_path, accelerator)
    assert other.asked == 3
    assert len(list(tmp_path.iterdir())) == 3

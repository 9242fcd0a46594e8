"""Heads on the disk: whole or not at all, and a sentence for whatever is wrong with them."""

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from checkpoints import heads
from checkpoints.errors import CheckpointError
from checkpoints.heads import load_heads, save_heads

DESCRIPTION = {
    "backbone": "ast",
    "heads": [{"name": "instrument", "kind": "binary", "classes": ["violin", "flute"]}],
    "thresholds": {"instrument": [0.25, 0.1 + 0.2]},
    "scores": {"instrument_map": 1 / 3},
}


def tensors(seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "heads.instrument.weight": torch.randn(2, 4, generator=generator).requires_grad_(),
        "attention.query": torch.randn(4, 2, generator=generator).T,  # not contiguous
    }


@pytest.fixture
def saved(tmp_path) -> Path:
    (tmp_path / "run").mkdir()
    save_heads(tmp_path / "run" / "heads", tensors(), DESCRIPTION)
    return tmp_path / "run" / "heads"


def test_what_lies_on_the_disk(saved):
    assert sorted(path.name for path in saved.iterdir()) == ["heads.json", "heads.safetensors"]
    assert [path.name for path in saved.parent.iterdir()] == ["heads"]
    with safe_open(saved / "heads.safetensors", "pt") as file:
        assert set(file.keys()) == set(tensors())
    content = json.loads((saved / "heads.json").read_text())
    assert content == {"version": 1, **DESCRIPTION}


def test_a_reload_gives_what_was_saved_to_the_last_bit(saved):
    loaded, description = load_heads(saved)
    assert description == DESCRIPTION
    for name, value in tensors().items():
        assert torch.equal(loaded[name], value)
        assert not loaded[name].requires_grad


def test_a_score_of_no_clips_becomes_null(saved):
    save_heads(saved, tensors(), {**DESCRIPTION, "scores": {"family_auc": math.nan, "family_map": 0.5}})
    assert "NaN" not in (saved / "heads.json").read_text()
    assert load_heads(saved)[1]["scores"] == {"family_auc": None, "family_map": 0.5}


def test_saving_again_replaces_and_a_failure_leaves_what_was_there(saved, monkeypatch):
    save_heads(saved, tensors(1), DESCRIPTION)
    assert torch.equal(load_heads(saved)[0]["attention.query"], tensors(1)["attention.query"])

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(heads, "save_file", full)
    with pytest.raises(CheckpointError, match=r"cannot be written .*free some room"):
        save_heads(saved, tensors(2), DESCRIPTION)
    assert torch.equal(load_heads(saved)[0]["attention.query"], tensors(1)["attention.query"])
    assert [path.name for path in saved.parent.iterdir()] == ["heads"]


@pytest.mark.parametrize("name", ["heads.json", "heads.safetensors"])
def test_a_missing_file_is_named(saved, name):
    (saved / name).unlink()
    with pytest.raises(CheckpointError, match=f"{name} is missing; give a run of finetune/adapters.py that has saved"):
        load_heads(saved)


def test_weights_that_were_cut_short_are_named(saved):
    file = saved / "heads.safetensors"
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(CheckpointError, match=r"heads\.safetensors is damaged .*copy it again, or resume the run"):
        load_heads(saved)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"heads\.json is damaged \(Expecting property name"),
        (b"\xff\xfe\x00", r"heads\.json is damaged \("),
        ("[]", "names no version"),
        ("{}", "names no version"),
        ('{"version": 2}', "is of version 2, this code reads version 1; use the Luthier that wrote it"),
        ('{"version": 1, "thresholds": [0.5]}', "its thresholds are not listed by head"),
        ('{"version": 1, "thresholds": {"family": [0.5, NaN]}}', "the thresholds of family are not all finite"),
        ('{"version": 1, "thresholds": {"family": [Infinity]}}', "the thresholds of family are not all finite"),
        ('{"version": 1, "thresholds": {"family": [null]}}', "the thresholds of family are not all finite"),
        ('{"version": 1, "thresholds": {"family": 0.5}}', "the thresholds of family are not all finite"),
    ],
)
def test_a_description_that_is_wrong_gets_a_sentence(saved, content, message):
    (saved / "heads.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(CheckpointError, match=message) as error:
        load_heads(saved)
    assert "\n" not in str(error.value)

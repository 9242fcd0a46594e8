"""Bands of a few tones, whose instruments can be told by ear, and a backbone small enough to be trained on them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import ASTConfig, ASTModel

from backbones.ast_encoder import AstBackbone
from checkpoints.weights import save_backbone
from data.clip import NOTHING, Clip, Labels, LabelSet
from data.pack import Pack
from data.writer import write_pack

BANDS = (("flute",), ("violin", "flute"), ("clarinet",), ("violin", "clarinet"), ("flute", "clarinet"), ())
PARTIALS = {"flute": (1.0,), "violin": (1.0, 0.8, 0.7, 0.6, 0.5, 0.4), "clarinet": (1.0, 0.0, 0.8, 0.0, 0.6)}


@dataclass(frozen=True)
class BandOfTones:
    """Harmonic tones, one an instrument; noise where there is none; as an `Audio`."""

    instruments: tuple[str, ...]
    number: int
    seconds: float = 1.4

    def read(self) -> tuple[np.ndarray, int]:
        time = np.arange(round(16_000 * self.seconds)) / 16_000
        sound = 0.002 * np.random.default_rng(self.number).standard_normal(len(time))
        for place, name in enumerate(self.instruments):
            hz = 200 + 60 * (self.number % 7) + 40 * place
            for index, level in enumerate(PARTIALS[name]):
                sound += 0.1 * level * np.sin(2 * np.pi * hz * (index + 1) * time)
        return (sound if self.instruments else 30 * sound).astype(np.float32)[:, None], 16_000


@pytest.fixture(scope="session")
def band_pack(tmp_path_factory) -> Pack:
    """72 bands of up to two of three instruments and noises: 48 to train on, 12 to validate, 12 to test."""
    clips = []
    for number in range(72):
        present = BANDS[number % len(BANDS)]
        labels = Labels(is_instrument=True, instrument=LabelSet(present, complete=True), pitch=60 + number % 3)
        nothing = Labels(is_instrument=False, instrument=NOTHING, family=NOTHING)
        clips.append(
            Clip(
                id=f"tones/{number:03d}",
                source="tones",
                recording=f"{number:03d}",
                group=f"tones/{number}",
                audio=BandOfTones(present, number),
                split="train" if number < 48 else "validation" if number < 60 else "test",
                labels=labels if present else nothing,
            )
        )
    return write_pack(clips, tmp_path_factory.mktemp("packs") / "tones", processes=1)


@pytest.fixture(scope="session")
def small_ast(tmp_path_factory) -> Path:
    """Folder of an AST of two layers for clips of a second."""
    torch.manual_seed(0)
    config = ASTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, patch_size=16,
        frequency_stride=16, time_stride=16, max_length=96, num_mel_bins=128,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("backbones") / "small_ast"
    save_backbone(AstBackbone(ASTModel(config), -6.0, 4.0), folder)
    return folder


@pytest.fixture
def short_run(band_pack, small_ast, tmp_path) -> dict[str, str]:
    """Flags of a run of a few seconds in ``tmp_path / "run"``."""
    return {
        "data": str(band_pack.folder), "init": str(small_ast), "clip_seconds": "1.0", "batch_size": "8", "steps": "6",
        "log_every": "1", "eval_every": "3", "save_minutes": "0", "keep_states": "10", "cpu_threads": "1",
        "out": str(tmp_path / "run"),
    }  # fmt: skip

"""A run as an audit uses it: sound of any length in, one embedding out.

Shapes: S samples, B windows at a time, E embedding size.
"""

import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from audit.errors import AuditError
from backbones.builders import Backbone
from backbones.frozen import Frozen
from backbones.pooling import AttentivePooling
from checkpoints.adapters import ADDS_NOTHING, load_adapter
from checkpoints.errors import CheckpointError
from checkpoints.heads import load_heads
from checkpoints.run import RunFolder
from checkpoints.weights import checksum_of_weights, find_backbone, window_of
from data.windows import window_starts

BATCH = 32
FINE_TUNING = "finetune/adapters.py"
"""The recipe whose runs have heads, and perhaps an adapter."""


class Embedder:
    """A frozen backbone with the length of sound that it hears at a time.

    Attributes:
        frozen: the backbone, its adapter in, and its pooling.
        num_samples: of a window.
        pooling: its name, one of `backbones.pooling.POOLINGS`, or ``attentive``.
    """

    def __init__(self, frozen: Frozen, num_samples: int):
        self.frozen, self.num_samples = frozen, num_samples
        self.pooling = "attentive" if frozen.attention is not None else frozen.pooling

    @classmethod
    def load(
        cls, run: str | os.PathLike, device: torch.device | str = "cpu", pooling: str | None = None,
        layers: Sequence[int] = (), num_samples: int | None = None, dtype: torch.dtype = torch.float32,
    ) -> "Embedder":  # fmt: skip
        """Loads what a run has learned: of a fine-tuned one the backbone with its adapter, without the heads.

        Args:
            run: a run folder, a backbone's folder in transformers' layout, or an id on the Hub.
            pooling: that of the run if left out; ``mean`` where it says nothing of one.
            layers, dtype: see `backbones.frozen.Frozen`.
            num_samples: of a window; what the run was trained on if left out.

        Raises:
            CheckpointError: no such run, or it is damaged.
            AuditError: attention is asked for, and the run has learned none; or it is to take layers.
        """
        device, run = torch.device(device), os.fspath(run)
        folder = RunFolder(Path(run).expanduser())
        config = folder.config() if (folder.path / "config.yaml").is_file() else {}
        backbone, attention = find_backbone(run), None
        if config.get("recipe") == FINE_TUNING:
            tensors, description = load_heads(folder.heads)
            trained = description.get("pooling", "mean")
            if description.get("method") not in ADDS_NOTHING:
                load_adapter(backbone, folder.adapter)
            if "attentive" in (trained, pooling) and pooling in (None, trained):
                attention = _attention_of(backbone, tensors, folder)
        else:
            # What pretraining learned to attend by is dropped after it; the mean takes its place.
            trained = config.get("pooling", config.get("probe_pooling")) or "mean"
            trained = "mean" if trained == "attentive" else trained
        chosen = pooling or trained
        if chosen == "attentive" and attention is None:
            raise AuditError(f"{run} has learned no attentive pooling; choose another --pooling, as mean")
        if attention is not None and layers:
            raise AuditError(f"{run} pools the last layer by attention; give --layers together with --pooling mean")
        frozen = Frozen(backbone, chosen, device, layers, attention, dtype)
        return cls(frozen, num_samples or max(window_of(run, backbone), backbone.min_samples))

    @property
    def kind(self) -> str:
        """Of the backbone."""
        return self.frozen.backbone.kind

    @cached_property
    def checksum(self) -> str:
        """Of everything that decides the tokens: weights, adapter, attention, front end, settings."""
        attention = self.frozen.attention
        return checksum_of_weights(self.frozen.backbone, *([] if attention is None else [attention]))

    @cached_property
    def width(self) -> int:
        """E."""
        silence = torch.zeros(1, self.num_samples, device=self.frozen.device)
        return self.frozen(silence).shape[1]

    def __call__(self, waveform: np.ndarray) -> np.ndarray:
        """The embedding ``(E,)``, float32, of a waveform, the mean over its windows, as clips are embedded.

        Args:
            waveform: float32 in [-1, 1], ``(S,)``, mono, 16 kHz, of any length but nothing.
        """
        if waveform.ndim != 1 or not len(waveform):
            raise ValueError(f"a waveform (S,) of a sample or more was expected, one of shape {waveform.shape} found")
        sound, size = torch.from_numpy(np.array(waveform, dtype=np.float32)), self.num_samples
        num_samples = None if len(sound) >= size else torch.tensor([len(sound)], device=self.frozen.device)
        starts = torch.from_numpy(window_starts(len(sound), size))
        windows = torch.nn.functional.pad(sound, (0, max(0, size - len(sound)))).unfold(0, size, 1)
        batches = (
            (windows[part].to(self.frozen.device), num_samples, torch.zeros(len(part), dtype=torch.int64))
            for part in starts.split(BATCH)
        )
        return self.frozen.of_clips(batches, 1)[0].numpy()


def _attention_of(backbone: Backbone, tensors: Mapping[str, Tensor], folder: RunFolder) -> AttentivePooling:
    attention, begin = AttentivePooling(backbone.width), "attention."
    own = {name.removeprefix(begin): value for name, value in tensors.items() if name.startswith(begin)}
    try:
        attention.load_state_dict(own)
    except RuntimeError as error:
        raise CheckpointError(
            f"the attention in {folder.heads} does not fit the backbone in {folder.backbone}; copy the run again"
        ) from error
    return attention

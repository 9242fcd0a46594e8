"""A run as an audit uses it: sound of any length in, one embedding out.

Shapes: N clips or waveforms, S samples, E embedding size.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from audit.errors import AuditError
from backbones.builders import Backbone
from backbones.frozen import Frozen
from backbones.pooling import AttentivePooling
from checkpoints.adapters import ADDS_NOTHING, load_adapter
from checkpoints.errors import CheckpointError
from checkpoints.heads import load_heads
from checkpoints.run import RunFolder
from checkpoints.shipped import folder_of
from checkpoints.weights import checksum_of_weights, find_backbone, window_of
from data.pack import Pack
from data.windows import window_starts, windows_of

BATCH = 32
"""Windows at once."""
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
            run: a run folder, a backbone's folder in transformers' layout, the name of weights that ship, or an id on
                the Hub.
            pooling: that of the run if left out; ``mean`` where it says nothing of one.
            layers, dtype: see `backbones.frozen.Frozen`.
            num_samples: of a window; what the run was trained on if left out, and no less than the backbone hears.

        Raises:
            CheckpointError: no such run, or it is damaged.
            AuditError: attention is asked for, and the run has learned none; or it is to take layers.
        """
        run = os.fspath(run)
        folder = RunFolder(folder_of(run))
        config = folder.config() if (folder.path / "config.yaml").is_file() else {}
        backbone, attention = find_backbone(run), None
        if config.get("recipe") == FINE_TUNING or folder.heads.is_dir():  # the latter alone where it was merged
            tensors, description = load_heads(folder.heads)
            trained, num_samples = description.get("pooling", "mean"), num_samples or description.get("num_samples")
            if config and description.get("method") not in ADDS_NOTHING:
                load_adapter(backbone, folder.adapter)
            if trained == "attentive" and pooling in (None, trained):
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
        frozen = Frozen(backbone, chosen, layers, attention, dtype).to(device)
        return cls(frozen, max(num_samples or window_of(run, backbone), backbone.min_samples))

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
        """The embedding ``(E,)``, float32, of a sound of any length, as clips are embedded.

        Args:
            waveform: float32 in [-1, 1], ``(S,)``, mono, 16 kHz.
        """
        return self.of_waveforms(torch.from_numpy(np.array(waveform, dtype=np.float32))[None])[0].numpy()

    def of_waveforms(self, waveform: Tensor) -> Tensor:
        """The embeddings ``(N, E)``, float32 on the CPU, of sounds of one length: the means over their windows.

        Args:
            waveform: float in [-1, 1], ``(N, S)``, at 16 kHz.

        Raises:
            ValueError: another shape, or no sample at all.
        """
        self.check(waveform)
        count, length = waveform.shape
        starts = torch.from_numpy(window_starts(length, self.num_samples))
        padded = nn.functional.pad(waveform, (0, max(0, self.num_samples - length)))
        windows = padded.unfold(1, self.num_samples, 1)  # (N, begins, samples of a window), a view
        clip, number = torch.arange(count).repeat_interleave(len(starts)), starts.repeat(count)
        device = self.frozen.device
        batches = (
            (
                windows[own.to(waveform.device), begin.to(waveform.device)].to(device),
                None if length >= self.num_samples else torch.full((len(own),), length, device=device),
                own,
            )
            for own, begin in zip(clip.split(BATCH), number.split(BATCH), strict=True)
        )
        return self.frozen.of_clips(batches, count)

    @staticmethod
    def check(waveform: Tensor) -> None:
        """Complains of what is no sound.

        Raises:
            ValueError: not ``(N, S)``, no sample at all, or no floats.
        """
        if waveform.ndim != 2 or not waveform.shape[1] or not waveform.is_floating_point():
            raise ValueError(
                f"waveforms (N, S) in floats were expected, {tuple(waveform.shape)} {waveform.dtype} found"
            )

    def of_rows(
        self,
        pack: Pack,
        rows: np.ndarray,
        batch_size: int = BATCH,
        advance: Callable[[int], object] = lambda clips: None,
    ) -> np.ndarray:
        """The embeddings ``(N, E)``, float32, of some clips of a pack.

        Args:
            batch_size: windows at once.
            advance: called now and then with how many clips more are done.
        """

        def heard() -> Iterator[tuple[Tensor, Tensor | None, Tensor]]:
            done = 0
            for windows in windows_of(pack, rows, self.num_samples, batch_size):
                windows = windows.to(self.frozen.device)
                yield windows.waveform, windows.num_samples, windows.clip
                begun = int(windows.clip[-1]) + 1
                advance(begun - done)
                done = begun

        return self.frozen.of_clips(heard(), len(rows)).numpy()


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

"""What a finished run makes of a clip, and runs that differ in their seed alone.

Shapes: B rows of a batch, S samples, K windows of W samples, E embedding size.
"""

import re
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from backbones.log_mel import RATE
from backbones.pooling import OF_LAYERS, pool
from checkpoints.errors import CheckpointError
from checkpoints.run import RunFolder
from checkpoints.shipped import folder_of
from checkpoints.weights import find_backbone
from pretrain.embedding_scores import Embed

OF_ONE_RUN = ("seed", "out", "resume", "init")
"""Settings in which runs may differ and still be of one setting; `init` if it is a run of one setting too."""
SHORTEST = round(0.25 * RATE)
"""A clip's last window counts from this many samples on."""


def embedding_of(run: RunFolder, device: torch.device) -> tuple[Embed, int]:
    """The embedding of a run, pooled as it was trained, and how many samples of a clip it was trained on.

    Attention is dropped after training, so the mean takes its place.
    """
    config = run.config()
    pooling = config.get("pooling", config.get("probe_pooling", "mean"))
    pooling = "mean" if pooling == "attentive" else pooling
    backbone = find_backbone(str(run.path), config.get("backbone")).to(device).eval()

    def embed(waveform: Tensor, num_samples: Tensor | None) -> Tensor:
        return pool(backbone(waveform, num_samples, hidden=pooling in OF_LAYERS), pooling)

    return embed, round(config["clip_seconds"] * RATE)


def in_windows(embed: Embed, size: int) -> Embed:
    """The mean of an embedding over a clip's windows of `size` samples, weighted by how much of each is sound.

    A last window with less than `SHORTEST` samples of sound is left out.
    """

    def mean(waveform: Tensor, num_samples: Tensor | None) -> Tensor:
        if num_samples is None:
            num_samples = torch.full((len(waveform),), waveform.shape[1], device=waveform.device)
        starts = torch.arange(0, waveform.shape[1], size, device=waveform.device)
        padded = torch.nn.functional.pad(waveform, (0, len(starts) * size - waveform.shape[1]))
        sound = (num_samples[:, None] - starts).clamp(0, size)  # (B, K)
        is_heard = (sound >= SHORTEST) | (starts == 0)
        embeddings = embed(padded.reshape(-1, size)[is_heard.flatten()], sound[is_heard])
        weights = torch.where(is_heard, sound, 0).to(embeddings.dtype)
        spread = embeddings.new_zeros(*sound.shape, embeddings.shape[1])  # (B, K, E)
        spread[is_heard] = embeddings
        return (spread * weights[..., None]).sum(dim=1) / weights.sum(dim=1, keepdim=True)

    return mean


def settings_of(paths: Sequence[Path]) -> dict[str, list[RunFolder]]:
    """Runs that differ in their seed alone, under their name without it; one may be the name of weights that ship.

    Raises:
        CheckpointError: a folder holds no run, or two settings go by one name.
    """
    groups: list[tuple[dict[str, Any], list[RunFolder]]] = []
    for run in (RunFolder(folder_of(str(path))) for path in paths):
        setting = _setting_of(run)
        same = next((runs for other, runs in groups if other == setting), None)
        if same is None:
            groups.append((setting, [run]))
        else:
            same.append(run)
    named: dict[str, list[RunFolder]] = {}
    for _, runs in groups:
        name = _name_of([run.path.name for run in runs])
        if name in named:
            raise CheckpointError(
                f"runs of one setting should have names of their own, {name} is the name of two; rename a folder"
            )
        named[name] = runs
    return named


def _setting_of(run: RunFolder) -> dict[str, Any]:
    config = run.config()
    init = config.get("init")
    if init and (Path(init) / "config.yaml").is_file():
        init = _setting_of(RunFolder(Path(init)))
    return {name: value for name, value in config.items() if name not in OF_ONE_RUN} | {"init": init}


def _name_of(names: Sequence[str]) -> str:
    """The name of one run, or of several without the seed that the first ends in."""
    return names[0] if len(names) == 1 else re.sub(r"[_-]\d+$", "", names[0])


def mean_and_spread(values: Sequence[float]) -> str:
    """Mean and standard deviation over seeds (of the sample, n - 1), as a cell of a table; the mean alone of one."""
    if len(values) == 1:
        return f"{values[0]:.3f}"
    return f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}"

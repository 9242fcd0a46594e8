"""Puts the chunks of a recording to a network, many at once, and gathers what its heads say.

Shapes: B batch, S samples, T chunks, C classes of a head.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from backbones.log_mel import WINDOW
from checkpoints.errors import CheckpointError
from data.decode import RATE
from data.errors import DataError
from finetune.heads import HeadSpec
from finetune.model import FineTuned
from finetune.prediction import POOLINGS, HeadPrediction, pool_over_time
from finetune.streaming import fitted, is_silent

SHORTEST_CHUNK, LONGEST_CHUNK = 0.5, 60.0
SHORTEST_HOP = 0.05
"""Seconds; 200,000 chunks of a concert."""


@dataclass(frozen=True)
class Settings:
    """How recordings are heard."""

    chunk_seconds: float | None = None
    """Of sound that the network hears at once; as long as the clips it was trained on by default."""
    hop_seconds: float | None = None
    """From the beginning of a chunk to that of the next; half a chunk by default."""
    pooling: str = "mean"
    """How chunks become a recording, see `finetune.prediction.POOLINGS`."""
    batch_size: int = 16
    """Chunks at once."""
    heads: tuple[str, ...] | None = None
    """Which heads are asked; all by default."""
    threshold: float | None = None
    """From which probability on a class counts as heard. By default those that were chosen on validation, one a class,
    of clips whose windows were pooled by their mean."""

    def __post_init__(self):
        if self.chunk_seconds is not None and not SHORTEST_CHUNK <= self.chunk_seconds <= LONGEST_CHUNK:
            raise ValueError(
                f"--chunk_seconds should be from {SHORTEST_CHUNK:g} to {LONGEST_CHUNK:g}, {self.chunk_seconds:g} found"
            )
        if self.hop_seconds is not None and not self.hop_seconds >= SHORTEST_HOP:
            raise ValueError(f"--hop_seconds should be {SHORTEST_HOP:g} or more, {self.hop_seconds:g} found")
        if self.pooling not in POOLINGS:
            raise ValueError(f"--pooling should be one of {', '.join(POOLINGS)}, {self.pooling} found")
        if self.batch_size < 1:
            raise ValueError(f"--batch_size should be 1 or more, {self.batch_size} found")
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise ValueError(f"--threshold should be from 0 to 1, {self.threshold:g} found")

    def sizes(self, model: FineTuned) -> tuple[int, int]:
        """Samples of a chunk, and from the beginning of one to that of the next.

        Raises:
            ValueError: chunks would leave out sound between them.
        """
        size = model.num_samples if self.chunk_seconds is None else round(self.chunk_seconds * RATE)
        hop = size // 2 if self.hop_seconds is None else round(self.hop_seconds * RATE)
        if hop > size:
            raise ValueError(f"--hop_seconds should be at most a chunk's {size / RATE:g} s, {hop / RATE:g} found")
        return size, hop

    def specs(self, model: FineTuned) -> list[HeadSpec]:
        """The heads that are asked.

        Raises:
            ValueError: the model lacks one.
        """
        known = [spec.name for spec in model.specs]
        for name in self.heads or ():
            if name not in known:
                raise ValueError(f"--heads should name some of {', '.join(known)}, which this run has, {name!r} found")
        return [spec for spec in model.specs if self.heads is None or spec.name in self.heads]


@torch.inference_mode()
def hear(
    model: FineTuned,
    chunks: Iterable[tuple[int, np.ndarray]],
    settings: Settings,
    progress: Callable[[float], None],
) -> tuple[np.ndarray, np.ndarray, dict[str, HeadPrediction]]:
    """What a network hears in a recording.

    Args:
        model: left as it was found, training or not.
        chunks: see `finetune.streaming.chunks_of`.
        progress: called with the seconds that were heard, after every batch.

    Returns:
        ``times``, ``is_silent`` and ``heads`` of a `Prediction`.

    Raises:
        CheckpointError: the network answers with NaN.
        DataError: the recording is shorter than a frame of the log-mel.
        ValueError: no such head, or a batch that does not fit into the device's memory.
    """
    specs, (size, _) = settings.specs(model), settings.sizes(model)
    device, was_training = next(model.parameters()).device, model.training
    times: list[tuple[int, int]] = []
    silence: list[bool] = []
    answers: dict[str, list[Tensor]] = {spec.name: [] for spec in specs}  # on the device, which nobody waits for
    sounding = _sounding(chunks, times, silence)
    model.eval()
    try:
        while batch := list(islice(sounding, settings.batch_size)):
            probabilities = model.probabilities(*_as_batch(batch, size, device))
            for name, found in answers.items():
                found.append(probabilities[name].float())
            progress(times[-1][1] / RATE)
    except torch.OutOfMemoryError as error:
        raise ValueError(
            f"--batch_size {settings.batch_size} does not fit into the memory of {device}; give a smaller one"
        ) from error
    finally:
        model.train(was_training)
    is_quiet = np.array(silence)
    heads = {}
    for spec in specs:
        probabilities = np.zeros((len(is_quiet), len(spec.classes)), np.float32)
        if answers[spec.name]:
            probabilities[~is_quiet] = torch.cat(answers[spec.name]).cpu().numpy()
        heads[spec.name] = _of_head(spec, probabilities, is_quiet, model.thresholds.get(spec.name), settings)
    return np.array(times) / RATE, is_quiet, heads


def _sounding(
    chunks: Iterable[tuple[int, np.ndarray]], times: list[tuple[int, int]], silence: list[bool]
) -> Iterator[np.ndarray]:
    """The chunks in which something sounds; notes of all where they lie and whether they are silent."""
    for first, samples in chunks:
        if len(samples) < WINDOW:
            raise DataError(f"too short: {len(samples) / RATE:.3g} s, at least {WINDOW / RATE:g} s expected")
        times.append((first, first + len(samples)))
        silence.append(is_silent(samples))
        if not silence[-1]:
            yield fitted(samples)


def _as_batch(chunks: list[np.ndarray], size: int, device: torch.device) -> tuple[Tensor, Tensor | None]:
    """The waveform ``(B, S)``, zeros behind a chunk's end, and how much of each row is sound; None where all is."""
    lengths = [len(chunk) for chunk in chunks]
    waveform = torch.zeros(len(chunks), size, pin_memory=device.type == "cuda")
    for row, chunk in zip(waveform.numpy(), chunks, strict=True):
        row[: len(chunk)] = chunk
    num_samples = None if min(lengths) == size else torch.tensor(lengths, device=device)
    return waveform.to(device, non_blocking=True), num_samples


def _of_head(
    spec: HeadSpec, probabilities: np.ndarray, is_quiet: np.ndarray, thresholds: Tensor | None, settings: Settings
) -> HeadPrediction:
    if not np.isfinite(probabilities).all():
        raise CheckpointError(f"the head {spec.name} answers with NaN, its weights are damaged; train the run again")
    if thresholds is not None:
        thresholds = thresholds.cpu().numpy().astype(np.float32)
        if settings.threshold is not None:
            thresholds = np.full_like(thresholds, settings.threshold)
    pooled = pool_over_time(probabilities[~is_quiet], "mean" if spec.kind == "classes" else settings.pooling)
    return HeadPrediction(spec.name, spec.kind, tuple(spec.classes), probabilities, pooled, thresholds)

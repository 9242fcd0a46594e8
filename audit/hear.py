"""Any run as the HEAR benchmark asks for it: ``hear-validator audit.hear --model runs/NAME``.

    import audit.hear as hear
    model = hear.load_model("runs/NAME").to("cuda")
    embeddings = hear.get_scene_embeddings(audio, model)                    # (N, E)
    embeddings, timestamps = hear.get_timestamp_embeddings(audio, model)    # (N, T, E), (N, T) in ms

The interface of Turian et al. 2022, "HEAR: Holistic Evaluation of Audio Representations" (arXiv 2203.03022), section
3.1. A scene is embedded as an audit embeds a clip. For timestamps the run hears half a second around every one of them,
50 ms apart, as many submissions did: patches of a spectrogram lie too far apart, and this way every backbone has them.

Shapes: N sounds, S samples, T timestamps, E embedding size.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from audit.embedder import BATCH, Embedder
from backbones.log_mel import RATE

HOP_MS = 50
"""From timestamp to timestamp: the longest that the benchmark recommends. A whole number of samples, so that timestamps
do not drift."""
HOP = RATE * HOP_MS // 1000
HEARD = RATE // 2
"""Samples around a timestamp: three patches of AST along time."""


class Model(nn.Module):
    """What the benchmark moves to a device and asks for its sizes."""

    def __init__(self, embedder: Embedder):
        super().__init__()
        self.embedder, self.frozen = embedder, embedder.frozen
        self.sample_rate = RATE
        self.scene_embedding_size = self.timestamp_embedding_size = embedder.width


def load_model(model_file_path: str) -> Model:
    """Loads a run.

    Args:
        model_file_path: a run folder, a backbone's folder in transformers' layout, the name of weights that ship, or
            an id on the Hub.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    return Model(Embedder.load(model_file_path))


def get_scene_embeddings(audio: Tensor, model: Model) -> Tensor:
    """One embedding a sound: float32 ``(N, E)`` where the model is.

    Args:
        audio: float in [-1, 1], ``(N, S)``, at 16 kHz.

    Raises:
        ValueError: another shape or type.
    """
    return model.embedder.of_waveforms(audio).to(model.frozen.device)


def get_timestamp_embeddings(audio: Tensor, model: Model) -> tuple[Tensor, Tensor]:
    """Embeddings of what is heard around timestamps, from 0 on as far as a sound goes.

    Args:
        audio: float in [-1, 1], ``(N, S)``, at 16 kHz.

    Returns:
        Embeddings, float32 ``(N, T, E)``, and timestamps in milliseconds, float32 ``(N, T)``, both where the model is.

    Raises:
        ValueError: another shape or type.
    """
    model.embedder.check(audio)
    count, device = 1 + audio.shape[1] // HOP, model.frozen.device
    heard = max(HEARD, model.frozen.backbone.min_samples)
    padded = nn.functional.pad(audio, (heard // 2, heard - heard // 2))  # silence around a sound
    windows = padded.unfold(1, heard, HOP)[:, :count]  # (N, T, samples that are heard), a view

    def embedded() -> Iterator[Tensor]:
        for sound in windows:
            for part in sound.split(BATCH):
                yield model.frozen(part.to(device))

    timestamps = HOP_MS * torch.arange(count, dtype=torch.float32, device=device)
    return torch.cat(list(embedded())).unflatten(0, (len(audio), count)), timestamps.repeat(len(audio), 1)

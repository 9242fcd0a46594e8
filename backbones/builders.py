"""Every kind of backbone by its name, behind one interface.

A backbone maps a waveform to tokens, ``forward(waveform, num_samples, hidden) -> Tokens``, and has a ``kind``, a
``width`` D, ``use_attention``, and what checkpoints/weights.py saves: ``model`` and ``feature_extractor()``. Those that
hear the log-mel (``ast``, ``cnn``) can be masked: they also have ``log_mel``, ``patches``, ``patch_size``, ``grid``,
``num_samples``, ``encode_visible``, ``resized`` and ``untrained_twin``.
"""

from collections.abc import Callable

from backbones.ast_encoder import AstBackbone
from backbones.cnn import CnnBackbone
from backbones.wav2vec2 import Wav2Vec2Backbone

Backbone = AstBackbone | CnnBackbone | Wav2Vec2Backbone

BUILDERS: dict[str, Callable[..., Backbone]] = {
    "ast": AstBackbone.untrained,
    "wav2vec2": lambda preset, num_frames, mean, std: Wav2Vec2Backbone.untrained(preset),
    "wav2vec2-cnn": lambda preset, num_frames, mean, std: Wav2Vec2Backbone.untrained(preset, only_convolutions=True),
    "cnn": CnnBackbone.untrained,
}
"""From a kind to what builds it untrained; Wav2Vec2 hears the waveform, so a log-mel's length and statistics say
nothing to it."""


def untrained_backbone(kind: str, preset: str, num_frames: int, mean: float, std: float, **options: int) -> Backbone:
    """A new network of a kind, its weights drawn from torch's global generator.

    Args:
        kind: one of `BUILDERS`.
        preset: ``tiny``, ``small`` or ``base``.
        num_frames: frames of the log-mel of the clips it is to hear.
        mean, std: statistics of the log-mel over the training split.
        options: what this kind alone can choose, as ``patch_size`` of ``ast``.

    Raises:
        ValueError: no such kind.
    """
    if kind not in BUILDERS:
        raise ValueError(f"a backbone is one of {', '.join(BUILDERS)}, not {kind}")
    return BUILDERS[kind](preset, num_frames, mean, std, **options)

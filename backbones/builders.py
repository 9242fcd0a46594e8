"""Every kind of backbone by its name, behind one interface.

A backbone maps a waveform to tokens, ``forward(waveform, num_samples, hidden) -> Tokens``, and has a ``kind``, a
``width`` D, ``use_attention``, and what checkpoints/weights.py saves: ``model`` and ``feature_extractor()``; and
``min_samples``, the shortest batch that it hears. Those that hear the log-mel have ``log_mel``; ``ast`` and ``cnn`` can
be masked too, with ``patches``, ``patch_size``, ``grid``, ``num_samples``, ``encode_visible``, ``resized`` and
``untrained_twin``.
"""

from collections.abc import Callable
from functools import partial

from backbones.ast_encoder import AstBackbone
from backbones.clap import ClapBackbone
from backbones.cnn import CnnBackbone
from backbones.mobilenets import MobileNetsBackbone
from backbones.recurrent import RECURRENT_KINDS, RecurrentBackbone
from backbones.wav2vec2 import KINDS, Wav2Vec2Backbone

Backbone = AstBackbone | CnnBackbone | Wav2Vec2Backbone | ClapBackbone | RecurrentBackbone | MobileNetsBackbone


def _of_waveforms(kind: str, preset: str, num_frames: int, mean: float, std: float) -> Wav2Vec2Backbone:
    return Wav2Vec2Backbone.untrained(kind, preset)


def _recurrent(kind: str, preset: str, num_frames: int, mean: float, std: float) -> RecurrentBackbone:
    return RecurrentBackbone.untrained(kind, preset, mean, std)


BUILDERS: dict[str, Callable[..., Backbone]] = {
    "ast": AstBackbone.untrained,
    **{kind: partial(_of_waveforms, kind) for kind in KINDS},
    "cnn": CnnBackbone.untrained,
    "clap": lambda preset, num_frames, mean, std: ClapBackbone.untrained(preset, mean, std),
    **{kind: partial(_recurrent, kind) for kind in RECURRENT_KINDS},
    "mobilenets": lambda preset, num_frames, mean, std: MobileNetsBackbone.untrained(preset, mean, std),
}
"""From a kind to what builds it untrained; most hear clips of any length, and those that hear the waveform need no
statistics of a log-mel."""


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

"""transformers' `Wav2Vec2Model` behind the interface of every backbone: waveform in, tokens out.

Whole, or its convolutional feature extractor alone, which knows more of instruments than the transformer behind it
(NSynth families, linear: 62.2 against 56.6; nttcslab/eval-audio-repr).

Shapes: B batch, S samples, N tokens (one every 20 ms), D width, L layers.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

from backbones.ast_encoder import Tokens
from backbones.log_mel import RATE

WAV2VEC2_PRESETS: dict[str, dict] = {
    "tiny": {"hidden_size": 192, "num_hidden_layers": 12, "num_attention_heads": 3, "intermediate_size": 768},
    "small": {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6, "intermediate_size": 1536},
    "base": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072},
}
"""The widths of AST's presets; ``base`` is wav2vec 2.0 BASE (Baevski et al. 2020, arXiv 2006.11477, section 4.2)."""
CONVOLUTION_WIDTH = {"tiny": 128, "small": 256, "base": 512}

STEADY: dict[str, Any] = {
    **dict.fromkeys(("hidden_dropout", "activation_dropout", "attention_dropout", "feat_proj_dropout"), 0.0),
    **dict.fromkeys(("layerdrop", "mask_time_prob", "mask_feature_prob"), 0.0),
    "apply_spec_augment": False,
}
"""Settings of transformers' config without dropout, layer drop and masking: what happens to a clip in pretraining
depends on its key alone, and every parameter takes part in every step."""


class Wav2Vec2Backbone(nn.Module):
    """Wav2Vec2 with its own front end: each clip is brought to mean 0 and deviation 1 over its sounding samples.

    Clips of different lengths go through the convolutions apart, for the first of them is normalised over time: a
    clip in a padded batch has the tokens it has alone, which transformers' own mask does not promise.

    Attributes:
        model: the `Wav2Vec2Model`.
        kind: ``wav2vec2``, or ``wav2vec2-cnn`` where the model has no transformer layers.
    """

    def __init__(self, model: Wav2Vec2Model):
        super().__init__()
        self.model = model
        self.kind = "wav2vec2" if model.config.num_hidden_layers else "wav2vec2-cnn"
        if self.kind == "wav2vec2-cnn":  # these are idle, and processes wait for the gradient of every parameter
            model.encoder.requires_grad_(False)
            model.feature_projection.projection.requires_grad_(False)

    @classmethod
    def untrained(cls, preset: str, only_convolutions: bool = False) -> "Wav2Vec2Backbone":
        """A new network; weights are drawn from torch's global generator as transformers initialises Wav2Vec2."""
        sizes = WAV2VEC2_PRESETS[preset] | ({"num_hidden_layers": 0} if only_convolutions else {})
        config = Wav2Vec2Config(**sizes, **STEADY, conv_dim=[CONVOLUTION_WIDTH[preset]] * 7)
        return cls(Wav2Vec2Model(config))

    @property
    def width(self) -> int:
        """D."""
        config = self.model.config
        return config.hidden_size if self.kind == "wav2vec2" else config.conv_dim[-1]

    def use_attention(self, implementation: str) -> None:
        """Chooses transformers' attention, ``eager`` or ``sdpa``, see `backbones.ast_encoder.attention_for`."""
        self.model.set_attn_implementation(implementation)

    def feature_extractor(self) -> Wav2Vec2FeatureExtractor:
        """transformers' own front end, to be saved beside the weights."""
        takes_mask = self.model.config.feat_extract_norm == "layer"
        return Wav2Vec2FeatureExtractor(sampling_rate=RATE, do_normalize=True, return_attention_mask=takes_mask)

    def forward(self, waveform: Tensor, num_samples: Tensor | None = None, hidden: bool = False) -> Tokens:
        """Runs a batch through the network.

        Args:
            waveform: float in [-1, 1], ``(B, S)``, at 16 kHz, S at least 400.
            num_samples: int64 ``(B,)``, how many of the S samples are sound; None means all.
            hidden: whether to return the tokens after each layer too; the convolutions alone have one.
        """
        features, is_padding = self._features(waveform, num_samples)  # (B, N, convolutions' width)
        if self.kind == "wav2vec2-cnn":
            tokens = self.model.feature_projection.layer_norm(features)
            return Tokens(tokens, is_padding, [tokens] if hidden else [])
        layers: list[Tensor] = []
        hooks = [
            layer.register_forward_hook(lambda _, __, out: layers.append(out[0] if isinstance(out, tuple) else out))
            for layer in (self.model.encoder.layers if hidden else [])
        ]
        try:
            projected, _ = self.model.feature_projection(features)
            mask = None if is_padding is None else ~is_padding
            tokens = self.model.encoder(projected, attention_mask=mask).last_hidden_state
        finally:
            for hook in hooks:
                hook.remove()
        return Tokens(tokens, is_padding, layers)

    def _features(self, waveform: Tensor, num_samples: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """The convolutions' output ``(B, N, ...)`` and where it is padding, bool ``(B, N)`` or None."""
        if num_samples is None or bool((num_samples == waveform.shape[1]).all()):
            return self._convolved(waveform), None
        lengths = self.model._get_feat_extract_output_lengths(num_samples).clamp(min=1)
        total = int(self.model._get_feat_extract_output_lengths(torch.tensor(waveform.shape[1])))
        features = None
        for length in num_samples.unique().tolist():
            rows = (num_samples == length).nonzero().flatten()
            # The network hears no fewer samples than make one token; what is missing is silence.
            part = self._convolved(waveform[rows, : max(length, self.min_samples)])
            if features is None:
                features = part.new_zeros(len(waveform), total, part.shape[2])
            features = features.index_put((rows[:, None], torch.arange(part.shape[1], device=rows.device)), part)
        is_padding = torch.arange(total, device=waveform.device) >= lengths[:, None]
        return features, is_padding

    @property
    def min_samples(self) -> int:
        """Samples that make one token."""
        samples = 1
        config = self.model.config
        for kernel, stride in zip(reversed(config.conv_kernel), reversed(config.conv_stride), strict=True):
            samples = (samples - 1) * stride + kernel
        return samples

    def _convolved(self, waveform: Tensor) -> Tensor:
        mean, variance = waveform.mean(dim=1, keepdim=True), waveform.var(dim=1, keepdim=True, unbiased=False)
        normalised = (waveform - mean) / (variance + 1e-7).sqrt()  # as Wav2Vec2FeatureExtractor does
        return self.model.feature_extractor(normalised).transpose(1, 2)

"""transformers' `Wav2Vec2Model` and its kin behind the interface of every backbone: waveform in, tokens out.

HuBERT (Hsu et al. 2021, arXiv 2106.07447), WavLM (Chen et al. 2022, arXiv 2110.13900) and data2vec (Baevski et al.
2022, arXiv 2202.03555) have Wav2Vec2's three parts under its names: ``feature_extractor``, ``feature_projection`` and
``encoder``.

Wav2Vec2 comes whole, or as its convolutional feature extractor alone, which knows more of instruments than the
transformer behind it (NSynth families, linear: 62.2 against 56.6; nttcslab/eval-audio-repr).

Shapes: B batch, S samples, N tokens (one every 20 ms), D width, L layers.
"""

import warnings
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    Data2VecAudioModel,
    HubertModel,
    PreTrainedModel,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Model,
    WavLMModel,
)

from backbones.ast_encoder import Tokens
from backbones.batch_norm import hold_batch_norms
from backbones.log_mel import RATE

# WavLM gives torch's attention a mask of padding that is bool beside a bias that is not.
warnings.filterwarnings("ignore", message="Support for mismatched key_padding_mask and attn_mask is deprecated")

KINDS: dict[str, type[PreTrainedModel]] = {
    "wav2vec2": Wav2Vec2Model,
    "wav2vec2-cnn": Wav2Vec2Model,
    "hubert": HubertModel,
    "wavlm": WavLMModel,
    "data2vec-audio": Data2VecAudioModel,
}
"""Kind to model; all but ``wav2vec2-cnn`` are called by the ``model_type`` of config.json."""

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
    **dict.fromkeys(("apply_spec_augment", "add_adapter"), False),
}
"""Settings of transformers' config without dropout, layer drop, masking and speech adapter: what happens to a clip in
pretraining depends on its key alone, and every parameter takes part in every step."""


def settings_of(kind: str) -> dict[str, Any]:
    """What a kind asks for of transformers' config: of `STEADY` what its config knows, and the number of layers."""
    known = {name: value for name, value in STEADY.items() if hasattr(KINDS[kind].config_class, name)}
    return known | ({"num_hidden_layers": 0} if kind == "wav2vec2-cnn" else {})


class Wav2Vec2Backbone(nn.Module):
    """Wav2Vec2, or one of its kin, with its own front end.

    Clips of different lengths go through the convolutions apart, for the first of them may be normalised over time: a
    clip in a padded batch has the tokens it has alone, which transformers' own mask does not promise.

    Args:
        model: one of `KINDS`.
        is_normalised: whether each clip is brought to mean 0 and deviation 1 over its sounding samples; its own front
            end says how it was trained.

    Attributes:
        kind: one of `KINDS`; ``wav2vec2-cnn`` where the model has no transformer layers.
    """

    def __init__(self, model: PreTrainedModel, is_normalised: bool = True):
        super().__init__()
        self.model = model
        self.is_normalised = is_normalised
        self.kind = model.config.model_type if model.config.num_hidden_layers else "wav2vec2-cnn"
        if self.kind == "wav2vec2-cnn":  # these are idle, and processes wait for the gradient of every parameter
            model.encoder.requires_grad_(False)
            model.feature_projection.projection.requires_grad_(False)
        hold_batch_norms(model)  # some HuBERTs have one in front of their positions

    @classmethod
    def untrained(cls, kind: str, preset: str) -> "Wav2Vec2Backbone":
        """A new network; weights are drawn from torch's global generator as transformers initialises its kind."""
        sizes = WAV2VEC2_PRESETS[preset] | settings_of(kind)
        config = KINDS[kind].config_class(**sizes, conv_dim=[CONVOLUTION_WIDTH[preset]] * 7)
        return cls(KINDS[kind](config))

    def train(self, mode: bool = True) -> "Wav2Vec2Backbone":
        """Lets all but batch norms train, see `hold_batch_norms`."""
        super().train(mode)
        hold_batch_norms(self.model)
        return self

    @property
    def width(self) -> int:
        """D."""
        config = self.model.config
        return config.conv_dim[-1] if self.kind == "wav2vec2-cnn" else config.hidden_size

    @property
    def min_samples(self) -> int:
        """Samples that make one token, the least that the network hears."""
        samples = 1
        config = self.model.config
        for kernel, stride in zip(reversed(config.conv_kernel), reversed(config.conv_stride), strict=True):
            samples = (samples - 1) * stride + kernel
        return samples

    def use_attention(self, implementation: str) -> None:
        """Chooses transformers' attention, ``eager`` or ``sdpa``, see `backbones.ast_encoder.attention_for`.

        WavLM has one of its own, whose bias depends on the tokens, and nothing to choose.
        """
        if self.kind != "wavlm":
            self.model.set_attn_implementation(implementation)

    def feature_extractor(self) -> Wav2Vec2FeatureExtractor:
        """transformers' own front end, to be saved beside the weights."""
        # data2vec's config has no such setting: it normalises every layer.
        takes_mask = getattr(self.model.config, "feat_extract_norm", "layer") == "layer"
        return Wav2Vec2FeatureExtractor(
            sampling_rate=RATE, do_normalize=self.is_normalised, return_attention_mask=takes_mask
        )

    def forward(self, waveform: Tensor, num_samples: Tensor | None = None, hidden: bool = False) -> Tokens:
        """Runs a batch through the network.

        Args:
            waveform: float in [-1, 1], ``(B, S)``, at 16 kHz, S at least `min_samples`.
            num_samples: int64 ``(B,)``, how many of the S samples are sound; None means all.
            hidden: whether to return the tokens after each layer too; the convolutions alone have one.
        """
        features, is_padding = self._features(waveform, num_samples)  # (B, N, convolutions' width)
        if self.kind == "wav2vec2-cnn":
            tokens = self.model.feature_projection.layer_norm(features)
            return Tokens(tokens, is_padding, [tokens] if hidden else [])
        encoder, layers, hooks = self.model.encoder, [], []
        try:
            if hidden:
                hooks += [
                    layer.register_forward_hook(lambda _, __, out: layers.append(first_of(out)))
                    for layer in encoder.layers
                ]
            if is_padding is not None:  # data2vec's positions are five convolutions in a row: what leaks, comes back
                hooks += [
                    module.register_forward_pre_hook(lambda _, x: (x[0].masked_fill(is_padding[:, None], 0), *x[1:]))
                    for module in encoder.pos_conv_embed.modules()
                    if isinstance(module, nn.Conv1d)
                ]
            projected = first_of(self.model.feature_projection(features))
            mask = None if is_padding is None else ~is_padding
            tokens = encoder(projected, attention_mask=mask).last_hidden_state
        finally:
            for hook in hooks:
                hook.remove()
        return Tokens(tokens, is_padding, layers)

    def _features(self, waveform: Tensor, num_samples: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """The convolutions' output ``(B, N, ...)`` and where it is padding, bool ``(B, N)`` or None."""
        if num_samples is None or bool((num_samples == waveform.shape[1]).all()):
            return self._convolved(waveform), None
        lengths, total = self._tokens_of(num_samples).clamp(min=1), self._tokens_of(waveform.shape[1])
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

    def _tokens_of(self, num_samples: Tensor | int) -> Tensor | int:
        config = self.model.config
        for kernel, stride in zip(config.conv_kernel, config.conv_stride, strict=True):
            num_samples = (num_samples - kernel) // stride + 1
        return num_samples

    def _convolved(self, waveform: Tensor) -> Tensor:
        if self.is_normalised:  # as Wav2Vec2FeatureExtractor does
            mean, variance = waveform.mean(dim=1, keepdim=True), waveform.var(dim=1, keepdim=True, unbiased=False)
            waveform = (waveform - mean) / (variance + 1e-7).sqrt()
        return self.model.feature_extractor(waveform).transpose(1, 2)


def first_of(out: Tensor | tuple) -> Tensor:
    """The tokens, of what a module of transformers returns: some kin add what others have no use for."""
    return out[0] if isinstance(out, tuple) else out

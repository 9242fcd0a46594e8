"""CLAP's audio tower, transformers' `ClapAudioModel`, behind the interface of every backbone: waveform in, tokens out.

Wu et al. 2023, arXiv 2211.06687: a Swin transformer (HTS-AT, Chen et al. 2022, arXiv 2202.00874) over the log-mel of
exactly ten seconds at 48 kHz, folded into a square picture. A shorter clip is repeated, as `ClapFeatureExtractor` does
it: every clip fills its picture, no place is padding, and none depends on its batch. A clip at 16 kHz leaves the mel
bins above 8 kHz empty. Feature fusion, which takes random crops of longer recordings, is left out.

Shapes: B batch, S samples at 16 kHz, P samples of ten seconds at 48 kHz, T frames, F mel bins, N places of the grid
(freq, time), D width.
"""

import math

import torch
from torch import Tensor, nn
from torchaudio.transforms import Resample
from transformers import ClapAudioConfig, ClapAudioModel, ClapFeatureExtractor

from backbones.ast_encoder import Tokens
from backbones.batch_norm import hold_batch_norms
from backbones.log_mel import RATE

CLAP_RATE = 48_000
CLAP_PRESETS: dict[str, dict] = {
    "tiny": {"patch_embeds_hidden_size": 24, "num_attention_heads": [1, 2, 4, 8], "depths": [2, 2, 6, 2]},
    "small": {"patch_embeds_hidden_size": 48, "num_attention_heads": [2, 4, 8, 16], "depths": [2, 2, 6, 2]},
    "base": {"patch_embeds_hidden_size": 96, "num_attention_heads": [4, 8, 16, 32], "depths": [2, 2, 6, 2]},
}
"""Widths of 192, 384 and 768; ``base`` is the published one."""
CLAP_STEADY = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "drop_path_rate": 0.0}
"""Settings of transformers' config without dropout: what happens to a clip in training depends on its key alone."""
DECIBELS = 10 / math.log(10)  # of a factor e in power
QUIETEST = 1e-10  # power; ClapFeatureExtractor takes the logarithm of no less


class ClapBackbone(nn.Module):
    """CLAP's audio tower with its own front end, on the device of the waveform.

    Args:
        model: the tower; its first layer, a batch norm of each mel bin, holds the statistics of the log-mel.
        front_end: transformers' own, whose settings and mel filters are used.
    """

    kind = "clap"
    min_samples = 1
    """Any clip is repeated until it fills ten seconds."""

    def __init__(self, model: ClapAudioModel, front_end: ClapFeatureExtractor):
        super().__init__()
        if front_end.padding != "repeatpad":
            raise ValueError(f"short clips must be repeated (padding repeatpad), not {front_end.padding}")
        self.model = model
        self._front_end = front_end
        # Published towers without fusion were trained on Slaney's mel scale, those with it on HTK's.
        filters = front_end.mel_filters if front_end.truncation == "fusion" else front_end.mel_filters_slaney
        self.register_buffer("filters", torch.from_numpy(filters).float(), persistent=False)  # (bins of the FFT, F)
        self.register_buffer("window", torch.hann_window(front_end.fft_window_size), persistent=False)
        # Steep: a gentle filter leaves mirror images above 8 kHz, where a recording at 16 kHz has nothing.
        self._resample = Resample(RATE, CLAP_RATE, lowpass_filter_width=64)
        if model.config.enable_fusion:  # idle, and processes wait for the gradient of every parameter
            model.audio_encoder.patch_embed.fusion_model.requires_grad_(False)
            model.audio_encoder.patch_embed.mel_conv2d.requires_grad_(False)
        hold_batch_norms(model)

    @classmethod
    def untrained(cls, preset: str, mean: float, std: float) -> "ClapBackbone":
        """A new network; weights are drawn from torch's global generator as transformers initialises CLAP.

        Args:
            mean, std: statistics of our log-mel; CLAP's, in decibels, lies near enough to be normalised by them.
        """
        sizes = CLAP_PRESETS[preset]
        width = sizes["patch_embeds_hidden_size"] * 2 ** (len(sizes["depths"]) - 1)
        model = ClapAudioModel(ClapAudioConfig(**sizes, **CLAP_STEADY, hidden_size=width))
        norm = model.audio_encoder.batch_norm
        norm.running_mean.fill_(DECIBELS * mean)
        norm.running_var.fill_((DECIBELS * std) ** 2)
        return cls(model, ClapFeatureExtractor(truncation="rand_trunc"))

    def train(self, mode: bool = True) -> "ClapBackbone":
        """Lets all but batch norms train, see `hold_batch_norms`."""
        super().train(mode)
        hold_batch_norms(self.model)
        return self

    @property
    def width(self) -> int:
        """D."""
        return self.model.audio_encoder.num_features

    @property
    def max_samples(self) -> int:
        """Samples of the longest clip that it hears: ten seconds."""
        return self._front_end.nb_max_samples * RATE // CLAP_RATE

    def use_attention(self, implementation: str) -> None:
        """Nothing to choose: its attention is in windows, with a bias of their own."""

    def feature_extractor(self) -> ClapFeatureExtractor:
        """transformers' own front end, to be saved beside the weights."""
        return self._front_end

    @torch.no_grad()
    def features(self, waveform: Tensor, num_samples: Tensor | None = None) -> Tensor:
        """The log-mel of each clip, repeated to ten seconds: decibels, float32 ``(B, 1, T, F)``.

        Raises:
            ValueError: the clips are longer than ten seconds.
        """
        batch, samples = waveform.shape
        if samples > self.max_samples:
            raise ValueError(f"clap hears at most {self.max_samples} samples, not {samples}; cut longer clips")
        if num_samples is None:
            num_samples = torch.full((batch,), samples, device=waveform.device)
        lengths = num_samples.clamp(min=1)[:, None]  # (B, 1)
        with torch.autocast(waveform.device.type, enabled=False):
            is_padding = torch.arange(samples, device=waveform.device) >= lengths
            fine = self._resample(waveform.float().masked_fill(is_padding, 0))
            lengths = lengths * (CLAP_RATE // RATE)
            place = torch.arange(self._front_end.nb_max_samples, device=waveform.device)  # (P,)
            is_repeated = place < lengths * (len(place) // lengths)  # whole repeats, then silence
            repeated = fine.gather(1, place % lengths) * is_repeated  # (B, P)
            size, hop = self._front_end.fft_window_size, self._front_end.hop_length
            spectrum = torch.stft(repeated, size, hop, window=self.window, pad_mode="reflect", return_complex=True)
            power = torch.view_as_real(spectrum).square().sum(dim=-1).mT @ self.filters  # (B, T, F)
            return (DECIBELS * power.clamp(min=QUIETEST).log())[:, None]

    def forward(self, waveform: Tensor, num_samples: Tensor | None = None, hidden: bool = False) -> Tokens:
        """Runs a batch through the network.

        Args:
            waveform: float in [-1, 1], ``(B, S)``, at 16 kHz, S at most `max_samples`.
            num_samples: int64 ``(B,)``, how many of the S samples are sound; None means all.
            hidden: whether to return the tokens after each block of the last stage too; before it they are finer.
        """
        encoder, layers = self.model.audio_encoder, []
        hooks = [
            block.register_forward_hook(lambda _, __, out: layers.append(self._unfolded(out[0])))
            for block in (encoder.layers[-1].blocks if hidden else [])
        ]
        is_longer = torch.zeros(len(waveform), 1, dtype=torch.bool, device=waveform.device)  # without fusion
        try:
            out = self.model(input_features=self.features(waveform, num_samples), is_longer=is_longer)
        finally:
            for hook in hooks:
                hook.remove()
        return Tokens(out.last_hidden_state.flatten(2).mT, None, layers)

    def _unfolded(self, places: Tensor) -> Tensor:
        """The square picture's places ``(B, N, D)`` in the order of the log-mel, frequency-major.

        The log-mel lies in the picture in as many strips of time, one below the other, as its mel bins go into a side.
        """
        batch, num, width = places.shape
        strips, side = self.model.audio_encoder.freq_ratio, round(num**0.5)  # the picture is a square by design
        return places.view(batch, strips, side // strips, side, width).transpose(1, 2).reshape(batch, num, width)

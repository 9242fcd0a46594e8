"""A baseline: an LSTM with additive attention on mel, cepstral or wavelet features, behind every backbone's interface.

Bahdanau et al. 2015, arXiv 1409.0473, section 3.2 and appendix A.1.2: a bidirectional recurrent network, whose states h
are summed by their share a = softmax(v . tanh(W h)). There is no decoder here, so the score depends on h alone.

Shapes: B batch, S samples, T frames (the tokens), F features, D width.
"""

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torchaudio.functional import create_dct
from transformers import ASTFeatureExtractor, AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from backbones.ast_encoder import Tokens
from backbones.log_mel import RATE, WINDOW, LogMel, frames_of
from backbones.wavelets import Wavelets

FEATURES = {"mel": 128, "mfcc": 40, "wavelet": Wavelets.num_features}
"""What the network can hear, and how many of it a frame has."""
RECURRENT_KINDS = {"recurrent": "mel", "recurrent-mfcc": "mfcc", "recurrent-wavelet": "wavelet"}
"""Kind to features."""
RECURRENT_PRESETS: dict[str, dict[str, int]] = {
    "tiny": {"hidden_size": 64, "num_hidden_layers": 1},
    "small": {"hidden_size": 128, "num_hidden_layers": 2},
    "base": {"hidden_size": 256, "num_hidden_layers": 2},
}
"""Sizes of the LSTM in each direction; widths of 128, 256 and 512."""


class RecurrentConfig(PreTrainedConfig):
    """Sizes of a `RecurrentModel`.

    Attributes:
        features: one of `FEATURES`.
        hidden_size: width of each direction.
    """

    model_type = "luthier-recurrent"

    features: str = "mel"
    hidden_size: int = 64
    num_hidden_layers: int = 1
    initializer_range: float = 0.02


class RecurrentModel(PreTrainedModel):
    """Features to states that are weighted by attention; initialised as transformers does it."""

    config: RecurrentConfig
    base_model_prefix = "recurrent"
    main_input_name = "input_features"

    def __init__(self, config: RecurrentConfig):
        super().__init__(config)
        if config.features not in FEATURES:
            raise ValueError(f"features are one of {', '.join(FEATURES)}, not {config.features}")
        sizes = FEATURES[config.features], config.hidden_size, config.num_hidden_layers
        self.lstm = nn.LSTM(*sizes, batch_first=True, bidirectional=True)
        self.attention = nn.Linear(2 * config.hidden_size, config.hidden_size, bias=False)
        self.score = nn.Linear(config.hidden_size, 1, bias=False)
        self.post_init()

    def forward(self, input_features: Tensor, num_frames: Tensor | None = None) -> BaseModelOutput:
        """Runs the features ``(B, T, F)`` through the network.

        Args:
            num_frames: int64 ``(B,)``, how many of the T frames are sound, at least 1; None means all.

        Returns:
            ``last_hidden_state`` is ``(B, T, D)``: each state times its share times the number of frames, so that the
            mean over the frames of a clip is the sum over its states by their shares.
        """
        total = input_features.shape[1]
        if num_frames is None:
            states, _ = self.lstm(input_features)
            count = torch.full((len(input_features),), total, device=input_features.device)
        else:  # the backward direction starts where the clip ends
            packed = pack_padded_sequence(input_features, num_frames.cpu(), batch_first=True, enforce_sorted=False)
            states, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=total)
            count = num_frames
        scores = self.score(self.attention(states).tanh()).squeeze(2)  # (B, T)
        is_padding = torch.arange(total, device=scores.device) >= count[:, None]
        scores = scores.masked_fill(is_padding, torch.finfo(scores.dtype).min)
        share = scores.softmax(dim=1, dtype=torch.float32) * count[:, None]
        return BaseModelOutput(last_hidden_state=states * share.to(states.dtype)[..., None])


AutoConfig.register(RecurrentConfig.model_type, RecurrentConfig)
AutoModel.register(RecurrentConfig, RecurrentModel)


class RecurrentBackbone(nn.Module):
    """The network with its front end. Its `mean` pooling is the sum by attention.

    Args:
        mean, std: statistics of the log-mel, see `LogMel`; the other features are made so that they fit them.

    Attributes:
        kind: one of `RECURRENT_KINDS`.
    """

    min_samples = WINDOW
    """Samples of one frame."""

    def __init__(self, model: RecurrentModel, mean: float, std: float):
        super().__init__()
        self.model = model
        self.kind = next(kind for kind, features in RECURRENT_KINDS.items() if features == model.config.features)
        self.log_mel = LogMel(mean, std, FEATURES["mel"])
        if model.config.features == "mfcc":
            cosines = create_dct(FEATURES["mfcc"], FEATURES["mel"], norm="ortho")  # (128, 40)
            self.register_buffer("cosines", cosines, persistent=False)
        elif model.config.features == "wavelet":
            self.wavelets = Wavelets()

    @classmethod
    def untrained(cls, kind: str, preset: str, mean: float, std: float) -> "RecurrentBackbone":
        """A new network; weights are drawn from torch's global generator."""
        config = RecurrentConfig(**RECURRENT_PRESETS[preset], features=RECURRENT_KINDS[kind])
        return cls(RecurrentModel(config), mean, std)

    @property
    def width(self) -> int:
        """D."""
        return 2 * self.model.config.hidden_size

    def use_attention(self, implementation: str) -> None:
        """Nothing to choose: its attention is a sum."""

    def feature_extractor(self) -> ASTFeatureExtractor:
        """transformers' front end of log-mels with our statistics, to be saved beside the weights."""
        return ASTFeatureExtractor(sampling_rate=RATE, mean=self.log_mel.mean, std=self.log_mel.std)

    @torch.no_grad()
    def features(self, waveform: Tensor, num_samples: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Normalised features ``(B, T, F)``, and the number of frames that are sound, int64 ``(B,)``."""
        if self.model.config.features != "wavelet":
            log_mel, num_frames = self.log_mel(waveform, num_samples)
            return (log_mel @ self.cosines if self.model.config.features == "mfcc" else log_mel), num_frames
        if num_samples is None:
            num_samples = torch.full((len(waveform),), waveform.shape[1], device=waveform.device)
        is_padding = torch.arange(waveform.shape[1], device=waveform.device) >= num_samples[:, None]
        power = self.wavelets(waveform.masked_fill(is_padding, 0))
        return (power - self.log_mel.mean) / (2 * self.log_mel.std), frames_of(num_samples)

    def forward(self, waveform: Tensor, num_samples: Tensor | None = None, hidden: bool = False) -> Tokens:
        """Runs a batch through the network.

        Args:
            waveform: float in [-1, 1], ``(B, S)``, at 16 kHz, S at least `min_samples`.
            num_samples: int64 ``(B,)``, how many of the S samples are sound; None means all.
            hidden: whether to return the tokens after each layer too; there is one.
        """
        features, num_frames = self.features(waveform, num_samples)
        num_frames = num_frames.clamp(min=1)
        is_padding = torch.arange(features.shape[1], device=features.device) >= num_frames[:, None]  # (B, T)
        if not is_padding.any():
            is_padding = num_frames = None
        tokens = self.model(features, num_frames).last_hidden_state
        return Tokens(tokens, is_padding, [tokens] if hidden else [])

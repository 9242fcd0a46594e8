"""A baseline: several small MobileNets side by side, behind the interface of every backbone.

MobileNetV3-Small (Howard et al. 2019, arXiv 1905.02244), timm's, each over the whole log-mel. Their tokens lie one
behind the other in a token's values, so that heads with as many sections as there are networks make each network answer
for its own share of the classes: `NETWORKS` of them.

A token is a cell: the square of 32 frames by 32 mel bins that the strides bring down to one place.

Shapes: B batch, S samples, T frames, F mel bins, N cells of the grid (freq, time), D width of all networks.
"""

import timm
import torch
import torch.nn.functional as F
from timm.layers import BatchNormAct2d
from torch import Tensor, nn
from transformers import ASTFeatureExtractor, AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from backbones.ast_encoder import Tokens
from backbones.log_mel import RATE, LogMel, samples_of

CELL = 32
NETWORKS = 3
MOBILENETS_PRESETS = {
    "tiny": "mobilenetv3_small_050",
    "small": "mobilenetv3_small_075",
    "base": "mobilenetv3_small_100",
}
"""timm's names; widths of 864, 1296 and 1728."""


class MobileNetsConfig(PreTrainedConfig):
    """Sizes of a `MobileNetsModel`.

    Attributes:
        architecture: timm's name of a MobileNetV3.
        networks: how many.
    """

    model_type = "luthier-mobilenets"

    architecture: str = "mobilenetv3_small_050"
    networks: int = NETWORKS


class MobileNetsModel(PreTrainedModel):
    """Several networks on one picture, initialised as timm does it."""

    config: MobileNetsConfig
    base_model_prefix = "mobilenets"
    main_input_name = "input_values"

    def __init__(self, config: MobileNetsConfig):
        super().__init__(config)
        self.networks = nn.ModuleList(one_network(config.architecture) for _ in range(config.networks))
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """timm has done it; transformers would draw all weights alike."""

    def forward(self, input_values: Tensor) -> BaseModelOutput:
        """Runs the log-mel ``(B, 1, T, F)`` through all networks; ``last_hidden_state`` is ``(B, D, T/32, F/32)``."""
        places = [network.forward_features(input_values) for network in self.networks]
        return BaseModelOutput(last_hidden_state=torch.cat(places, dim=1))


AutoConfig.register(MobileNetsConfig.model_type, MobileNetsConfig)
AutoModel.register(MobileNetsConfig, MobileNetsModel)


def one_network(architecture: str) -> nn.Module:
    """An untrained network for one channel, without head, that normalises each clip by itself.

    Its batch norms become group norms of one group (Wu and He 2018, arXiv 1803.08494): what happens to a clip then
    depends neither on the others in its batch nor on how a batch is shared out over processes, and an untrained network
    has no statistics that could be held instead.
    """
    network = timm.create_model(architecture, in_chans=1, num_classes=0)
    network.conv_head = nn.Identity()  # behind pooling, where there are no tokens any more
    for module in list(network.modules()):
        for name, norm in module.named_children():
            if isinstance(norm, BatchNormAct2d):
                setattr(module, name, nn.Sequential(nn.GroupNorm(1, norm.num_features), norm.act))
    return network


class MobileNetsBackbone(nn.Module):
    """The networks with their front end, so that a checkpoint carries its log-mel statistics.

    Clips of different lengths go through the networks apart, for these gather over a whole picture in norms and
    squeeze-and-excitation: a clip in a padded batch has the tokens it has alone. Frames behind a clip's last whole cell
    are dropped; a clip shorter than a cell has one.

    Args:
        mean, std: statistics of the log-mel, see `LogMel`.
    """

    kind = "mobilenets"
    min_samples = samples_of(CELL)
    """Samples of one cell."""

    def __init__(self, model: MobileNetsModel, mean: float, std: float):
        super().__init__()
        self.model = model
        self.log_mel = LogMel(mean, std)

    @classmethod
    def untrained(cls, preset: str, mean: float, std: float) -> "MobileNetsBackbone":
        """New networks; weights are drawn from torch's global generator."""
        return cls(MobileNetsModel(MobileNetsConfig(architecture=MOBILENETS_PRESETS[preset])), mean, std)

    @property
    def width(self) -> int:
        """D."""
        return sum(network.num_features for network in self.model.networks)

    def use_attention(self, implementation: str) -> None:
        """Nothing to choose: there is no attention in it."""

    def feature_extractor(self) -> ASTFeatureExtractor:
        """transformers' own front end with our statistics, to be saved beside the weights."""
        return ASTFeatureExtractor(sampling_rate=RATE, mean=self.log_mel.mean, std=self.log_mel.std)

    def forward(self, waveform: Tensor, num_samples: Tensor | None = None, hidden: bool = False) -> Tokens:
        """Runs a batch through all networks.

        Args:
            waveform: float in [-1, 1], ``(B, S)``, at 16 kHz.
            num_samples: int64 ``(B,)``, how many of the S samples are sound; None means all.
            hidden: whether to return the tokens after each layer too; there is one.

        Raises:
            ValueError: the S samples do not fill a cell.
        """
        if waveform.shape[1] < self.min_samples:
            raise ValueError(
                f"mobilenets need at least {self.min_samples} samples, not {waveform.shape[1]}; pad shorter clips"
            )
        log_mel, num_frames = self.log_mel(waveform, num_samples)
        time = log_mel.shape[1] // CELL
        cells = (num_frames // CELL).clamp(min=1)  # (B,)
        grid = None  # (B, freq, time, D)
        for length in cells.unique().tolist():
            rows = (cells == length).nonzero().flatten()
            places = self.model(log_mel[rows, None, : length * CELL]).last_hidden_state  # (b, D, length, freq)
            places = F.pad(places.permute(0, 3, 2, 1), (0, 0, 0, time - length))
            if grid is None:
                grid = places.new_zeros(len(waveform), *places.shape[1:])
            grid = grid.index_put((rows,), places)
        tokens = grid.flatten(1, 2)
        is_padding = torch.arange(time, device=cells.device) >= cells[:, None]  # (B, time)
        is_padding = is_padding[:, None].expand(-1, grid.shape[1], -1).flatten(1) if is_padding.any() else None
        return Tokens(tokens, is_padding, [tokens] if hidden else [])

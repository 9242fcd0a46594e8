"""timm's ConvNeXt (Liu et al. 2022, arXiv 2201.03545) behind the interface of every backbone: waveform in, tokens out.

It hears our log-mel, and a masked autoencoder trains it on a few visible cells. What is saved is transformers' own
`TimmWrapperModel`.

A token is a cell: the square of 32 frames by 32 mel bins that the network's strides bring down to one place. Stem and
downsampling do not overlap and all else works on each place alone, but for the 7 x 7 depthwise convolutions, so these
alone look beyond a cell. Whatever a mask or a clip's end removes is held at zero in front of every one of them, as
SparK does it (Tian et al. 2023, arXiv 2301.03580, section 3.1): no token depends on what removed cells hold, and a
clip's end is like the edge of the picture.

Shapes: B batch, S samples, T frames, F mel bins, N cells of the grid (freq, time), K kept cells, A values in a cell, D
width; inside the network C channels, X x Y places, P of them along a side of a cell.
"""

import copy
from collections.abc import Callable

import torch
from timm.models.convnext import ConvNeXt, ConvNeXtBlock, GlobalResponseNormMlp
from torch import Tensor, nn
from transformers import ASTFeatureExtractor, TimmWrapperConfig, TimmWrapperModel

from backbones.ast_encoder import Tokens, padding_of, patches_of
from backbones.log_mel import RATE, LogMel, samples_of

CNN_PRESETS = {"tiny": "convnext_atto", "small": "convnext_pico", "base": "convnext_tiny"}
"""timm's names; widths of 320, 512 and 768."""


class CnnBackbone(nn.Module):
    """ConvNeXt with its own front end, so that a checkpoint carries its log-mel statistics.

    Args:
        model: a ConvNeXt for one channel whose last norm comes before pooling; see `untrained`.
        num_frames: length of the clips that are masked and saved as the front end's; any other can be heard too.
        mean, std: statistics of the log-mel, see `LogMel`.

    Attributes:
        grid: cells along frequency and along time of a clip of `num_frames`.
    """

    kind = "cnn"

    def __init__(self, model: TimmWrapperModel, num_frames: int, mean: float, std: float, num_mel_bins: int = 128):
        super().__init__()
        refuse_leaks(model)
        self.model = model
        self.log_mel = LogMel(mean, std, num_mel_bins)
        self.grid = num_mel_bins // self.patch_size, num_frames // self.patch_size
        if num_mel_bins % self.patch_size or not self.grid[1]:
            raise ValueError(
                f"cells of {self.patch_size} x {self.patch_size} must tile {num_mel_bins} mel bins and fit into "
                f"{num_frames} frames at least once"
            )

    @classmethod
    def untrained(cls, preset: str, num_frames: int, mean: float, std: float) -> "CnnBackbone":
        """A new network; weights are drawn from torch's global generator as timm initialises ConvNeXt.

        Its last norm comes before pooling, so that tokens are normalised and every parameter takes part in them.
        """
        model_args = {"in_chans": 1, "head_norm_first": True}
        config = TimmWrapperConfig(architecture=CNN_PRESETS[preset], model_args=model_args, do_pooling=False)
        return cls(TimmWrapperModel(config), num_frames, mean, std)

    def untrained_twin(self) -> "CnnBackbone":
        """The same network with new weights, drawn as `untrained` draws them."""
        return self._around(TimmWrapperModel(self.model.config), self.grid[1])

    def resized(self, num_frames: int) -> "CnnBackbone":
        """The same weights for clips of another length."""
        return self._around(copy.deepcopy(self.model), num_frames // self.patch_size)

    def _around(self, model: TimmWrapperModel, time: int) -> "CnnBackbone":
        front_end = self.log_mel
        return CnnBackbone(model, time * self.patch_size, front_end.mean, front_end.std, front_end.num_mel_bins)

    @property
    def width(self) -> int:
        """D."""
        return self.model.timm_model.num_features

    @property
    def patch_size(self) -> int:
        """Side of a cell in frames and mel bins."""
        return self.model.timm_model.feature_info[-1]["reduction"]

    @property
    def num_samples(self) -> int:
        """Samples of a clip that fills the grid."""
        return samples_of(self.grid[1] * self.patch_size)

    @property
    def min_samples(self) -> int:
        """Samples of the shortest clip that has a patch."""
        return samples_of(self.patch_size)

    def use_attention(self, implementation: str) -> None:
        """Nothing to choose: there is no attention in it."""

    def feature_extractor(self) -> ASTFeatureExtractor:
        """transformers' own front end with our statistics, to be saved beside the weights."""
        return ASTFeatureExtractor(
            sampling_rate=RATE,
            num_mel_bins=self.log_mel.num_mel_bins,
            max_length=self.grid[1] * self.patch_size,
            mean=self.log_mel.mean,
            std=self.log_mel.std,
        )

    def patches(self, waveform: Tensor, num_samples: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Cuts the normalised log-mel of ``(B, S)`` into cells ``(B, N, A)``; no gradient flows through it.

        Frames behind the last whole cell are dropped. The second value is bool ``(B, N)``, True where a cell lies
        wholly behind the clip's end, or None where no clip of the batch is short.
        """
        log_mel, num_frames = self.log_mel(waveform, num_samples)
        is_padding = None if num_samples is None else padding_of(num_frames, log_mel, self.patch_size)
        return patches_of(log_mel, self.patch_size), is_padding

    def forward(self, waveform: Tensor, num_samples: Tensor | None = None, hidden: bool = False) -> Tokens:
        """Runs every cell of a batch through the network.

        Args:
            waveform: float in [-1, 1], ``(B, S)``, at 16 kHz.
            num_samples: int64 ``(B,)``, how many of the S samples are sound; None means all.
            hidden: whether to return the tokens after each block of the last stage too; before that there are no
                tokens yet.

        Raises:
            ValueError: the S samples do not fill a cell.
        """
        log_mel, num_frames = self.log_mel(waveform, num_samples)
        is_padding = None if num_samples is None else padding_of(num_frames, log_mel, self.patch_size)
        time = log_mel.shape[1] // self.patch_size
        if not time:
            least = samples_of(self.patch_size)
            raise ValueError(f"a cnn needs at least {least} samples, not {waveform.shape[1]}; pad shorter clips")
        image = log_mel[:, None, : time * self.patch_size]  # (B, 1, T, F)
        is_removed = None if is_padding is None else is_padding.view(len(image), 1, -1, time).mT

        def zero(places: Tensor) -> Tensor:  # (B, C, X, Y)
            if is_removed is None:
                return places
            side = places.shape[2] // time
            return places.masked_fill(is_removed.repeat_interleave(side, 2).repeat_interleave(side, 3), 0)

        places, layers = self._encode(image, lambda convolution, places: convolution(places), zero)
        tokens, *layers = (part.mT.flatten(2).mT for part in (places, *(layers if hidden else [])))  # (B, N, D)
        return Tokens(tokens, is_padding, layers)

    def encode_visible(self, patches: Tensor, ids_keep: Tensor, is_padding: Tensor | None = None) -> Tensor:
        """Encodes the visible cells ``(B, K, A)`` that lie at `ids_keep` ``(B, K)`` of the grid: ``(B, K, D)``.

        All but the depthwise convolutions runs on the visible cells alone, each a picture of its own.
        """
        (batch, kept, _), (freq, time) = patches.shape, self.grid
        first = torch.arange(batch, device=ids_keep.device)[:, None] * (freq * time)
        ids = (ids_keep + first).flatten()  # (B*K,)

        def convolve(convolution: nn.Conv2d, cells: Tensor) -> Tensor:  # (B*K, C, P, P)
            _, channels, side, _ = cells.shape
            whole = cells.new_zeros(batch * freq * time, side, side, channels)
            whole = whole.index_copy(0, ids, cells.permute(0, 2, 3, 1)).view(batch, freq, time, side, side, channels)
            whole = whole.permute(0, 2, 3, 1, 4, 5).reshape(batch, time * side, freq * side, channels)
            whole = convolution(whole.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
            whole = whole.reshape(batch, time, side, freq, side, channels).permute(0, 3, 1, 2, 4, 5)
            return whole.reshape(-1, side, side, channels).index_select(0, ids).permute(0, 3, 1, 2)

        def zero(cells: Tensor) -> Tensor:
            return cells if is_padding is None else cells.masked_fill(is_padding.flatten()[:, None, None, None], 0)

        cells = patches.reshape(batch * kept, 1, self.patch_size, self.patch_size).mT  # time before frequency
        return self._encode(cells, convolve, zero)[0].view(batch, kept, -1)

    def _encode(
        self, image: Tensor, convolve: Callable[[nn.Conv2d, Tensor], Tensor], zero: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        """The places after the last norm, and after each block of the last stage.

        Args:
            image: ``(B, 1, T, F)``, or a picture a cell.
            convolve: applies a depthwise convolution to all cells where they lie.
            zero: holds what is removed at zero.
        """
        network = self.model.timm_model
        places, layers = zero(network.stem(image)), []
        for stage in network.stages:
            places, layers = zero(stage.downsample(places)), []
            for block in stage.blocks:
                branch = placewise(block, convolve(block.conv_dw, places))
                places = zero(places + block.drop_path(branch))
                layers.append(places)
        return zero(network.norm_pre(places)), layers


def placewise(block: ConvNeXtBlock, places: Tensor) -> Tensor:
    """What a block does behind its depthwise convolution, at each place of ``(B, C, X, Y)`` alone."""
    if block.use_conv_mlp:
        places = block.mlp(block.norm(places))
    else:
        places = block.mlp(block.norm(places.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
    return places if block.gamma is None else places * block.gamma.view(1, -1, 1, 1)


def refuse_leaks(model: TimmWrapperModel) -> None:
    """Refuses what is no ConvNeXt for a log-mel, or one in which removed cells would be heard.

    Raises:
        ValueError: says what was expected.
    """
    network, name = model.timm_model, model.config.architecture
    if not isinstance(network, ConvNeXt) or network.stem[0].kernel_size != network.stem[0].stride:
        raise ValueError(f"a ConvNeXt whose stem cuts patches is expected, not {name}")
    if any(isinstance(module, GlobalResponseNormMlp) for module in network.modules()):
        raise ValueError(f"{name} norms each place by all others, so that removed ones would be heard; use V1")
    if network.in_chans != 1:
        raise ValueError(f"a network for one channel is expected (model_args in_chans), not for {network.in_chans}")
    if next(network.head.parameters(), None) is not None:
        raise ValueError("the last norm is expected before pooling (model_args head_norm_first), not behind it")

"""A pretraining step against transformers' ViTMAE and lightly's MAE, at the same sizes, on one core.

    python -m benchmarks.step
    python -m benchmarks.step --batch_size 4 --rounds 9
    python -m benchmarks.step --quick

Forward, loss on normalised patches, backward and fused AdamW of a ViT-S on 1024 frames x 128 mel bins, patches of 16,
mask ratio 0.8. The log-mel is computed beforehand for all alike: the model alone is timed. Two peers need help with a
grid that is no square, and get no more than it takes: ViTMAE another table of positions and its own switch that lets
oblong input pass, lightly a table that is left as timm made it and patches cut by our code.

Prints samples per CPU second (medians over interleaved rounds), ratios paired within rounds, and the share of the
rate of a matrix product, measured in the same rounds, that the step's own arithmetic reaches. Whatever is skipped is
not counted as done. A bfloat16 column appears where the processor multiplies in bfloat16.
"""

import statistics
from collections.abc import Callable
from unittest import mock

import torch
from lightly.models import utils as lightly_utils
from lightly.models.modules import MaskedVisionTransformerDecoderTIMM, MaskedVisionTransformerTIMM
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from transformers import ViTMAEConfig, ViTMAEForPreTraining
from transformers.models.vit_mae import modeling_vit_mae

from backbones.ast_encoder import EXTRA_TOKENS, PRESETS, AstBackbone, attention_for, patches_of
from backbones.mae import DECODERS, MaskedAutoencoder
from backbones.masking import kept_patches
from benchmarks.timing import goal, parse, parser, ratio, rounds_of, table
from losses.masked_patches import masked_patch_loss, normalised_patches

FRAMES, MEL_BINS, PATCH, MASK_RATIO = 1024, 128, 16, 0.8
GRID = (MEL_BINS // PATCH, FRAMES // PATCH)
NUM_PATCHES = GRID[0] * GRID[1]
ENCODER = PRESETS["small"]
FULL = {"width": 512, "depth": 8, "heads": 16}  # the decoder of He et al. 2021
MATMUL = 1024  # side of the square matrices whose product is the measure of arithmetic
OURS, OURS_LIGHT, VIT_MAE, LIGHTLY = "ours", "ours, default decoder", "transformers ViTMAE", "lightly MAE"


class Precomputed(nn.Module):
    """A front end that has already run."""

    def __init__(self, log_mel: Tensor):
        super().__init__()
        self.log_mel = log_mel

    def forward(self, waveform: Tensor, num_samples: Tensor | None) -> tuple[Tensor, Tensor]:
        """The same log-mel ``(B, T, F)`` whatever the waveform."""
        return self.log_mel, torch.full((len(self.log_mel),), self.log_mel.shape[1])


def ours(log_mel: Tensor, decoder: dict[str, int], attention: str) -> tuple[nn.Module, Callable[[], Tensor]]:
    """Our model and a function that computes its loss."""
    encoder = AstBackbone.untrained("small", FRAMES, mean=0.0, std=0.5)
    model = MaskedAutoencoder(encoder, **decoder)
    model.use_attention(attention)
    encoder.log_mel = Precomputed(log_mel)
    waveform, steps = torch.zeros(len(log_mel), 1), iter(range(1 << 62))

    def loss() -> Tensor:
        keys = torch.full((len(log_mel), 1), next(steps) << 8) + torch.arange(len(log_mel))[:, None]
        out = model(waveform, keys, mask_ratio=MASK_RATIO)
        return masked_patch_loss(out.prediction, normalised_patches(out.target))

    return model, loss


class OblongViTMAE(ViTMAEForPreTraining):
    """ViTMAE on input that is no square."""

    def patchify(self, pixel_values: Tensor, interpolate_pos_encoding: bool = False) -> Tensor:
        """Cuts patches; the switch does nothing here but let oblong input pass."""
        return super().patchify(pixel_values, interpolate_pos_encoding=True)


def vit_mae(log_mel: Tensor, attention: str) -> tuple[nn.Module, Callable[[], Tensor]]:
    """transformers' model and a function that computes its loss."""
    config = ViTMAEConfig(
        **ENCODER,
        image_size=(FRAMES, MEL_BINS),
        patch_size=PATCH,
        num_channels=1,
        mask_ratio=MASK_RATIO,
        decoder_hidden_size=FULL["width"],
        decoder_num_hidden_layers=FULL["depth"],
        decoder_num_attention_heads=FULL["heads"],
        decoder_intermediate_size=4 * FULL["width"],
        norm_pix_loss=True,
        attn_implementation=attention,
    )
    name = "build_2d_sinusoidal_position_embedding"
    table_of = getattr(modeling_vit_mae, name)
    with mock.patch.object(modeling_vit_mae, name, lambda height, width, **rest: table_of(GRID[1], GRID[0], **rest)):
        model = OblongViTMAE(config)
    image = log_mel[:, None]
    return model, lambda: model(pixel_values=image).loss


class LightlyMAE(nn.Module):
    """lightly's modules put together as its documentation's MAE example does."""

    def __init__(self):
        super().__init__()
        width = ENCODER["hidden_size"]
        vit = VisionTransformer(
            (FRAMES, MEL_BINS), PATCH, in_chans=1, num_classes=0, embed_dim=width,
            depth=ENCODER["num_hidden_layers"], num_heads=ENCODER["num_attention_heads"],
        )  # fmt: skip
        self.backbone = MaskedVisionTransformerTIMM(vit, pos_embed_initialization="skip")
        self.embed = nn.Linear(width, FULL["width"])
        self.decoder = MaskedVisionTransformerDecoderTIMM(
            NUM_PATCHES, FULL["width"], FULL["depth"], FULL["heads"], initialize_weights=False
        )
        self.predict = nn.Linear(FULL["width"], PATCH**2)
        vit.pos_embed.requires_grad = False  # as after lightly's own initialisation

    def forward(self, image: Tensor) -> Tensor:
        """The loss on a batch ``(B, 1, T, F)``."""
        size = (len(image), NUM_PATCHES + 1)
        ids_keep, ids_masked = lightly_utils.random_token_mask(size, MASK_RATIO)
        encoded = self.embed(self.backbone.encode(image, idx_keep=ids_keep))
        tokens = lightly_utils.repeat_token(self.decoder.mask_token, size)
        tokens = lightly_utils.set_at_index(tokens, ids_keep, encoded.type_as(tokens))
        decoded = self.decoder.decode(self.decoder.add_pos_embed(tokens))
        prediction = self.predict(lightly_utils.get_at_index(decoded, ids_masked))
        target = lightly_utils.get_at_index(patches_of(image[:, 0], PATCH), ids_masked - 1)
        return masked_patch_loss(prediction, normalised_patches(target))


def step_of(model: nn.Module, loss: Callable[[], Tensor], dtype: torch.dtype) -> Callable[[], None]:
    """Forward, backward and AdamW."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, fused=True)

    def step() -> None:
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            value = loss()
        value.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def block_flops(queries: int, keys: int, width: int) -> int:
    """Arithmetic of a transformer block in the forward pass, two a multiply-add; the MLP is four times as wide."""
    linear = 2 * width**2 * (2 * keys + queries + queries + 8 * queries)  # keys and values; query, output, MLP
    if queries < keys:  # ours computes queries for all tokens before it picks some
        linear += 2 * width**2 * (keys - queries)
    return linear + 4 * queries * keys * width  # scores and their mixture of values


def step_flops(decoder: dict[str, int], extra_tokens: int, decoded: int, last_queries: int, projected: int) -> float:
    """Arithmetic of a step and clip: a backward pass costs two forward ones.

    Args:
        extra_tokens: tokens of the encoder that are no patches.
        decoded: tokens of the decoder.
        last_queries: tokens that its last block and the prediction work on.
        projected: patches that the encoder embeds.
    """
    width, encoded = ENCODER["hidden_size"], kept_patches(GRID, MASK_RATIO) + extra_tokens
    forward = 2 * projected * PATCH**2 * width
    forward += ENCODER["num_hidden_layers"] * block_flops(encoded, encoded, width)
    forward += 2 * encoded * width * decoder["width"]
    forward += (decoder["depth"] - 1) * block_flops(decoded, decoded, decoder["width"])
    forward += block_flops(last_queries, decoded, decoder["width"])
    forward += 2 * last_queries * decoder["width"] * PATCH**2
    return 3.0 * forward


def flops_of_all() -> dict[str, float]:
    """Arithmetic of a step and clip, by candidate."""
    kept = kept_patches(GRID, MASK_RATIO)
    masked, whole = NUM_PATCHES - kept, NUM_PATCHES + 1
    peer = step_flops(FULL, 1, whole, whole, NUM_PATCHES)
    return {
        OURS: step_flops(FULL, EXTRA_TOKENS, NUM_PATCHES, masked, kept),
        VIT_MAE: peer,
        LIGHTLY: peer,
        OURS_LIGHT: step_flops(DECODERS["small"], EXTRA_TOKENS, NUM_PATCHES, masked, kept),
    }


def time_all(options: object, dtype: torch.dtype) -> dict[str, list[float]]:
    """CPU seconds a call of every candidate and of the matrix product."""
    torch.manual_seed(0)
    log_mel = torch.randn(options.batch_size, FRAMES, MEL_BINS)
    image = log_mel[:, None]
    attention, lightly = attention_for("cpu", dtype), LightlyMAE()
    models = {
        OURS: ours(log_mel, FULL, attention),
        VIT_MAE: vit_mae(log_mel, "sdpa"),
        LIGHTLY: (lightly, lambda: lightly(image)),
        OURS_LIGHT: ours(log_mel, DECODERS["small"], attention),
    }
    calls = {name: step_of(model, loss, dtype) for name, (model, loss) in models.items()}
    left, right = torch.randn(2, MATMUL, MATMUL, dtype=dtype)
    return rounds_of(calls | {"matmul": lambda: left @ right}, options.rounds, options.seconds)


def report(taken: dict[str, list[float]], batch_size: int, kind: str) -> dict[str, float]:
    """Prints a table; returns each candidate's share of the matrix product's rate."""
    flops, matmul = flops_of_all(), taken.pop("matmul")
    rate = [2 * MATMUL**3 / seconds for seconds in matmul]
    shares, rows = {}, []
    for name, times in taken.items():
        achieved = [batch_size * flops[name] / seconds for seconds in times]
        shares[name] = ratio(achieved, rate)
        rows.append([
            name, f"{batch_size / statistics.median(times):.2f}", f"{ratio(taken[VIT_MAE], times):.2f}",
            f"{flops[name] / 1e9:.1f}", f"{statistics.median(achieved) / 1e9:.0f}", f"{shares[name]:.2f}",
        ])  # fmt: skip
    header = ["candidate", "samples / core-s", f"x {VIT_MAE}", "GFLOP a sample", "GFLOP/s", "of matmul"]
    print(f"\n{kind}, batches of {batch_size}, one thread; matmul {statistics.median(rate) / 1e9:.0f} GFLOP/s\n")
    print(table(header, rows))
    return shares


def main() -> None:
    """Times, compares and prints."""
    options_of = parser(__doc__)
    options_of.add_argument("--batch_size", type=int, default=2, help="clips of a step (default: 2)")
    options = parse(options_of)
    taken = time_all(options, torch.float32)
    shares = report(taken, options.batch_size, "float32")
    goals = [
        goal(f"same decoder, times {VIT_MAE}", ratio(taken[VIT_MAE], taken[OURS]), 1.1),
        goal(f"same decoder, times {LIGHTLY}", ratio(taken[LIGHTLY], taken[OURS]), 1.1),
        goal("same decoder, share of the matmul rate", shares[OURS], 0.55),
        goal(f"default decoder, times {VIT_MAE}", ratio(taken[VIT_MAE], taken[OURS_LIGHT]), 3.0),
    ]
    if torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported():
        halved = time_all(options, torch.bfloat16)
        report(halved, options.batch_size, "bfloat16 autocast")
        goals.append(goal("default decoder, bfloat16 times float32", ratio(taken[OURS_LIGHT], halved[OURS_LIGHT]), 1.5))
    else:
        print("\nbfloat16 is left out: this processor has no bfloat16 arithmetic (AMX or AVX512-BF16)")
    print("\n" + "\n".join(goals))


if __name__ == "__main__":
    main()

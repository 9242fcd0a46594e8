"""The masked autoencoder against a slow one that runs every token through every block."""

import pytest
import torch
import torch.nn.functional as F

from backbones.ast_encoder import PRESETS, AstBackbone
from backbones.log_mel import samples_of
from backbones.mae import DECODERS, MaeDecoder, MaskedAutoencoder
from backbones.masking import draw_mask
from losses.masked_patches import masked_patch_loss

# Skipping what nobody asks for changes the shapes of matrix products, and with them the order of float32 sums.
TOLERANCE = {"atol": 2e-5, "rtol": 0}
FRAMES, GRID = 48, (8, 3)
PROBED = (
    "decoder.mask_token",
    "decoder.blocks.2.query_key_value.weight",
    "decoder.embed.bias",
    "encoder.ast.embeddings.position_embeddings",
    "encoder.ast.layers.0.attention.k_proj.weight",
)
"""Parameters whose gradient is compared with finite differences: one of every way into the network."""


def build(dtype: torch.dtype = torch.float32) -> MaskedAutoencoder:
    torch.manual_seed(1)
    sizes = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 96}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "two_layers", sizes)
        encoder = AstBackbone.untrained("two_layers", FRAMES, mean=-4.0, std=4.0)
    model = MaskedAutoencoder(encoder, width=32, depth=3, heads=4)
    with torch.no_grad():  # fresh biases are zero and hide mistakes
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.to(dtype)


@pytest.fixture(scope="module")
def model() -> MaskedAutoencoder:
    return build()


def noise(batch: int = 3) -> torch.Tensor:
    return 0.1 * torch.randn(batch, samples_of(FRAMES), generator=torch.Generator().manual_seed(batch))


def keys(batch: int = 3, clones: int = 1) -> torch.Tensor:
    return torch.arange(batch * clones).view(batch, clones) + 77


def slow_decoder(decoder: MaeDecoder, visible: torch.Tensor, ids_keep: torch.Tensor) -> torch.Tensor:
    """Predicts every patch of the grid, one clip and one attention head at a time."""
    predictions = []
    for row, ids in zip(visible, ids_keep.tolist(), strict=True):
        tokens = decoder.mask_token.repeat(len(decoder.positions), 1)
        tokens[ids] = decoder.embed(row)
        tokens = tokens + decoder.positions
        for block in decoder.blocks:
            query, key, value = block.query_key_value(block.attention_norm(tokens)).chunk(3, dim=1)
            size = query.shape[1] // block.heads
            mixed = []
            for head in range(block.heads):
                part = slice(head * size, (head + 1) * size)
                weights = (query[:, part] @ key[:, part].T / size**0.5).softmax(dim=1)
                mixed.append(weights @ value[:, part])
            tokens = tokens + block.attention_out(torch.cat(mixed, dim=1))
            tokens = tokens + block.mlp_out(F.gelu(block.mlp_in(block.mlp_norm(tokens))))
        predictions.append(decoder.predict(decoder.norm(tokens)))
    return torch.stack(predictions)


@pytest.mark.parametrize("kind", ["random", "time", "frequency", "inverse_block"])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_prediction_equals_that_of_a_slow_autoencoder(model, kind, attention):
    model.use_attention(attention)
    out = model(noise(), keys(), mask_ratio=0.6, kind=kind, block=(2, 2))
    mask = draw_mask(keys().flatten(), GRID, 0.6, kind, (2, 2))
    assert torch.equal(out.mask.ids_keep, mask.ids_keep)
    patches, _ = model.encoder.patches(noise())
    rows = torch.arange(3)[:, None]
    visible = model.encoder.encode_visible(patches[rows, mask.ids_keep], mask.ids_keep)
    expected = slow_decoder(model.decoder, visible, mask.ids_keep)[rows, mask.ids_masked]
    torch.testing.assert_close(out.prediction, expected, **TOLERANCE)
    assert torch.equal(out.target, patches[rows, mask.ids_masked])
    assert out.is_padding is None
    model.use_attention("sdpa")


def test_use_attention_reaches_encoder_and_decoder(model):
    for name in ("eager", "sdpa"):
        model.use_attention(name)
        assert model.encoder.ast.config._attn_implementation == name
        assert model.decoder.eager_attention == (name == "eager")


def test_clones_in_one_pass_equal_passes_of_their_own(model):
    together = model(noise(), keys(3, 4))
    for clone in range(4):
        alone = model(noise(), keys(3, 4)[:, clone : clone + 1])
        rows = torch.arange(3) * 4 + clone  # a clip's clones lie side by side
        assert torch.equal(together.mask.ids_keep[rows], alone.mask.ids_keep)
        assert torch.equal(together.target[rows], alone.target)
        torch.testing.assert_close(together.prediction[rows], alone.prediction, **TOLERANCE)


def test_visible_patches_are_no_target(model):
    out = model(noise(), keys(), mask_ratio=0.6)
    assert out.prediction.shape == out.target.shape == (3, 24 - out.mask.ids_keep.shape[1], 256)
    patches, _ = model.encoder.patches(noise())
    is_target = (out.target[:, :, None] == patches[:, None]).all(dim=-1).any(dim=1)  # (B, N)
    assert not is_target.gather(1, out.mask.ids_keep).any()
    assert is_target.gather(1, out.mask.ids_masked).all()


def test_masked_sound_reaches_no_prediction(model):
    waveform = noise()
    reference = model(waveform, keys(), kind="time", mask_ratio=0.6)  # keeps one column of three
    for clip in range(3):
        column = int(reference.mask.ids_keep[clip, 0])
        # Frames overlap by 240 samples, so silence what the column's frames do not touch at all.
        first, last = column * 16 * 160, (column * 16 + 15) * 160 + 400
        waveform[clip, :first] = 0
        waveform[clip, last:] = 0
    silenced = model(waveform, keys(), kind="time", mask_ratio=0.6)
    torch.testing.assert_close(silenced.prediction, reference.prediction, **TOLERANCE)
    assert not torch.allclose(silenced.target, reference.target)


def test_padding_changes_no_prediction_and_is_marked(model):
    waveform = noise(2)
    lengths = torch.tensor([samples_of(FRAMES), samples_of(32)])
    waveform[1, lengths[1] :] = 0
    out = model(waveform, keys(2), lengths, mask_ratio=0.6)
    is_padding = (torch.arange(24) % 3 == 2).expand(2, -1) & torch.tensor([[False], [True]])
    assert torch.equal(out.is_padding, is_padding.gather(1, out.mask.ids_masked))
    assert not is_padding.gather(1, out.mask.ids_keep).any()
    louder = waveform.clone()
    louder[1, samples_of(33) :] = 0.5  # behind the end, in frames that count as padding
    torch.testing.assert_close(model(louder, keys(2), lengths, mask_ratio=0.6).prediction, out.prediction, **TOLERANCE)
    losses = masked_patch_loss(out.prediction, out.target, out.is_padding)
    errors = (out.prediction - out.target).square().mean(dim=2)
    by_hand = [errors[clip][~out.is_padding[clip]].mean() for clip in range(2)]  # clips count alike, however short
    torch.testing.assert_close(losses, torch.stack(by_hand).mean())


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_half_precision_stays_near_float32(model, attention):
    model.use_attention(attention)
    expected = model(noise(), keys()).prediction
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = model(noise(), keys())
    assert out.target.dtype == torch.float32
    # bfloat16 has 8 bits; five blocks of width 48 with values of a few units keep about 2 %.
    assert (out.prediction.float() - expected).norm() / expected.norm() < 0.03
    model.use_attention("sdpa")


@pytest.mark.parametrize("clones", [1, 2])
def test_gradient_reaches_every_parameter(clones):
    model = build()
    out = model(noise(), keys(3, clones))
    masked_patch_loss(out.prediction, out.target).backward()
    for name, parameter in model.named_parameters():  # a parameter without one makes distributed training hang
        assert parameter.grad is not None, name
        is_key_bias = "query_key_value.bias" in name or name.endswith("k_proj.bias")  # softmax does not see the keys'
        assert is_key_bias or parameter.grad.abs().max() > 1e-9, name


def test_gradient_is_that_of_finite_differences():
    model = build(torch.float64)
    patches = torch.randn(2, 24, 256, dtype=torch.float64)
    mask = draw_mask(keys(2).flatten(), GRID, 0.6)
    rows = torch.arange(2)[:, None]
    target = patches[rows, mask.ids_masked]

    def loss() -> torch.Tensor:
        visible = model.encoder.encode_visible(patches[rows, mask.ids_keep], mask.ids_keep)
        return (model.decoder(visible, mask) - target).square().mean()

    loss().backward()
    with torch.no_grad():
        for name in PROBED:
            parameter = model.get_parameter(name)
            direction = torch.randn_like(parameter)
            values = []
            for step in (1e-5, -2e-5, 1e-5):
                parameter.add_(direction, alpha=step)
                values.append(loss())
            numeric = (values[0] - values[1]) / 2e-5
            assert (parameter.grad * direction).sum().item() == pytest.approx(numeric.item(), rel=1e-5), name


def test_only_weights_are_saved(model):
    saved = set(model.state_dict())
    assert saved == {name for name, _ in model.named_parameters()}


def test_decoders_fit_their_encoders():
    assert set(DECODERS) == set(PRESETS)
    for sizes in DECODERS.values():
        assert sizes["width"] % sizes["heads"] == 0
        assert sizes["width"] % 4 == 0

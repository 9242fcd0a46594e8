"""ConvNeXt behind our interface is timm's own, and blind to what a mask or a clip's end removes."""

import pytest
import torch
from torch import nn
from transformers import TimmWrapperConfig, TimmWrapperModel

from backbones.ast_encoder import log_mel_of
from backbones.cnn import CNN_PRESETS, CnnBackbone
from backbones.log_mel import RATE, samples_of
from backbones.mae import MaskedAutoencoder
from backbones.masking import draw_mask
from backbones.pooling import pool
from losses.masked_patches import masked_patch_loss

# The same float32 operations on pictures of other sizes, whose sums run in another order.
TOLERANCE = {"atol": 2e-5, "rtol": 1e-5}
FRAMES, GRID = 160, (4, 5)


def build(dtype: torch.dtype = torch.float32, architecture: str = "test_convnext") -> CnnBackbone:
    torch.manual_seed(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(CNN_PRESETS, "test", architecture)
        backbone = CnnBackbone.untrained("test", FRAMES + 9, mean=-4.0, std=4.0)
    with torch.no_grad():  # fresh biases are zero, and fresh blocks hardly do anything: both hide mistakes
        for parameter in backbone.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return backbone.to(dtype).eval()


@pytest.fixture(scope="module", params=["test_convnext", "convnext_atto"])
def backbone(request) -> CnnBackbone:
    """ConvNeXt with linear layers behind its convolutions, and with convolutions of one place in their stead."""
    return build(architecture=request.param)


def noise(batch: int, num_frames: int = FRAMES) -> torch.Tensor:
    return 0.1 * torch.randn(batch, samples_of(num_frames), generator=torch.Generator().manual_seed(batch))


def some_cells(batch: int, kept: int = 7) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    cells = [torch.randperm(GRID[0] * GRID[1], generator=generator)[:kept] for _ in range(batch)]
    return torch.stack(cells).sort(dim=1).values


def slow_masked(backbone: CnnBackbone, patches: torch.Tensor, is_visible: torch.Tensor) -> torch.Tensor:
    """Dense tokens ``(B, N, D)``: timm's own modules on the whole picture, zeroed after each one."""
    network = backbone.model.timm_model
    grid = is_visible.view(-1, 1, *GRID).mT.to(patches.dtype)  # (B, 1, time, freq)

    def masked(picture: torch.Tensor) -> torch.Tensor:
        return picture * nn.functional.interpolate(grid, size=picture.shape[2:])

    picture = masked(network.stem(log_mel_of(patches, GRID)[:, None]))
    for stage in network.stages:
        picture = masked(stage.downsample(picture))
        for block in stage.blocks:
            picture = masked(block(picture))
    return masked(network.norm_pre(picture)).permute(0, 3, 2, 1).flatten(1, 2)


def test_one_cell_is_32_frames_by_32_mel_bins(backbone):
    assert (backbone.kind, backbone.patch_size, backbone.grid) == ("cnn", 32, GRID)
    assert backbone.num_samples == samples_of(FRAMES)
    longer = noise(1, FRAMES + 31)
    patches, is_padding = backbone.patches(longer)
    assert patches.shape == (1, 20, 1024)
    assert is_padding is None
    cut = longer[:, : samples_of(FRAMES)]
    assert torch.equal(patches, backbone.patches(cut)[0])
    assert torch.equal(backbone(longer).tokens, backbone(cut).tokens)


@torch.no_grad()
@pytest.mark.parametrize("num_frames", [32, 96, FRAMES, 224])  # grids of 4 x 1, 4 x 3, 4 x 5, 4 x 7
def test_tokens_equal_timms_features(backbone, num_frames):
    waveform = noise(2, num_frames)
    log_mel, _ = backbone.log_mel(waveform)
    expected = backbone.model(log_mel[:, None]).last_hidden_state  # (B, D, time, freq)
    found = backbone(waveform, hidden=True)
    time = num_frames // 32
    assert expected.shape == (2, backbone.width, time, 4)
    assert found.is_padding is None
    for freq in range(4):
        for column in range(time):
            torch.testing.assert_close(found.tokens[:, freq * time + column], expected[..., column, freq], **TOLERANCE)
    assert len(found.hidden) == len(backbone.model.timm_model.stages[-1].blocks) == 2
    normed = backbone.model.timm_model.norm_pre(found.hidden[-1].view(2, 4, time, -1).permute(0, 3, 2, 1))
    torch.testing.assert_close(normed, expected, **TOLERANCE)
    assert backbone(waveform).hidden == []


@torch.no_grad()
def test_all_cells_visible_equals_forward(backbone):
    waveform = noise(2)
    expected = backbone(waveform).tokens
    patches, _ = backbone.patches(waveform)
    everything = torch.arange(20).expand(2, -1)
    torch.testing.assert_close(backbone.encode_visible(patches, everything), expected, **TOLERANCE)
    order = torch.stack([torch.randperm(20) for _ in range(2)])
    rows = torch.arange(2)[:, None]
    shuffled = backbone.encode_visible(patches[rows, order], order)
    torch.testing.assert_close(shuffled, expected[rows, order], **TOLERANCE)


@torch.no_grad()
def test_visible_cells_equal_those_of_a_slow_masked_network(backbone):
    patches, rows, ids_keep = backbone.patches(noise(3))[0], torch.arange(3)[:, None], some_cells(3)
    is_visible = torch.zeros(3, 20, dtype=torch.bool).scatter_(1, ids_keep, True)
    found = backbone.encode_visible(patches[rows, ids_keep], ids_keep)
    torch.testing.assert_close(found, slow_masked(backbone, patches, is_visible)[rows, ids_keep], **TOLERANCE)
    # Neighbours that are visible are heard.
    louder = patches[rows, ids_keep]
    louder[:, 0] += 1
    assert not torch.allclose(backbone.encode_visible(louder, ids_keep)[:, 1:], found[:, 1:], atol=1e-3)
    # Padding among the visible is as if it had been masked.
    is_padding = torch.arange(7).expand(3, -1) >= torch.tensor([[7], [5], [3]])
    found = backbone.encode_visible(patches[rows, ids_keep], ids_keep, is_padding)
    is_visible.scatter_(1, ids_keep, ~is_padding)
    torch.testing.assert_close(found, slow_masked(backbone, patches, is_visible)[rows, ids_keep], **TOLERANCE)


def test_what_is_masked_changes_no_prediction_by_a_single_bit(backbone, monkeypatch):
    torch.manual_seed(0)
    model, waveform, keys = MaskedAutoencoder(backbone, 32, 2, 4).eval(), noise(3), torch.arange(3)[:, None]
    before = model(waveform, keys, mask_ratio=0.6)
    patches, is_padding = backbone.patches(waveform)
    other = patches.scatter(1, before.mask.ids_masked[..., None].expand(-1, -1, 1024), float("nan"))
    monkeypatch.setattr(backbone, "patches", lambda *_: (other, is_padding))
    after = model(waveform, keys, mask_ratio=0.6)
    assert torch.equal(after.prediction, before.prediction)
    assert after.target.isnan().all()


@torch.no_grad()
def test_a_padded_clip_has_the_tokens_it_has_alone(backbone):
    waveform, lengths = noise(3), [samples_of(FRAMES), samples_of(96), samples_of(32)]
    for row, length in zip(waveform, lengths, strict=True):
        row[length:] = 0
    together = backbone(waveform, torch.tensor(lengths), hidden=True)
    assert together.is_padding.view(3, *GRID)[:, 0].tolist() == [
        [False] * 5,
        [False] * 3 + [True] * 2,
        [False] + [True] * 4,
    ]
    for place, length in enumerate(lengths):
        alone = backbone(waveform[place : place + 1, :length], hidden=True)
        is_sound = ~together.is_padding[place]
        torch.testing.assert_close(together.tokens[place, is_sound], alone.tokens[0], **TOLERANCE)
        assert not together.tokens[place, ~is_sound].any()
        for pooling in ("mean", "mean_layers", "mean_max_layers"):
            torch.testing.assert_close(pool(together, pooling)[place], pool(alone, pooling)[0], **TOLERANCE)
    louder = waveform.clone()
    louder[1, samples_of(97) :] = 0.5  # behind the end
    assert torch.equal(backbone(louder, torch.tensor(lengths)).tokens, together.tokens)


def test_a_cell_with_some_sound_is_no_padding(backbone):
    _, is_padding = backbone.patches(noise(1), torch.tensor([samples_of(33)]))
    assert is_padding.view(GRID)[0].tolist() == [False, False, True, True, True]
    assert backbone.patches(noise(1), torch.tensor([samples_of(FRAMES)]))[1] is None


@pytest.mark.parametrize("through", ["forward", "encode_visible"])
def test_gradient_reaches_every_parameter(through):
    backbone = build()
    if through == "forward":
        tokens = backbone(noise(2), torch.tensor([samples_of(FRAMES), samples_of(96)])).tokens
    else:
        tokens = backbone.encode_visible(
            backbone.patches(noise(2))[0][torch.arange(2)[:, None], some_cells(2)], some_cells(2)
        )
    (tokens * torch.randn_like(tokens)).sum().backward()
    for name, parameter in backbone.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 1e-6, name


def test_gradient_is_that_of_finite_differences():
    model = MaskedAutoencoder(build(torch.float64), 32, 2, 4).double()
    patches, rows = torch.randn(2, 20, 1024, dtype=torch.float64), torch.arange(2)[:, None]
    mask = draw_mask(torch.arange(2), GRID, 0.6)
    is_padding = torch.arange(20).expand(2, -1) % 5 == 4

    def loss() -> torch.Tensor:
        ids = mask.ids_keep
        visible = model.encoder.encode_visible(patches[rows, ids], ids, is_padding.gather(1, ids))
        return masked_patch_loss(model.decoder(visible, mask, is_padding), patches[rows, mask.ids_masked])

    loss().backward()
    network = "encoder.model.timm_model."
    with torch.no_grad():
        for name in ("stem.0.weight", "stages.0.blocks.0.conv_dw.weight", "stages.3.blocks.1.gamma", "norm_pre.bias"):
            parameter = model.get_parameter(network + name)
            direction, values = torch.randn_like(parameter), []
            for step in (1e-5, -2e-5, 1e-5):
                parameter.add_(direction, alpha=step)
                values.append(loss())
            numeric = (values[0] - values[1]) / 2e-5
            assert (parameter.grad * direction).sum().item() == pytest.approx(numeric.item(), rel=1e-4), name


def test_half_precision_stays_near_float32():
    backbone = build()
    expected = backbone(noise(2)).tokens
    with torch.autocast("cpu", dtype=torch.bfloat16):
        whole = backbone(noise(2)).tokens
        visible = backbone.encode_visible(backbone.patches(noise(2))[0], torch.arange(20).expand(2, -1))
    for found in (whole, visible):  # bfloat16 has 8 bits, and there are nine blocks
        assert (found.float() - expected).norm() / expected.norm() < 0.03


def test_a_resized_backbone_hears_a_clip_as_before():
    backbone = build()
    shorter, longer = backbone.resized(70), backbone.resized(300)
    assert (shorter.grid, longer.grid, backbone.grid) == ((4, 2), (4, 9), GRID)
    with torch.no_grad():
        for resized in (shorter, longer):
            assert torch.equal(resized(noise(1)).tokens, backbone(noise(1)).tokens)
        shorter.model.timm_model.stem[0].weight.zero_()
        assert backbone.model.timm_model.stem[0].weight.any(), "they share their weights"
    twin = backbone.untrained_twin()
    assert (twin.grid, twin.log_mel.mean, twin.log_mel.std) == (GRID, -4.0, 4.0)
    assert not torch.equal(twin.model.timm_model.stem[0].weight, backbone.model.timm_model.stem[0].weight)


@pytest.mark.parametrize(
    ("preset", "millions", "width"), [("tiny", 3.4, 320), ("small", 8.5, 512), ("base", 27.8, 768)]
)
def test_presets_are_timms(preset, millions, width):
    torch.manual_seed(3)
    first = CnnBackbone.untrained(preset, 64, 0.0, 1.0)
    assert sum(parameter.numel() for parameter in first.parameters()) / 1e6 == pytest.approx(millions, abs=0.05)
    assert first.width == width
    torch.manual_seed(3)
    second = CnnBackbone.untrained(preset, 64, 0.0, 1.0)
    assert all(map(torch.equal, first.parameters(), second.parameters()))


def test_front_end_travels_as_a_feature_extractor(backbone):
    extractor = backbone.feature_extractor()
    expected = extractor(noise(1)[0].numpy(), sampling_rate=RATE, return_tensors="pt").input_values
    torch.testing.assert_close(backbone.log_mel(noise(1))[0], expected, atol=5e-3, rtol=0)
    assert (extractor.mean, extractor.std, extractor.max_length) == (-4.0, 4.0, FRAMES)


def test_clips_and_mel_bins_without_a_whole_cell_are_refused():
    model_args = {"in_chans": 1, "head_norm_first": True}
    model = TimmWrapperModel(TimmWrapperConfig(architecture="test_convnext", model_args=model_args))
    with pytest.raises(ValueError, match="cells of 32 x 32 must tile 128 mel bins and fit into 31 frames"):
        CnnBackbone(model, 31, 0.0, 1.0)
    with pytest.raises(ValueError, match="at least 5360 samples, not 5359; pad shorter clips"):
        CnnBackbone(model, 32, 0.0, 1.0)(torch.zeros(1, 5359))
    with pytest.raises(ValueError, match="must tile 80 mel bins"):
        CnnBackbone(model, FRAMES, 0.0, 1.0, num_mel_bins=80)

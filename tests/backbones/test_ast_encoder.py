"""The encoder is transformers' `ASTModel`: the same tokens from a waveform, alone, padded or in part."""

import math

import pytest
import torch
from transformers import ASTConfig, ASTModel

from backbones.ast_encoder import (
    EXTRA_TOKENS,
    PRESETS,
    AstBackbone,
    attention_for,
    log_mel_of,
    patches_of,
    positions_for,
    sine_cosine,
)
from backbones.log_mel import RATE, samples_of
from backbones.mae import MaskedAutoencoder
from backbones.pooling import POOLINGS, pool

# Both run the same float32 operations, but ours cuts patches with one matrix product instead of a convolution, and a
# padded batch sums attention over more terms: rounding only.
TOLERANCE = {"atol": 2e-5, "rtol": 0}
FRAMES = 64


@pytest.fixture(scope="module")
def backbone() -> AstBackbone:
    torch.manual_seed(0)
    sizes = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 96}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "two_layers", sizes)
        built = AstBackbone.untrained("two_layers", FRAMES + 7, mean=-4.0, std=4.0)
    with torch.no_grad():  # zeros and small values hide mistakes
        for parameter in built.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return built.eval()


def noise(batch: int, num_frames: int = FRAMES) -> torch.Tensor:
    generator = torch.Generator().manual_seed(batch)
    return 0.1 * torch.randn(batch, samples_of(num_frames), generator=generator)


def test_frames_behind_the_last_whole_patch_are_dropped(backbone):
    assert backbone.grid == (8, 4)
    assert backbone.ast.config.max_length == FRAMES
    assert backbone.num_samples == samples_of(FRAMES)
    longer = noise(1, FRAMES + 7)
    assert torch.equal(backbone.patches(longer)[0], backbone.patches(longer[:, : samples_of(FRAMES)])[0])


def test_patches_are_cut_as_a_loop_cuts_them_and_put_together_again():
    log_mel = torch.randn(2, 12, 8)
    patches = patches_of(log_mel, 4)
    place = 0
    for freq in range(2):
        for time in range(3):
            block = log_mel[:, 4 * time : 4 * time + 4, 4 * freq : 4 * freq + 4]  # (B, time, freq)
            assert torch.equal(patches[:, place], block.transpose(1, 2).flatten(1))
            place += 1
    assert place == patches.shape[1]
    assert torch.equal(log_mel_of(patches, (2, 3)), log_mel)
    assert torch.equal(patches_of(torch.cat([log_mel, torch.randn(2, 3, 8)], dim=1), 4), patches)


def test_projection_equals_asts_convolution(backbone):
    log_mel = torch.randn(3, FRAMES, 128)
    expected = backbone.ast.embeddings.patch_embeddings(log_mel)
    torch.testing.assert_close(backbone._project(patches_of(log_mel, 16)), expected, **TOLERANCE)


def test_tokens_equal_transformers(backbone):
    waveform = noise(3)
    log_mel, _ = backbone.log_mel(waveform)
    expected = backbone.ast(log_mel, output_hidden_states=True)
    found = backbone(waveform, hidden=True)
    assert found.is_padding is None
    torch.testing.assert_close(found.tokens, expected.last_hidden_state[:, EXTRA_TOKENS:], **TOLERANCE)
    assert len(found.hidden) == backbone.ast.config.num_hidden_layers
    torch.testing.assert_close(found.hidden[0], expected.hidden_states[1][:, EXTRA_TOKENS:], **TOLERANCE)
    assert backbone(waveform).hidden == []


@pytest.fixture(params=["eager", "sdpa"])
def each_attention(request, backbone):
    backbone.ast.set_attn_implementation(request.param)
    yield
    backbone.ast.set_attn_implementation("sdpa")


@pytest.mark.usefixtures("each_attention")
def test_all_patches_visible_equals_forward(backbone):
    waveform = noise(2)
    expected = backbone(waveform).tokens
    patches, _ = backbone.patches(waveform)
    everything = torch.arange(patches.shape[1]).expand(2, -1)
    torch.testing.assert_close(backbone.encode_visible(patches, everything), expected, **TOLERANCE)
    order = torch.stack([torch.randperm(patches.shape[1]) for _ in range(2)])
    shuffled = patches.gather(1, order[..., None].expand(-1, -1, patches.shape[2]))
    found = backbone.encode_visible(shuffled, order)  # a set: the order of the visible does not matter
    torch.testing.assert_close(found, taken(expected, order), **TOLERANCE)


def taken(tokens: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    return torch.stack([row[chosen] for row, chosen in zip(tokens, ids, strict=True)])


@pytest.mark.usefixtures("each_attention")
def test_a_padded_clip_has_the_tokens_it_has_alone(backbone):
    waveform = noise(3)
    lengths = [samples_of(FRAMES), samples_of(32), samples_of(16)]
    for row, length in zip(waveform, lengths, strict=True):
        row[length:] = 0
    together = backbone(waveform, torch.tensor(lengths), hidden=True)
    assert together.is_padding.view(3, 8, 4)[:, 0].tolist() == [
        [False] * 4,
        [False, False, True, True],
        [False] + [True] * 3,
    ]
    for place, length in enumerate(lengths):
        alone = backbone(waveform[place : place + 1, :length], hidden=True)
        is_sound = ~together.is_padding[place]
        torch.testing.assert_close(together.tokens[place, is_sound], alone.tokens[0], **TOLERANCE)
        for pooling in POOLINGS:
            torch.testing.assert_close(pool(together, pooling)[place], pool(alone, pooling)[0], **TOLERANCE)


def test_a_patch_with_some_sound_is_no_padding(backbone):
    waveform = noise(1)
    _, is_padding = backbone.patches(waveform, torch.tensor([samples_of(17)]))
    assert is_padding.view(8, 4)[0].tolist() == [False, False, True, True]
    assert backbone.patches(waveform, torch.tensor([samples_of(FRAMES)]))[1] is None


def test_shorter_clips_take_the_first_columns_of_the_positions(backbone):
    table = backbone.ast.embeddings.position_embeddings[:, EXTRA_TOKENS:]
    assert torch.equal(positions_for(backbone.ast, (8, 4)), table)
    shorter = positions_for(backbone.ast, (8, 3)).view(8, 3, -1)
    assert torch.equal(shorter, table.view(8, 4, -1)[:, :3])


def test_longer_clips_stretch_the_positions_along_time(backbone):
    table = backbone.ast.embeddings.position_embeddings[0, EXTRA_TOKENS:].view(8, 4, -1)
    stretched = positions_for(backbone.ast, (8, 7)).view(8, 7, -1)
    for column in range(7):
        place = min(max((column + 0.5) * 4 / 7 - 0.5, 0.0), 3.0)
        low = min(int(place), 2)
        expected = table[:, low] * (low + 1 - place) + table[:, low + 1] * (place - low)
        torch.testing.assert_close(stretched[:, column], expected, **TOLERANCE)
    assert backbone(noise(1, 7 * 16)).tokens.shape == (1, 56, 48)


def test_another_number_of_mel_bins_is_refused(backbone):
    with pytest.raises(ValueError, match="8 rows of patches, the log-mel 4"):
        positions_for(backbone.ast, (4, 4))


def test_sine_cosine_equals_a_loop():
    grid, width = (3, 5), 16
    found = sine_cosine(grid, width)
    for freq in range(grid[0]):
        for time in range(grid[1]):
            expected = []
            for place in (freq, time):
                angles = [place / 10_000 ** (index / (width // 4)) for index in range(width // 4)]
                expected += [math.sin(angle) for angle in angles] + [math.cos(angle) for angle in angles]
            assert found[freq * grid[1] + time].tolist() == pytest.approx(expected, abs=1e-6)
    with pytest.raises(ValueError, match="4 divides, not 18"):
        sine_cosine(grid, 18)


@pytest.mark.parametrize(("preset", "millions"), [("tiny", 5.4), ("small", 21.3), ("base", 85.1)])
def test_presets_have_the_widths_of_vit(preset, millions):
    with torch.device("meta"):
        ast = ASTModel(ASTConfig(**PRESETS[preset], frequency_stride=16, time_stride=16, max_length=192))
    blocks = sum(parameter.numel() for parameter in ast.layers.parameters())
    assert blocks / 1e6 == pytest.approx(millions, abs=0.15)
    assert PRESETS[preset]["hidden_size"] // PRESETS[preset]["num_attention_heads"] == 64


def test_an_untrained_backbone_is_a_function_of_the_generator_and_starts_with_distinct_tokens():
    def build() -> AstBackbone:
        torch.manual_seed(3)
        return AstBackbone.untrained("tiny", 32, mean=0.0, std=1.0)

    first, second = build(), build()
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)
    embeddings = first.ast.embeddings
    assert not torch.equal(embeddings.cls_token, embeddings.distillation_token)
    assert embeddings.cls_token.std().item() == pytest.approx(0.02, rel=0.3)
    assert torch.equal(embeddings.position_embeddings[0, EXTRA_TOKENS:], sine_cosine((8, 2), 192))


@pytest.fixture(scope="module")
def published() -> AstBackbone:
    """Patches of 16 every 10 bins and 10 frames, as the published AST has them."""
    torch.manual_seed(1)
    sizes = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 96}
    ast = ASTModel(ASTConfig(**sizes, max_length=FRAMES))
    with torch.no_grad():
        for parameter in ast.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return AstBackbone(ast, -4.0, 4.0).eval()


def test_overlapping_patches_give_the_tokens_of_transformers(published):
    assert published.grid == (12, 5)
    waveform = noise(2)
    with torch.no_grad():
        expected = published.ast(published.log_mel(waveform)[0]).last_hidden_state[:, EXTRA_TOKENS:]
        torch.testing.assert_close(published(waveform).tokens, expected, **TOLERANCE)


def test_overlapping_patches_alone_and_padded(published):
    waveform, num_samples = noise(2), torch.tensor([samples_of(FRAMES), samples_of(36)])
    waveform[1, num_samples[1] :] = 0
    with torch.no_grad():
        padded, alone = published(waveform, num_samples), published(waveform[1:, : num_samples[1]])
    own = padded.tokens[1].view(12, 5, -1)[:, :3].flatten(0, 1)
    torch.testing.assert_close(own, alone.tokens[0], **TOLERANCE)
    assert padded.is_padding[1].view(12, 5).tolist() == [[False] * 3 + [True] * 2] * 12


def test_overlapping_patches_for_another_length(published):
    longer = published.resized(97)
    assert longer.grid == (12, 9)
    assert longer.ast.config.max_length == 96
    assert longer(noise(1, 97)).tokens.shape == (1, 12 * 9, 48)


def test_overlapping_patches_are_not_masked(published):
    with pytest.raises(ValueError, match="do not overlap"):
        MaskedAutoencoder(published, 32, 1, 2)


def test_front_end_travels_as_a_feature_extractor(backbone):
    extractor = backbone.feature_extractor()
    waveform = noise(1)
    expected = extractor(waveform[0].numpy(), sampling_rate=RATE, return_tensors="pt").input_values
    torch.testing.assert_close(backbone.log_mel(waveform)[0], expected, atol=5e-3, rtol=0)
    assert (extractor.mean, extractor.std, extractor.max_length) == (-4.0, 4.0, FRAMES)


def test_fused_attention_but_for_half_precision_on_a_cpu():
    assert attention_for("cpu", torch.float32) == "sdpa"
    assert attention_for("cpu", torch.bfloat16) == "eager"
    assert attention_for("cuda", torch.bfloat16) == "sdpa"


def test_a_resized_backbone_hears_a_clip_as_before():
    torch.manual_seed(0)
    backbone = AstBackbone.untrained("tiny", 64, -5.0, 4.0).eval()
    waveform = 0.1 * torch.randn(1, samples_of(48))
    shorter, longer = backbone.resized(50), backbone.resized(130)
    assert (shorter.grid, longer.grid, backbone.grid) == ((8, 3), (8, 8), (8, 4))
    with torch.no_grad():
        torch.testing.assert_close(shorter.eval()(waveform).tokens, backbone(waveform).tokens)
        long = 0.1 * torch.randn(1, samples_of(128))
        torch.testing.assert_close(longer.eval()(long).tokens, backbone(long).tokens)
    twin = backbone.untrained_twin()
    assert twin.grid == backbone.grid
    assert not torch.equal(twin.ast.layers[0].mlp.fc1.weight, backbone.ast.layers[0].mlp.fc1.weight)

"""CLAP's tower behind our interface hears what `ClapFeatureExtractor` hears, and gives what transformers gives."""

import pytest
import soxr
import torch
from torchaudio.functional import resample
from transformers import ClapAudioConfig, ClapAudioModel, ClapFeatureExtractor

from backbones.clap import CLAP_PRESETS, CLAP_RATE, CLAP_STEADY, ClapBackbone
from backbones.log_mel import RATE, LogMel
from backbones.pooling import pool

SIZES = {"patch_embeds_hidden_size": 8, "num_attention_heads": [1, 2, 2, 4], "depths": [1, 2, 1, 2]}
SECONDS = 3


def build(truncation: str = "rand_trunc", **settings) -> ClapBackbone:
    torch.manual_seed(0)
    model = ClapAudioModel(ClapAudioConfig(**SIZES, **CLAP_STEADY, hidden_size=64, **settings))
    norm = model.audio_encoder.batch_norm
    norm.running_mean.fill_(-20)
    norm.running_var.fill_(100)
    return ClapBackbone(model, ClapFeatureExtractor(truncation=truncation)).eval()


@pytest.fixture(scope="module")
def backbone() -> ClapBackbone:
    return build()


@pytest.fixture(scope="module")
def waveform() -> torch.Tensor:
    return 0.1 * torch.randn(2, SECONDS * RATE, generator=torch.Generator().manual_seed(3))


def theirs(backbone: ClapBackbone, fine: torch.Tensor) -> torch.Tensor:
    """What `ClapFeatureExtractor` makes of clips at 48 kHz."""
    extractor = backbone.feature_extractor()
    clips = list(fine.double().numpy())
    return extractor(clips, sampling_rate=CLAP_RATE, return_tensors="pt")["input_features"].float()


@pytest.mark.parametrize(("truncation", "channels"), [("rand_trunc", 1), ("fusion", 4)], ids=["slaney", "htk"])
def test_features_are_those_of_transformers(waveform, truncation, channels):
    backbone = build(truncation)
    found = backbone.features(waveform)
    expected = theirs(backbone, resample(waveform, RATE, CLAP_RATE, lowpass_filter_width=64))
    assert expected.shape == (2, channels, 1001, 64)
    assert found.shape == (2, 1, 1001, 64)
    # Decibels; theirs are float64, ours float32, which the logarithm magnifies in the nearly empty bins above 8 kHz.
    is_sound = expected[:, :1] > -60
    assert is_sound[:, :, : 100 * SECONDS].float().mean() > 0.7
    torch.testing.assert_close(found[is_sound], expected[:, :1][is_sound], atol=0.03, rtol=0)
    torch.testing.assert_close(found, expected[:, :1], atol=1, rtol=0)


def test_features_are_those_of_a_recording_resampled_by_a_better_resampler(backbone, waveform):
    fine = torch.from_numpy(soxr.resample(waveform.numpy().T, RATE, CLAP_RATE, quality="VHQ").T.copy())
    found, expected = backbone.features(waveform), theirs(backbone, fine)
    below = slice(0, 52)  # mel bins up to 7.1 kHz; above them the two roll off differently
    inside = slice(5, 100 * SECONDS - 5)  # frames away from the seam
    torch.testing.assert_close(found[:, :, inside, below], expected[:, :, inside, below], atol=0.01, rtol=0)


@torch.no_grad()
def test_tokens_are_those_of_transformers(backbone, waveform):
    found = backbone(waveform, hidden=True)
    out = backbone.model(backbone.features(waveform))
    assert found.is_padding is None
    assert found.tokens.shape == (2, 64, backbone.width)
    torch.testing.assert_close(pool(found, "mean"), out.pooler_output)
    assert len(found.hidden) == 2
    normed = backbone.model.audio_encoder.norm(found.hidden[-1])
    torch.testing.assert_close(normed, found.tokens)
    assert not backbone.model.audio_encoder.layers[-1].blocks[0]._forward_hooks


@torch.no_grad()
def test_a_clip_hears_nothing_of_its_batch(backbone, waveform):
    lengths = [SECONDS * RATE, 20_001]
    together = backbone(waveform, torch.tensor(lengths))  # what lies behind an end is no silence
    for place, length in enumerate(lengths):
        alone = backbone(waveform[place : place + 1, :length])
        torch.testing.assert_close(together.tokens[place], alone.tokens[0], atol=2e-5, rtol=1e-4)


@torch.no_grad()
def test_from_one_sample_to_ten_seconds(backbone):
    assert backbone.max_samples == 10 * RATE
    for samples in (backbone.min_samples, backbone.max_samples):
        assert backbone(torch.zeros(1, samples), torch.zeros(1, dtype=torch.int64)).tokens.isfinite().all()
    with pytest.raises(ValueError, match="clap hears at most 160000 samples, not 160001; cut longer clips"):
        backbone(torch.zeros(1, 160_001))
    with pytest.raises(ValueError, match="short clips must be repeated"):
        ClapBackbone(backbone.model, ClapFeatureExtractor(padding="pad"))


def test_a_tower_with_fusion_serves_without_it(waveform):
    backbone = build("fusion", enable_fusion=True, fusion_type="aff_2d").train()
    norm = backbone.model.audio_encoder.batch_norm
    backbone(waveform).tokens.square().mean().backward()
    assert torch.equal(norm.running_mean, torch.full((64,), -20.0)), "the batch's own statistics were used"
    for name, parameter in backbone.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
        assert parameter.requires_grad != ("fusion_model" in name or "mel_conv2d" in name), name
    with torch.no_grad():
        assert torch.equal(backbone(waveform).tokens, backbone.eval()(waveform).tokens)


@torch.no_grad()
def test_an_untrained_one_hears_normalised_sound(waveform, monkeypatch):
    monkeypatch.setitem(CLAP_PRESETS, "tiny", SIZES)
    log_mel = LogMel(0.0, 1.0).raw(waveform)
    backbone = ClapBackbone.untrained("tiny", log_mel.mean().item(), log_mel.std().item())
    assert backbone.width == 64
    norm = backbone.model.audio_encoder.batch_norm
    sounding = backbone.features(waveform)[:, :, : 100 * SECONDS, :48]
    normalised = (sounding - norm.running_mean[:48]) / norm.running_var[:48].sqrt()
    assert abs(normalised.mean()) < 0.5

"""Every kind of backbone is built by its name and keeps to one interface."""

import pytest
import torch

from backbones.builders import BUILDERS, untrained_backbone
from backbones.log_mel import samples_of


@pytest.mark.parametrize("kind", BUILDERS)
def test_every_kind_keeps_to_the_interface(kind):
    torch.manual_seed(0)
    backbone = untrained_backbone(kind, "tiny", 64, -5.0, 4.0).eval()
    assert backbone.kind == kind
    backbone.use_attention("eager")
    waveform = 0.1 * torch.randn(2, samples_of(64))
    with torch.no_grad():
        whole = backbone(waveform)
        padded = backbone(waveform, torch.tensor([samples_of(64), samples_of(32)]), hidden=True)
    assert whole.tokens.shape[::2] == (2, backbone.width)
    assert whole.is_padding is None
    assert padded.is_padding.shape == padded.tokens.shape[:2]
    assert padded.is_padding.any(dim=1).tolist() == [False, True]
    assert padded.hidden[-1].shape == padded.tokens.shape
    assert (whole.class_token is not None) == (kind == "ast")
    extractor = backbone.feature_extractor()
    assert extractor.sampling_rate == 16_000
    if kind in ("ast", "cnn"):
        assert (extractor.mean, extractor.std) == (-5.0, 4.0)
        patches, _ = backbone.patches(waveform)
        assert patches.shape == (2, backbone.grid[0] * backbone.grid[1], backbone.patch_size**2)


def test_what_one_kind_alone_can_choose_goes_to_it():
    assert untrained_backbone("ast", "tiny", 64, 0.0, 1.0, patch_size=8).grid == (16, 8)
    with pytest.raises(ValueError, match="a backbone is one of ast, wav2vec2, wav2vec2-cnn, cnn, not resnet"):
        untrained_backbone("resnet", "tiny", 64, 0.0, 1.0)

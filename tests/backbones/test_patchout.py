"""What a network makes of some of its patches."""

import pytest
import torch

from backbones.builders import untrained_backbone
from backbones.patchout import patched_out
from backbones.pooling import mean_pool

FRAMES = 64


@pytest.fixture(params=["ast", "cnn"])
def backbone(request):
    torch.manual_seed(0)
    return untrained_backbone(request.param, "tiny", FRAMES, -4.0, 4.0).eval()


def sound(backbone, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(3, backbone.num_samples, generator=torch.Generator().manual_seed(seed))


def test_the_share_is_left_out_and_keys_decide_which(backbone):
    waveform, keys = sound(backbone), torch.tensor([1, 2, 3])
    found = patched_out(backbone, waveform, None, keys, 0.5).tokens
    assert found.shape[1] == backbone(waveform).tokens.shape[1] // 2
    alone = patched_out(backbone, waveform[1:2], None, keys[1:2], 0.5).tokens
    torch.testing.assert_close(found[1:2], alone, atol=1e-5, rtol=1e-5)
    other = patched_out(backbone, waveform, None, keys + 7, 0.5).tokens
    assert not torch.allclose(mean_pool(found), mean_pool(other))


def test_padding_is_left_out_of_sight():
    torch.manual_seed(0)
    backbone = untrained_backbone("ast", "tiny", FRAMES, -4.0, 4.0).eval()
    waveform, keys = sound(backbone), torch.arange(3)
    num_samples = torch.full((3,), backbone.num_samples // 2)
    changed = waveform.clone()
    changed[:, backbone.num_samples // 2 :] = 0.3
    one, other = (patched_out(backbone, values, num_samples, keys, 0.25) for values in (waveform, changed))
    torch.testing.assert_close(mean_pool(*one[:2]), mean_pool(*other[:2]), atol=1e-5, rtol=1e-5)

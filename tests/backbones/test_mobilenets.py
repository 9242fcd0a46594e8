"""Several MobileNets side by side: each has its own part of a token, and a clip hears nothing of its batch."""

import pytest
import torch
from torch import nn

from backbones.log_mel import samples_of
from backbones.mobilenets import MobileNetsBackbone, MobileNetsConfig, MobileNetsModel
from backbones.pooling import mean_pool, pool

TOLERANCE = {"atol": 1e-5, "rtol": 1e-4}  # sums run in another order


@pytest.fixture(scope="module")
def backbone() -> MobileNetsBackbone:
    torch.manual_seed(0)
    return MobileNetsBackbone(MobileNetsModel(MobileNetsConfig(networks=2)), -4.0, 4.0).eval()


def noise(batch: int, num_frames: int) -> torch.Tensor:
    return 0.1 * torch.randn(batch, samples_of(num_frames), generator=torch.Generator().manual_seed(batch))


@torch.no_grad()
def test_a_token_is_a_cell_of_all_networks(backbone):
    waveform = noise(2, 100)
    found = backbone(waveform, hidden=True)
    log_mel, _ = backbone.log_mel(waveform)
    places = [network.forward_features(log_mel[:, None, :96]) for network in backbone.model.networks]
    assert [tuple(place.shape) for place in places] == [(2, 288, 3, 4)] * 2  # (time, freq)
    assert found.tokens.shape == (2, 12, backbone.width)
    assert found.is_padding is None
    for freq in range(4):
        for time in range(3):
            expected = torch.cat([place[:, :, time, freq] for place in places], dim=1)
            torch.testing.assert_close(found.tokens[:, 3 * freq + time], expected, **TOLERANCE)
    assert torch.equal(found.hidden[0], found.tokens)


@torch.no_grad()
def test_a_padded_clip_has_the_tokens_it_has_alone(backbone):
    waveform, frames = noise(4, 130), [130, 70, 40, 5]  # what lies behind an end is no silence
    together = backbone(waveform, torch.tensor([samples_of(length) for length in frames]))
    cells = (~together.is_padding).view(4, 4, 4).sum(dim=2)
    assert cells.tolist() == [[4] * 4, [2] * 4, [1] * 4, [1] * 4]
    for place, length in enumerate(frames[:3]):
        alone = backbone(waveform[place : place + 1, : samples_of(length)])
        is_sound = ~together.is_padding[place]
        torch.testing.assert_close(together.tokens[place, is_sound], alone.tokens[0], **TOLERANCE)
        torch.testing.assert_close(pool(together, "mean")[place], pool(alone, "mean")[0], **TOLERANCE)
        assert not together.tokens[place, ~is_sound].any()


@torch.no_grad()
def test_a_clip_hears_nothing_of_its_batch_in_training_either(backbone):
    assert not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in backbone.modules())
    waveform = noise(3, 64)
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    torch.testing.assert_close(backbone.train()(waveform).tokens[:1], backbone(waveform[:1]).tokens, **TOLERANCE)
    assert all(torch.equal(value, before[name]) for name, value in backbone.eval().state_dict().items())


def test_heads_of_a_section_train_their_network_alone(backbone):
    embedding = mean_pool(backbone(noise(2, 64)).tokens)
    first = embedding.chunk(2, dim=1)[0]
    (first * torch.randn_like(first)).sum().backward()
    for number, network in enumerate(backbone.model.networks):
        for name, parameter in network.named_parameters():
            assert (parameter.grad is not None and bool(parameter.grad.abs().max() > 0)) == (number == 0), name
    backbone.zero_grad()


def test_a_clip_fills_a_cell(backbone):
    assert backbone(noise(1, 32)).tokens.shape[1] == 4
    with pytest.raises(ValueError, match="mobilenets need at least 5360 samples, not 5359; pad shorter clips"):
        backbone(torch.zeros(1, 5359))


def test_presets():
    torch.manual_seed(0)
    small = MobileNetsBackbone.untrained("small", -4.0, 4.0)
    assert (small.width, len(small.model.networks)) == (3 * 432, 3)
    assert not torch.equal(*(network.conv_stem.weight for network in small.model.networks[:2])), "drawn alike"

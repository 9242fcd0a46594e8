"""Every check of hear-validator 2021.1 and some of its advice, on a run of ours."""

import numpy as np
import pytest
import torch
from torch import Tensor

from audit import hear
from audit.embedder import Embedder
from checkpoints.errors import CheckpointError

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here"))]
RATES = (16_000, 22_050, 44_100, 48_000)
"""That the validator takes."""


def noise(count: int, seconds: float, device: str = "cpu") -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return (torch.rand((count, int(seconds * 16_000)), generator=generator) * 2 - 1).to(device)


@pytest.fixture(scope="module", params=DEVICES)
def device(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def model(small_run, device) -> hear.Model:
    return hear.load_model(str(small_run)).to(device)


def test_a_model_says_what_it_takes_and_gives(model):
    assert isinstance(model, torch.nn.Module)
    assert model.sample_rate in RATES
    assert isinstance(model.sample_rate, int)
    assert isinstance(model.scene_embedding_size, int)
    assert isinstance(model.timestamp_embedding_size, int)


@pytest.mark.parametrize("seconds", [1.07, 1.98, 4.0, 0.02])
def test_timestamps_are_even_and_reach_from_the_beginning_to_the_end(model, device, seconds):
    embeddings, timestamps = hear.get_timestamp_embeddings(noise(2, seconds, device), model)
    assert embeddings.dtype == timestamps.dtype == torch.float32
    assert embeddings.device == timestamps.device == next(model.parameters()).device
    assert embeddings.ndim == 3
    assert timestamps.ndim == 2
    assert embeddings.shape == (2, timestamps.shape[1], model.timestamp_embedding_size)
    assert embeddings.isfinite().all()
    timestamps = timestamps.cpu().numpy()
    if timestamps.shape[1] > 1:
        apart = np.diff(timestamps)
        assert apart.min() > 0
        assert apart.max() <= 50
        assert np.abs(apart - apart.mean()).max() <= 1
        assert timestamps.min() <= apart.mean()
        assert timestamps.max() >= 1000 * seconds - 50
    assert timestamps.max() <= 1000 * seconds


def test_scenes_are_vectors(model, device):
    embeddings = hear.get_scene_embeddings(noise(4, 2.74, device), model)
    assert embeddings.dtype == torch.float32
    assert embeddings.device == next(model.parameters()).device
    assert embeddings.shape == (4, model.scene_embedding_size)
    assert embeddings.isfinite().all()


def test_the_same_sound_has_the_same_embedding_alone_and_among_others(model, device):
    sounds = noise(3, 2.74, device)
    scene, (there, _) = hear.get_scene_embeddings(sounds, model), hear.get_timestamp_embeddings(sounds, model)
    assert torch.equal(hear.get_scene_embeddings(sounds, model), scene)
    assert torch.equal(hear.get_timestamp_embeddings(sounds, model)[0], there)
    torch.testing.assert_close(hear.get_scene_embeddings(sounds[1:2], model), scene[1:2], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(hear.get_timestamp_embeddings(sounds[1:2], model)[0], there[1:2], atol=1e-5, rtol=1e-4)
    model.train()
    assert torch.equal(hear.get_scene_embeddings(sounds, model), scene)


def test_a_scene_is_what_an_audit_makes_of_it(model, small_run):
    sound = noise(1, 1.3)
    found = hear.get_scene_embeddings(sound.to(model.frozen.device), model)[0].cpu()
    np.testing.assert_allclose(found, Embedder.load(small_run)(sound[0].numpy()), atol=1e-4)


def test_an_embedding_is_of_what_sounds_at_its_timestamp(model):
    sound = torch.zeros(1, 48_000)
    sound[:, 24_000:24_800] = 1  # a click from 1.5 s to 1.55 s
    embeddings, timestamps = hear.get_timestamp_embeddings(sound.to(model.frozen.device), model)
    differs = (embeddings - embeddings[:, 20:21]).abs().amax(dim=2)[0].cpu()  # from silence, at 1 s
    apart = (timestamps[0].cpu() - 1525).abs()  # ms from the middle of the click
    assert (differs[apart >= 275] < 1e-4).all()
    assert (differs[apart <= 200] > 1e-4).all()


def test_timestamps_do_not_drift():
    assert hear.HOP * 1000 == hear.HOP_MS * hear.RATE


def test_what_is_no_sound_gets_one_sentence(model):
    sound = noise(1, 1).to(model.frozen.device)
    for wrong in (sound[0], sound.to(torch.int16), sound[:, :0]):
        with pytest.raises(ValueError, match="in floats were expected"):
            hear.get_scene_embeddings(wrong, model)
        with pytest.raises(ValueError, match="in floats were expected"):
            hear.get_timestamp_embeddings(wrong, model)
    with pytest.raises(CheckpointError, match="a run folder"):
        hear.load_model("/nowhere")

"""A run as an audit hears with it: what it learned is in, whatever was added to the backbone."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from audit.embedder import Embedder
from audit.errors import AuditError
from checkpoints.adapters import load_adapter
from checkpoints.errors import CheckpointError
from checkpoints.run import RunFolder
from checkpoints.weights import load_backbone, save_backbone
from data.windows import window_starts
from finetune.heads import HeadSpec
from finetune.methods import adapt
from finetune.model import RECIPE, FineTuned

WINDOW = 6000


@pytest.fixture
def sound() -> Tensor:
    """Four waveforms of a second and a bit."""
    return 0.1 * torch.randn(4, 17_000, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def fine_tune(small_run, tmp_path):
    """``fine_tune(method, pooling)``: a run whose every weight differs from that of `small_run`, and the model."""

    def tune(method: str, pooling: str) -> tuple[Path, FineTuned]:
        run, backbone = RunFolder(tmp_path / f"{method}_{pooling}"), load_backbone(small_run / "backbone")
        run.write_config(RECIPE, {"clip_seconds": WINDOW / 16_000})
        save_backbone(backbone, run.backbone)
        specs = [HeadSpec("instrument", "binary", ("flute", "violin"))]
        model = FineTuned(backbone, adapt(backbone, method), method, pooling, specs, "linear", 8, 1, WINDOW).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
        model.save(run)
        return run.path, model

    return tune


@torch.no_grad()
def mean_over_windows(embed, sound: Tensor, size: int) -> Tensor:
    return torch.stack([embed(sound[:, at : at + size]) for at in window_starts(sound.shape[1], size)]).mean(dim=0)


@pytest.mark.parametrize(
    ("method", "pooling"),
    [("lora", "mean"), ("lora", "attentive"), ("full", "mean_max_layers"), ("bottleneck", "mean")],
)
def test_a_fine_tuned_run_is_heard_as_it_was_trained(fine_tune, small_run, sound, method, pooling):
    run, model = fine_tune(method, pooling)
    embedder = Embedder.load(run)
    assert (embedder.pooling, embedder.num_samples) == (pooling, WINDOW)
    expected = mean_over_windows(lambda window: model.embed(window)[0], sound, WINDOW)
    found = embedder.of_waveforms(sound)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    before = Embedder.load(small_run, pooling=None if pooling == "attentive" else pooling, num_samples=WINDOW)
    assert before.checksum != embedder.checksum
    assert (before.of_waveforms(sound) - found).abs().max() > 1e-3


def test_a_checksum_is_of_the_adapter_and_the_attention_too(fine_tune):
    (run, model), (attentive, other) = fine_tune("lora", "mean"), fine_tune("lora", "attentive")
    found = {Embedder.load(path, pooling=pooling).checksum for path in (run, attentive) for pooling in (None, "mean")}
    assert len(found) == 3
    for tuned in (model, other):
        with torch.no_grad():
            for name, parameter in tuned.named_parameters():
                if "lora_B" in name or name.startswith("attention"):
                    parameter.mul_(2)
    for path, tuned in ((run, model), (attentive, other)):
        tuned.save(RunFolder(path))
        assert Embedder.load(path).checksum not in found


def test_an_adapter_that_is_gone_is_missed(fine_tune):
    run, _ = fine_tune("lora", "mean")
    shutil.rmtree(run / "adapter")
    with pytest.raises(CheckpointError, match="an adapter was expected"):
        Embedder.load(run)
    shutil.rmtree(run / "heads")
    with pytest.raises(CheckpointError, match="heads were expected"):
        Embedder.load(run)


def test_a_merged_run_is_heard_as_the_adapted_one(fine_tune, sound, tmp_path):
    run, _ = fine_tune("lora", "attentive")
    backbone = load_backbone(run / "backbone")
    load_adapter(backbone, run / "adapter").merge_and_unload()
    save_backbone(backbone, tmp_path / "merged")
    shutil.copytree(run / "heads", tmp_path / "merged" / "heads")
    merged = Embedder.load(tmp_path / "merged")
    assert (merged.pooling, merged.num_samples) == ("attentive", WINDOW)
    torch.testing.assert_close(
        merged.of_waveforms(sound), Embedder.load(run).of_waveforms(sound), atol=1e-5, rtol=1e-4
    )  # fmt: skip


@torch.no_grad()
def test_layers_are_averaged_as_they_are_named(small_run, sound):
    hidden = load_backbone(small_run / "backbone").eval()(sound[:, :8000], hidden=True).hidden
    first, both = (Embedder.load(small_run, layers=layers).of_waveforms(sound[:, :8000]) for layers in ((1,), (2, 1)))
    torch.testing.assert_close(first, hidden[0].mean(dim=1))
    torch.testing.assert_close(both, (hidden[0].mean(dim=1) + hidden[1].mean(dim=1)) / 2)
    torch.testing.assert_close(
        both, Embedder.load(small_run, pooling="mean_layers").of_waveforms(sound[:, :8000])
    )  # fmt: skip
    wide = Embedder.load(small_run, layers=[1], pooling="mean_max_layers")
    assert wide.width == 64
    torch.testing.assert_close(
        wide.of_waveforms(sound[:, :8000]), torch.cat([hidden[0].mean(dim=1), hidden[0].amax(dim=1)], dim=1)
    )


def test_layers_that_are_not_there_get_one_sentence(small_run, fine_tune, sound):
    for layers in ([3], [0]):
        with pytest.raises(ValueError, match=f"layers 1 to 2, there is no {layers[0]}"):
            Embedder.load(small_run, layers=layers).of_waveforms(sound)
    with pytest.raises(ValueError, match="class_token takes no layers"):
        Embedder.load(small_run, layers=[1], pooling="class_token").of_waveforms(sound)
    run, _ = fine_tune("lora", "attentive")
    with pytest.raises(AuditError, match="give --layers together with --pooling mean"):
        Embedder.load(run, layers=[1])
    assert Embedder.load(run, layers=[1], pooling="mean").of_waveforms(sound).shape == (4, 32)


def test_attention_that_was_not_learned_gets_one_sentence(small_run):
    with pytest.raises(AuditError, match="has learned no attentive pooling; choose another --pooling"):
        Embedder.load(small_run, pooling="attentive")


def test_a_backbone_alone_is_heard_at_its_own_length(small_run):
    embedder = Embedder.load(small_run / "backbone")
    assert embedder.num_samples == embedder.frozen.backbone.num_samples
    with pytest.raises(CheckpointError, match=r"a run folder, .* weights that ship .* or a Hub id was expected"):
        Embedder.load("/nowhere")


def test_a_window_is_no_shorter_than_what_a_backbone_hears(small_run, sound):
    embedder = Embedder.load(small_run, num_samples=10)
    assert embedder.num_samples == embedder.frozen.backbone.min_samples
    assert embedder.of_waveforms(sound[:, :4000]).isfinite().all()


def test_sound_of_any_length_is_heard(small_run, sound):
    embedder = Embedder.load(small_run)
    assert embedder.num_samples == 8000
    long = sound.flatten().repeat(8).numpy()
    assert np.isfinite(embedder(long)).all()
    short = embedder(long[:3000])
    padded = torch.nn.functional.pad(torch.from_numpy(long[:3000]), (0, 5000))[None]
    torch.testing.assert_close(
        torch.from_numpy(short), embedder.frozen(padded, torch.tensor([3000]))[0], atol=1e-6, rtol=1e-5
    )
    assert np.isfinite(embedder(long[:1])).all()
    for wrong in (sound[0], sound[:, :0], sound.to(torch.int16)):
        with pytest.raises(ValueError, match="in floats were expected"):
            embedder.of_waveforms(wrong)


def test_it_only_listens(small_run, sound):
    frozen = Embedder.load(small_run).frozen.train()
    assert not any(module.training for module in frozen.modules())
    assert not frozen(sound).requires_grad

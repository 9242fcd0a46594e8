"""The model above a backbone: embeddings blind to padding, weights stored once, and the gradient of cached batches."""

import os
from collections.abc import Callable
from functools import partial

import pytest
import torch
import torch.multiprocessing as mp
from accelerate import Accelerator
from safetensors.torch import load_file
from torch import Tensor, distributed
from transformers import ASTConfig, ASTModel, Wav2Vec2Config, Wav2Vec2Model

from backbones.ast_encoder import AstBackbone
from backbones.pooling import POOLINGS
from backbones.wav2vec2 import STEADY, Wav2Vec2Backbone
from checkpoints.state import Progress, load_state, save_state
from data.labels import INSTRUMENTS
from data.taxonomy import FAMILIES, GENRES
from losses.masked_patches import masked_patch_loss
from pretrain.embedding_model import EmbeddingModel, cached_backward, chunks_of, reconstruction_mean, weighted
from pretrain.objectives import Classes, Margins, objective_losses, parse_objective

SAMPLES, ROWS = 8240, 12  # 50 frames: a grid of 2 x 3 patches
MASK = {"mask_ratio": 0.5}
DECODER = {"width": 8, "depth": 1, "heads": 2}
MARGINS = Margins(
    temperature=0.5, margin=0.2, genre_margin=0.1, tree_margins=True, miner="all", own_family_share=0.5,
    soft_margin=False, scale=8.0, angle=0.3, alpha=0.5,
)  # fmt: skip
OBJECTIVES = (
    "ntxent", "supcon", "triplet", "center", "arcface", "triplet + 0.5*mae", "0.2*supcon + ntxent + arcface + mae",
)  # fmt: skip


def ast() -> AstBackbone:
    config = ASTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16, patch_size=16,
        frequency_stride=16, time_stride=16, num_mel_bins=32, max_length=48, hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    model = ASTModel(config)
    for token in (model.embeddings.cls_token, model.embeddings.distillation_token):
        torch.nn.init.normal_(token)  # a norm of zeros would have a gradient beyond float32
    return AstBackbone(model, -5.0, 4.0)


def wav2vec2(layers: int = 2) -> Wav2Vec2Backbone:
    sizes = {"hidden_size": 16, "num_hidden_layers": layers, "num_attention_heads": 2, "intermediate_size": 16}
    convolutions = {"conv_dim": [8] * 7, "num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2}
    return Wav2Vec2Backbone(Wav2Vec2Model(Wav2Vec2Config(**sizes, **convolutions, **STEADY)))


def model_of(
    encoder: torch.nn.Module | None = None, pooling: str = "mean", num_classes: int = 0, decoder: dict | None = None
) -> EmbeddingModel:
    torch.manual_seed(0)
    return EmbeddingModel(encoder or ast(), pooling, 12, 6, num_classes, decoder)


def keys_of(rows: int) -> Tensor:
    return torch.arange(2 * rows).view(rows, 2)


def waveforms(rows: int = ROWS) -> tuple[Tensor, Tensor]:
    """Noise of other lengths, zeros behind it; at least one patch of each sounds."""
    generator = torch.Generator().manual_seed(1)
    num_samples = torch.randint(3000, SAMPLES + 1, (rows,), generator=generator)
    num_samples[:2] = SAMPLES
    is_sound = torch.arange(SAMPLES) < num_samples[:, None]
    return 0.3 * torch.randn(rows, SAMPLES, generator=generator) * is_sound, num_samples


@pytest.mark.parametrize(
    ("encoder", "pooling"),
    [(kind, pooling) for kind in (ast, wav2vec2) for pooling in (*POOLINGS, "attentive")]
    + [(partial(wav2vec2, 0), "mean"), (partial(wav2vec2, 0), "mean_max_layers")],
)
def test_every_pooling_hears_a_clip_alone_as_in_a_padded_batch(encoder: Callable, pooling):
    model = model_of(encoder(), pooling)
    waveform, num_samples = waveforms(4)
    if pooling == "class_token" and encoder is wav2vec2:
        with pytest.raises(ValueError, match="class_token needs a backbone that has one"):
            model.embed(waveform, num_samples)
        return
    batch = model.embed(waveform, num_samples)
    assert batch.shape == (4, model.encoder.width * (2 if pooling == "mean_max_layers" else 1))
    for row, length in enumerate(num_samples.tolist()):
        alone = model.embed(waveform[row : row + 1, :length], None)
        # Alone, AST drops the frames behind the last whole patch.
        if encoder is not ast or length == SAMPLES:
            torch.testing.assert_close(batch[row], alone[0], rtol=1e-4, atol=1e-5)
    louder_padding = waveform + (torch.arange(SAMPLES) >= num_samples[:, None])
    torch.testing.assert_close(model.embed(louder_padding, num_samples), batch, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pooling", [*POOLINGS, "attentive"])
@pytest.mark.parametrize("decoder", [None, DECODER])
def test_every_parameter_gets_a_gradient_as_processes_expect(pooling, decoder):
    model = model_of(ast(), pooling, 3, decoder)
    waveform, num_samples = waveforms(4)
    out = model(waveform, num_samples, keys_of(4), MASK if decoder else None)
    sum(term.sum() for term in (out.unit, out.centres, *reconstruction_mean(out.reconstruction).values())).backward()
    assert not [name for name, parameter in model.named_parameters() if parameter.grad is None]


def test_what_a_step_needs_of_a_batch():
    waveform, num_samples = waveforms(3)
    for num_classes in (0, 5):
        for decoder in (None, DECODER):
            model, keys = model_of(None, "mean", num_classes, decoder), keys_of(3)
            for mask in (None, MASK):
                out = model(waveform, num_samples, keys, mask)
                assert out.unit.shape == (3, 6)
                torch.testing.assert_close(out.unit.norm(dim=1), torch.ones(3))
                assert (out.centres is None) == (num_classes == 0)
                assert (out.reconstruction is None) == (decoder is None or mask is None)
            if num_classes:
                assert out.centres.shape == (5, 6)
                torch.testing.assert_close(out.centres.norm(dim=1), torch.ones(5))


@pytest.mark.parametrize("decoder", [None, DECODER])
def test_the_encoder_is_stored_once(decoder, tmp_path):
    model = model_of(None, "attentive", 3, decoder)
    tensors = model.state_dict()
    assert len({tensor.data_ptr() for tensor in tensors.values()}) == len(tensors)
    assert sum(name.endswith("ast.layernorm.weight") for name in tensors) == 1
    assert any("decoder" in name for name in tensors) == (decoder is not None)
    assert (
        model.encoder.ast.layernorm.weight
        is dict(model.named_parameters())[
            "alone.ast.layernorm.weight" if decoder is None else "autoencoder.encoder.ast.layernorm.weight"
        ]
    )
    optimizer = torch.optim.AdamW(model.parameters())
    model.embed(*waveforms(2)).sum().backward()
    optimizer.step()
    path = save_state(tmp_path, Progress(1, {}), model, optimizer, {"cpu.0": torch.get_rng_state()})
    assert set(load_file(path / "model.safetensors")) == set(tensors)
    other = model_of(None, "attentive", 3, decoder)
    load_state(path, {}, other, torch.optim.AdamW(other.parameters()))
    assert all(other.state_dict()[name].equal(tensor) for name, tensor in tensors.items())


def test_every_clip_counts_alike_in_a_reconstruction():
    model = model_of(None, decoder=DECODER)
    waveform, num_samples = waveforms(6)
    keys = keys_of(6)
    whole = reconstruction_mean(model(waveform, num_samples, keys, MASK).reconstruction)["mae"]
    clips = []
    for row in range(6):
        part = slice(row, row + 1)
        out = model(waveform[part], num_samples[part], keys[part], MASK).reconstruction
        clips.append(masked_patch_loss(out.prediction, out.target, out.is_padding))
    assert len({round(clip.item(), 3) for clip in clips}) > 3
    torch.testing.assert_close(whole, torch.stack(clips).mean())
    assert reconstruction_mean(None) == {}
    assert weighted({"a": 2.0, "b": 0.5}, {"a": torch.tensor(3.0), "b": torch.tensor(4.0)}) == 8


def test_chunks_are_the_batch():
    waveform, num_samples = waveforms(5)
    chunks = list(chunks_of((waveform, num_samples, torch.arange(5)), 2))
    assert [len(chunk[0]) for chunk in chunks] == [2, 2, 1]
    for place, tensor in enumerate((waveform, num_samples, torch.arange(5))):
        assert torch.cat([chunk[place] for chunk in chunks]).equal(tensor)
    assert next(chunks_of((waveform, None, torch.arange(5)), 2))[1] is None


def labels_of_batch() -> tuple[dict[str, Tensor], Tensor]:
    """Labels of twelve rows and their clips; the first half has few positives and the only clips nobody knows."""
    timbre = torch.tensor([0, 1, 2, -1, -1, -1, 0, 0, 1, 1, 3, 3])
    family = torch.tensor([0, 0, 1, -1, -1, 2, 0, 0, 0, 0, 1, 1])
    labels = {
        "is_instrument": torch.tensor([1, 1, 1, -1, 0, 1, 1, 1, 1, 1, 1, 1]), "timbre": timbre,
        "is_weak": torch.zeros(ROWS, dtype=torch.long),
        "instrument": torch.full((ROWS, len(INSTRUMENTS)), -1, dtype=torch.int8),
        "genre": torch.full((ROWS, len(GENRES)), -1, dtype=torch.int8),
        "family": torch.full((ROWS, len(FAMILIES)), -1, dtype=torch.int8),
    }  # fmt: skip
    for row, place in enumerate(family.tolist()):
        if place >= 0:
            labels["family"][row] = 0
            labels["family"][row, place] = 1
    labels["family"][4] = labels["instrument"][4] = 0
    return labels, torch.tensor([0, 1, 2, 3, 4, 5, 6, 0, 8, 3, 10, 11])


def gradients_of(
    accelerator: Accelerator, objective: str, size: int | None, own: slice, patchout: float = 0.0
) -> tuple[dict, dict]:
    """The terms' means, and the gradient of every parameter, of a part of the batch; by plain or cached gradients."""
    weights, classes = parse_objective(objective), None
    has_classes = weights.keys() & {"center", "arcface"}
    if has_classes:
        distance = 1 - torch.eye(len(FAMILIES) + 1)
        classes = Classes("family", (*FAMILIES, "no instrument"), distance)
    model = model_of(None, "mean", len(FAMILIES) + 1 if has_classes else 0, DECODER if "mae" in weights else None)
    trained = accelerator.prepare(model)
    labels, number = labels_of_batch()
    waveform, num_samples = waveforms()
    inputs = waveform[own], num_samples[own], keys_of(ROWS)[own]
    terms_of = partial(
        objective_losses, weights, MARGINS, labels={name: values[own] for name, values in labels.items()},
        clip=number[own], uniform=torch.empty(0), classes=classes,
    )  # fmt: skip
    mask = MASK if "mae" in weights else None
    if size:
        means = cached_backward(accelerator, trained, inputs, size, mask, patchout, weights, terms_of)
    else:
        out = trained(*inputs, mask, patchout)
        means = terms_of(unit=out.unit, centres=out.centres) | reconstruction_mean(out.reconstruction)
        accelerator.backward(weighted(weights, means))
    if "mae" in means:
        means["mae"] = accelerator.reduce(means["mae"], "mean")  # as the recipe logs it
    assert set(means) == set(weights)
    assert all(mean > 0 for mean in means.values()), "a term proves nothing"
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    return {term: mean.detach() for term, mean in means.items()}, gradients


def assert_equal(found: tuple[dict, dict], expected: tuple[dict, dict], what: str) -> None:
    """Float32 sums in another order differ in their last bits; the gradients' size is about 0.1."""
    for mine, theirs in zip(found, expected, strict=True):
        assert set(mine) == set(theirs), what
        for name, value in theirs.items():
            say = f"{what}, {name}: "
            torch.testing.assert_close(mine[name], value, rtol=1e-4, atol=2e-6, msg=lambda text, say=say: say + text)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_cached_gradients_are_the_plain_ones(objective):
    accelerator, everything = Accelerator(cpu=True), slice(None)
    expected = gradients_of(accelerator, objective, None, everything)
    for size in (1, 5, ROWS, 100):
        assert_equal(gradients_of(accelerator, objective, size, everything), expected, f"{objective} by {size}")


def test_cached_gradients_leave_the_same_patches_out():
    plain, cached, whole = (
        gradients_of(Accelerator(cpu=True), "supcon", size, slice(None), patchout)
        for size, patchout in ((None, 0.5), (4, 0.5), (None, 0.0))
    )
    assert_equal(cached, plain, "patchout")
    assert cached[0]["supcon"] != whole[0]["supcon"]


def one_of_two(rank: int, rendezvous: str, folder: str) -> None:
    environment = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= environment  # what Accelerate goes by
    distributed.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    accelerator = Accelerator(cpu=True)
    assert accelerator.num_processes == 2
    own = slice(rank * ROWS // 2, (rank + 1) * ROWS // 2)
    found = [gradients_of(accelerator, objective, size, own) for objective in OBJECTIVES for size in (None, 4)]
    torch.save(found, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_find_the_gradient_of_one_plain_or_cached(tmp_path):
    mp.spawn(one_of_two, (str(tmp_path / "rendezvous"), str(tmp_path)), nprocs=2)
    accelerator = Accelerator(cpu=True)
    expected = [gradients_of(accelerator, objective, None, slice(None)) for objective in OBJECTIVES for _ in range(2)]
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for place, (mine, theirs) in enumerate(zip(found, expected, strict=True)):
            assert_equal(mine, theirs, f"{OBJECTIVES[place // 2]}, {'cached' if place % 2 else 'plain'}")

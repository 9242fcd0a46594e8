"""Saved backbones are transformers' own: they load in a process that has never imported our code."""

import json
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import (
    ASTConfig,
    ASTModel,
    AutoFeatureExtractor,
    AutoModel,
    BertConfig,
    BertModel,
    ClapAudioModel,
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
    TimmWrapperConfig,
    TimmWrapperModel,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
    WavLMConfig,
    WavLMModel,
)

from backbones.ast_encoder import PRESETS, AstBackbone
from backbones.builders import BUILDERS, Backbone, untrained_backbone
from backbones.clap import CLAP_PRESETS, CLAP_STEADY, ClapBackbone
from backbones.cnn import CNN_PRESETS, CnnBackbone
from backbones.log_mel import RATE, samples_of
from backbones.pooling import mean_pool
from backbones.wav2vec2 import CONVOLUTION_WIDTH, WAV2VEC2_PRESETS, Wav2Vec2Backbone
from checkpoints.errors import CheckpointError
from checkpoints.run import RunFolder
from checkpoints.weights import checksum_of_weights, find_backbone, load_backbone, save_backbone, window_of

FRAMES = 64
FILES = ["config.json", "model.safetensors", "preprocessor_config.json"]


@pytest.fixture(scope="module")
def backbone() -> AstBackbone:
    torch.manual_seed(0)
    sizes = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 96}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "two_layers", sizes)
        return AstBackbone.untrained("two_layers", FRAMES, mean=-5.25, std=3.7).eval()


@pytest.fixture
def folder(backbone, tmp_path):
    save_backbone(backbone, tmp_path / "backbone")
    return tmp_path / "backbone"


def test_what_lies_on_the_disk(backbone, folder):
    assert sorted(path.name for path in folder.iterdir()) == FILES
    with safe_open(folder / "model.safetensors", "pt") as file:
        names = set(file.keys())
    assert len(names) == len(backbone.ast.state_dict())  # under the names of the published AST checkpoints
    assert {"embeddings.cls_token", "encoder.layer.1.attention.attention.query.weight", "layernorm.bias"} < names
    assert {name.partition(".")[0] for name in names} == {"embeddings", "encoder", "layernorm"}
    front_end = json.loads((folder / "preprocessor_config.json").read_text())
    assert (front_end["mean"], front_end["std"], front_end["max_length"]) == (-5.25, 3.7, FRAMES)
    assert json.loads((folder / "config.json").read_text())["architectures"] == ["ASTModel"]


def test_loads_without_our_code_and_gives_our_embedding(backbone, folder, tmp_path):
    cnn = CnnBackbone.untrained("tiny", FRAMES, mean=-5.25, std=3.7).eval()
    save_backbone(cnn, tmp_path / "cnn")
    waveform = 0.1 * torch.randn(2, samples_of(FRAMES))
    np.save(tmp_path / "waveform.npy", waveform.numpy())
    script = f"""
        import sys
        import numpy as np, torch
        from transformers import AutoFeatureExtractor, AutoModel, ASTModel
        waveform = np.load("waveform.npy")
        extractor = AutoFeatureExtractor.from_pretrained("backbone")
        inputs = extractor(list(waveform), sampling_rate={RATE}, return_tensors="pt")
        with torch.no_grad():
            found = [kind.from_pretrained("backbone")(**inputs).last_hidden_state for kind in (ASTModel, AutoModel)]
        assert torch.equal(*found)
        inputs = AutoFeatureExtractor.from_pretrained("cnn")(list(waveform), sampling_rate={RATE}, return_tensors="pt")
        with torch.no_grad():
            picture = AutoModel.from_pretrained("cnn")(inputs.input_values[:, None]).last_hidden_state
        ours = {{"data", "backbones", "losses", "checkpoints", "pretrain"}} & set(sys.modules)
        assert not ours, ours
        np.save("embedding.npy", found[0][:, 2:].mean(dim=1).numpy())
        np.save("picture.npy", picture.mean(dim=(2, 3)).numpy())
        """
    command = [sys.executable, "-I", "-c", textwrap.dedent(script)]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    with torch.no_grad():
        expected, of_cnn = (mean_pool(one(waveform).tokens) for one in (backbone, cnn))
    # The two log-mels differ by rounding, which the logarithm magnifies to 1e-3 in nearly empty bands.
    np.testing.assert_allclose(np.load(tmp_path / "embedding.npy"), expected, atol=1e-3)
    np.testing.assert_allclose(np.load(tmp_path / "picture.npy"), of_cnn, atol=1e-3)


def test_a_loaded_backbone_is_the_saved_one(backbone, folder):
    loaded = load_backbone(folder)
    assert (loaded.log_mel.mean, loaded.log_mel.std, loaded.grid) == (-5.25, 3.7, backbone.grid)
    waveform = 0.1 * torch.randn(1, samples_of(FRAMES))
    with torch.no_grad():
        assert torch.equal(loaded.eval()(waveform).tokens, backbone(waveform).tokens)


def test_a_backbone_is_found_by_its_run_its_folder_or_its_name_on_the_hub(backbone, folder, monkeypatch):
    assert find_backbone(str(folder)).grid == find_backbone(str(folder.parent)).grid == backbone.grid
    with pytest.raises(CheckpointError, match="nothing is at runs/of/mine"):
        find_backbone("runs/of/mine")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match="nobody/nothing is no folder here, and the Hub's cache") as raised:
        find_backbone("nobody/nothing")
    assert "\n" not in str(raised.value)


def test_a_second_save_takes_the_place_of_the_first(backbone, folder):
    (folder / "stray").touch()
    save_backbone(backbone, folder)
    assert sorted(path.name for path in folder.iterdir()) == FILES
    assert [path.name for path in folder.parent.iterdir()] == ["backbone"]


@pytest.mark.parametrize("name", FILES)
def test_a_missing_or_damaged_file_is_named(folder, name):
    good = (folder / name).read_bytes()
    (folder / name).write_bytes(b"{" + good[: len(good) // 2])
    with pytest.raises(CheckpointError, match="cannot be loaded as a backbone") as raised:
        load_backbone(folder)
    assert "\n" not in str(raised.value)
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=f"but {name} is missing; give RUN/backbone"):
        load_backbone(folder)


def test_a_backbone_of_other_sizes_is_named(backbone, folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"hidden_size": 96}))
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        load_backbone(folder)
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    with pytest.raises(CheckpointError, match=r"model\.safetensors misses 16 tensors"):
        load_backbone(folder)


def test_published_patches_that_overlap_are_loaded(folder):
    sizes = {"hidden_size": 48, "num_hidden_layers": 1, "num_attention_heads": 3, "intermediate_size": 96}
    ASTModel(ASTConfig(**sizes)).save_pretrained(folder)
    assert load_backbone(folder).grid == (12, 101)


SIZES = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 96}
CLAP_SIZES = {"patch_embeds_hidden_size": 8, "num_attention_heads": [1, 2, 2, 4], "depths": [1, 1, 1, 1]}


@pytest.fixture(params=BUILDERS)
def each(request, monkeypatch) -> Backbone:
    """A backbone of every kind."""
    torch.manual_seed(0)
    for presets in (PRESETS, WAV2VEC2_PRESETS):
        monkeypatch.setitem(presets, "tiny", SIZES)
    monkeypatch.setitem(CONVOLUTION_WIDTH, "tiny", 16)
    monkeypatch.setitem(CNN_PRESETS, "tiny", "test_convnext")
    monkeypatch.setitem(CLAP_PRESETS, "tiny", CLAP_SIZES)
    return untrained_backbone(request.param, "tiny", FRAMES + 5, -5.25, 3.7).eval()


def test_every_kind_comes_back_as_it_was_saved(each, tmp_path):
    save_backbone(each, tmp_path / "backbone")
    assert sorted(path.name for path in (tmp_path / "backbone").iterdir()) == FILES
    if each.kind != "ast":  # whose files keep names that the model no longer has
        saved = load_file(tmp_path / "backbone" / "model.safetensors")
        theirs = ClapAudioModel if each.kind == "clap" else AutoModel  # which does not know CLAP's tower
        assert saved.keys() == theirs.from_pretrained(tmp_path / "backbone").state_dict().keys()
    front_end = AutoFeatureExtractor.from_pretrained(tmp_path / "backbone")
    assert front_end.to_dict() == each.feature_extractor().to_dict()
    for loaded in (load_backbone(tmp_path / "backbone"), find_backbone(str(tmp_path), each.kind)):
        assert (type(loaded), loaded.kind, loaded.width) == (type(each), each.kind, each.width)
        waveform = 0.1 * torch.randn(2, samples_of(FRAMES))
        with torch.no_grad():
            assert torch.equal(loaded.eval()(waveform).tokens, each(waveform).tokens)
        if hasattr(each, "log_mel"):
            assert (loaded.log_mel.mean, loaded.log_mel.std) == (-5.25, 3.7)
        if each.kind in ("ast", "cnn"):
            assert (loaded.grid, loaded.num_samples) == (each.grid, samples_of(FRAMES))


@pytest.mark.parametrize("do_normalize", [False, True])
def test_a_front_end_that_does_not_normalise_stays_so(do_normalize, tmp_path):
    sizes = SIZES | {"num_hidden_layers": 1}
    WavLMModel(WavLMConfig(**sizes, conv_dim=[16] * 7, hidden_dropout=0.3, add_adapter=True)).save_pretrained(tmp_path)
    Wav2Vec2FeatureExtractor(do_normalize=do_normalize).save_pretrained(tmp_path)
    backbone = find_backbone(str(tmp_path), "wavlm")
    assert (backbone.kind, backbone.is_normalised) == ("wavlm", do_normalize)
    assert backbone.model.adapter is None
    waveform = 0.1 * torch.randn(1, 4000)
    with torch.no_grad():
        assert torch.equal(backbone.train()(waveform).tokens, backbone.eval()(waveform).tokens)
    save_backbone(backbone, tmp_path / "backbone")
    assert load_backbone(tmp_path / "backbone").is_normalised == do_normalize


def test_of_a_clap_with_both_towers_the_one_that_hears_is_taken(tmp_path):
    torch.manual_seed(0)
    text = SIZES | {"vocab_size": 10, "max_position_embeddings": 8}
    audio = CLAP_SIZES | {"hidden_size": 64, "hidden_dropout_prob": 0.4}
    whole = ClapModel(ClapConfig(text_config=text, audio_config=audio))
    whole.save_pretrained(tmp_path / "hub")
    ClapFeatureExtractor(truncation="rand_trunc").save_pretrained(tmp_path / "hub")
    backbone = find_backbone(str(tmp_path / "hub")).train()
    assert (type(backbone), backbone.kind, backbone.width) == (ClapBackbone, "clap", 64)
    save_backbone(backbone, tmp_path / "ours")
    loaded = load_backbone(tmp_path / "ours")
    assert {name: getattr(loaded.model.config, name) for name in CLAP_STEADY} == CLAP_STEADY
    given = whole.audio_model.state_dict()
    assert given.keys() == loaded.model.state_dict().keys()
    assert all(torch.equal(tensor, given[name]) for name, tensor in loaded.model.state_dict().items())
    waveform = 0.1 * torch.randn(1, 8000)
    with torch.no_grad():
        expected = whole.eval().audio_model(backbone.features(waveform)).last_hidden_state
        assert torch.equal(backbone(waveform).tokens, expected.flatten(2).mT)
        assert torch.equal(loaded(waveform).tokens, expected.flatten(2).mT)


def test_another_kind_than_asked_for_is_refused(each, tmp_path):
    save_backbone(each, tmp_path / "backbone")
    for kind in BUILDERS.keys() - {each.kind} - ({"wav2vec2-cnn"} if each.kind == "wav2vec2" else set()):
        with pytest.raises(CheckpointError, match=f"holds a backbone of kind .*, --backbone asks for {kind};"):
            find_backbone(str(tmp_path), kind)


@pytest.fixture
def downloaded(tmp_path):
    """A fine-tuned Wav2Vec2 as the Hub has it: dropouts, no vector for masked frames, old names of weight norm."""
    torch.manual_seed(0)
    config = Wav2Vec2Config(**SIZES, conv_dim=[16] * 7, layerdrop=0.1, mask_feature_prob=0.1)
    Wav2Vec2ForCTC(config).save_pretrained(tmp_path / "hub")
    Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(tmp_path / "hub")
    weights = load_file(tmp_path / "hub" / "model.safetensors")
    for new, old in (("original0", "weight_g"), ("original1", "weight_v")):
        name = "wav2vec2.encoder.pos_conv_embed.conv."
        weights[name + old] = weights.pop(f"{name}parametrizations.weight.{new}")
    del weights["wav2vec2.masked_spec_embed"]
    save_file(weights, tmp_path / "hub" / "model.safetensors", {"format": "pt"})
    return tmp_path / "hub"


def test_a_downloaded_wav2vec2_becomes_steady(downloaded, tmp_path, capfd):
    backbone = find_backbone(str(downloaded)).train()
    assert isinstance(backbone, Wav2Vec2Backbone)
    assert backbone.kind == "wav2vec2"
    waveform = 0.1 * torch.randn(2, 8000)
    first = backbone(waveform).tokens
    assert torch.equal(first, backbone(waveform).tokens), "chance has a part in it"
    first.square().mean().backward()
    assert all(parameter.grad is not None for parameter in backbone.parameters())
    save_backbone(backbone, tmp_path / "ours")
    assert "REPORT" not in "".join(capfd.readouterr())
    given = {name.removeprefix("wav2vec2."): tensor for name, tensor in load_file(downloaded / FILES[1]).items()}
    for name, tensor in load_file(tmp_path / "ours" / FILES[1]).items():
        if "parametrizations" not in name:
            assert torch.equal(tensor, given[name]), name


def test_its_convolutions_can_be_taken_alone(downloaded, tmp_path):
    whole, convolutions = find_backbone(str(downloaded)).eval(), find_backbone(str(downloaded), "wav2vec2-cnn").eval()
    assert (convolutions.kind, convolutions.width) == ("wav2vec2-cnn", 16)
    waveform = 0.1 * torch.randn(2, 8000)
    tokens = convolutions(waveform).tokens
    with torch.no_grad():
        assert torch.equal(tokens, whole.model.feature_projection.layer_norm(whole._features(waveform, None)[0]))
    tokens.square().mean().backward()
    trained = [parameter for parameter in convolutions.parameters() if parameter.requires_grad]
    assert trained
    assert all(parameter.grad is not None for parameter in trained)
    save_backbone(convolutions, tmp_path / "ours")
    assert not [name for name in load_file(tmp_path / "ours" / FILES[1]) if ".layers." in name]
    assert load_backbone(tmp_path / "ours").kind == "wav2vec2-cnn"


def test_what_cannot_be_a_backbone_is_named(downloaded, tmp_path):
    config = json.loads((downloaded / FILES[2]).read_text())
    (downloaded / FILES[2]).write_text(json.dumps(config | {"sampling_rate": 8000}))
    with pytest.raises(CheckpointError, match="it hears sound at 8000 Hz, not at 16000"):
        load_backbone(downloaded)
    recurrent = untrained_backbone("recurrent", "tiny", FRAMES, -5.25, 3.7)
    save_backbone(recurrent, tmp_path / "ours")
    config = json.loads((tmp_path / "ours" / FILES[2]).read_text())
    (tmp_path / "ours" / FILES[2]).write_text(json.dumps(config | {"do_normalize": False}))
    with pytest.raises(CheckpointError, match="its log-mel is not normalised"):
        load_backbone(tmp_path / "ours")
    config = json.loads((tmp_path / "ours" / FILES[0]).read_text())
    (tmp_path / "ours" / FILES[0]).write_text(json.dumps(config | {"features": "chroma"}))
    with pytest.raises(CheckpointError, match="features are one of mel, mfcc, wavelet, not chroma"):
        load_backbone(tmp_path / "ours")
    BertModel(BertConfig(vocab_size=8, **SIZES)).save_pretrained(downloaded)
    with pytest.raises(CheckpointError, match="holds a bert model, a backbone is one of audio-spectrogram"):
        load_backbone(downloaded)
    CnnBackbone.untrained("tiny", FRAMES, 0.0, 1.0).feature_extractor().save_pretrained(downloaded)
    for name, model_args, words in (
        ("test_convnext", {}, "for one channel is expected"),
        ("test_convnext", {"in_chans": 1}, "last norm is expected before pooling"),
        ("test_convnext", {"in_chans": 1, "stem_type": "overlap"}, "whose stem cuts patches"),
        ("convnextv2_atto", {"in_chans": 1}, "use V1"),
        ("test_resnet", {"in_chans": 1}, "a ConvNeXt whose stem cuts patches is expected, not test_resnet"),
    ):
        TimmWrapperModel(TimmWrapperConfig(architecture=name, model_args=model_args)).save_pretrained(downloaded)
        with pytest.raises(CheckpointError, match=words):
            load_backbone(downloaded)


def test_a_backbone_hears_windows_of_the_length_it_was_trained_on(backbone, folder, tmp_path):
    assert window_of(str(folder), backbone) == backbone.num_samples == samples_of(FRAMES)
    run = RunFolder.create(tmp_path, "pretrain/mae.py", {"clip_seconds": 1.5})
    assert window_of(str(run.path), backbone) == 1.5 * RATE
    assert window_of("some/hub_id", untrained_backbone("recurrent", "tiny", FRAMES, -5.25, 3.7)) == 4 * RATE


def test_a_checksum_is_of_weights_and_front_end_and_survives_the_disk(backbone, folder):
    loaded = load_backbone(folder)
    assert checksum_of_weights(loaded) == checksum_of_weights(backbone)
    with torch.no_grad():
        next(loaded.parameters()).view(-1)[0] += 1e-3
    assert checksum_of_weights(loaded) != checksum_of_weights(backbone)
    assert checksum_of_weights(AstBackbone(backbone.ast, -5.0, 3.7)) != checksum_of_weights(backbone)
    assert checksum_of_weights(backbone, torch.nn.Linear(2, 2)) != checksum_of_weights(backbone)

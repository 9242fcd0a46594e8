"""Backbones on the disk, in transformers' own layout: config.json, model.safetensors, preprocessor_config.json."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
import xxhash
from torch import nn
from transformers import (
    ASTFeatureExtractor,
    ASTModel,
    AutoConfig,
    ClapAudioModel,
    ClapAudioModelWithProjection,
    ClapFeatureExtractor,
    FeatureExtractionMixin,
    PreTrainedModel,
    TimmWrapperModel,
    Wav2Vec2FeatureExtractor,
)
from transformers.utils import logging

from backbones.ast_encoder import AstBackbone
from backbones.builders import Backbone
from backbones.clap import CLAP_RATE, CLAP_STEADY, ClapBackbone
from backbones.cnn import CnnBackbone
from backbones.log_mel import RATE
from backbones.mobilenets import MobileNetsBackbone, MobileNetsModel
from backbones.recurrent import RECURRENT_KINDS, RecurrentBackbone, RecurrentModel
from backbones.wav2vec2 import KINDS, Wav2Vec2Backbone, settings_of
from checkpoints.errors import CheckpointError
from checkpoints.files import replacing
from checkpoints.run import RunFolder
from checkpoints.shipped import folder_of, shipped_names

logging.disable_progress_bar()  # one file is written in a blink; a bar for it tears the recipe's own

WINDOW_SECONDS = 4.0
"""What a backbone hears at a time that was made for no length of its own."""
MOST_SECONDS = 600.0
"""Of what a run may say that it was trained on."""


class Layout(NamedTuple):
    """How a model of transformers becomes a backbone."""

    model: type[PreTrainedModel]
    front_end: type[FeatureExtractionMixin]
    kinds: dict[str, dict[str, Any]]
    """What it can be, the likeliest first, and the settings of its config that this kind asks for."""
    wrap: Callable[[Any, Any], Backbone]
    """Model and front end to backbone; ValueError where they do not fit."""
    rate: int = RATE
    """What the front end hears."""


def statistics_of(front_end: ASTFeatureExtractor) -> tuple[float, float]:
    """Mean and standard deviation that a log-mel is normalised with; ValueError where it is not."""
    if not front_end.do_normalize:
        raise ValueError("its log-mel is not normalised (do_normalize)")
    return front_end.mean, front_end.std


LAYOUTS = {
    "audio-spectrogram-transformer": Layout(
        ASTModel, ASTFeatureExtractor, {"ast": {}},
        lambda model, front_end: AstBackbone(model, *statistics_of(front_end)),
    ),
    **{
        model.config_class.model_type: Layout(
            model, Wav2Vec2FeatureExtractor, {kind: settings_of(kind) for kind in KINDS if KINDS[kind] is model},
            lambda model, front_end: Wav2Vec2Backbone(model, front_end.do_normalize),
        )
        for model in KINDS.values()
    },
    "timm_wrapper": Layout(
        TimmWrapperModel, ASTFeatureExtractor, {"cnn": {}},
        lambda model, front_end: CnnBackbone(
            model, front_end.max_length, *statistics_of(front_end), front_end.num_mel_bins
        ),
    ),
    "clap_audio_model": Layout(ClapAudioModel, ClapFeatureExtractor, {"clap": CLAP_STEADY}, ClapBackbone, CLAP_RATE),
    "clap": Layout(  # both towers, as published
        ClapAudioModelWithProjection, ClapFeatureExtractor, {"clap": CLAP_STEADY},
        lambda model, front_end: ClapBackbone(model.audio_model, front_end), CLAP_RATE,
    ),
    "luthier-recurrent": Layout(
        RecurrentModel, ASTFeatureExtractor, {kind: {} for kind in RECURRENT_KINDS},
        lambda model, front_end: RecurrentBackbone(model, *statistics_of(front_end)),
    ),
    "luthier-mobilenets": Layout(
        MobileNetsModel, ASTFeatureExtractor, {"mobilenets": {}},
        lambda model, front_end: MobileNetsBackbone(model, *statistics_of(front_end)),
    ),
}  # fmt: skip
"""By the ``model_type`` of config.json."""


def save_backbone(backbone: Backbone, folder: Path) -> None:
    """Writes the network and its front end so that transformers' Auto classes load them without our code.

    But for our own baselines, which `AutoModel` knows once backbones/ is imported, and for ``clap``, whose tower
    `AutoModel` never knew: it is `ClapAudioModel`.
    """
    with replacing(folder) as temporary:
        temporary.mkdir(parents=True)
        backbone.model.save_pretrained(temporary)
        backbone.feature_extractor().save_pretrained(temporary)


def find_backbone(init: str, kind: str | None = None) -> Backbone:
    """The backbone that ``--init`` names: a run folder, a folder in transformers' layout, weights that ship, a Hub id.

    Args:
        kind: what it has to be, see `backbones.builders.BUILDERS`; a ``wav2vec2`` can be loaded as ``wav2vec2-cnn``,
            without its transformer. None takes what is there.

    Raises:
        CheckpointError: nothing there, a model that cannot serve as a backbone, or one of another kind.
    """
    folder = folder_of(init)
    if os.path.isdir(folder):  # raises nothing where no folder can be of the name
        return load_backbone(folder / "backbone" if (folder / "backbone").is_dir() else folder, kind)
    if folder.is_absolute() or init.count("/") != 1:
        named = ", ".join(shipped_names()) or "there are none"
        raise CheckpointError(
            "a run folder, a backbone's folder, the name of weights that ship "
            f"({named}) or a Hub id was expected, nothing is at {init}"
        )
    return _load(init, kind)


def load_backbone(folder: Path, kind: str | None = None) -> Backbone:
    """Reads what `save_backbone` wrote, or any local model in transformers' layout that can serve as a backbone.

    A Wav2Vec2, its kin and CLAP lose their dropouts, layer drop and masking of features here, whatever their config
    says, and save without them: in training, what happens to a clip depends on its key alone.

    Raises:
        CheckpointError: the folder is missing, incomplete, or holds another kind of model.
    """
    folder = Path(folder)
    for name in ("config.json", "model.safetensors", "preprocessor_config.json"):
        if not (folder / name).is_file():
            raise CheckpointError(f"a backbone was expected in {folder}, but {name} is missing; give RUN/backbone")
    return _load(folder, kind)


def window_of(init: str, backbone: Backbone) -> int:
    """Samples of what a backbone hears at a time: what its run trained it on, what it was made for, or four seconds.

    Args:
        init: where `find_backbone` found it.
    """
    run = RunFolder(folder_of(init))
    trained = run.config().get("clip_seconds") if (run.path / "config.yaml").is_file() else None
    if trained is not None and not (type(trained) in (int, float) and 0 < trained <= MOST_SECONDS):
        raise CheckpointError(
            f"{run.path}/config.yaml should have clip_seconds of at most {MOST_SECONDS:g}, {trained!r} found; mend it"
        )
    return round(trained * RATE) if trained else getattr(backbone, "num_samples", None) or round(WINDOW_SECONDS * RATE)


def checksum_of_weights(backbone: Backbone, *others: nn.Module) -> str:
    """XXH3 of everything that decides what a backbone makes of a waveform: its weights, its front end, its settings.

    Args:
        others: networks behind it whose weights count too.
    """
    settings = backbone.model.config.to_dict() | backbone.feature_extractor().to_dict()
    unimportant = ("_name_or_path", "transformers_version", "architectures", "dtype", "torch_dtype")
    parts = [json.dumps({name: value for name, value in settings.items() if name not in unimportant}, default=str)]
    for module in (backbone, *others):
        for name, tensor in module.state_dict().items():
            values = tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy()
            parts += [name, xxhash.xxh3_128_hexdigest(values)]
    return xxhash.xxh3_128_hexdigest("\n".join(parts).encode())


def _load(folder: Path | str, kind: str | None) -> Backbone:
    """From a folder, or by an id from the Hub or its cache."""
    is_local = isinstance(folder, Path)
    with _transformers_errors(folder):
        config = AutoConfig.from_pretrained(folder, local_files_only=is_local)
    layout = LAYOUTS.get(config.model_type)
    if layout is None:
        known = ", ".join(LAYOUTS)
        raise CheckpointError(f"{folder} holds a {config.model_type} model, a backbone is one of {known}")
    chosen = kind or next(iter(layout.kinds))
    if chosen not in layout.kinds:
        raise CheckpointError(_other_kind(folder, " or ".join(layout.kinds), chosen))
    config = getattr(config, "audio_config", config)  # of a model with two towers, the one that hears
    config.update(layout.kinds[chosen])
    with _transformers_errors(folder):
        front_end = layout.front_end.from_pretrained(folder, local_files_only=is_local)
        model, loading = layout.model.from_pretrained(
            folder, config=config, local_files_only=is_local, use_safetensors=True, output_loading_info=True,
            dtype=torch.float32,  # whatever takes less room on the disk
        )  # fmt: skip
    if loading["missing_keys"]:
        missing = sorted(loading["missing_keys"])
        raise CheckpointError(f"{folder}/model.safetensors misses {len(missing)} tensors, {missing[0]} among them")
    if front_end.sampling_rate != layout.rate:
        raise CheckpointError(
            f"{folder} cannot serve as a backbone: it hears sound at {front_end.sampling_rate} Hz, not at {layout.rate}"
        )
    try:
        backbone = layout.wrap(model, front_end)
    except ValueError as error:
        raise CheckpointError(f"{folder} cannot serve as a backbone: {error}") from error
    if kind not in (None, backbone.kind):
        raise CheckpointError(_other_kind(folder, backbone.kind, kind))
    return backbone


def _other_kind(folder: Path | str, found: str, asked: str) -> str:
    return f"{folder} holds a backbone of kind {found}, --backbone asks for {asked}; give the same kind to both"


@contextmanager
def _transformers_errors(folder: Path | str) -> Iterator[None]:
    """Turns what transformers raises into one sentence, and silences its table of weights that it leaves out."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    except Exception as error:  # transformers, safetensors and json each raise their own kinds
        if isinstance(error, OSError) and not isinstance(folder, Path):
            raise CheckpointError(
                f"{folder} is no folder here, and the Hub's cache does not hold its config.json, model.safetensors and "
                "preprocessor_config.json; check the spelling, or connect to the network once to fetch them"
            ) from error
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise CheckpointError(f"{folder} cannot be loaded as a backbone ({reason[0]})") from error
    finally:
        logging.set_verbosity(verbosity)

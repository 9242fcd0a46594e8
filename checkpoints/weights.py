"""Backbones on the disk, in transformers' own layout: config.json, model.safetensors, preprocessor_config.json."""

from pathlib import Path

from transformers import ASTConfig, ASTFeatureExtractor, ASTModel
from transformers.utils.logging import disable_progress_bar

from backbones.ast_encoder import AstBackbone
from checkpoints.errors import CheckpointError
from checkpoints.files import replacing

disable_progress_bar()  # one file is written in a blink; a bar for it tears the recipe's own


def save_backbone(backbone: AstBackbone, folder: Path) -> None:
    """Writes the encoder and its front end so that transformers' Auto classes load them without our code."""
    with replacing(folder) as temporary:
        temporary.mkdir(parents=True)
        backbone.ast.save_pretrained(temporary)
        backbone.feature_extractor().save_pretrained(temporary)


def find_backbone(init: str) -> AstBackbone:
    """The backbone that ``--init`` names: a run folder, a folder in transformers' layout, or an id on the Hub.

    Raises:
        CheckpointError: nothing there, or not an AST with patches that do not overlap.
    """
    folder = Path(init).expanduser()
    if folder.is_dir():
        return load_backbone(folder / "backbone" if (folder / "backbone").is_dir() else folder)
    if folder.is_absolute() or init.count("/") != 1:
        raise CheckpointError(f"--init should be a run folder, a backbone's folder or a Hub id, nothing is at {init}")
    return _load(init)


def load_backbone(folder: Path) -> AstBackbone:
    """Reads what `save_backbone` wrote, or any local AST in transformers' layout with patches that do not overlap.

    Raises:
        CheckpointError: the folder is missing, incomplete or holds another kind of model.
    """
    folder = Path(folder)
    for name in ("config.json", "model.safetensors", "preprocessor_config.json"):
        if not (folder / name).is_file():
            raise CheckpointError(f"a backbone was expected in {folder}, but {name} is missing; give RUN/backbone")
    return _load(folder)


def _load(folder: Path | str) -> AstBackbone:
    """From a folder, or by an id from the Hub or its cache."""
    is_local = isinstance(folder, Path)
    try:
        config = ASTConfig.from_pretrained(folder, local_files_only=is_local)
        front_end = ASTFeatureExtractor.from_pretrained(folder, local_files_only=is_local)
        ast, loading = ASTModel.from_pretrained(
            folder, config=config, local_files_only=is_local, use_safetensors=True, output_loading_info=True
        )
    except OSError as error:
        if is_local:
            raise _unloadable(folder, error) from error
        raise CheckpointError(
            f"{folder} is no folder here, and the Hub's cache does not hold a model of that name that can be read; "
            "check the spelling, or connect to the network once to fetch it"
        ) from error
    except Exception as error:  # transformers, safetensors and json each raise their own kinds
        raise _unloadable(folder, error) from error
    if loading["missing_keys"]:
        missing = sorted(loading["missing_keys"])
        raise CheckpointError(f"{folder}/model.safetensors misses {len(missing)} tensors, {missing[0]} among them")
    try:
        return AstBackbone(ast, front_end.mean, front_end.std)
    except ValueError as error:
        raise CheckpointError(f"{folder} cannot serve as a backbone: {error}") from error


def _unloadable(folder: Path | str, error: Exception) -> CheckpointError:
    reason = str(error).strip().splitlines() or [type(error).__name__]
    return CheckpointError(f"{folder} cannot be loaded as an AST backbone ({reason[0]})")

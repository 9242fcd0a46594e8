"""Heads on the disk: their weights, and in words what they answer.

``heads/`` holds

    heads.safetensors    the weights of heads and pooling
    heads.json           version, what they were made for, label spaces, thresholds, scores

Both are written together; nothing is a pickle.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from checkpoints.errors import CheckpointError
from checkpoints.files import replacing

VERSION = 1
WEIGHTS_NAME, DESCRIPTION_NAME = "heads.safetensors", "heads.json"


def save_heads(folder: Path, tensors: Mapping[str, Tensor], description: Mapping[str, Any]) -> None:
    """Writes heads.

    Args:
        folder: ``RUN/heads``; what lies there is replaced.
        tensors: the weights by their names.
        description: what JSON can hold. Its ``thresholds``, numbers by head, are checked when they are read. A number
            that is not finite, as a score of no clips, becomes null.

    Raises:
        CheckpointError: the disk is full or refuses to be written; what was there stays.
    """
    with replacing(folder) as temporary:
        temporary.mkdir(parents=True)
        kept = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        save_file(kept, temporary / WEIGHTS_NAME)
        content = _finite({"version": VERSION, **description})
        (temporary / DESCRIPTION_NAME).write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")


def load_heads(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Reads what `save_heads` wrote: weights on the CPU, and the description.

    Raises:
        CheckpointError: a file is missing or damaged, of another version, or says what cannot be.
    """
    folder = Path(folder)
    for name in (DESCRIPTION_NAME, WEIGHTS_NAME):
        if not (folder / name).is_file():
            raise CheckpointError(
                f"heads were expected in {folder}, but {name} is missing; give a run of finetune/adapters.py that has "
                "saved, or resume it until it does"
            )
    description = _description(folder / DESCRIPTION_NAME)
    try:
        return load_file(folder / WEIGHTS_NAME), description
    except (OSError, SafetensorError) as error:
        raise CheckpointError(_damaged(folder / WEIGHTS_NAME, str(error))) from error


def _description(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text())
    except (OSError, ValueError, RecursionError) as error:  # of bytes that are no text, and of text that is no JSON
        raise CheckpointError(_damaged(file, str(error))) from error
    if not isinstance(content, dict) or "version" not in content:
        raise CheckpointError(_damaged(file, "it names no version"))
    version = content.pop("version")
    if version != VERSION:
        raise CheckpointError(
            f"{file} is of version {version}, this code reads version {VERSION}; use the Luthier that wrote it, or "
            "train the heads again"
        )
    thresholds = content.get("thresholds", {})
    if not isinstance(thresholds, dict):
        raise CheckpointError(_damaged(file, "its thresholds are not listed by head"))
    for name, values in thresholds.items():
        if not isinstance(values, list) or not all(_is_number(value) for value in values):
            raise CheckpointError(_damaged(file, f"the thresholds of {name} are not all finite numbers"))
    return content


def _damaged(file: Path, reason: str) -> str:
    return f"{file} is damaged ({reason}); copy it again, or resume the run to write it anew"


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and -(1 << 63) <= value < 1 << 63


def _finite(value: Any) -> Any:
    """The same with None for numbers that JSON cannot hold."""
    if isinstance(value, Mapping):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

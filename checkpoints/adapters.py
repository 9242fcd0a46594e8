"""Adapters on the disk, in PEFT's own layout, with a note of the backbone that they were made for.

    adapter_config.json         PEFT's
    adapter_model.safetensors   what was added to the backbone, nothing else
    base.json                   sizes and checksum of the backbone

`PeftModel.from_pretrained(model, folder)` loads it with no code of ours; our own kinds also need
``import backbones.adapters``, which makes PEFT know them.
"""

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import xxhash
from peft import PeftModel, get_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

import backbones.adapters  # noqa: F401, makes PEFT know our own
from backbones.builders import Backbone
from checkpoints.errors import CheckpointError
from checkpoints.files import replacing

ADDS_NOTHING = ("head", "full")
"""Methods of fine-tuning without an adapter: the backbone as it is, or all of it trained."""
BASE = "../backbone"
"""Where an adapter's backbone lies in a run folder, as its config names it; a full path would only fit one machine."""
CONFIG, WEIGHTS, NOTE = "adapter_config.json", "adapter_model.safetensors", "base.json"
SIZES = ("model_type", "architecture", "hidden_size", "num_hidden_layers", "intermediate_size", "patch_size",
         "num_mel_bins", "max_length")  # fmt: skip
"""What a sentence can say of a backbone that does not fit, out of its config.json."""

QUIET = ("Specified to not", "Unsupported layer type", "`is_gradient_checkpointing`", "Found missing adapter keys")


def save_adapter(adapted: PeftModel, folder: Path) -> None:
    """Writes what was added to a backbone, and what backbone it was.

    Raises:
        CheckpointError: the disk is full or refuses to be written.
    """
    config = adapted.peft_config["default"]
    config.base_model_name_or_path = BASE
    if hasattr(config, "rank_pattern") and config.peft_type == "ADALORA":
        config.rank_pattern = None  # or PEFT leaves out dropped ranks, which grow back between two allocations
    with replacing(folder) as temporary:
        temporary.mkdir(parents=True)
        adapted.save_pretrained(temporary, save_embedding_layers=False)  # else it looks for the backbone on the Hub
        (temporary / "README.md").unlink()  # a form to fill in
        (temporary / NOTE).write_text(json.dumps(_note_of(adapted.get_base_model()), indent=2) + "\n")


def load_adapter(backbone: Backbone, folder: Path) -> PeftModel:
    """Puts an adapter back into the backbone it was made for, in place, frozen.

    Raises:
        CheckpointError: there is none, it is incomplete or damaged, or it was made for another backbone.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise CheckpointError(
            f"an adapter was expected in {folder}, and this is a run without adapters; give a run of another method "
            "than head or full"
        )
    for name in (CONFIG, WEIGHTS, NOTE):
        if not (folder / name).is_file():
            raise CheckpointError(f"an adapter was expected in {folder}, but {name} is missing; copy it whole")
    _check_base(backbone.model, folder)
    with _peft_errors(folder):
        with safe_open(folder / WEIGHTS, "pt") as file:
            saved = set(file.keys())
        adapted = PeftModel.from_pretrained(backbone.model, folder, torch_device="cpu")
        expected = set(get_peft_model_state_dict(adapted, save_embedding_layers=False))
    if odd := sorted(saved ^ expected):
        raise CheckpointError(f"{folder / WEIGHTS} does not fit its {CONFIG}: {len(odd)} tensors differ, as {odd[0]}")
    return adapted


def _check_base(model: nn.Module, folder: Path) -> None:
    try:
        made_for = json.loads((folder / NOTE).read_text())
        sizes, weights = dict(made_for["sizes"]), made_for["weights"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{folder / NOTE} is damaged; copy the adapter's folder again") from error
    found = _note_of(model)
    for name in SIZES:
        if sizes.get(name) != found["sizes"].get(name):
            raise CheckpointError(
                f"the adapter in {folder} was made for a backbone of {name} {sizes.get(name)}, this one has "
                f"{found['sizes'].get(name)}; give the backbone of its own run"
            )
    if weights != found["weights"]:
        raise CheckpointError(
            f"the adapter in {folder} was made for a backbone of this size with other weights; give the backbone of "
            "its own run"
        )


def _note_of(model: nn.Module) -> dict[str, Any]:
    config = model.config.to_dict()
    return {"sizes": {name: config[name] for name in SIZES if name in config}, "weights": checksum_of_base(model)}


def checksum_of_base(model: nn.Module) -> str:
    """XXH3 of a model's names, shapes and values, the same whether adapted or not."""
    checksum = xxhash.xxh3_64()
    for name, value in sorted(_base_tensors(model)):
        checksum.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        checksum.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return checksum.hexdigest()


def _base_tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Tensors of a model as they are named without adapters, and none that these added."""
    wrapped = [name for name, module in model.named_modules() if isinstance(module, BaseTunerLayer)]
    for name, value in model.state_dict().items():
        around = [layer for layer in wrapped if name.startswith(f"{layer}.")]
        is_added = any(not name.startswith(f"{layer}.base_layer.") for layer in around)
        if not is_added and not name.startswith("rank_allocation."):  # of AdaLoRA's training
            yield name.replace(".base_layer.", "."), value


@contextmanager
def _peft_errors(folder: Path) -> Iterator[None]:
    """Turns what PEFT raises into one sentence, and silences what it warns of: projections that a key draws anew, norms
    that it adapts without knowing them, and missing tensors, which are an error here."""
    try:
        with warnings.catch_warnings():
            for message in QUIET:
                warnings.filterwarnings("ignore", message=message)
            yield
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise CheckpointError(f"the adapter in {folder} cannot be loaded ({reason[0]}); copy it again") from error

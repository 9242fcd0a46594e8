"""Training state: everything a run needs to go on as if it had never stopped.

``state/step_00001234/`` holds

    model.safetensors        every tensor of the model
    optimizer.safetensors    the optimizer's tensors, as ``exp_avg.NAME``, by the parameter's name
    average.safetensors      the moving average of the weights, where one is kept
    generators.safetensors   torch's generators, as ``cpu.0`` for process 0
    state.json               the step, what the recipe adds, the checksum of every file and its own; written last

No file is a pickle. A folder appears under its name only when it is whole.
"""

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from checkpoints.errors import CheckpointError
from checkpoints.files import TEMPORARY, remove, replacing
from checkpoints.sharding import shard_like, whole

VERSION = 1


@dataclass
class Progress:
    """What ``state.json`` says besides checksums."""

    step: int
    """Optimizer steps done."""
    identity: dict[str, Any]
    """What must be the same for a run to go on, in the recipe's own words; compared key by key."""
    counters: dict[str, float] = field(default_factory=dict)
    """What the recipe counts, such as skipped steps."""


def save_state(
    folder: Path,
    progress: Progress,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    generators: Mapping[str, Tensor],
    average: Mapping[str, Tensor] | None = None,
    keep: int = 2,
    is_writer: bool = True,
) -> Path:
    """Writes a state and deletes the oldest ones but `keep`.

    What lies in shards over the processes is written whole, so that any launch can resume it.

    Args:
        is_writer: whether this process writes. The others have to call too, for their shards.

    Returns:
        The new folder, ``folder/step_XXXXXXXX``.

    Raises:
        CheckpointError: the disk is full or refuses to be written; older states stay as they are.
    """
    final = folder / f"step_{progress.step:08d}"
    parts = {
        "model": model.state_dict(),
        "optimizer": _optimizer_tensors(model, optimizer),
        "generators": generators,
        "average": average or {},
    }
    parts = {name: _gathered(tensors, is_writer) for name, tensors in parts.items()}
    if not is_writer:
        return final
    for unfinished in folder.glob(f".*{TEMPORARY}"):  # of a run that was killed while it saved
        remove(unfinished)
    with replacing(final) as temporary:
        temporary.mkdir(parents=True)
        for name, tensors in parts.items():
            if tensors:
                _save(tensors, temporary / f"{name}.safetensors", final)
        checksums = {file.name: checksum_of(file) for file in sorted(temporary.iterdir())}
        content = {"version": VERSION, **vars(progress), "checksums": checksums}
        content["checksum"] = _checksum_of_values(content)
        (temporary / "state.json").write_text(json.dumps(content, indent=2) + "\n")
    for old in (*states(folder)[:-keep], *folder.glob(f".*{TEMPORARY}")):  # the latter are what kills left behind
        remove(old)
    return final


def states(folder: Path) -> list[Path]:
    """The states of a run, oldest first."""
    return sorted(path for path in folder.glob("step_*") if path.name[5:].isdigit() and path.is_dir())


def newest_good_state(folder: Path) -> tuple[Path, list[str]]:
    """The newest state whose checksums hold, and a sentence for every newer one that had to be passed over.

    Raises:
        CheckpointError: there is none.
    """
    complaints = []
    for path in reversed(states(folder)):
        try:
            check_state(path)
        except CheckpointError as error:
            complaints.append(str(error))
        else:
            return path, complaints
    found = f"; {' '.join(complaints)}" if complaints else ""
    raise CheckpointError(f"a saved state was expected in {folder}, none that is whole was found{found}")


def check_state(path: Path) -> Progress:
    """Compares every file of a state with its checksum.

    Raises:
        CheckpointError: names the file that is missing or damaged.
    """
    try:
        content = json.loads((path / "state.json").read_text())
        version, checksums, checksum = content["version"], content["checksums"], content.pop("checksum")
        progress = Progress(content["step"], dict(content["identity"]), dict(content["counters"]))
        if type(progress.step) is not int or any(
            type(count) not in (int, float) for count in progress.counters.values()
        ):
            raise ValueError("counts should be numbers")
        checksums = dict(checksums)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path}/state.json is missing or damaged.") from error
    if version != VERSION:
        raise CheckpointError(f"{path} is a state of version {version}, this code reads version {VERSION}.")
    if checksum != _checksum_of_values(content):
        raise CheckpointError(f"{path}/state.json is missing or damaged.")
    for name, expected in checksums.items():
        if Path(name).name != name or not (path / name).is_file() or checksum_of(path / name) != expected:
            raise CheckpointError(f"{path / name} is missing or damaged.")
    return progress


def load_state(
    path: Path,
    identity: dict[str, Any],
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: Mapping[str, Tensor] | None = None,
) -> tuple[Progress, dict[str, Tensor]]:
    """Puts a state back, in place.

    Args:
        identity: what the recipe is about to run; must equal what was saved.
        average: tensors to fill with the moving average.

    Returns:
        What `save_state` was given as progress and generators.

    Raises:
        CheckpointError: the state is damaged, or is one of another run, preset or pack.
    """
    progress = check_state(path)
    for key in {**progress.identity, **identity}:
        saved, asked = progress.identity.get(key), identity.get(key)
        if saved != asked:
            raise CheckpointError(f"{path} was made with {key} {saved!r}, not {asked!r}; resume with the former")
    _fill(model.state_dict(), _load(path / "model.safetensors"), path / "model.safetensors")
    saved = _load(path / "optimizer.safetensors") if (path / "optimizer.safetensors").is_file() else {}
    _fill_optimizer(model, optimizer, saved, path / "optimizer.safetensors")
    if average is not None:
        _fill(average, _load(path / "average.safetensors"), path / "average.safetensors")
    return progress, _load(path / "generators.safetensors")


def checksum_of(file: Path) -> str:
    """CRC-32 of a file, which is read a part at a time; it guards against accidents, not against malice."""
    value = 0
    with open(file, "rb") as opened:
        while part := opened.read(1 << 22):
            value = zlib.crc32(part, value)
    return f"{value:08x}"


def _checksum_of_values(content: Mapping[str, Any]) -> str:
    return f"{zlib.crc32(json.dumps(content, sort_keys=True).encode()):08x}"


def _gathered(tensors: Mapping[str, Tensor], is_kept: bool) -> dict[str, Tensor]:
    """Every tensor in one piece; what lay in shards waits in the CPU's memory, or nowhere if it is not kept."""
    found = {}
    for name, tensor in tensors.items():
        value = whole(tensor)
        if is_kept:
            found[name] = value.cpu() if isinstance(tensor, DTensor) else value
    return found


def _save(tensors: Mapping[str, Tensor], file: Path, final: Path) -> None:
    try:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, file)
    except SafetensorError as error:  # it wraps the system's error and keeps only its words
        raise CheckpointError(f"{final} cannot be written ({error}); free some room and resume the run") from error


def _load(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{file} cannot be read ({error})") from error


def _fill(targets: Mapping[str, Tensor], saved: Mapping[str, Tensor], file: Path) -> None:
    """Copies saved tensors into those of the same names, shapes and types."""
    odd = sorted(set(targets) ^ set(saved))
    odd += [name for name in targets if name in saved and targets[name].shape != saved[name].shape]
    if odd:
        raise CheckpointError(f"{file} fits another model: {len(odd)} tensors differ, {odd[0]} among them")
    with torch.no_grad():
        for name, target in targets.items():
            target.copy_(shard_like(saved[name], target))


def _optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    names = {parameter: name for name, parameter in model.named_parameters()}
    return {
        f"{kind}.{names[parameter]}": tensor
        for parameter, state in optimizer.state.items()
        for kind, tensor in state.items()
    }


def _fill_optimizer(
    model: nn.Module, optimizer: torch.optim.Optimizer, saved: Mapping[str, Tensor], file: Path
) -> None:
    parameters = dict(model.named_parameters())
    optimizer.state.clear()
    for key, tensor in saved.items():
        kind, _, name = key.partition(".")
        if name not in parameters:
            raise CheckpointError(f"{file} fits another model: there is no parameter {name}")
        parameter = parameters[name]
        if tensor.shape != (() if kind == "step" else parameter.shape):
            raise CheckpointError(f"{file} fits another model: {key} is of shape {tuple(tensor.shape)}")
        if kind == "step":  # counted where the optimizer counts: on the device when fused, else on the CPU
            is_fused = any(group.get("fused") for group in optimizer.param_groups)
            optimizer.state[parameter][kind] = tensor.to(parameter.device if is_fused else tensor.device)
        else:
            optimizer.state[parameter][kind] = shard_like(tensor, parameter)
    if len({frozenset(kinds) for kinds in optimizer.state.values()}) > 1:
        raise CheckpointError(f"{file} fits another optimizer: some parameters have other tensors than the rest")

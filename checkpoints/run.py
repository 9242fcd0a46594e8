"""The run folder: all that any later command needs to know of a run.

runs/NAME/
  config.yaml      the resolved config
  metrics.jsonl    one JSON object a line; TensorBoard's files beside it in logs/
  backbone/        transformers layout, see `checkpoints.weights`
  adapter/         PEFT layout, see `checkpoints.adapters`
  heads/           heads.safetensors and heads.json, see `checkpoints.heads`
  scores.json      what fine-tuning reached in the end
  state/           training states, see `checkpoints.state`
  figures/
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from checkpoints.errors import CheckpointError
from checkpoints.files import cannot_write, remove, replacing


class RunFolder:
    """Paths and files of one run."""

    def __init__(self, path: Path):
        self.path = Path(path)
        self.backbone, self.state, self.figures = path / "backbone", path / "state", path / "figures"
        self.adapter, self.heads = path / "adapter", path / "heads"

    @classmethod
    def create(cls, path: Path, recipe: str, config: dict[str, Any]) -> "RunFolder":
        """Makes the folder and writes its config.

        Raises:
            CheckpointError: there is a run already, or the folder cannot be made.
        """
        run = cls(path)
        if run.metrics.exists() or run.state.exists():
            raise CheckpointError(f"{path} already holds a run; choose another --out, or --resume {path} to go on")
        run.write_config(recipe, config)
        return run

    @classmethod
    def open(cls, path: Path, recipe: str) -> "RunFolder":
        """Opens an existing run of a recipe.

        Raises:
            CheckpointError: there is no run, or it is another recipe's.
        """
        run = cls(Path(path))
        found = run.config().get("recipe")
        if found != recipe:
            raise CheckpointError(f"{path} is a run of {found}, not of {recipe}; give one of the latter")
        return run

    @classmethod
    def begun(cls, path: Path, recipe: str) -> "RunFolder | None":
        """The run in a folder, if it has saved a state to go on from.

        What is left of a run that ended before its first state is removed, by one process of many: the folder is free
        for a new one.

        Raises:
            CheckpointError: the run is another recipe's.
        """
        if not (path / "config.yaml").exists():
            return None
        run = cls.open(path, recipe)
        if any(run.state.glob("step_*")):
            return run
        if os.environ.get("RANK", "0") == "0":
            remove(run.metrics)
            remove(run.state)
        return None

    @classmethod
    def newest(cls, folder: Path, recipe: str) -> "RunFolder":
        """The run of a recipe that was written to last, among the folders of `folder`.

        Raises:
            CheckpointError: there is none.
        """
        found = cls.all(folder, (recipe,))
        if not found:
            raise CheckpointError(f"a run of {recipe} was expected in {folder}/, none was found; start one first")
        return found[0]

    @classmethod
    def all(cls, folder: Path, recipes: Sequence[str]) -> "list[RunFolder]":
        """The runs of some recipes among the folders of `folder`, those first that were written to last."""
        found = []
        for config in folder.glob("*/config.yaml"):
            run = cls(config.parent)
            if run.config().get("recipe") in recipes:
                written = [path.stat().st_mtime for path in (config, run.metrics, run.state) if path.exists()]
                found.append((max(written), run.path.name, run))
        return [run for _, _, run in sorted(found, key=lambda entry: entry[:2], reverse=True)]

    @property
    def scores(self) -> Path:
        """``scores.json``: what a finished fine-tuning reached."""
        return self.path / "scores.json"

    @property
    def metrics(self) -> Path:
        """``metrics.jsonl``."""
        return self.path / "metrics.jsonl"

    def config(self) -> dict[str, Any]:
        """What ``config.yaml`` says; its key ``recipe`` names the recipe.

        Raises:
            CheckpointError: it is missing or no YAML mapping.
        """
        file = self.path / "config.yaml"
        try:
            config = yaml.safe_load(file.read_text())
        except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:  # ValueError of bytes, and of odd dates
            raise CheckpointError(f"a run was expected in {self.path}, but {file} cannot be read") from error
        if not isinstance(config, dict):
            raise CheckpointError(f"a run was expected in {self.path}, but {file} holds no settings")
        return config

    def write_config(self, recipe: str, config: dict[str, Any]) -> None:
        """Writes ``config.yaml``."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CheckpointError(cannot_write(self.path, error)) from error
        with replacing(self.path / "config.yaml") as temporary:
            temporary.write_text(yaml.safe_dump({"recipe": recipe, **config}, sort_keys=False))

    def log(self, values: dict[str, Any]) -> None:
        """Appends a line to ``metrics.jsonl``; numbers keep every bit."""
        try:
            with open(self.metrics, "a") as file:
                file.write(json.dumps(values) + "\n")
        except OSError as error:
            raise CheckpointError(cannot_write(self.metrics, error)) from error

    def read_log(self) -> list[dict[str, Any]]:
        """The lines of ``metrics.jsonl``; a last line that a kill cut short is left out."""
        lines = self.metrics.read_bytes().splitlines() if self.metrics.is_file() else []
        values = []
        for number, line in enumerate(lines, 1):
            try:
                found = json.loads(line)
                if type(found) is not dict or type(found.get("step", 0)) is not int:
                    raise ValueError("no line of a log")
                values.append(found)
            except (ValueError, RecursionError) as error:
                if number < len(lines):
                    raise CheckpointError(f"line {number} of {self.metrics} is damaged") from error
        return values

    def cut_log(self, step: int) -> None:
        """Drops the lines of later steps than `step`, which a resumed run is about to write again."""
        kept = [line for line in self.read_log() if line.get("step", 0) <= step]
        with replacing(self.metrics) as temporary:
            temporary.write_text("".join(json.dumps(line) + "\n" for line in kept))

    def pictures(self) -> list[Path]:
        """The figures, by name."""
        return sorted(self.figures.glob("*.png"))

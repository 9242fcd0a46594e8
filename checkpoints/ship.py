"""Makes weights that ship out of a pretraining run.

    python -m checkpoints.ship runs/supcon checkpoints/pretrained/ast-tiny --device "one H200" --card card.md

Writes a backbone's folder, whole or not at all: config.json and preprocessor_config.json, the weights in float16
(config.json says float32, so transformers loads them as that), the settings of every run that led to them, from which
the same commands would make them again, and README.md, a model card. Settings and card name runs and packs as they
would be called in a clone, never by where they lay. The card takes data and licences from the packs, steps, clips,
hours and scores from the runs; what these do not know (how packs were made, what is known of limits) is the text of
--card.
"""

import argparse
import json
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import Tensor

from backbones.builders import Backbone
from backbones.optimisation import count_parameters
from checkpoints.config import run_command
from checkpoints.errors import CheckpointError
from checkpoints.files import replacing
from checkpoints.run import RunFolder
from checkpoints.shipped import NEWEST, PRETRAINING, UNTRAINED, folder_of
from checkpoints.weights import load_backbone, save_backbone

MOST_BYTES = 25_000_000
"""Of all weights that ship together."""
LEAST_COSINE = 0.999
"""Between tokens of full and of half precision; they lie within 1e-5 of 1 unless a weight leaves float16's range."""
NOT_REPEATED = ("recipe", "resume", "out")
PATHS = ("data", "probe_data")
SCORES = {
    "masked_error": "squared error on masked patches",
    "knn": "family, kNN, balanced accuracy",
    "linear": "family, linear probe, balanced accuracy",
    "family_map_at_r": "family, mAP@R",
    "instrument_auc": "instrument or none, AUC",
    "pitch_accuracy": "pitch, accuracy",
    "wrong_neighbour_depth": "depth at which wrong neighbours part",
}
"""Of an evaluation, those that the card tells, in words."""
BESIDE = ("start", "log_mel")
"""What the scores of the last stage's first weights and of log-mel statistics begin with."""
LIMITS = """\
What it knows is what was in the sound above, and the scores are of sound made in the same way. Other players, rooms and
microphones than those, mixtures of many instruments, voices, and music of traditions that the data does not hold were
not tested unless something is said of them here. The labels it learned from are those of the packs, errors included."""


class Stage(NamedTuple):
    """A run that led to the weights."""

    run: RunFolder
    config: dict[str, Any]
    pack: dict[str, Any]
    """What its pack's pack.json says."""

    @property
    def name(self) -> str:
        """The recipe's, as ``mae``."""
        return Path(self.config["recipe"]).stem


def stages_of(run: RunFolder) -> tuple[list[Stage], str]:
    """The runs that made the weights of a run, first to last, and what the first of them started from.

    Raises:
        CheckpointError: one of them or its pack is gone, is no pretraining, or does not say what it started from.
    """
    config = run.config()
    if config.get("recipe") not in PRETRAINING:
        kinds = " or ".join(PRETRAINING)
        raise CheckpointError(f"a run of {kinds} was expected, {run.path} is of {config.get('recipe')}")
    file = Path(str(config["data"])) / "pack.json"
    try:
        pack = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"the card of {run.path} names its data, and {file} cannot be read; prepare the pack again, or run this "
            "where it lies"
        ) from error
    own, init = Stage(run, config, pack), config.get("init")
    if init in (None, UNTRAINED):
        return [own], UNTRAINED
    before = RunFolder(Path(init).expanduser())
    if (before.path / "config.yaml").is_file():
        stages, start = stages_of(before)
        return [*stages, own], start
    if init == NEWEST or not (folder_of(init) / "config.json").is_file():
        raise CheckpointError(
            f"{run.path} started from {init}, and no run or backbone is found there; put it back, or train again with "
            "--init RUN"
        )
    return [own], init


def halved(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Floating-point weights in float16, all others as they are."""
    return {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}


def ship(run: RunFolder, out: Path, device: str, prose: str | None = None) -> Path:
    """Writes the folder of weights that ship; returns it.

    Args:
        out: checkpoints/pretrained/NAME.
        device: what the runs were trained on, in words.
        prose: Markdown of the card in place of `LIMITS`.

    Raises:
        CheckpointError: see `stages_of`; or the weights are too large, or do not survive half precision.
    """
    stages, start = stages_of(run)
    backbone = load_backbone(run.backbone).eval()
    with replacing(out) as temporary:
        save_backbone(backbone, temporary)
        weights = temporary / "model.safetensors"
        save_file(halved(load_file(weights)), weights, metadata={"format": "pt"})
        _check_sound(backbone, load_backbone(temporary).eval(), run)
        settings = _settings_of(stages, out.name)
        for name, values in settings.items():
            (temporary / name).write_text(yaml.safe_dump(values, sort_keys=False))
        (temporary / "README.md").write_text(card(stages, start, list(settings), backbone, out.name, device, prose))
        _check_size(temporary, out)
    return out


def _check_sound(whole: Backbone, half: Backbone, run: RunFolder) -> None:
    length = getattr(whole, "num_samples", None) or whole.min_samples
    noise = 0.1 * torch.randn(2, length, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        tokens = [backbone(noise).tokens.flatten(1) for backbone in (whole, half)]
    cosine = torch.nn.functional.cosine_similarity(*tokens).min().item()
    if not cosine >= LEAST_COSINE:
        raise CheckpointError(
            f"in half precision the tokens of {run.backbone} should be what they were, their cosine is {cosine:.4f}; a "
            f"weight beyond 65504 does that: train with more --weight_decay"
        )


def _check_size(folder: Path, out: Path) -> None:
    others = [config.parent for config in out.parent.glob("[!.]*/config.json") if config.parent.name != out.name]
    size = sum(file.stat().st_size for one in (folder, *others) for file in one.rglob("*") if file.is_file())
    if size > MOST_BYTES:
        raise CheckpointError(
            f"what ships is at most {MOST_BYTES / 1e6:g} MB, {out} with its {len(others)} neighbours would be "
            f"{size / 1e6:.1f} MB; ship a smaller preset, or remove a neighbour"
        )


def _settings_of(stages: list[Stage], name: str) -> dict[str, dict[str, Any]]:
    """The YAML files that make each stage again, first to last; the last is the config.yaml of the weights."""
    files: dict[str, dict[str, Any]] = {}
    before = None
    for number, stage in enumerate(stages, 1):
        values = {key: value for key, value in stage.config.items() if key not in NOT_REPEATED}
        values |= {key: _in_a_clone(values[key]) for key in PATHS if values.get(key)}
        values |= {"init": before} if before else {}
        before = f"runs/{name}_{number}_{stage.name}"
        is_last = number == len(stages)
        files["config.yaml" if is_last else f"{number}_{stage.name}.yaml"] = values | {"out": before}
    return files


def _in_a_clone(path: str) -> str:
    return f"packs/{Path(path).name}" if Path(path).is_absolute() or ".." in Path(path).parts else path


def card(
    stages: list[Stage], start: str, settings: list[str], backbone: Backbone, name: str, device: str, prose: str | None
) -> str:
    """The model card, in Markdown."""
    parameters, size = count_parameters(backbone.parameters()) / 1e6, backbone.width
    folder = f"checkpoints/pretrained/{name}"
    loads = backbone.model.__class__.__name__
    parts = [
        f"# {name}",
        f"A backbone of kind `{backbone.kind}`, {parameters:.2f} M parameters in half precision, embeddings of {size} "
        f"numbers, 16 kHz sound. `--init {name}` of every recipe and `python -m audit.embed {name} PACK` find it by "
        f'name; `transformers.{loads}.from_pretrained("{folder}")` loads it without Luthier.',
        "## Data",
        "\n".join(dict.fromkeys(line for stage in stages for line in _data_lines(stage))),
        "## Training",
        f"From {'random weights' if start == UNTRAINED else start}, on {device}:",
        "\n".join(["| stage | steps | clips seen | hours | seed |", "| --- | ---: | ---: | ---: | ---: |",
                   *(_training_line(stage, number) for number, stage in enumerate(stages, 1))]),
        "The commands, whose settings lie beside this card, would make it again:",
        "\n".join(f"    accelerate launch {stage.config['recipe']} --config {folder}/{file}"
                  for stage, file in zip(stages, settings, strict=True)),
        "## Scores",
        "Of the last stage's last evaluation, on timbres it was not trained on, beside the weights that this stage "
        "began with and log-mel statistics; `python -m benchmarks.results` compares with more.",
        _score_table(stages[-1]),
        prose.strip() if prose else f"## Limits\n\n{LIMITS}",
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def _data_lines(stage: Stage) -> list[str]:
    pack = stage.pack
    name = _in_a_clone(str(stage.config["data"]))
    splits = ", ".join(f"{split} {counts['clips']:,}" for split, counts in pack["splits"].items())
    lines = [f"- `{name}`: {pack['num_clips']:,} clips, {pack['hours']:.1f} h ({splits}), seed {pack['seed']}"]
    for source, about in pack["sources"].items():
        licence = about.get("licence") or "not said"
        lines.append(f"  - {source}: {about['clips']:,} clips, {about['hours']:.1f} h; licence: {licence}")
    return lines


def _training_line(stage: Stage, number: int) -> str:
    log = stage.run.read_log()
    if not log:
        raise CheckpointError(f"a run that has been trained was expected in {stage.run.path}, its log is empty")
    last = log[-1]
    hours = training_seconds(log) / 3600
    return (
        f"| {number} {stage.name} | {last['step']:,} | {last['clips']:,} | {hours:.2f} | {stage.config.get('seed')} |"
    )


def training_seconds(log: list[dict[str, Any]]) -> float:
    """Of the steps in a log; a run counts its seconds anew each time it is resumed."""
    total = last = 0.0
    for seconds in (line["seconds"] for line in log if "seconds" in line):
        total += last if seconds < last else 0.0
        last = seconds
    return total + last


def _score_table(stage: Stage) -> str:
    evaluations = [line for line in stage.run.read_log() if "loss" not in line]
    if not evaluations:
        raise CheckpointError(f"a run that has been evaluated was expected in {stage.run.path}; finish it first")
    found = evaluations[-1]
    lines = [
        f"| {words} | {found[name]:.3f} | " + " | ".join(_cell(found, f"{of}_{name}") for of in BESIDE) + " |"
        for name, words in SCORES.items()
        if name in found
    ]
    return "\n".join(["| score | these weights | before | log-mel |", "| --- | ---: | ---: | ---: |", *lines])


def _cell(scores: dict[str, Any], name: str) -> str:
    return f"{scores[name]:.3f}" if name in scores else ""


def main() -> None:
    """Ships a run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="run folder of pretrain/")
    parser.add_argument("out", type=Path, help="folder to write, checkpoints/pretrained/NAME")
    parser.add_argument("--device", required=True, help="what the runs were trained on, in words")
    parser.add_argument("--card", type=Path, help="Markdown of the card: how packs were made, tests, limits")
    options = parser.parse_args()
    try:
        prose = options.card.read_text() if options.card else None
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"--card {options.card} cannot be read; give a Markdown file") from error
    out = ship(RunFolder(options.run), options.out, options.device, prose)
    size = sum(file.stat().st_size for file in out.iterdir())
    print(f"finished {out}, {size / 1e6:.1f} MB")


if __name__ == "__main__":
    run_command(main, (CheckpointError,))

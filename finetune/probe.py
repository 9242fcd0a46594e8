"""Probes what a frozen backbone, or classic features, know of instruments: the baselines that adapters have to beat.

    accelerate launch finetune/probe.py
    accelerate launch finetune/probe.py --init MIT/ast-finetuned-audioset-10-10-0.4593 --classifier attentive
    python finetune/probe.py --features mfcc --classifier svm --data packs/irmas
    python finetune/probe.py --features classic --classifier svm --ensemble runs/lora_20260101-120000

Reads a pack; renders the offline one where none is given and learns from its bands. What is learned from is computed
once and kept in --cache: a second probe starts at once. Of the classifiers' settings those are taken that do best on
the validation split; labels that nobody knows count nowhere. With --ensemble the heads of a fine-tuned backbone and the
probe are made into one answer, scored beside its parts. Writes a run folder: config.yaml, scores.json, metrics.jsonl,
predictions.safetensors (probabilities of the validation and test clips, with their rows), figures/. Classifiers are not
stored: from what is kept the same command makes the same again.

Clips and heads are those of finetune/adapters.py with the same flags, so that the scores of both compare.
"""

import json
import sys
import time
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from safetensors.torch import save_file

from backbones.builders import BUILDERS, untrained_backbone
from backbones.log_mel import RATE, frames_of
from checkpoints.config import as_yaml_values, parse_config, run_command
from checkpoints.errors import CheckpointError
from checkpoints.figures import save
from checkpoints.files import replacing
from checkpoints.lifecycle import open_run
from checkpoints.loop import describe_device, use_cores
from checkpoints.run import RunFolder
from checkpoints.weights import WINDOW_SECONDS, find_backbone, window_of
from data.block_cache import DEFAULT_GIB
from data.errors import DataError
from data.labels import LabelTable
from data.opening import OFFLINE_PACK, open_pack
from data.pack import Pack
from data.selection import selected_rows
from finetune import adapters
from finetune.choice import CLASSIFIERS, choose
from finetune.classifiers import MOST_SVM_CLIPS, Clips, standardised
from finetune.embeddings import FrozenBackbone, FrozenTokens, Source, kept
from finetune.ensemble import FUSIONS, learn_fusion
from finetune.evaluation import predict_clips
from finetune.features import FEATURES, ClassicFeatures, usable_cores
from finetune.figures import figures_of
from finetune.heads import HeadSpec
from finetune.model import FineTuned
from finetune.protocols import PROTOCOLS, protocol_scores
from finetune.scores import Predictions, describe, score, score_table
from finetune.setup import find_init, rows_of, sentences, sources_of, specs_of, table_of, tested_clips
from finetune.targets import targets_of
from finetune.thresholds import choose_thresholds

RECIPE = "finetune/probe.py"
ERRORS = (CheckpointError, DataError)
SPLITS = ("train", "validation", "test")


@dataclass
class Config:
    """Settings of a probe."""

    data: str = str(OFFLINE_PACK)
    """Folder of the pack, or a URL as s3://bucket/pack; the offline pack is rendered if packs/gm is not there."""
    sources: list[str] | None = None
    """Clips that take part, by how their ids begin, as [openmic] or [gm/*/band]; all by default, of the offline pack
    its bands and what is no instrument."""
    test_data: str | None = None
    """Pack whose clips are tested, all of them where it has no test split; the test split of --data by default."""
    protocol: Literal["none", "irmas", "openmic"] = "none"
    """Train and test as the published numbers of a data set were made, see finetune/protocols.py."""
    features: Literal[("backbone", *FEATURES)] = "backbone"
    """What is learned from: the embedding of a frozen backbone, or statistics over a clip of what librosa computes of
    every tenth of a second, see finetune/features.py; classic is all of these but log_mel."""
    backbone: Literal[tuple(BUILDERS)] = "ast"
    """Kind of backbone."""
    preset: Literal["tiny", "small", "base"] = "tiny"
    """Size of an untrained backbone."""
    init: str = "newest"
    """The backbone: a run folder, a backbone's folder, a name in checkpoints/pretrained/, a Hub id, 'untrained', or
    'newest' for the newest pretraining run in runs/ (where there is none, what ships for --backbone and --preset, else
    untrained)."""
    pooling: Literal["mean", "class_token", "mean_layers", "mean_max_layers"] = "mean"
    """Tokens to embedding; attentive probes pool by themselves."""
    clip_seconds: float | None = None
    """Length of the windows that a backbone hears of a clip, whose embeddings are averaged; what it was trained
    on by default, else 4."""
    classifier: Literal[tuple(CLASSIFIERS)] = "logistic"
    """Logistic regression, an SVM with a Gaussian kernel, boosted trees, nearest neighbours by cosine, or attention
    over the backbone's tokens."""
    heads: list[str] | None = None
    """Of instrument, family, genre, drums, pitch, is_instrument; all that the labels allow by default."""
    label_share: float = 1.0
    """Share of the training clips that is used, in (0, 1]; every class keeps a clip."""
    predominant_only: bool = False
    """Whether training clips tell their predominant instrument only, as those of IRMAS do."""
    assume_complete: list[str] = field(default_factory=list)
    """Heads, as [instrument], for which training takes what a labelled clip does not name as absent."""
    ensemble: Path | None = None
    """Run of finetune/adapters.py whose heads are made into one answer with the probe."""
    fusion: Literal[FUSIONS] = "mean"
    """Of an ensemble: a weighted mean of calibrated probabilities, or logistic regression on the logits of both."""
    cache: Path = Path("runs/features")
    """Folder that keeps features and embeddings."""
    cache_gib: float = DEFAULT_GIB
    """Room on this machine for what is fetched of packs at URLs, in GiB, below $LUTHIER_CACHE or ~/.cache/luthier."""
    processes: int | None = None
    """That compute classic features; one for each core by default, 0 computes them in this one."""
    seed: int = 0
    """Of untrained weights, the share of the labels, and of classifiers that draw."""
    out: Path | None = None
    """Run folder; runs/probe_FEATURES_CLASSIFIER_TIME by default."""
    cpu_threads: int | None = None
    """Threads of each process where it runs on a CPU; the cores shared out over the processes by default."""

    def __post_init__(self):
        if self.clip_seconds is not None and not self.clip_seconds > 0:
            raise ValueError(f"--clip_seconds must be positive, not {self.clip_seconds}")
        if self.processes is not None and self.processes < 0:
            raise ValueError(f"--processes must not be negative, {self.processes} is")
        if self.classifier == "attentive" and self.features != "backbone":
            raise ValueError(
                f"--classifier attentive needs tokens, --features {self.features} has none; choose another"
            )
        if self.pooling == "class_token" and self.backbone != "ast":
            raise ValueError(f"--pooling class_token needs a backbone that has one, ast, not {self.backbone}")
        self.fine_tuning()  # says what is wrong with the flags that both recipes have

    def fine_tuning(self) -> adapters.Config:
        """What finetune/adapters.py would take for the same clips and heads."""
        own = {one.name for one in fields(self)} - {"out", "clip_seconds", "pooling"}
        shared = own & {one.name for one in fields(adapters.Config)}
        return adapters.Config(**{name: getattr(self, name) for name in shared})


class Part(NamedTuple):
    """Clips of a split."""

    pack: Pack
    rows: np.ndarray


def main(config: Config) -> RunFolder:
    """Computes or finds the features, learns, scores and writes; returns the run folder."""
    accelerator = Accelerator()
    use_cores(accelerator, config.cpu_threads)
    set_seed(config.seed)
    asked = config.fine_tuning()
    pack = open_pack(config.data, accelerator, config.cache_gib)
    table = table_of(asked, pack)
    rows, parts = rows_of(asked, pack, table), parts_of(config, asked, pack)
    fine_tuned = FineTuned.load(config.ensemble, accelerator.device) if config.ensemble else None
    specs = specs_of(asked, table, rows, accelerator)
    if fine_tuned:
        known = [spec for spec in fine_tuned.specs if spec.name in {own.name for own in specs}]
        if not known:
            raise CheckpointError(
                f"{config.ensemble} and the probe should share a head, the former has "
                f"{', '.join(spec.name for spec in fine_tuned.specs)}, the latter "
                f"{', '.join(spec.name for spec in specs)}; give other --heads"
            )
        specs = known
    source = source_of(config, asked, parts, accelerator)
    name = f"probe_{config.features}_{config.classifier}_{time.strftime('%Y%m%d-%H%M%S')}"
    run = open_run(accelerator, RECIPE, as_yaml_values(config), config.out or Path("runs") / name, is_resumed=False)
    announce(config, asked, accelerator, run, parts, specs, source, len(rows))

    start = time.monotonic()
    features = {split: kept(source, *part, config.cache, accelerator) for split, part in parts.items()}
    accelerator.wait_for_everyone()
    accelerator.end_training()  # the processes part here: the main one goes on by itself
    if not accelerator.is_main_process:
        return run
    computed = time.monotonic()
    complete = frozenset(config.assume_complete)
    features["train"] = features["train"][np.searchsorted(parts["train"].rows, rows)]
    if config.classifier != "attentive":
        features = dict(zip(SPLITS, standardised(*(features[split] for split in SPLITS)), strict=True))
    labels = {
        "train": targets_of(table.take(rows), specs, complete),
        "validation": targets_of(LabelTable(pack).take(parts["validation"].rows), specs, complete),
        "test": targets_of(LabelTable(parts["test"].pack).take(parts["test"].rows), specs),
    }
    clips = {split: Clips(features[split], labels[split]) for split in SPLITS}
    probe = choose(
        config.classifier, clips["train"], clips["validation"], specs, config.seed, accelerator.device,
        note=lambda values: run.log({"seconds": time.monotonic() - computed, **values}),
    )  # fmt: skip
    seconds = {"features_seconds": computed - start, "seconds": time.monotonic() - computed}

    said = {"probe": [probe(clips[split]) for split in SPLITS[1:]]}
    if fine_tuned:
        said["fine_tuned"] = [
            predict_clips(fine_tuned, *parts["validation"], complete),
            predict_clips(fine_tuned, *parts["test"], frozenset()),
        ]
        fuse = learn_fusion(said["fine_tuned"][0], said["probe"][0], specs, config.fusion)
        said["ensemble"] = [fuse(*both) for both in zip(said["fine_tuned"], said["probe"], strict=True)]
    found = {name: scores_of(config, parts["test"], specs, *predictions) for name, predictions in said.items()}
    report(run, parts, specs, said, found, seconds | {"clips": len(rows), "size": features["train"].shape[-1]})
    return run


def parts_of(config: Config, asked: adapters.Config, pack: Pack) -> dict[str, Part]:
    """The clips of every split, those of the training split whatever share of their labels is used.

    Raises:
        DataError: a split is empty, or a pack is of another rate.
    """
    other = Pack.open(config.test_data, config.cache_gib) if config.test_data else None
    for one in (pack, other or pack):
        if one.info.rate != RATE:
            raise DataError(f"sound at {RATE} Hz was expected, {one.place} has {one.info.rate}; prepare it anew")
    parts = {split: Part(pack, selected_rows(pack, split, sources_of(asked))) for split in SPLITS[:2]}
    parts["test"] = Part(*tested_clips(asked, pack, other))
    for split, part in parts.items():
        if not len(part.rows):
            advice = "give --test_data another pack" if split == "test" else "prepare it with such a split"
            raise DataError(f"a probe needs {split} clips, {part.pack.place} has none of these --sources; {advice}")
    if config.classifier == "svm" and len(parts["train"].rows) * config.label_share > MOST_SVM_CLIPS:
        raise DataError(
            f"an SVM learns from {MOST_SVM_CLIPS:,} clips at most, for its memory grows with their square, and there "
            f"are {len(parts['train'].rows):,}; choose --classifier logistic or a smaller --label_share"
        )
    return parts


def source_of(config: Config, asked: adapters.Config, parts: dict[str, Part], accelerator: Accelerator) -> Source:
    """What is learned from."""
    if config.features != "backbone":
        return ClassicFeatures(config.features, usable_cores() if config.processes is None else config.processes)
    init, info = find_init(asked), parts["train"].pack.info
    if init is None:
        num_samples = round((config.clip_seconds or WINDOW_SECONDS) * RATE)
        backbone = untrained_backbone(
            config.backbone, config.preset, frames_of(num_samples), info.log_mel_mean, info.log_mel_std
        )
    else:
        backbone = find_backbone(init, config.backbone)
        num_samples = round(config.clip_seconds * RATE) if config.clip_seconds else window_of(init, backbone)
    backbone = backbone.to(accelerator.device)
    if config.classifier != "attentive":
        return FrozenBackbone(backbone, config.pooling, num_samples, accelerator.device)
    longest = max(int(part.pack.num_samples[part.rows].max()) for part in parts.values())
    return FrozenTokens(backbone, num_samples, accelerator.device, longest)


def announce(
    config: Config, asked: adapters.Config, accelerator: Accelerator, run: RunFolder, parts: dict[str, Part],
    specs: list[HeadSpec], source: Source, num_rows: int,
) -> None:  # fmt: skip
    """Says once what will be done."""
    told = ", ".join(f"{spec.name} ({len(spec.classes)})" for spec in specs)
    from_backbone = f"; init {find_init(asked) or 'untrained'}" if config.features == "backbone" else ""
    accelerator.print(
        f"pack     {config.data}: {num_rows} clips to learn from, {len(parts['validation'].rows)} to choose by\n"
        f"tested   {len(parts['test'].rows)} clips of {parts['test'].pack.folder}\n"
        f"features {source.name}{from_backbone}\n"
        f"heads    {told}\n"
        f"probe    {config.classifier}, the best of {len(CLASSIFIERS[config.classifier].settings)} settings"
        f"{f'; fused by {config.fusion} with {config.ensemble}' if config.ensemble else ''}\n"
        f"device   {describe_device(accelerator)}\n"
        f"run      {run.path}"
    )


def scores_of(
    config: Config, test: Part, specs: list[HeadSpec], validated: Predictions, tested: Predictions
) -> dict[str, dict[str, float]]:
    """Scores with thresholds from the validation clips.

    Raises:
        CheckpointError: none of the clips has a label that these heads know.
    """
    thresholds = choose_thresholds(validated, specs)
    with sentences():
        found = {"validation": score(validated, specs, thresholds), "test": score(tested, specs, thresholds)}
        if config.protocol != "none":
            protocol = PROTOCOLS[config.protocol]
            asked = protocol.ask(tested.probabilities, specs)
            target = protocol.targets(LabelTable(test.pack).take(test.rows))
            found["protocol"] = protocol_scores(protocol, asked, torch.arange(len(test.rows)), target)
    return found


def report(
    run: RunFolder, parts: dict[str, Part], specs: list[HeadSpec], said: dict[str, list[Predictions]],
    found: dict[str, dict[str, dict[str, float]]], summary: dict[str, Any],
) -> None:  # fmt: skip
    """Prints the table of what was asked for, and of an ensemble a line for each part; writes all that remains."""
    name = "ensemble" if "ensemble" in said else "probe"
    validated, tested = said[name]
    thresholds = choose_thresholds(validated, specs)
    print(f"\n{score_table(tested, specs, thresholds)}\n")
    for part, scores in found.items():
        print(f"{part:10} {describe(scores['test'])}")
    for key, value in found[name].get("protocol", {}).items():
        print(f"{key:24} {value:.3f}")
    for figure_name, figure in figures_of(tested, specs).items():
        save(figure, run.figures / f"{figure_name}.png")
    tensors = {}
    for split, predictions in zip(SPLITS[1:], said[name], strict=True):
        tensors[f"{split}.rows"] = torch.from_numpy(parts[split].rows)
        tensors |= {f"{split}.{head}": values.contiguous() for head, values in predictions.probabilities.items()}
    with replacing(run.path / "predictions.safetensors") as temporary:
        save_file(tensors, temporary, metadata={spec.name: json.dumps(spec.classes) for spec in specs})
    summary = found[name] | summary | ({"parts": found} if name == "ensemble" else {})
    with replacing(run.path / "scores.json") as temporary:
        temporary.write_text(json.dumps(summary, indent=2) + "\n")
    print(f"finished {run.path / 'scores.json'}")


if __name__ == "__main__":
    run_command(lambda: main(parse_config(Config, sys.argv[1:], __doc__)), ERRORS)

"""The rows of the results table: what each hears with, from what weights, and which runs that takes."""

import argparse
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from benchmarks import bands, contrastive
from benchmarks.ablation import AFTER_MAE, UNTRAINED
from benchmarks.bands_table import PRETRAINED
from pretrain import mae

Pretrained = Mapping[tuple[str, str], Sequence[contrastive.Plan]]
"""The runs of each backbone and start, one a seed."""


@dataclass(frozen=True)
class Entry:
    """A row."""

    label: str
    method: str
    """How it learns instruments, a key of `bands.METHODS`."""
    backbone: str = ""
    """Its kind; nothing of a classic feature."""
    start: str = ""
    """Its weights: ``untrained``, ``mae``, a key of `OBJECTIVES`, ``given`` by the flag of its kind, or nothing where
    the method trains all of it from scratch."""

    @property
    def is_classic(self) -> bool:
        """Whether no network takes part."""
        return not self.backbone

    @property
    def is_tuned(self) -> bool:
        """Whether learning instruments changes the embedding."""
        return self.method not in ("log_mel", "mfcc_svm", "linear_probe")

    def seeds(self, count: int) -> range:
        """Of its runs; nothing is drawn for a classic feature."""
        return range(1 if self.is_classic else count)


OBJECTIVES = {"mae_ntxent": "ntxent", "mae_supcon": "supcon", "mae_triplet": "triplet"}
"""Of each start that a contrastive run makes of a masked autoencoder, its key in `contrastive.FLAGS`."""
KINDS = {"ast": "AST", "wav2vec2": "Wav2Vec2", "cnn": "CNN"}
TUNED = {"probe": "linear_probe", "lora": "lora", "bottleneck": "bottleneck", "full": "full"}
WAYS = {"linear_probe": "linear probe", "lora": "LoRA", "bottleneck": "bottleneck", "full": "full fine-tuning"}
ENTRIES = {
    "log_mel": Entry("log-mel statistics", "log_mel"),
    "mfcc_svm": Entry("40 MFCCs, RBF SVM", "mfcc_svm"),
    "recurrent": Entry("LSTM with attention, from scratch", "recurrent", "recurrent"),
    "mobilenets": Entry("small CNNs, from scratch", "mobilenets", "mobilenets"),
    "untrained": Entry("AST untrained, linear probe", "linear_probe", "ast", "untrained"),
    "mae": Entry("AST, MAE, linear probe", "linear_probe", "ast", "mae"),
    "mae_ntxent": Entry("AST, MAE + NT-Xent, linear probe", "linear_probe", "ast", "mae_ntxent"),
    "mae_supcon": Entry("AST, MAE + supcon, linear probe", "linear_probe", "ast", "mae_supcon"),
    "mae_triplet": Entry("AST, MAE + triplet with margins, linear probe", "linear_probe", "ast", "mae_triplet"),
    **{
        f"{kind}_{way}": Entry(f"{name}{' as shipped' if kind == 'ast' else ''}, {WAYS[method]}", method, kind, "given")
        for kind, name in KINDS.items()
        for way, method in TUNED.items()
    },
}
"""By the name that ``--rows`` knows."""
SHIPPED_ROW = "ast_probe"
BASELINES = ("log_mel", "mfcc_svm", "recurrent", "mobilenets", "untrained")


def pretrainings(options: argparse.Namespace, entries: Sequence[Entry]) -> Pretrained:
    """The pretraining runs that some rows need.

    A kind whose weights nobody gives is trained by masked reconstruction and then supcon, Wav2Vec2 by supcon alone.

    Raises:
        CheckpointError: a flag that a recipe does not take.
    """
    found: dict[tuple[str, str], Sequence[contrastive.Plan]] = {}
    starts = {entry.start for entry in entries if entry.backbone == "ast"}
    asked = [objective for start, objective in OBJECTIVES.items() if start in starts]
    if asked or "mae" in starts:
        plans = contrastive.plans_of(_ablation(options, "ast", asked, "mae"))
        found["ast", "mae"] = plans["mae", UNTRAINED]
        found |= {("ast", start): plans[own, AFTER_MAE] for start, own in OBJECTIVES.items() if own in asked}
    for kind in ("wav2vec2", "cnn"):
        if getattr(options, kind) is None and any(entry.backbone == kind for entry in entries):
            start = "untrained" if kind == "wav2vec2" else "mae"
            plans = contrastive.plans_of(_ablation(options, kind, ["supcon"], start))
            found[kind, "given"] = plans["supcon", contrastive.STARTS[start]]
    return found


def _ablation(options: argparse.Namespace, kind: str, objectives: Sequence[str], start: str) -> argparse.Namespace:
    """What `contrastive.plans_of` is asked for one kind of backbone."""
    own = {"backbone": kind, "preset": options.preset}
    flags = {name: value for name, value in options.flags.items() if name != "patchout" or kind != "wav2vec2"}
    return argparse.Namespace(
        objectives=objectives, starts=[start], seeds=options.seeds, steps=options.steps, mae_steps=options.mae_steps,
        flags=flags | own, mae_flags=options.mae_flags | (own if start == "mae" else {}), data=options.data,
        probe_clips=options.probe_clips, test_clips=options.test_clips, runs=options.runs / "pretraining" / kind,
    )  # fmt: skip


def pretrain(found: Pretrained, parallel: int) -> None:
    """Trains what is missing, masked autoencoders first.

    Raises:
        CheckpointError: a run in the folder has other settings, or a recipe failed.
    """
    plans = {plan.run.path: plan for of_seeds in found.values() for plan in of_seeds}
    first = {plan.after.run.path: plan.after for plan in plans.values() if plan.after}
    first |= {path: plan for path, plan in plans.items() if plan.recipe == mae.RECIPE}
    with ThreadPoolExecutor(parallel) as workers:
        for part in (first, {path: plan for path, plan in plans.items() if path not in first}):
            list(workers.map(contrastive.Plan.train, part.values()))


def init_of(entry: Entry, seed: int, options: argparse.Namespace, found: Pretrained) -> str | None:
    """What ``--init`` a row's backbone has; None where there is none, or its pretraining has collapsed."""
    if entry.is_classic or entry.start in ("", "untrained"):
        return entry.start or None
    if (entry.backbone, entry.start) in found:
        plan = found[entry.backbone, entry.start][seed]
        return None if plan.has_collapsed else str(plan.run.path)
    return getattr(options, entry.backbone)


def pretraining_seconds(entry: Entry, seed: int, found: Pretrained) -> float:
    """Of training in the runs of this table; 0 of weights that were given."""
    plans = found.get((entry.backbone, entry.start))
    return plans[seed].seconds if plans else 0.0


def instrument_plans(
    options: argparse.Namespace, rows: Mapping[str, Entry], found: Pretrained, folder: Path, **asked
) -> dict[tuple[str, int], bands.Plan]:
    """The run that learns the instruments of a pack, for each row and seed; none where pretraining has collapsed.

    Args:
        folder: of the runs.
        asked: data, test_data, sources and labels, see `bands.Plan.of`.
    """
    plans = {}
    for name, entry in rows.items():
        for seed in entry.seeds(options.seeds):
            init = init_of(entry, seed, options, found)
            if init is None and entry.start:
                continue
            start = {"": "", "untrained": UNTRAINED}.get(entry.start, PRETRAINED)
            own = argparse.Namespace(
                **asked, init=[init], backbone=entry.backbone, preset=options.preset, flags=options.tune_flags,
                parallel=options.parallel, runs=folder / name,
            )  # fmt: skip
            plans[name, seed] = bands.Plan.of(own, entry.method, start, 1.0, seed)
    return plans

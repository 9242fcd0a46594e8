"""Instruments in bands of a SoundFont that nothing was trained on: adapters, probes, classic features, full training.

    python -m data.prepare gm --notes 0 --effects 0 --bands 2000 --out packs/bands
    python -m data.prepare gm --notes 0 --effects 0 --bands 2000 --seed 1 --fonts OTHER.sf2 --out packs/other_bands
    python -m benchmarks.bands --init runs/mae_small --preset small --data packs/bands --test_data packs/other_bands
    python -m benchmarks.bands --init runs/mae_0 runs/mae_1 runs/mae_2 --test_data packs/other_bands --flags steps=400

A training excerpt tells its predominant instrument only, and what it does not tell is taken as silent, as with IRMAS; a
test excerpt tells all that sounds. Every method learns from the same clips and is scored by the same measures: the
log-mel with a linear probe, MFCCs and all classic features with an SVM, two networks of their own from scratch, a
linear probe on the frozen backbone, then heads alone, LoRA, bottleneck adapters and full fine-tuning; whatever needs
the backbone also from an untrained one. The same again with a tenth and a hundredth of the labels (every instrument
keeps a clip), and everything for several seeds: of the network, the choice of labels and their order, and, if there are
several --init, of pretraining.

Runs take turns by seed and then by labels, so that a table can be made early. Each is a run folder in --runs; what is
finished is not run again, and what was interrupted goes on from its last state. Writes OUT.md, OUT.json and OUT.png.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from backbones.builders import BUILDERS, untrained_backbone
from benchmarks.bands_table import NAMES, PRETRAINED, SCORES, UNTRAINED, Row, as_values, figure_of, percent, report
from benchmarks.contrastive import flag
from checkpoints.config import as_yaml_values, parse_config, run_command
from checkpoints.errors import CheckpointError
from checkpoints.figures import save
from checkpoints.files import remove, replacing
from checkpoints.run import RunFolder
from checkpoints.weights import find_backbone
from data.errors import DataError
from data.opening import OFFLINE_PACK
from data.pack import Pack
from data.selection import selected_rows
from finetune import adapters, probe

FROM_SCRATCH = {"lr": "1e-3", "heads_first": "0"}
"""Of a whole network that begins with random weights; the rate of full fine-tuning is for pretrained ones."""
METHODS: dict[str, tuple[ModuleType, dict[str, str]]] = {
    "log_mel": (probe, {"features": "log_mel", "classifier": "logistic"}),
    "mfcc_svm": (probe, {"features": "mfcc", "classifier": "svm"}),
    "classic_svm": (probe, {"features": "classic", "classifier": "svm"}),
    "recurrent": (adapters, {"backbone": "recurrent", "init": "untrained", "method": "full"} | FROM_SCRATCH),
    "mobilenets": (
        adapters,
        {"backbone": "mobilenets", "sections": "3", "init": "untrained", "method": "full"} | FROM_SCRATCH,
    ),
    "linear_probe": (probe, {"features": "backbone", "classifier": "logistic"}),
    "head": (adapters, {"method": "head"}),
    "lora": (adapters, {"method": "lora"}),
    "bottleneck": (adapters, {"method": "bottleneck"}),
    "full": (adapters, {"method": "full"}),
}
"""The recipe of each row, and what it is told."""
WITHOUT_BACKBONE = ("log_mel", "mfcc_svm", "classic_svm", "recurrent", "mobilenets")
LABELS = {"heads": '["instrument"]', "assume_complete": '["instrument"]', "predominant_only": "true"}
"""What a training excerpt tells."""
SCORES_FILE = "scores.json"
_PROBING = threading.Lock()  # a probe keeps the features that it computes: the next one need not compute them too


@dataclass(frozen=True, eq=False)
class Plan:
    """A run that has to be there."""

    method: str
    start: str
    share: float
    seed: int
    run: RunFolder
    config: Any
    flags: dict[str, str]

    @classmethod
    def of(cls, options: argparse.Namespace, method: str, start: str, share: float, seed: int) -> "Plan":
        """The run of one method, start, share of the labels and seed.

        Raises:
            CheckpointError: a flag that the recipe does not take.
        """
        recipe, own = METHODS[method]
        threads = str(threads_of(options.parallel))
        flags = options.labels | {"cpu_threads": threads, "data": str(options.data)}
        flags |= {"test_data": str(options.test_data)} if options.test_data else {}
        flags |= {"sources": json.dumps(options.sources)} if options.sources else {}
        flags |= {"backbone": options.backbone, "preset": options.preset} if start else {}
        flags |= FROM_SCRATCH if method == "full" and start == UNTRAINED else {}
        flags |= options.flags | own if recipe is adapters else own | {"processes": threads}
        run = {"label_share": share, "seed": seed}
        if start:
            run["init"] = str(options.init[seed % len(options.init)]) if start == PRETRAINED else "untrained"
        config = replace(_parsed(recipe, tuple(flags.items())), **run)
        name = "_".join([method, *([start] if start else []), f"{100 * share:g}", str(seed)])
        flags |= {key: str(value) for key, value in run.items()}
        return cls(method, start, share, seed, RunFolder(options.runs / name), config, flags)

    def scores(self) -> dict[str, Any] | None:
        """What the run reached; None if it is not over.

        Raises:
            CheckpointError: the run in the folder has other settings, or its scores cannot be read.
        """
        file = self.run.path / SCORES_FILE
        if not file.is_file():
            return None
        self._compare_settings()
        try:
            found = json.loads(file.read_text())
            missing = SCORES.keys() - found["test"].keys()
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{file} is damaged; delete {self.run.path} and run the command again") from error
        if missing:
            raise CheckpointError(f"{file} has no {min(missing)} of a test; give --test_data clips with instruments")
        return found

    def finish(self) -> dict[str, Any]:
        """Runs it, or what is left of it, and returns its scores.

        Raises:
            CheckpointError: the run in the folder has other settings, or the recipe failed.
        """
        path = self.run.path
        if path.is_dir():
            self._compare_settings()
        is_resumed = self.run.state.is_dir()
        if not is_resumed:
            remove(path)  # what has no state yet can only begin again
        place = {"resume" if is_resumed else "out": str(path)}
        recipe = METHODS[self.method][0]
        command = [sys.executable, "-m", recipe.__name__]
        command += [f"--{name}={value}" for name, value in (self.flags | place).items()]
        with _PROBING if recipe is probe else nullcontext():
            done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        scores = self.scores()
        if scores is None:
            words = done.stderr.strip().splitlines() or [f"exit code {done.returncode} and no word"]
            said = next((line for line in reversed(words) if line.startswith("error: ")), words[-1])
            raise CheckpointError(f"{path} could not be finished: {said.removeprefix('error: ')}")
        remove(self.run.state)  # a state holds the optimizer, and nobody goes on from here
        return scores

    def describe(self) -> str:
        """In words."""
        return ", ".join(
            part
            for part in (NAMES[self.method], self.start, f"{percent(self.share)} of the labels", f"seed {self.seed}")
            if part
        )

    def _compare_settings(self) -> None:
        if not (self.run.path / "config.yaml").is_file():
            return  # killed before it could say what it is
        found, asked = self.run.config(), as_yaml_values(self.config)
        for name in asked.keys() & found.keys() - {"out", "resume", "cpu_threads", "processes"}:
            if found[name] != asked[name]:
                raise CheckpointError(
                    f"{self.run.path} was run with --{name} {found[name]}, this command asks for {asked[name]}; "
                    "choose another folder for --runs"
                )


@cache  # reading flags takes a tenth of a second, and most runs differ in what is set behind them
def _parsed(recipe: ModuleType, flags: tuple[tuple[str, str], ...]) -> Any:
    return parse_config(recipe.Config, [f"--{name}={value}" for name, value in flags], recipe.__doc__)


def threads_of(parallel: int) -> int:
    """Threads of each of some runs at a time."""
    return max(1, len(os.sched_getaffinity(0)) // parallel)


def plans_of(options: argparse.Namespace) -> list[Plan]:
    """All runs, in the order in which they are begun."""
    starts = {method: [""] if method in WITHOUT_BACKBONE else options.starts for method in options.methods}
    return [
        Plan.of(options, method, start, share, seed)
        for seed in range(options.seeds)
        for share in sorted(options.label_shares, reverse=True)
        for method, own in starts.items()
        for start in own
    ]


def run_all(plans: Sequence[Plan], parallel: int) -> Iterator[tuple[Plan, dict[str, Any] | CheckpointError]]:
    """Each run with its scores, or what kept it from them; those that are there already first.

    Whatever ends the iteration early lets the runs that have begun come to their end, and begins no more: Ctrl-C
    reaches them too, and they save a state.
    """
    found = [(plan, plan.scores()) for plan in plans]
    yield from ((plan, scores) for plan, scores in found if scores is not None)
    missing = [plan for plan, scores in found if scores is None]
    with ThreadPoolExecutor(parallel) as workers:
        running: dict[Future, Plan] = {workers.submit(plan.finish): plan for plan in missing}
        try:
            for future in as_completed(running):
                error = future.exception()
                if error is not None and not isinstance(error, CheckpointError):
                    raise error
                yield running[future], error or future.result()
        finally:
            workers.shutdown(cancel_futures=True)


def progress_line(
    plan: Plan, scores: dict[str, Any] | CheckpointError, number: int, total: int, seconds_left: float
) -> str:
    """What is said of a run that is over."""
    if isinstance(scores, CheckpointError):
        told = f"failed: {scores}"
    else:
        told = ", ".join(f"{name} {scores['test'][score]:.3f}" for score, name in SCORES.items())
    left = f"; about {seconds_left / 3600:.1f} h left" if seconds_left >= 360 else ""
    return f"[{number}/{total}] {plan.describe()}: {told}{left}"


def rows_of(plans: Sequence[Plan], scores: dict[Path, dict[str, Any]]) -> list[Row]:
    """The table's rows, by method and start in the order of `NAMES`; without what has no finished run."""
    rows: dict[tuple[str, str, float], Row] = {}
    for plan in sorted(plans, key=lambda plan: (list(NAMES).index(plan.method), plan.start != PRETRAINED, -plan.share)):
        if plan.run.path in scores:
            key = plan.method, plan.start, plan.share
            rows.setdefault(key, Row(*key, {})).runs[plan.seed] = scores[plan.run.path]
    return list(rows.values())


def check_preset(options: argparse.Namespace) -> None:
    """Looks whether the untrained backbone is as wide as the pretrained ones.

    Raises:
        CheckpointError: it is not, or one of those cannot be loaded.
    """
    untrained = untrained_backbone(options.backbone, options.preset, 128, 0.0, 1.0)
    for init in options.init:
        width = find_backbone(str(init), options.backbone).width
        if width != untrained.width:
            raise CheckpointError(
                f"{init} has a backbone of width {width}, one of --preset {options.preset} has {untrained.width}; give "
                "the preset that it was pretrained with"
            )


def check_packs(options: argparse.Namespace) -> str:
    """Notes in --runs which packs its runs are of, and says how many of their clips take part.

    Raises:
        CheckpointError: the runs that are there are of other packs.
        DataError: one of them is no pack, or has no such clips.
    """
    packs = {name: Pack.open(getattr(options, name)) for name in ("data", "test_data")}
    file, own = options.runs / "packs.json", {name: pack.fingerprint for name, pack in packs.items()}
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as temporary:
            temporary.write_text(json.dumps(own))
    elif (found := json.loads(file.read_text())) != own:
        name = next(name for name in own if found.get(name) != own[name])
        raise CheckpointError(
            f"the runs in {options.runs} were made with another --{name} than {getattr(options, name)}, or before it "
            "was prepared anew; choose another folder for --runs"
        )
    pack, other = packs.values()
    learned, chosen = (len(selected_rows(pack, split, options.sources)) for split in ("train", "validation"))
    of_split, of_all = (len(selected_rows(other, split, options.sources)) for split in ("test", None))
    return (
        f"Learned from {learned:,} clips of {options.data}, thresholds and settings chosen on {chosen:,} others of it; "
        f"tested on {of_split or of_all:,} clips of {options.test_data}."
    )


def write(options: argparse.Namespace, words: str, rows: list[Row]) -> None:
    """Prints the report and writes it, the rows as JSON and the figure."""
    command, text = f"python -m benchmarks.bands {shlex.join(sys.argv[1:])}", report(rows)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(options.out.with_suffix(".md")) as temporary:
        temporary.write_text(f"`{command}`\n\n{words}\n\n{text}\n")
    with replacing(options.out.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps({"command": command, "rows": as_values(rows)}, indent=1) + "\n")
    save(figure_of(rows), options.out.with_suffix(".png"))
    print(f"\n{text}\n")
    for ending in (".md", ".json", ".png"):
        print(options.out.with_suffix(ending))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    built = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    built.set_defaults(labels=LABELS)
    built.add_argument("--init", nargs="+", required=True, help="pretrained backbones, taken in turn by the seeds")
    built.add_argument("--backbone", choices=list(BUILDERS), default="ast", help="their kind (default: ast)")
    built.add_argument("--preset", default="tiny", help="their size, for untrained ones (default: tiny)")
    built.add_argument("--data", type=Path, default=OFFLINE_PACK, help=f"the pack (default: {OFFLINE_PACK})")
    built.add_argument("--test_data", type=Path, required=True, help="pack of another font, to be tested on")
    built.add_argument("--sources", nargs="+", default=["gm/*/band"], help="clips that take part (default: gm/*/band)")
    built.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    built.add_argument("--starts", nargs="+", choices=[PRETRAINED, UNTRAINED], default=[PRETRAINED, UNTRAINED])
    built.add_argument("--label_shares", nargs="+", type=float, default=[0.01, 0.1, 1.0], help="of the training clips")
    built.add_argument("--seeds", type=int, default=3, help="runs of each setting (default: 3)")
    built.add_argument("--flags", nargs="*", type=flag, default=[], help="NAME=VALUE for every run by gradient descent")
    built.add_argument("--runs", type=Path, default=Path("runs/bands"), help="folder of the runs")
    built.add_argument("--parallel", type=int, default=2, help="runs at a time (default: 2)")
    built.add_argument("--out", type=Path, default=Path("docs/bands"), help="name of the .md, the .json and the .png")
    return built


def finish_all(plans: Sequence[Plan], parallel: int) -> tuple[dict[Path, dict[str, Any]], list[CheckpointError], bool]:
    """Runs what is missing, with a line for each run that is over.

    Returns:
        The scores of each finished run's folder, what the others failed of, and whether it was stopped by Ctrl-C.
    """
    scores: dict[Path, dict[str, Any]] = {}
    failed: list[CheckpointError] = []
    begun, there_already = time.monotonic(), sum(plan.scores() is not None for plan in plans)
    try:
        with closing(run_all(plans, parallel)) as runs:
            for number, (plan, found) in enumerate(runs, 1):
                if isinstance(found, CheckpointError):
                    failed.append(found)
                else:
                    scores[plan.run.path] = found
                a_run = (time.monotonic() - begun) / max(1, number - there_already)
                print(progress_line(plan, found, number, len(plans), a_run * (len(plans) - number)), flush=True)
    except KeyboardInterrupt:
        return scores, failed, True
    return scores, failed, False


def main() -> None:
    """Runs what is missing and writes the report, also of what there is when it is stopped."""
    options = parser().parse_args()
    options.flags = dict(options.flags)
    plans = plans_of(options)
    check_preset(options)
    words = check_packs(options)
    print(f"{words}\n{len(plans)} runs in {options.runs}", flush=True)
    scores, failed, is_stopped = finish_all(plans, options.parallel)
    if scores:
        write(options, words, rows_of(plans, scores))
    if failed:
        raise CheckpointError(
            f"{len(failed)} of {len(plans)} runs failed, the first as {failed[0]}; the same command tries them again"
        )
    if is_stopped:
        print("stopped; the same command goes on", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    run_command(main, (CheckpointError, DataError))

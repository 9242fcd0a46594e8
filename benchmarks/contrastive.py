"""What each objective teaches, from untrained weights and after a masked autoencoder: one table over seeds.

    python -m data.prepare gm --fonts OTHER.sf2 --seed 1 --out packs/other
    python -m benchmarks.contrastive --probe_data packs/other --out docs/contrastive
    python -m benchmarks.contrastive --objectives triplet --flags lr=1e-3 --runs runs/contrastive_fast

Trains on the offline pack (rendered if it is not there): the masked autoencoder alone, and NT-Xent, hierarchical
supcon, and triplets with one margin and with margins from the tree, each from untrained weights and after the masked
autoencoder of the same seed. One thread a run, as many at a time as --parallel says; finished runs in --runs are not
run again. Scores what is left of each, beside log-mel statistics and untrained networks, on the validation split,
whose timbres were not trained on, and on the pack of another font less what sounds like the training font
(benchmarks/renderings.py). Its --seed should differ from that of --data, or its noises are those trained on.
Writes OUT.md and OUT.png.
"""

import argparse
import shlex
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from threadpoolctl import threadpool_limits

from backbones.builders import untrained_backbone
from backbones.log_mel import RATE, LogMel, frames_of, log_mel_statistics
from backbones.pooling import pool
from benchmarks.ablation import AFTER_MAE, UNTRAINED, Row, distance_table, figure_of, goals, score_table
from benchmarks.embeddings import embedding_of
from benchmarks.renderings import unshared
from checkpoints.config import as_yaml_values, parse_config, run_command
from checkpoints.errors import CheckpointError
from checkpoints.figures import save
from checkpoints.run import RunFolder
from data.errors import DataError
from data.opening import OFFLINE_PACK
from data.pack import INFO_NAME, Pack
from data.prepare import prepare_gm
from pretrain import contrastive, mae
from pretrain.embedding_scores import Embed, EmbeddingEvaluation, ScoredClips, collapse_of

FLAGS = {
    "ntxent": {"objective": "ntxent"},
    "supcon": {"objective": "supcon"},
    "triplet_one": {"objective": "triplet", "tree_margins": "false"},
    "triplet": {"objective": "triplet"},
}
"""Of each objective."""
STARTS = {"untrained": UNTRAINED, "mae": AFTER_MAE}
SEEN, UNSEEN = "unseen timbres", "unseen font"

Scores = dict[str, dict[str, float]]
"""Of each test, see `EmbeddingEvaluation.scores`."""


@dataclass(frozen=True)
class Plan:
    """A run that has to be there."""

    recipe: str
    run: RunFolder
    config: Any
    flags: dict[str, str]
    after: "Plan | None" = None
    """The run whose weights it starts from."""

    @classmethod
    def of(cls, module: Any, path: Path, flags: dict[str, str], after: "Plan | None" = None) -> "Plan":
        """The run of a recipe's module with some flags.

        Raises:
            CheckpointError: a flag that the recipe does not take.
        """
        config = parse_config(module.Config, [f"--{name}={value}" for name, value in flags.items()], module.__doc__)
        return cls(module.RECIPE, RunFolder(path), config, flags, after)

    @property
    def has_collapsed(self) -> bool:
        """Whether its last evaluation says so."""
        evaluations = self._evaluations()
        return bool(evaluations and collapse_of(evaluations[-1]))

    @property
    def is_over(self) -> bool:
        """Whether it has been evaluated after its last step, or has collapsed."""
        return any(line["step"] >= self.config.steps for line in self._evaluations()) or self.has_collapsed

    @property
    def clips(self) -> int:
        """Clips that its weights have seen."""
        return self.config.steps * self.config.batch_size + (self.after.clips if self.after else 0)

    @property
    def seconds(self) -> float:
        """Of training that its weights have seen."""
        own = [line["seconds"] for line in self.run.read_log() if "seconds" in line]
        return (own[-1] if own else 0.0) + (self.after.seconds if self.after else 0.0)

    def _evaluations(self) -> list[dict[str, Any]]:
        return [line for line in self.run.read_log() if "loss" not in line]

    def train(self) -> None:
        """Trains, or goes on with training, unless it is over.

        Raises:
            CheckpointError: the run in the folder has other settings, or the recipe failed.
        """
        if self.run.metrics.is_file():
            self._compare_settings()
        if self.is_over:
            return
        place = {"resume": self.run.path} if self.run.state.is_dir() else {"out": self.run.path}
        command = [sys.executable, self.recipe, *(f"--{name}={value}" for name, value in (self.flags | place).items())]
        print(shlex.join(command[1:]), flush=True)
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if done.returncode and not self.has_collapsed:
            reason = (done.stderr.strip().splitlines() or ["no word"])[-1].removeprefix("error: ")
            raise CheckpointError(f"{self.run.path} could not be finished: {reason}")

    def _compare_settings(self) -> None:
        found, asked = self.run.config(), as_yaml_values(self.config)
        for name in asked.keys() & found.keys() - {"out", "resume"}:
            if found[name] != asked[name]:
                raise CheckpointError(
                    f"{self.run.path} was run with --{name} {found[name]}, this command asks for {asked[name]}; "
                    "choose another folder for --runs"
                )


def plans_of(options: argparse.Namespace) -> dict[tuple[str, str], list[Plan]]:
    """The runs of each objective and start, a list over seeds; the masked autoencoders first."""
    always = {"data": str(options.data), "cpu_threads": "1", "eval_every": "0"}
    plans: dict[tuple[str, str], list[Plan]] = {("mae", UNTRAINED): []}
    for seed in range(options.seeds):
        # Its own probes are left out: what it learned is scored here.
        flags = always | {"steps": str(options.mae_steps), "probe_clips": "0"} | options.mae_flags
        plans["mae", UNTRAINED].append(
            Plan.of(mae, options.runs / f"mae_{seed}", flags | {"seed": str(seed)})
        )  # fmt: skip
    always |= {"probe_clips": str(options.probe_clips), "test_clips": str(options.test_clips)}
    for objective in options.objectives:
        for start in options.starts:
            for seed in range(options.seeds):
                after = plans["mae", UNTRAINED][seed] if start == "mae" else None
                flags = always | {"steps": str(options.steps)} | options.flags | FLAGS[objective]
                flags |= {"seed": str(seed), "init": str(after.run.path) if after else "untrained"}
                path = options.runs / f"{objective}_{start}_{seed}"
                plans.setdefault((objective, STARTS[start]), []).append(Plan.of(contrastive, path, flags, after))
    return plans


class Scorer:
    """Scores embeddings on every test there is."""

    def __init__(self, pack: Pack, options: argparse.Namespace, config: contrastive.Config):
        self.pack, self.config, self.device = pack, config, (accelerator := Accelerator()).device
        size, counts = round(config.clip_seconds * RATE), (options.probe_clips, options.test_clips)
        self.tests = {SEEN: EmbeddingEvaluation(accelerator, pack, None, size, *counts)}
        self.words = ""
        if options.probe_data:
            other = Pack.open(options.probe_data)
            rest = unshared(pack, other, options.fonts)
            self.tests[UNSEEN] = EmbeddingEvaluation(accelerator, pack, other, size, *counts)
            self.tests[UNSEEN].test = ScoredClips.choose(other, rest.rows, options.test_clips)
            self.words = f"{rest.describe()}."
        for name, test in self.tests.items():
            if not len(test.test.rows):
                raise DataError(f"clips of {name} were expected in {options.probe_data or options.data}, none found")

    def score(self, embed: Embed) -> Scores:
        """The scores of each test."""
        return {name: test.scores(embed)[0] for name, test in self.tests.items()}

    def of_plan(self, plan: Plan) -> Scores | None:
        """Trains what is missing and scores it; None if it has collapsed."""
        plan.train()
        return None if plan.has_collapsed else self.score(embedding_of(plan.run, self.device)[0])

    def fixed(self, seeds: int) -> dict[str, list[Embed]]:
        """What has learned nothing: log-mel statistics, and a network for each seed."""
        info, config = self.pack.info, self.config
        front_end = LogMel(info.log_mel_mean, info.log_mel_std).to(self.device)
        num_frames = frames_of(round(config.clip_seconds * RATE))

        def network(seed: int) -> Embed:
            torch.manual_seed(seed)
            drawn = untrained_backbone(
                config.backbone, config.preset, num_frames, info.log_mel_mean, info.log_mel_std
            )  # fmt: skip
            drawn = drawn.to(self.device).eval()
            return lambda waveform, num_samples: pool(drawn(waveform, num_samples), "mean")

        return {"log_mel": [partial(log_mel_statistics, front_end)], "untrained": [*map(network, range(seeds))]}

    def describe(self) -> str:
        """Who learns from what, in words."""
        ours = self.tests[SEEN].train
        tests = " and ".join(
            f"{len(test.test.rows)} clips of {len(set(test.test.group))} in {test.test.pack.folder} ({name})"
            for name, test in self.tests.items()
        )
        return (
            f"Probes learn from {len(ours.rows)} clips of {len(set(ours.group))} timbres or recordings in "
            f"{ours.pack.folder}; tested are {tests}. {self.words}"
        )


def rows_of(
    scorer: Scorer, plans: dict[tuple[str, str], list[Plan]], seeds: int, parallel: int
) -> dict[str, list[Row]]:
    """Trains and scores everything; the rows of each test."""
    everything = [plan for of_seeds in plans.values() for plan in of_seeds]
    found: dict[tuple[str, str], list[Scores | None]] = {}
    scores: dict[Path, Scores | None] = {}
    with ThreadPoolExecutor(parallel) as workers:
        for part in (
            [plan for plan in everything if not plan.after],
            [plan for plan in everything if plan.after],
        ):
            scores |= zip((plan.run.path for plan in part), workers.map(scorer.of_plan, part), strict=True)
        for name, embeds in scorer.fixed(seeds).items():
            found[name, ""] = list(workers.map(scorer.score, embeds))
    found |= {key: [scores[plan.run.path] for plan in of_seeds] for key, of_seeds in plans.items()}
    rows: dict[str, list[Row]] = {name: [] for name in scorer.tests}
    for (objective, start), results in found.items():
        planned = plans.get((objective, start), [])
        clips = planned[0].clips if planned else 0
        seconds = statistics.mean(plan.seconds for plan in planned) if planned else 0.0
        kept = [result for result in results if result is not None]
        for name, of_test in rows.items():
            of_test.append(
                Row(objective, start, [result[name] for result in kept], clips, seconds, len(results) - len(kept))
            )
    return rows


def report(tests: dict[str, list[Row]]) -> str:
    """Tables and goals of each test."""
    parts = []
    for name, rows in tests.items():
        parts += [f"## {name.capitalize()}", score_table(rows), distance_table(rows)]
        parts += ["\n".join(f"- {line}" for line in goals(rows))]
    return "\n\n".join(parts)


def flag(text: str) -> tuple[str, str]:
    """``NAME=VALUE`` as a pair."""
    name, sign, value = text.partition("=")
    if not (name and sign):
        raise argparse.ArgumentTypeError(f"a flag should be given as NAME=VALUE, not {text}")
    return name, value


def main() -> None:
    """Runs what is missing and writes the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objectives", nargs="+", choices=list(FLAGS), default=list(FLAGS))
    parser.add_argument("--starts", nargs="+", choices=list(STARTS), default=list(STARTS), help="weights to start from")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each setting (default: 3)")
    parser.add_argument("--steps", type=int, default=contrastive.DEFAULT_STEPS, help="of a contrastive run")
    parser.add_argument("--mae_steps", type=int, default=mae.DEFAULT_STEPS, help="of a masked autoencoder")
    parser.add_argument("--flags", nargs="*", type=flag, default=[], help="NAME=VALUE of every contrastive run")
    parser.add_argument("--mae_flags", nargs="*", type=flag, default=[], help="NAME=VALUE of every masked autoencoder")
    parser.add_argument("--data", type=Path, default=OFFLINE_PACK, help=f"the pack (default: {OFFLINE_PACK})")
    parser.add_argument("--probe_data", type=Path, help="pack of another font, to be tested on too")
    parser.add_argument("--fonts", type=Path, nargs="+", default=[], help="SoundFonts of --data (default: the shipped)")
    parser.add_argument("--probe_clips", type=int, default=1024, help="that probes learn from (default: 1024)")
    parser.add_argument("--test_clips", type=int, default=768, help="of each test (default: 768)")
    parser.add_argument("--runs", type=Path, default=Path("runs/contrastive"), help="folder of the runs")
    parser.add_argument("--parallel", type=int, default=2, help="runs at a time (default: 2)")
    parser.add_argument("--out", type=Path, default=Path("docs/contrastive"), help="name of the .md and the .png")
    options = parser.parse_args()
    options.flags, options.mae_flags = dict(options.flags), dict(options.mae_flags)
    torch.set_num_threads(1)
    threadpool_limits(1)
    plans = plans_of(options)
    pack = Pack.open(options.data) if (options.data / INFO_NAME).is_file() else prepare_gm(options.data)
    config = next(plan.config for of_seeds in plans.values() for plan in of_seeds if plan.recipe == contrastive.RECIPE)
    scorer = Scorer(pack, options, config)
    words = scorer.describe()
    print(words, flush=True)
    tests = rows_of(scorer, plans, options.seeds, options.parallel)
    text = report(tests)
    file = options.out.with_suffix(".md")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"`python -m benchmarks.contrastive {shlex.join(sys.argv[1:])}`\n\n{words}\n\n{text}\n")
    save(figure_of(tests), options.out.with_suffix(".png"))
    print(f"\n{text}\n\n{file}\n{options.out.with_suffix('.png')}")


if __name__ == "__main__":
    run_command(main, (CheckpointError, DataError))

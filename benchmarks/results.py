"""The results table: every feature, backbone, objective and way of learning labels, on sound that none was trained on.

    python -m data.prepare gm --fonts OTHER.sf2 --seed 1 --out packs/other
    python -m benchmarks.results --test_data packs/other
    python -m benchmarks.results --test_data packs/other --rows mfcc_svm mae_supcon ast_probe --seeds 1 --steps 100
    python -m benchmarks.results --test_data packs/other --nsynth ~/nsynth --openmic ~/openmic-2018 --irmas ~/IRMAS

Everything learns from --data (the offline pack, rendered if it is not there): pretraining, probes, and instruments from
its bands. Tested are timbres of --data that were held out, and --test_data, a pack of another font (its --seed should
differ, or its noises are those trained on), less what may be one recording with --data (benchmarks/renderings.py).
Families are told by kNN (k = 10, cosine) and logistic regression on frozen embeddings; instruments by what the row
names, as in benchmarks/bands.py; what fine-tuning does to the embedding stands in the columns of families. Weights that
are fine-tuned are those that ship for AST, and for Wav2Vec2 and the CNN are pretrained here, unless --ast, --wav2vec2
or --cnn give others. Folders of real data sets add a table each, by the protocols of the published numbers
(benchmarks/results_real.py), with these beside.

Runs and scores are kept in --runs: what is there is not made again, and what was interrupted goes on. Writes OUT.md,
OUT.json and OUT.png.
"""

import argparse
import json
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

from benchmarks import bands
from benchmarks.contrastive import flag
from benchmarks.results_real import COLUMNS, nsynth_scores, pack_of, protocol_scores
from benchmarks.results_rows import (
    ENTRIES,
    Entry,
    Pretrained,
    init_of,
    instrument_plans,
    pretrain,
    pretraining_seconds,
    pretrainings,
)
from benchmarks.results_scores import VERSION, Heard, Tests, ear_of, kept
from benchmarks.results_table import Row, as_values, figure_of, real_table, report
from checkpoints.config import run_command
from checkpoints.errors import CheckpointError
from checkpoints.figures import save
from checkpoints.files import replacing
from checkpoints.weights import find_backbone
from data.errors import DataError
from data.opening import OFFLINE_PACK
from data.pack import INFO_NAME, Pack
from data.prepare import prepare_gm
from pretrain import contrastive, mae

QUICK = {"seeds": 1, "steps": 4, "mae_steps": 4, "notes": 96, "probe_clips": 48, "test_clips": 48}
QUICK_FLAGS = {"batch_size": "16", "clip_seconds": "1.0"}
INTERRUPTED = 130


class Results:
    """What the table is made of, row by row."""

    def __init__(self, options: argparse.Namespace):
        self.options = options
        self.rows = {name: ENTRIES[name] for name in options.rows}
        self.found: Pretrained = pretrainings(options, list(self.rows.values()))
        self.pack = Pack.open(options.data) if (options.data / INFO_NAME).is_file() else prepare_gm(options.data)
        self.tests = Tests(options, self.pack, Pack.open(options.test_data), options.runs / "scores")
        self.plans = instrument_plans(
            options, self.rows, self.found, options.runs / "bands", data=options.data, test_data=options.test_data,
            sources=["gm/*/band"], labels=bands.LABELS,
        )  # fmt: skip
        self.reached: dict[Path, dict] = {}
        self.failed: list[CheckpointError] = []
        self.is_stopped = False

    def learn(self) -> None:
        """Runs what is missing: pretraining, then instruments of bands."""
        pretrain(self.found, self.options.parallel)
        self.plans = {key: plan for key, plan in self.plans.items() if not self._has_collapsed(*key)}
        self.reached, self.failed, self.is_stopped = bands.finish_all(list(self.plans.values()), self.options.parallel)

    def _has_collapsed(self, name: str, seed: int) -> bool:
        return bool(self.rows[name].start) and init_of(self.rows[name], seed, self.options, self.found) is None

    def ear(self, name: str, seed: int) -> Heard | None:
        """What a row hears with once it has learned; None where it did not come to its end."""
        entry, plan = self.rows[name], self.plans.get((name, seed))
        if plan is None or plan.run.path not in self.reached:
            return None
        init = str(plan.run.path) if entry.is_tuned else init_of(entry, seed, self.options, self.found)
        return ear_of(entry, init, seed, self.options.preset, self.pack, self.tests.device)

    def row(self, name: str, entry: Entry) -> Row:
        """Every score of a row."""
        found = []
        for seed in entry.seeds(self.options.seeds):
            ear = self.ear(name, seed)
            if ear is None:
                continue
            run = self.reached[self.plans[name, seed].run.path]
            scores = {key: run["test"][key] for key in ("instrument_map", "instrument_f1_macro")}
            scores |= self.tests.scores(f"{name}_{seed}", ear)
            scores |= {"parameters": ear.parameters} if ear.parameters else {}
            scores["seconds"] = run["seconds"] + pretraining_seconds(entry, seed, self.found)
            found.append(scores)
            print(f"{entry.label}, seed {seed}: {_in_words(scores)}", flush=True)
        return Row(name, entry.label, found)

    def real(self, name: str, source: Path) -> str:
        """The table of a real data set."""
        pack = pack_of(name, source, self.options.runs / "packs")
        if name == "nsynth":
            scores = {row: self._nsynth(row, pack) for row, entry in self.rows.items() if not entry.is_tuned}
        else:
            scores, failed, stopped = protocol_scores(self.options, name, pack, self.rows, self.found)
            self.failed += failed
            self.is_stopped |= stopped
        return real_table(name, [Row(row, self.rows[row].label, found) for row, found in scores.items()])

    def _nsynth(self, name: str, pack: Pack) -> list[dict[str, float]]:
        found = []
        for seed in self.rows[name].seeds(self.options.seeds):
            ear = self.ear(name, seed)
            if ear is not None:
                file = self.options.runs / "scores" / f"nsynth_{name}_{seed}.json"
                of = [VERSION, pack.fingerprint, ear.identity]
                found.append(kept(file, of, lambda ear=ear: nsynth_scores(pack, ear, self.tests.device)))
        return found


def _in_words(scores: Mapping[str, float]) -> str:
    return ", ".join(f"{key} {value:.3f}" for key, value in scores.items() if key not in ("parameters", "seconds"))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    built = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    built.add_argument("--test_data", type=Path, required=True, help="pack of another font, to be tested on")
    built.add_argument("--data", type=Path, default=OFFLINE_PACK, help=f"pack to learn from (default: {OFFLINE_PACK})")
    built.add_argument("--fonts", type=Path, nargs="+", default=[], help="SoundFonts of --data (default: the shipped)")
    built.add_argument("--rows", nargs="+", choices=list(ENTRIES), default=list(ENTRIES))
    built.add_argument("--seeds", type=int, default=3, help="runs of each row (default: 3)")
    built.add_argument("--steps", type=int, default=contrastive.DEFAULT_STEPS, help="of a contrastive run")
    built.add_argument("--mae_steps", type=int, default=mae.DEFAULT_STEPS, help="of a masked autoencoder")
    built.add_argument("--flags", nargs="*", type=flag, default=[], help="NAME=VALUE of every contrastive run")
    built.add_argument("--mae_flags", nargs="*", type=flag, default=[], help="NAME=VALUE of every masked autoencoder")
    built.add_argument("--tune_flags", nargs="*", type=flag, default=[], help="NAME=VALUE of every fine-tuning")
    built.add_argument("--preset", default="tiny", help="size of what is pretrained here (default: tiny)")
    built.add_argument("--ast", default="ast-tiny", help="weights of the rows ast_... (default: ast-tiny, as shipped)")
    built.add_argument("--wav2vec2", help="weights of its rows (default: supcon on --data)")
    built.add_argument("--cnn", help="weights of its rows (default: MAE and supcon on --data)")
    built.add_argument("--seconds", type=float, default=4.0, help="of each note (default: 4, all of it)")
    built.add_argument("--notes", type=int, default=5000, help="at most, of each test of families (default: 5000)")
    built.add_argument("--probe_clips", type=int, default=1024, help="that other probes learn from (default: 1024)")
    built.add_argument("--test_clips", type=int, default=768, help="that they are tested on (default: 768)")
    for name in COLUMNS:
        built.add_argument(f"--{name}", type=Path, help=f"folder of {name} as it was unpacked, for a table of its own")
    built.add_argument("--runs", type=Path, default=Path("runs/results"), help="folder of runs and scores")
    built.add_argument("--parallel", type=int, default=2, help="runs at a time (default: 2)")
    built.add_argument("--quick", action="store_true", help="few steps and clips, to see that it runs")
    built.add_argument("--out", type=Path, default=Path("docs/results"), help="name of the .md, the .json and the .png")
    return built


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line.

    Raises:
        CheckpointError: weights that are given cannot be found.
    """
    options = parser().parse_args(arguments)
    for name in ("flags", "mae_flags", "tune_flags"):
        setattr(options, name, dict(getattr(options, name)))
    if options.quick:
        vars(options).update(QUICK)
        options.flags |= QUICK_FLAGS
        options.mae_flags |= QUICK_FLAGS
        options.tune_flags |= QUICK_FLAGS | {"steps": "4"}
    for kind in {ENTRIES[row].backbone for row in options.rows if ENTRIES[row].start == "given"}:
        if getattr(options, kind) is not None:
            find_backbone(getattr(options, kind), kind)  # before anything runs
    return options


def main() -> None:
    """Runs what is missing and writes the tables, also of what there is when it is stopped."""
    options = parse()
    results = Results(options)
    print(results.tests.words, flush=True)
    results.learn()
    rows = [row for name, entry in results.rows.items() if (row := results.row(name, entry)).scores]
    parts = [f"`python -m benchmarks.results {shlex.join(sys.argv[1:])}`", results.tests.words]
    if rows:
        parts.append(report(rows))
    for name in COLUMNS:
        if getattr(options, name) and not results.is_stopped:
            parts += [f"## {name}", results.real(name, getattr(options, name))]
    if rows:
        write(options.out, "\n\n".join(parts), rows)
    if results.failed:
        raise CheckpointError(
            f"{len(results.failed)} runs failed, the first as {results.failed[0]}; the same command tries them again"
        )
    if results.is_stopped:
        print("stopped; the same command goes on", file=sys.stderr)
        sys.exit(INTERRUPTED)


def write(out: Path, text: str, rows: list[Row]) -> None:
    """Prints the report and writes it, the rows as JSON and the figure."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out.with_suffix(".md")) as temporary:
        temporary.write_text(f"{text}\n")
    with replacing(out.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps(as_values(rows), indent=1) + "\n")
    save(figure_of(rows), out.with_suffix(".png"))
    print(f"\n{text}\n")
    for ending in (".md", ".json", ".png"):
        print(out.with_suffix(ending))


if __name__ == "__main__":
    run_command(main, (CheckpointError, DataError))

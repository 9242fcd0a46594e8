"""What a short masked-autoencoder run learns, setting by setting: error on masked patches and probes of family.

    python -m benchmarks.learning --out docs/learning
    python -m data.prepare gm --fonts FONT.sf2 --out packs/other
    python -m benchmarks.learning --variants baseline --clips 100000 --probe_data packs/other --out docs/learning_long
    python -m benchmarks.learning --variants decoder_2x128 decoder_4x256 decoder_8x512 --clips 6400 --out docs/decoder

Trains every variant for the same number of clips on the offline pack (rendered if it is not there), one thread each,
as many at a time as there are cores; finished runs in --runs are not run again. Writes OUT.png and OUT.md: the curve
of each probe against clips seen, and a table with every way of pooling tokens, beside log-mel statistics and the
untrained network, which learn nothing.
"""

import argparse
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from backbones.ast_encoder import AstBackbone
from checkpoints.figures import MUTED, save
from checkpoints.run import RunFolder
from checkpoints.weights import load_backbone
from data.pack import Pack
from data.prepare import prepare_gm
from pretrain.mae import Config
from pretrain.probes import ProbeClips, backbone_embedding, probe

VARIANTS: dict[str, dict[str, str]] = {
    "baseline": {},
    "normalised_target": {"target": "normalised"},
    "normalised_target_batch_32": {"target": "normalised", "batch_size": "32"},
    "mask_0.6": {"mask_ratio": "0.6"},
    "mask_0.7": {"mask_ratio": "0.7"},
    "mask_0.9": {"mask_ratio": "0.9"},
    "inverse_block": {"mask": "inverse_block", "mask_block": "[3,3]"},
    "lr_3e-3": {"lr": "3e-3"},
    "lr_3e-4": {"lr": "3e-4"},
    "batch_32": {"batch_size": "32"},
    "batch_64": {"batch_size": "64"},
    "clip_1s": {"clip_seconds": "1.0"},
    "clip_4s": {"clip_seconds": "4.0"},
    "patch_8": {"patch_size": "8"},
    "clones_4": {"clones": "4", "batch_size": "4"},
    "ema": {"ema": "0.995"},
    "decoder_2x128": {"batch_size": "32", "decoder_depth": "2", "decoder_width": "128", "decoder_heads": "4"},
    "decoder_4x256": {"batch_size": "32", "decoder_depth": "4", "decoder_width": "256", "decoder_heads": "8"},
    "decoder_8x512": {"batch_size": "32", "decoder_depth": "8", "decoder_width": "512", "decoder_heads": "16"},
}
"""Each differs from the recipe's defaults in what it names."""
PROBE_CLIPS = 1024


def main() -> None:
    """Runs what is missing and writes the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--data", type=Path, default=Path("packs/gm"), help="the pack (default: packs/gm)")
    parser.add_argument(
        "--probe_data",
        type=Path,
        help="pack of another font that probes are tested on (default: validation of --data)",
    )
    parser.add_argument("--clips", type=int, default=32_000, help="clips each run sees (default: 32000)")
    parser.add_argument("--points", type=int, default=4, help="evaluations on the curve (default: 4)")
    parser.add_argument("--runs", type=Path, default=Path("runs/learning"), help="folder of the runs")
    parser.add_argument("--parallel", type=int, default=2, help="runs at a time (default: 2)")
    parser.add_argument("--out", type=Path, default=Path("docs/learning"), help="name of the .png and the .md")
    parser.add_argument(
        "--layers", action="store_true", help="probe mean and maximum over all layers too: a minute a run"
    )
    options = parser.parse_args()
    pack = Pack.open(options.data) if (options.data / "pack.json").is_file() else prepare_gm(options.data)
    with ThreadPoolExecutor(options.parallel) as pool:
        runs = list(pool.map(lambda name: train(name, options), options.variants))
    torch.set_num_threads(options.parallel)
    write_report(dict(zip(options.variants, runs, strict=True)), pack, options)


def train(name: str, options: argparse.Namespace) -> RunFolder:
    """Trains a variant unless it is there already."""
    run = RunFolder(options.runs / f"{name}_{options.clips}")
    flags = {"batch_size": str(Config().batch_size)} | VARIANTS[name]
    steps = options.clips // int(flags["batch_size"])
    if any(line["step"] >= steps and "masked_error" in line for line in run.read_log()):
        return run
    flags |= {
        "data": str(options.data), "steps": str(steps), "eval_every": str(-(-steps // options.points)),
        "probe_clips": str(PROBE_CLIPS), "cpu_threads": "1",
    }  # fmt: skip
    flags |= {"probe_data": str(options.probe_data)} if options.probe_data else {}
    flags |= {"resume": str(run.path)} if run.state.is_dir() else {"out": str(run.path)}
    command = [sys.executable, "pretrain/mae.py", *(f"--{flag}={value}" for flag, value in flags.items())]
    print(" ".join(command[1:]), flush=True)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return run


def write_report(runs: dict[str, RunFolder], pack: Pack, options: argparse.Namespace) -> None:
    """Probes every final backbone and writes figure and table."""
    clips = ProbeClips.choose(pack, PROBE_CLIPS, Pack.open(options.probe_data) if options.probe_data else None)

    def layers(backbone: AstBackbone) -> str:
        if not options.layers:
            return " | "
        embed = backbone_embedding(backbone.eval(), torch.device("cpu"), "mean_max_layers")
        return cells(probe(embed, clips, backbone.num_samples))

    lines = []
    for name, run in runs.items():
        last = [line for line in run.read_log() if "masked_error" in line][-1]
        seconds = [line["seconds"] for line in run.read_log() if "seconds" in line][-1]
        lines.append(
            f"| {name} | {describe(VARIANTS[name])} | {last['masked_error']:.3f} | {last['mean_error']:.3f} | "
            f"{last['nearest_error']:.3f} | {cells(last)} | {layers(load_backbone(run.backbone))} | {seconds:.0f} |"
        )
        print(lines[-1], flush=True)
    torch.manual_seed(0)
    untrained = AstBackbone.untrained("tiny", 198, pack.info.log_mel_mean, pack.info.log_mel_std)
    command = (
        f"python -m benchmarks.learning --clips {options.clips} --variants {' '.join(runs)} --out {options.out}"
        + (" --layers" if options.layers else "")
        + (f" --probe_data {options.probe_data}" if options.probe_data else "")
    )
    text = [
        f"`{command}`\n",
        f"Preset tiny, {options.clips} clips seen. Probes of family, balanced accuracy: {clips.describe()}. Errors are",
        "mean squared errors on masked patches of unseen timbres, in units of the target; they compare with the simple",
        "predictors beside them, and between rows only where target, mask and patches are the same. Seconds",
        "are one thread's wall time, beside whatever else ran.\n",
        "| variant | differs in | error | mean of visible | nearest visible | kNN mean | linear mean | kNN layers | "
        "linear layers | train s (1 thread) |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        *lines,
        f"| untrained | | | | | {cells(last, 'untrained_')} | {layers(untrained)} | |",
        f"| log-mel statistics | | | | | {cells(last, 'log_mel_')} | | | |",
    ]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.with_suffix(".md").write_text("\n".join(text) + "\n")
    save(curve_figure(runs), options.out.with_suffix(".png"))
    print(f"{options.out.with_suffix('.md')}\n{options.out.with_suffix('.png')}")


def cells(scores: dict[str, float], prefix: str = "") -> str:
    """kNN and linear probe, as two cells of a table."""
    return " | ".join(f"{scores[prefix + kind]:.3f}" for kind in ("knn", "linear"))


def describe(flags: dict[str, str]) -> str:
    """The flags that make a variant."""
    return " ".join(f"`--{name} {value}`" for name, value in flags.items())


def curve_figure(runs: dict[str, RunFolder]) -> Figure:
    """Both probes against clips seen, a line a variant, over what does not learn."""
    figure = Figure(figsize=(12, 4.6), layout="constrained")
    colours = ["#1f5fa8", "#c2571a", "#3b8c4f", "#8b4aa0", "#b03a5b", "#6b6b28", "#2b8a96"]
    for axis, kind in zip(figure.subplots(1, 2, sharex=True), ("knn", "linear"), strict=True):
        ends = []
        for index, (name, run) in enumerate(runs.items()):
            log = [line for line in run.read_log() if kind in line]
            seen = [0, *(line["clips"] for line in log)]
            values = [log[0][f"untrained_{kind}"], *(line[kind] for line in log)]
            style = "-" if index < len(colours) else "--"
            axis.plot(seen, values, style, color=colours[index % len(colours)], marker="o", ms=3, lw=1.2, label=name)
            ends.append(log[0][f"log_mel_{kind}"])
        axis.axhline(np.median(ends), color=MUTED, ls=":", lw=1.5, label="log-mel statistics, 2 s")
        axis.set_title(f"{kind} probe of family, unseen timbres (0 clips: untrained)", fontsize=10)
        axis.set_xlabel("clips seen", fontsize=9)
        axis.set_ylabel("balanced accuracy", fontsize=9)
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)
    axis.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


if __name__ == "__main__":
    main()

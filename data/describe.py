"""Says what a pack holds, and what is wrong with it.

    python -m data.describe packs/gm
    python -m data.describe packs/gm --verify --json

Prints clips and hours by split and source, labels by level, how far drawn splits are from the shares asked for,
durations, loudness, leaks between splits and problems, and writes a figure.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data.clip import SPLITS
from data.command import run
from data.decode import RATE
from data.errors import DataError
from data.figure import draw
from data.leaks import find_leaks
from data.manifest import LABEL_SETS
from data.pack import REJECTED_NAME, Pack
from data.prepare import leak_lines, summary
from data.rejected import count_reasons, read_rejected
from data.splits import given_splits, known_labels

LEVELS = ("is_instrument", "family", "instrument", "timbre", "genre", "drums", "production", "qualities")
QUANTILES = {"min": 0.0, "5 %": 0.05, "median": 0.5, "95 %": 0.95, "max": 1.0}
CLIPPED_SAMPLES = 4
"""A clip counts as clipped from so many samples at full scale; one is just its peak."""
QUIET_DBFS = -60.0
NAMES_SHOWN = 12
FARTHEST_SHOWN = 5
YES_NO = {"true": "yes", "false": "no"}


def describe(pack: Pack) -> dict[str, Any]:
    """Everything that the command says, as JSON has it."""
    manifest, rejected = pack.manifest, read_rejected(pack.folder)
    return {
        "folder": pack.place,
        "clips": pack.info.num_clips,
        "hours": pack.info.hours,
        "splits": pack.info.splits,
        "sources": pack.info.sources,
        "labels": {level: _labels(manifest, level) for level in LEVELS},
        "duration_s": _quantiles(manifest["num_samples"].to_numpy() / RATE),
        "rms_dbfs": _quantiles(manifest["rms_dbfs"].to_numpy()),
        "peak_dbfs": _quantiles(manifest["peak_dbfs"].to_numpy()),
        "drawn_splits": drawn_splits(pack),
        "log_mel": {"mean": pack.info.log_mel_mean, "std": pack.info.log_mel_std},
        "rejected": {kind: dict(reasons.most_common()) for kind, reasons in count_reasons(rejected).items()},
        "leaks": [asdict(leak) for leak in find_leaks(manifest, rejected)],
        "problems": problems(pack),
    }


def _labels(manifest: pa.Table, level: str) -> dict[str, Any]:
    """Clips of each label and split, and the share of clips of which the level is unknown."""
    if level in LABEL_SETS:
        present = manifest[f"{level}_present"].combine_chunks()
        rows, names = pc.list_parent_indices(present), pc.list_flatten(present)
        complete = manifest[f"{level}_complete"].to_numpy()
        unknown = (pc.fill_null(pc.list_value_length(present), 0).to_numpy(zero_copy_only=False) == 0) & ~complete
        splits = manifest["split"].combine_chunks().take(rows)
    else:
        names, splits = pc.cast(manifest[level], pa.string()), manifest["split"]
        unknown = names.is_null().to_numpy()
    table = pa.table({"name": names, "split": splits}).filter(pc.is_valid(pc.field("name")))
    counts: dict[str, dict[str, int]] = {}
    for row in table.group_by(["name", "split"]).aggregate([([], "count_all")]).to_pylist():
        counts.setdefault(row["name"], dict.fromkeys(SPLITS, 0))[row["split"]] = row["count_all"]
    return {
        "unknown_share": round(float(unknown.mean()), 6),
        "clips": dict(sorted(counts.items(), key=lambda item: (-sum(item[1].values()), item[0]))),
    }


def _quantiles(values: np.ndarray) -> dict[str, float]:
    return {name: round(float(np.quantile(values, share)), 3) for name, share in QUANTILES.items()}


def drawn_splits(pack: Pack) -> dict[str, Any] | None:
    """The shares of the clips whose split was drawn, all of them and by label, and how far they are from those asked.

    ``off`` is the largest difference over the splits. None if the sources gave every split.
    """
    manifest = pack.manifest.filter(pc.field("is_split_drawn"))
    if not manifest.num_rows:
        return None
    clips, labels, names = known_labels(manifest)
    counts = np.zeros((len(names), len(SPLITS)), np.int64)
    np.add.at(counts, (labels, given_splits(manifest)[clips]), 1)
    asked = np.array([pack.info.split_shares[split] for split in SPLITS])
    shares = counts / counts.sum(axis=1, keepdims=True)
    found: dict[str, dict[str, Any]] = {}
    for (level, name), number, of_label in zip(names, counts.sum(axis=1).tolist(), shares, strict=True):
        found.setdefault(level, {})[name] = {
            "clips": number,
            **{split: round(share, 6) for split, share in zip(SPLITS, of_label.tolist(), strict=True)},
            "off": round(float(np.abs(of_label - asked).max()), 6),
        }
    everything = found.pop("clips")["all"]
    return {"asked": pack.info.split_shares, "all": everything, "labels": found}


def problems(pack: Pack) -> list[str]:
    """One sentence for everything in a pack that may spoil training or its measurement."""
    manifest, found = pack.manifest, []
    found += [f"the {split} split is empty" for split in SPLITS[:2] if not pack.info.splits[split]["clips"]]
    found += _duplicates(manifest)
    clipped = manifest.filter(pc.field("num_clipped") >= CLIPPED_SAMPLES)
    if clipped.num_rows:
        share = clipped.num_rows / manifest.num_rows
        found.append(f"clipped clips: {clipped.num_rows:,}, {share:.1%} ({_listed(clipped['id'].to_pylist())})")
    quiet = manifest.filter(pc.field("rms_dbfs") < QUIET_DBFS)
    if quiet.num_rows:
        names = _listed(quiet["id"].to_pylist())
        found.append(f"clips below {QUIET_DBFS:g} dBFS RMS: {quiet.num_rows:,} ({names})")
    low = manifest.filter(pc.field("source_rate") < RATE)
    if low.num_rows:
        rates = ", ".join(f"{rate} Hz" for rate in sorted(pc.unique(low["source_rate"]).to_pylist()))
        found.append(f"clips of lower rates, empty above half of them: {low.num_rows:,} ({rates})")
    for level in ("family", "instrument", "genre"):
        counts = _labels(manifest, level)["clips"]
        unseen = [name for name, clips in counts.items() if clips["train"] and not clips["validation"]]
        if unseen:
            found.append(f"{level} labels that occur in train and not in validation: {len(unseen)} ({_listed(unseen)})")
    if pack.info.num_rejected:
        found.append(f"rejected recordings or clips: {pack.info.num_rejected:,} (see {REJECTED_NAME})")
    return found


def _duplicates(manifest: pa.Table) -> list[str]:
    spare = manifest.num_rows - pc.count_distinct(manifest["checksum"]).as_py()
    return [f"clips equal to another to the last sample: {spare:,}"] if spare else []


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3:,} more" if len(names) > 3 else "")


def as_text(report: dict[str, Any], pack: Pack) -> str:
    """The report for a person."""
    shown = {level: list(labels["clips"].items())[:NAMES_SHOWN] for level, labels in report["labels"].items()}
    width = max([24, *(len(name) + 4 for names in shown.values() for name, _ in names)])
    lines = [summary(pack), "", f"{'clips with each label':<{width}}" + "".join(f"{split:>12}" for split in SPLITS)]
    for level, labels in report["labels"].items():
        counts = labels["clips"]
        if not counts and labels["unknown_share"] == 1.0:
            lines.append(f"{level}: unknown for all clips")
            continue
        known = "known for all clips"
        if labels["unknown_share"]:
            known = f"unknown for {labels['unknown_share']:.1%} of the clips"
        lines.append(f"{level}: {len(counts)} label{'' if len(counts) == 1 else 's'}, {known}")
        for name, clips in shown[level]:
            name = YES_NO.get(name, name)
            lines.append(f"  {name:<{width - 2}}" + "".join(f"{clips[split]:>12,}" for split in SPLITS))
        if len(counts) > NAMES_SHOWN:
            lines.append(f"  and {len(counts) - NAMES_SHOWN:,} more")
    lines += ["", f"{'over the clips':<24}" + "".join(f"{name:>12}" for name in QUANTILES)]
    for name, unit in (("duration_s", "duration, s"), ("rms_dbfs", "RMS, dBFS"), ("peak_dbfs", "peak, dBFS")):
        lines.append(f"{unit:<24}" + "".join(f"{value:>12.2f}" for value in report[name].values()))
    if report["log_mel"]["mean"] is not None:
        lines.append(f"log-mel of the training split: mean {report['log_mel']['mean']:.4f}, "
                     f"standard deviation {report['log_mel']['std']:.4f}")  # fmt: skip
    lines += ["", *(_share_lines(report["drawn_splits"]) if report["drawn_splits"] else ["no split was drawn"])]
    lines += ["", *(leak_lines(pack) or ["leaks: none found"])]
    lines += ["", "problems:" if report["problems"] else "problems: none found"]
    lines += [f"  {problem}" for problem in report["problems"]]
    return "\n".join(lines)


def _share_lines(drawn: dict[str, Any]) -> list[str]:
    """The shares of drawn splits, and the labels that are farthest from them."""
    labels = [(label["off"], f"{level} {YES_NO.get(name, name)}", label)
              for level, of_level in drawn["labels"].items() for name, label in of_level.items()]  # fmt: skip
    labels.sort(key=lambda item: (-item[0], item[1]))
    width = max([24, *(len(name) + 4 for _, name, _ in labels[:FARTHEST_SHOWN])])
    rows = [("asked for", drawn["asked"]), (f"all {drawn['all']['clips']:,} drawn clips", drawn["all"])]
    rows += [(f"  {name}", label) for _, name, label in labels[:FARTHEST_SHOWN]]
    off = np.mean([off for off, _, _ in labels])
    lines = [f"{'shares of drawn splits':<{width}}" + "".join(f"{split:>12}" for split in SPLITS)]
    lines += [f"{name:<{width}}" + "".join(f"{shares[split]:>12.1%}" for split in SPLITS) for name, shares in rows]
    lines.insert(3, f"{len(labels)} labels are off by {off:.1%} on average, the farthest:")
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m data.describe",
        description=__doc__.partition("\n\n")[0],
        epilog="example:\n  python -m data.describe packs/gm --verify",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("pack", metavar="PACK", help="folder of a pack, or a URL as s3://bucket/pack")
    parser.add_argument("--out", type=Path, help="folder for the figure (default: the pack's; of a URL the cache's)")
    parser.add_argument("--verify", action="store_true", help="read everything and compare checksums")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    args = parser.parse_args(arguments)
    try:
        pack = Pack.open(os.path.expanduser(args.pack))
        if args.verify:
            pack.verify()
        report = describe(pack)
        figure = draw(pack, (args.out or pack.folder).expanduser() / "describe.png")
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    report |= {"verified": args.verify, "figure": str(figure)}
    if args.json:
        print(json.dumps(report, indent=2))
    else:
        print(as_text(report, pack))
        print("\nevery checksum is right" if args.verify else "\nchecksums were not compared, --verify does")
        print(f"figure: {figure}")
    return 0


if __name__ == "__main__":
    run(main)

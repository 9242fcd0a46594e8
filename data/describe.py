"""Says what a pack holds, and what is wrong with it.

    python -m data.describe packs/gm
    python -m data.describe packs/gm --verify --json

Prints clips and hours by split and source, labels by level, durations, loudness and problems, and writes a figure.
"""

import argparse
import json
import sys
from collections.abc import Sequence
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
from data.manifest import LABEL_SETS
from data.pack import Pack
from data.prepare import rejects_by_reason, summary

LEVELS = ("is_instrument", "family", "instrument", "timbre", "genre", "drums", "production", "qualities")
QUANTILES = {"min": 0.0, "5 %": 0.05, "median": 0.5, "95 %": 0.95, "max": 1.0}
CLIPPED_SAMPLES = 4
"""A clip counts as clipped from so many samples at full scale; one is just its peak."""
QUIET_DBFS = -60.0
NAMES_SHOWN = 12
YES_NO = {"true": "yes", "false": "no"}


def describe(pack: Pack) -> dict[str, Any]:
    """Everything that the command says, as JSON has it."""
    manifest = pack.manifest
    return {
        "folder": str(pack.folder),
        "clips": pack.info.num_clips,
        "hours": pack.info.hours,
        "splits": pack.info.splits,
        "sources": pack.info.sources,
        "labels": {level: _labels(manifest, level) for level in LEVELS},
        "duration_s": _quantiles(manifest["num_samples"].to_numpy() / RATE),
        "rms_dbfs": _quantiles(manifest["rms_dbfs"].to_numpy()),
        "peak_dbfs": _quantiles(manifest["peak_dbfs"].to_numpy()),
        "log_mel": {"mean": pack.info.log_mel_mean, "std": pack.info.log_mel_std},
        "rejected": dict(rejects_by_reason(pack).most_common()),
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


def problems(pack: Pack) -> list[str]:
    """One sentence for everything in a pack that may spoil training or its measurement."""
    manifest, found = pack.manifest, []
    found += [f"the {split} split is empty" for split in SPLITS[:2] if not pack.info.splits[split]["clips"]]
    found += _duplicates(manifest)
    for column in ("group", "timbre"):
        crossing = _crossing(manifest, column)
        if crossing:
            found.append(f"{column}s in more than one split: {len(crossing):,} ({_listed(crossing)})")
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
        found.append(f"rejected recordings or clips: {pack.info.num_rejected:,} (see rejected.csv)")
    return found


def _duplicates(manifest: pa.Table) -> list[str]:
    table = manifest.select(["checksum", "split"]).group_by("checksum")
    table = table.aggregate([([], "count_all"), ("split", "count_distinct")]).filter(pc.field("count_all") > 1)
    if not table.num_rows:
        return []
    spare = pc.sum(table["count_all"]).as_py() - table.num_rows
    across = table.filter(pc.field("split_count_distinct") > 1).num_rows
    where = f"{across:,} of the sounds in more than one split" if across else "none in another split"
    return [f"clips equal to another to the last sample: {spare:,}, {where}"]


def _crossing(manifest: pa.Table, column: str) -> list[str]:
    table = manifest.select([column, "split"]).filter(pc.is_valid(pc.field(column)))
    table = table.group_by(column).aggregate([("split", "count_distinct")])
    return sorted(table.filter(pc.field("split_count_distinct") > 1)[column].to_pylist())


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
    lines += ["", "problems:" if report["problems"] else "problems: none found"]
    lines += [f"  {problem}" for problem in report["problems"]]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m data.describe",
        description=__doc__.partition("\n\n")[0],
        epilog="example:\n  python -m data.describe packs/gm --verify",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("pack", type=Path, metavar="PACK", help="folder of a pack")
    parser.add_argument("--out", type=Path, help="folder for the figure (default: the pack's)")
    parser.add_argument("--verify", action="store_true", help="read everything and compare checksums")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    args = parser.parse_args(arguments)
    try:
        pack = Pack.open(args.pack.expanduser())
        if args.verify:
            pack.verify()
        report = describe(pack)
        figure = draw(pack, (args.out or args.pack).expanduser() / "describe.png")
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

"""Writes what the neighbours of an embedding say of it and of its pack: a page to read, hear and search.

    python -m audit.report runs/contrastive_20260101-120000/embeddings/gm/index-exact
    python -m audit.report INDEX --query recording.wav --query CLIP_ID --compare OTHER_INDEX --out audit

Reads an index (audit/index.py), its embeddings and their pack; no network, no model but for --query of a recording.
Writes a folder, report/ in that of the index by default::

    report.html        one file that holds everything, sound too; opens in any browser without a network
    report.json        the same findings, see `audit.findings`
    clips.parquet      one row a clip: its neighbours, how often it is one, what was found of it
    corrections.csv    labels that are probably wrong; fill in the column correction, then
                       python -m data.relabel PACK corrections.csv

What can be asked: what neighbours have in common (purity@k, mAP@R, confusion of families, v-measure), hubs and
outliers, the same sound twice, in two splits or in two groups, suspect labels, and what the embedding carries besides
instruments.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from audit.clip_table import clip_table, write_clip_table
from audit.corrections import write_corrections
from audit.errors import AuditError
from audit.examine import Settings, examine
from audit.findings import Findings, Score, as_json
from audit.index import Index
from audit.map import MOST_POINTS, map_of, rows_for_map
from audit.media import MEGABYTES, gather_media
from audit.page import render
from audit.places import occurrences
from audit.points import clips_named, points_of, rows_of
from audit.query import ask
from checkpoints.config import run_command
from checkpoints.errors import CheckpointError
from checkpoints.files import cannot_write, replacing
from data.errors import DataError

ERRORS = (AuditError, CheckpointError, DataError, ValueError)
FILES = ("report.html", "report.json", "clips.parquet", "corrections.csv")


def write_report(
    index: Index, out: Path, settings: Settings | None = None, queries: Sequence[str] = (),
    before: Index | None = None, most_points: int = MOST_POINTS, megabytes: float = MEGABYTES,
) -> Findings:  # fmt: skip
    """Audits an embedding and writes the report.

    Args:
        index: of the embeddings of a pack.
        out: folder that gets `FILES`; other files in it stay.
        queries: ids of clips, and paths of recordings, whose neighbours the page shows.
        before: index of another run over the same pack, to compare with.
        most_points: clips on the map.
        megabytes: 10^6 bytes of sound and pictures in the page.

    Raises:
        AuditError, CheckpointError, DataError, ValueError: bad input.
    """
    settings = settings or Settings()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(cannot_write(out, error)) from error
    embeddings, pack = index.embeddings, index.embeddings.pack
    answers = ask(index, queries) if queries else []
    findings, nearest = examine(index, settings, answers, before)
    _write(out / "report.json", json.dumps(as_json(findings), indent=1, allow_nan=False) + "\n")
    write_corrections(findings.suspects, out / "corrections.csv")
    write_clip_table(clip_table(pack, findings, nearest, occurrences(nearest)), out / "clips.parquet")

    rows = rows_for_map(len(pack), rows_of(pack, clips_named(findings)), settings.seed, most_points)
    place = map_of(embeddings, rows, settings.seed, cache=index.folder)
    points = points_of(pack, findings, rows, place, nearest)
    asked = zip(findings.queries, answers, strict=True)
    files = {query.name: answer.waveform for query, answer in asked if query.clip is None}
    media = gather_media(findings, points, pack, files, megabytes)
    _write(out / "report.html", render(findings, points, media))
    return findings


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command.

    Raises:
        AuditError, CheckpointError, DataError, ValueError: bad input.
    """
    args = _parser().parse_args(arguments)
    settings = Settings(**{field.name: getattr(args, field.name) for field in fields(Settings)})
    if args.map_points < 2:
        raise ValueError(f"--map_points should be 2 or more, {args.map_points} found")
    if not args.megabytes >= 0:
        raise ValueError(f"--megabytes should be 0 or more, {args.megabytes} found")
    index = Index.open(args.index)
    before = Index.open(args.compare) if args.compare else None
    out, start = args.out or args.index / "report", time.monotonic()
    findings = write_report(index, out, settings, args.query, before, args.map_points, args.megabytes)
    print(summary(findings))
    print(f"seconds  {time.monotonic() - start:.0f}")
    for name in FILES:
        print(f"wrote    {out / name}")


def summary(findings: Findings) -> str:
    """The findings in a few lines."""
    twins, lines = findings.duplicates, []
    for level in dict.fromkeys(score.level for score in findings.scores):
        own = ", ".join(_told(score) for score in findings.scores if score.level == level)
        lines.append(f"{level + ':':<12}{own}")
    lines += [
        f"{'hubs:':<12}skewness {findings.hubness:.2f}, {len(findings.hubs)} told; {len(findings.outliers)} outliers",
        f"{'copies:':<12}{twins.num_leaks:,} pairs across splits, {twins.num_touching:,} across groups of a split, "
        f"{twins.num_pairs:,} within a group",
        f"{'suspects:':<12}{len(findings.suspects):,} labels",
        *(
            f"{one.name + ':':<12}{one.measure} {one.value:.3f} (by chance {one.chance:.3f})"
            for one in findings.shortcuts
        ),
        *(f"{'note:':<12}{note}" for note in findings.notes),
    ]
    if findings.comparison is not None:
        lines.append(
            f"{'compared:':<12}{findings.comparison.overlap:.1%} of the neighbours as in {findings.comparison.run}"
        )
    return "\n".join(lines)


def _told(score: Score) -> str:
    return f"{score.measure} {score.value:.3f} [{score.low:.3f}, {score.high:.3f}]"


def _write(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m audit.report",
        usage="%(prog)s INDEX [flags, see --help]",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("index", type=_path, metavar="INDEX", help="folder of an index, as audit/index.py makes it")
    parser.add_argument("--out", type=_path, metavar="FOLDER", help="to write (default: report/ in the index)")
    parser.add_argument(
        "--query", action="append", default=[], metavar="FILE|CLIP_ID",
        help="show the neighbours of this recording or clip; may be given several times",
    )  # fmt: skip
    parser.add_argument(
        "--compare", type=_path, metavar="INDEX", help="of another run over the same pack, which came before"
    )
    for name, explanation in (
        ("k", "neighbours of every clip that are looked at"),
        ("suspects", "suspect labels of each level that are told, at most"),
        ("listed", "hubs, outliers, copies of a kind and changed clips that are told, at most"),
        ("seed", "of everything that is drawn"),
    ):
        default = getattr(Settings, name)
        parser.add_argument(
            f"--{name}", type=int, default=default, metavar="N", help=f"{explanation} (default: {default})"
        )
    parser.add_argument(
        "--map_points", type=int, default=MOST_POINTS, metavar="N", help=f"clips on the map (default: {MOST_POINTS})"
    )
    parser.add_argument(
        "--megabytes", type=float, default=MEGABYTES, metavar="X",
        help=f"of sound and pictures in the page: first what is told of, then the map (default: {MEGABYTES:g})",
    )  # fmt: skip
    return parser


def _path(text: str) -> Path:
    return Path(text).expanduser()


if __name__ == "__main__":
    run_command(main, ERRORS)

"""Turns recordings into a pack.

    python -m data.prepare gm
    python -m data.prepare nsynth=DIR folder=DIR --out packs/mine

Scans the sources, reads every clip, mixes it to mono, resamples it to 16 kHz and writes it as int16, in parallel.
A command that was interrupted or killed continues where it was when it is given again. Splits that a source leaves open
are drawn by group, stratified over the labels, and of clips that sound the same to the last sample one is kept. What is
not taken is named in ``rejected.csv`` in the pack, with the reason; what published splits leak is said at the end.
"""

import argparse
import dataclasses
import difflib
import math
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from data.clip import Clip, Reject
from data.command import run
from data.errors import DataError
from data.flags import add_flags, check_flags, values_of
from data.leaks import find_leaks
from data.pack import REJECTED_NAME, Pack
from data.plan import DUPLICATES
from data.rejected import BROKEN, DUPLICATE, LEFT_OUT, count_reasons, read_rejected
from data.sources import SOURCES
from data.splits import SHARES
from data.writer import MAX_REJECT_SHARE, MIN_SECONDS, write_pack

EXAMPLES = """\
examples:
  python -m data.prepare gm
      render the offline pack from a General MIDI SoundFont into packs/gm
  python -m data.prepare folder=~/recordings --labels labels.csv --out packs/mine
      your own wav, flac, ogg and mp3, with what the CSV says of them (columns: see data/sources/folder_labels.py)
  python -m data.prepare nsynth=~/nsynth openmic=~/openmic-2018 irmas=~/IRMAS esc50=~/ESC-50 --out packs/all
      several sources in one pack; give the same command again to continue after a kill
  python -m data.prepare folder=~/concerts musan=~/musan --clip_seconds 10 --hop_seconds 5 --out packs/long
      long recordings, cut into clips that overlap; a flag is for all the sources that have it
"""

_OPTIONS = {name: source.options for name, source in SOURCES.items()}
TITLES = {BROKEN: "rejected", DUPLICATE: "dropped as duplicates", LEFT_OUT: "left out on purpose"}


@dataclass(frozen=True)
class Request:
    """A source and what is asked of it."""

    name: str
    """A key of `data.sources.SOURCES`."""
    options: Any
    """Of the type that the source names."""


def prepare(requests: Sequence[Request], out: str | os.PathLike, **options: Any) -> Pack:
    """Writes the clips of some sources into a pack, or opens it if it is there already.

    Args:
        requests: the sources, in the order of their clips in the pack.
        out: the pack's folder.
        options: as for `data.writer.write_pack`.

    Raises:
        DataError: see `data.writer.write_pack` and the sources.
    """
    licences = {request.name: SOURCES[request.name].licence for request in requests}
    return write_pack(_clips(requests), out, licences=licences, **options)


def prepare_gm(out: str | os.PathLike = "packs/gm", options: Any = None, **others: Any) -> Pack:
    """Renders the offline pack with a progress bar, or opens it if it is there already.

    Args:
        out: the pack's folder.
        options: `data.sources.gm.GmOptions`; its defaults if None.
        others: as for `data.writer.write_pack`.

    Raises:
        DataError: see `prepare`.
    """
    request = Request("gm", SOURCES["gm"].options() if options is None else options)
    with ProgressBar() as bar:
        return prepare([request], out, progress=bar.show, **others)


def _clips(requests: Sequence[Request]) -> Iterator[Clip | Reject]:
    for request in requests:
        yield from SOURCES[request.name].clips(request.options)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    parser = _parser()
    args = parser.parse_args(arguments)
    try:
        requests = [_request(text, args) for text in args.sources]
        check_flags(args, [request.name for request in requests], _OPTIONS)
        out = _out(args, requests)
        began = time.monotonic()
        with ProgressBar() as bar:
            pack = prepare(
                requests,
                out,
                processes=args.processes,
                min_seconds=args.min_seconds,
                max_reject_share=args.max_reject_share,
                seed=args.seed,
                split_shares=args.split_shares,
                duplicates=args.duplicates,
                overwrite=args.overwrite,
                progress=bar.show,
            )
        lines = [summary(pack), *leak_lines(pack)]
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; give the same command again to continue", file=sys.stderr)
        return 130
    print(f"prepared in {time.monotonic() - began:.1f} s" if bar.was_shown else f"{out} is already whole")
    print("\n".join(lines))
    return 0


def summary(pack: Pack) -> str:
    """Clips and hours by split and source, what was not taken by reason, and where the pack lies."""
    info = pack.info
    lines = [f"{'':<12}{'clips':>10}{'hours':>10}"]
    for name, counts in {**info.splits, **info.sources}.items():
        lines.append(f"{name:<12}{counts['clips']:>10,}{counts['hours']:>10.2f}")
    lines.append(f"{'all':<12}{info.num_clips:>10,}{info.hours:>10.2f}")
    for kind, reasons in count_reasons(read_rejected(pack.folder)).items():
        lines.append(f"{TITLES[kind]} {reasons.total():,}, named in {pack.folder / REJECTED_NAME}:")
        lines += [f"{count:>10,}  {reason}" for reason, count in reasons.most_common()]
    lines.append(f"pack: {pack.folder}")
    return "\n".join(lines)


def leak_lines(pack: Pack) -> list[str]:
    """What the splits of a pack leak, under a title; nothing if nothing does."""
    leaks = find_leaks(pack.manifest, read_rejected(pack.folder))
    return ["leaks, in the splits as the sources give them:", *(f"  {leak}" for leak in leaks)] if leaks else []


class ProgressBar:
    """A progress bar that appears with the first clips; leaving the ``with`` block closes it."""

    def __init__(self):
        self._bar: tqdm | None = None

    def __enter__(self) -> "ProgressBar":
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    @property
    def was_shown(self) -> bool:
        """Whether there was anything to do."""
        return self._bar is not None

    def show(self, done: int, total: int) -> None:
        """A `data.writer.Progress`."""
        if self._bar is None:
            # What an earlier command has done must not enter the estimate of the time that is left.
            self._bar = tqdm(desc="prepare", unit=" clips", total=total, initial=done, dynamic_ncols=True)
        self._bar.update(done - self._bar.n)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m data.prepare",
        usage="%(prog)s SOURCE [SOURCE ...] --out DIR [more flags, see --help]",
        description=__doc__.partition("\n\n")[0],
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    named = ", ".join(f"{name}=DIR" if _needs_folder(name) else name for name in SOURCES)
    parser.add_argument("sources", nargs="+", metavar="SOURCE", help=f"one or more of: {named}")
    parser.add_argument("--out", type=Path, metavar="DIR", help="the pack's folder (default: packs/gm for gm alone)")
    parser.add_argument(
        "--processes", type=_positive, metavar="N", help="that read clips (default: all cores); changes no byte"
    )
    parser.add_argument(
        "--min_seconds",
        type=_not_negative,
        default=MIN_SECONDS,
        metavar="SECONDS",
        help="shorter clips are rejected (default: %(default)s)",
    )
    parser.add_argument(
        "--max_reject_share",
        type=_share,
        default=MAX_REJECT_SHARE,
        metavar="SHARE",
        help="fail if more than this share of the clips is rejected (default: %(default)s)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of drawn splits and statistics (default: %(default)s)"
    )
    parser.add_argument(
        "--split_shares",
        type=float,
        nargs=3,
        default=SHARES,
        metavar=("TRAIN", "VALIDATION", "TEST"),
        help="of the clips whose split a source leaves open, stratified by group (default: 0.8 0.1 0.1)",
    )
    parser.add_argument(
        "--duplicates",
        choices=DUPLICATES,
        default=DUPLICATES[0],
        help="drop all but one clip of the same sound, or keep those in one split (default: %(default)s)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace another pack in the folder")
    add_flags(parser, _OPTIONS)
    return parser


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"1 or more expected, {text!r} found")
    return int(text)


def _not_negative(text: str) -> float:
    number = _number(text)
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"0 or more expected, {text!r} found")
    return number


def _share(text: str) -> float:
    number = _number(text)
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"a share from 0 to 1 expected, {text!r} found")
    return number


def _number(text: str) -> float:
    """NaN, which is in no range, for what is no number."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def _needs_folder(name: str) -> bool:
    return any(field.name == "folder" for field in dataclasses.fields(SOURCES[name].options))


def _request(text: str, args: argparse.Namespace) -> Request:
    name, _, folder = text.partition("=")
    if name not in SOURCES:
        close = difflib.get_close_matches(name, SOURCES, n=1)
        hint = f", perhaps {close[0]}" if close else ""
        raise DataError(f"a source should be one of {', '.join(SOURCES)}, {name!r} found{hint}")
    if _needs_folder(name) != bool(folder):
        raise DataError(f"the source {name} is given as {name}{'=DIR' if _needs_folder(name) else ''}, {text!r} found")
    values = values_of(args, SOURCES[name].options)
    if folder:
        values["folder"] = Path(folder).expanduser()
    return Request(name, SOURCES[name].options(**values))


def _out(args: argparse.Namespace, requests: Sequence[Request]) -> Path:
    if args.out is not None:
        return args.out.expanduser()
    if [request.name for request in requests] == ["gm"]:
        return Path("packs/gm")
    raise DataError("--out should name the folder of the pack, not given; add for example --out packs/mine")


if __name__ == "__main__":
    run(main)

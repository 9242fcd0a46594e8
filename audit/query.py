"""Finds the clips that sound most like a clip or a recording.

    python -m audit.query INDEX gm/TimGM6mb/note/040-violin/060-100 -k 10
    python -m audit.query INDEX recording.wav --filter family=string --plot neighbours.png --play

Reads an index (audit/index.py), its embeddings and their pack. A clip of the pack is asked for by its id and is never
its own neighbour; any other name is that of a recording in any format, rate and number of channels that
`python -m data.prepare` reads, which is heard as a clip of it would be and embedded by the run that made the
embeddings. From Python: `ask`.

Shapes: S samples, E embedding size, k neighbours.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from audit.errors import AuditError
from audit.exact import nearest
from audit.filters import LEVELS, rows_matching
from audit.index import Index
from audit.sound import find_player, play
from audit.tables import Answer, Clips, as_json, as_table
from checkpoints.config import run_command
from checkpoints.errors import CheckpointError
from data.command import run as run_quietly
from data.decode import FULL_SCALE, RATE, AudioFile
from data.errors import DataError
from data.pack import Pack
from data.pcm import to_pcm
from data.readable import printable

MIN_SECONDS = 0.025
"""Of a recording: a frame of the log-mel."""
ROWS_AT_ONCE = 65_536
"""Of embeddings that are compared where only some clips may be found."""
EXAMPLES = f"""\
examples:
  python -m audit.query INDEX gm/TimGM6mb/note/040-violin/060-100
      the ten nearest others of a clip
  python -m audit.query INDEX *.wav -k 5 --filter family=string,brass --filter 'split!=test' --json
      of every file the five nearest clips of the training and validation splits that hold strings or brass
  python -m audit.query INDEX CLIP --exclude_group --plot neighbours.png --play
      those of other recordings, seen and heard

filters: LEVEL=VALUE or LEVEL!=VALUE, several values with commas between them, several filters all at once; levels are
{", ".join(LEVELS)}. What nobody said is neither.
With a filter or --exclude_group every clip that may be found is compared, whatever the kind of index.

exit code: 0, or 2 for a wrong flag, name, file or index.
"""
ERRORS = (AuditError, CheckpointError, DataError, ValueError)
INTERRUPTED = 130


@dataclass(frozen=True)
class _Asked:
    """Something to find neighbours of; fields as of `Answer`."""

    name: str
    row: int | None
    waveform: np.ndarray


def ask(
    index: Index, names: Sequence[str], k: int = 10, filters: Sequence[str] = (), exclude_group: bool = False
) -> list[Answer]:
    """Finds the nearest clips of clips and recordings.

    Args:
        index: of the embeddings of a pack.
        names: ids of clips of the pack, or paths of recordings; an id goes first.
        k: neighbours of each. An approximate index may find fewer.
        filters: what clips must be like to be found, see `audit.filters`.
        exclude_group: whether clips of a clip's own group are left out; of a recording no group is known.

    Raises:
        AuditError: no clip passes the filters, fewer than k may be found, or there is no embedding of what was asked
            for.
        CheckpointError: the run that is to embed recordings is gone or damaged.
        DataError: a name is neither of a clip nor of a file, or a recording cannot be heard, as silence.
        ValueError: k is not positive, or there is no such filter.
    """
    if k < 1:
        raise ValueError(f"-k, how many neighbours, should be 1 or more, {k} found")
    pack = index.embeddings.pack
    is_allowed = rows_matching(pack, filters) if filters else None
    group = pack.column("group") if exclude_group else None
    asked = _find(pack, names)
    answers = []
    for one, unit in zip(asked, _unit_embeddings(index, asked), strict=True):
        if is_allowed is None and (group is None or one.row is None):
            similarity, rows = _of_all(index, unit, one, k)
        else:
            may_be_found = np.ones(len(pack), bool) if is_allowed is None else is_allowed.copy()
            if one.row is not None:
                may_be_found[one.row] = False
                if group is not None:
                    may_be_found &= group != group[one.row]
            similarity, rows = _of_some(index, unit, one, k, np.flatnonzero(may_be_found))
        answers.append(Answer(one.name, one.row, one.waveform, similarity, rows))
    return answers


def _find(pack: Pack, names: Sequence[str]) -> list[_Asked]:
    """Clips by their ids, and recordings decoded."""
    clips, asked = Clips(pack), []
    for name in names:
        found = np.flatnonzero(clips.ids == name)
        if len(found):
            asked.append(_Asked(name, int(found[0]), clips.sound(found[0])))
        else:
            asked.append(_Asked(name, None, _decoded(name, pack, clips.id(0))))
    return asked


def _decoded(name: str, pack: Pack, example: str) -> np.ndarray:
    """A recording as it would be in a pack, float32 ``(S,)`` at 16 kHz."""
    path = Path(name).expanduser()
    if not os.path.exists(path):
        raise DataError(
            f"a clip of {pack.place} or a file was expected, {printable(Path(name))} is neither; clips are named like "
            f"{example}"
        )
    try:
        pcm = to_pcm(AudioFile.of(path), MIN_SECONDS)
    except DataError as error:
        raise DataError(f"{printable(path)} cannot be asked for: {error}") from error
    return pcm.samples.astype(np.float32) / FULL_SCALE


def _unit_embeddings(index: Index, asked: Sequence[_Asked]) -> list[np.ndarray]:
    """L2-normalised, float32 ``(E,)`` each; the model is loaded only if there are recordings."""
    embeddings = index.embeddings
    embedder = embeddings.embedder() if any(one.row is None for one in asked) else None
    found = []
    for one in tqdm(asked, desc="embedding", leave=False, disable=None if embedder else True):
        if one.row is None:
            vector = np.asarray(embedder(one.waveform), np.float32)
            if vector.shape != (embeddings.info.width,):
                raise AuditError(
                    f"embeddings of {embeddings.info.width} numbers were expected of {embeddings.run}, it gives "
                    f"{vector.size}; embed the pack again"
                )
            vector = vector / (np.linalg.norm(vector) or 1)
        else:
            vector = embeddings.unit(np.array([one.row]))[0]
        if not (np.isfinite(vector).all() and vector.any()):
            raise AuditError(
                f"the embedding of {printable(Path(one.name))} has no direction: it holds NaN or is all zeros; embed "
                "with a run that is sound"
            )
        found.append(vector)
    return found


def _of_all(index: Index, unit: np.ndarray, one: _Asked, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The nearest of all clips but itself, by the index."""
    is_clip = one.row is not None
    _check_k(k, len(index.embeddings.pack) - is_clip, one)
    similarity, rows = (found[0] for found in index.search(unit[None], k + is_clip))
    keep = (rows >= 0) & (rows != (one.row if is_clip else -1))
    return similarity[keep][:k], rows[keep][:k]


def _of_some(index: Index, unit: np.ndarray, one: _Asked, k: int, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The nearest of the clips `rows`, by looking at all of them."""
    _check_k(k, len(rows), one)
    best_similarity, best_rows = np.empty(0, np.float32), np.empty(0, np.int64)
    for begin in range(0, len(rows), ROWS_AT_ONCE):
        part = rows[begin : begin + ROWS_AT_ONCE]
        found, places = nearest(unit[None], [index.embeddings.unit(part)], min(k, len(part)))
        best_similarity = np.concatenate([best_similarity, found[0]])
        best_rows = np.concatenate([best_rows, part[places[0]]])
        order = np.argsort(-best_similarity, kind="stable")[:k]
        best_similarity, best_rows = best_similarity[order], best_rows[order]
    return best_similarity, best_rows


def _check_k(k: int, count: int, one: _Asked) -> None:
    if k > count:
        raise AuditError(
            f"{k} neighbours of {printable(Path(one.name))} were asked for, only {count} clips may be found; choose a "
            "smaller -k or other filters"
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code.

    Raises:
        AuditError, CheckpointError, DataError, ValueError: bad input.
    """
    args = _parser().parse_args(arguments)
    if args.plot is not None:
        _check_target(args.plot, args.names)
    if args.play:
        find_player()
    index = Index.open(args.index)
    answers = ask(index, args.names, args.k, args.filter, args.exclude_group)
    clips = Clips(index.embeddings.pack)
    if args.json:
        print(as_json(answers, clips, args.index, args.k, args.filter, args.exclude_group), end="")
    else:
        print("\n".join(as_table(answer, clips) for answer in answers), end="", flush=True)
    if args.plot is not None:
        # Only here, for it takes most of a second.
        from audit.gallery import gallery
        from checkpoints.figures import save

        save(gallery(answers, clips), args.plot)
        print(f"spectrograms: {args.plot}", file=sys.stderr)
    if args.play:
        try:
            for answer in answers:
                _play(answer, clips)
        except KeyboardInterrupt:
            return INTERRUPTED
    return 0


def _play(answer: Answer, clips: Clips) -> None:
    """Plays a query and then its neighbours, and says which."""
    print(f"playing  {printable(Path(answer.name))}", file=sys.stderr)
    play(answer.waveform, RATE)
    for rank, row in enumerate(answer.rows.tolist(), 1):
        print(f"playing  {rank} of {len(answer.rows)}: {printable(Path(clips.id(row)))}", file=sys.stderr)
        play(clips.sound(row), RATE)


def _check_target(target: Path, names: Sequence[str]) -> None:
    """Refuses a picture that cannot be written, or that would be written over a recording."""
    if os.path.realpath(target) in {os.path.realpath(os.path.expanduser(name)) for name in names}:
        raise DataError(f"{target} is one of the recordings and would be overwritten; choose another --plot")
    if target.is_dir():
        raise DataError(f"a file was expected at {target}, a folder found; choose another --plot")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m audit.query",
        usage="%(prog)s INDEX FILE|CLIP_ID [FILE|CLIP_ID ...] [flags, see --help]",
        description=__doc__.partition("\n\n")[0],
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("index", type=_path, metavar="INDEX", help="folder of an index, as audit/index.py makes it")
    parser.add_argument("names", nargs="+", metavar="FILE|CLIP_ID", help="recordings, and clips of the pack")
    parser.add_argument("-k", type=int, default=10, metavar="K", help="neighbours of each (default: %(default)s)")
    parser.add_argument(
        "--filter", action="append", default=[], metavar="LEVEL=VALUE",
        help="find only clips that are so; may be given several times",
    )  # fmt: skip
    parser.add_argument(
        "--exclude_group", "--exclude-group", action="store_true",
        help="leave out clips of the own group: of the same recording, player or NSynth instrument",
    )  # fmt: skip
    parser.add_argument("--plot", type=_path, metavar="FILE", help="draw spectrograms there, a query a row, as PNG")
    parser.add_argument("--play", action="store_true", help="play them, through ffplay, aplay, paplay or afplay")
    parser.add_argument("--json", action="store_true", help="write JSON instead of a table")
    return parser


def _path(text: str) -> Path:
    return Path(text).expanduser()


if __name__ == "__main__":
    run_command(lambda: run_quietly(main), ERRORS)

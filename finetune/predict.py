"""Says which instruments a run hears in recordings, and when.

    python -m finetune.predict runs/lora_20260101-120000 song.mp3
    python -m finetune.predict runs/lora_20260101-120000 ~/album --out album.json --plot figures

Recordings of any length, rate and number of channels, in any format that libsndfile reads, and whole folders of wav,
flac, ogg and mp3. A recording is heard in overlapping chunks of the length that the run was trained on, many at once on
the device; it is decoded as it goes, so a concert needs no more memory than a song.

From Python:

    from finetune.predict import predict
    predict("runs/lora_20260101-120000", "song.mp3").present["instrument"]
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from checkpoints.config import run_command
from checkpoints.errors import CheckpointError
from checkpoints.figures import save
from data.command import run as run_quietly
from data.decode import FORMATS_OF_SUFFIX, RATE, seconds_of
from data.errors import DataError
from data.files import write_atomically
from data.readable import printable
from finetune.hearing import Settings, hear
from finetune.model import FineTuned
from finetune.outputs import FORMATS, About
from finetune.prediction import POOLINGS, Prediction
from finetune.recordings import Failure, Found, find_recordings
from finetune.streaming import Spectrogram, blocks_of, chunks_of
from finetune.timeline import timeline

EXAMPLES = """\
examples:
  python -m finetune.predict RUN song.mp3
      a table of what is heard, and when
  python -m finetune.predict RUN ~/album concert.flac --out heard.json --plot figures
      everything as JSON, and a picture of each recording
  python -m finetune.predict RUN ~/album --format csv --heads instrument --pooling attention --top 5

exit code: 0 if all recordings were heard; 1 if some were, and the others are named with the reason; 2 if none was, or
for a wrong flag or run.

Silence is heard as nothing: every probability is 0 there, and it takes no part in pooling. A recording shorter than a
chunk is heard as it is, from a fortieth of a second on. What goes beyond full scale is scaled to fit, chunk by chunk.
"""
ERRORS = (CheckpointError, DataError, ValueError)
ALL_HEARD, SOME_HEARD, INTERRUPTED = 0, 1, 130


def predict(
    run: FineTuned | str | os.PathLike,
    path: str | os.PathLike,
    device: torch.device | str | None = None,
    with_spectrogram: bool = False,
    progress: Callable[[float], None] = lambda share: None,
    **settings: Any,
) -> Prediction:
    """Hears one recording.

    Args:
        run: the folder of a fine-tuning run, or what `FineTuned.load` made of it, for many recordings.
        path: of the recording.
        device: where a run is loaded to; the fastest there is by default.
        with_spectrogram: whether to keep the log-mel too, for `finetune.timeline.timeline`.
        progress: called now and then with the share of the recording that was heard.
        settings: see `finetune.hearing.Settings`.

    Raises:
        CheckpointError: no such run, or its weights answer with NaN.
        DataError: the recording cannot be opened or decoded, holds NaN, or is shorter than 25 ms.
        ValueError: a setting that does not fit.
    """
    chosen = Settings(**settings)
    model = run if isinstance(run, torch.nn.Module) else FineTuned.load(Path(run), device_of(device))
    size, hop = chosen.sizes(model)
    path = Path(path)
    seconds = seconds_of(path)
    blocks = blocks_of(path, seconds)
    picture = Spectrogram(seconds) if with_spectrogram else None
    if picture is not None:
        blocks = picture.listen(blocks)
    heard = hear(model, chunks_of(blocks, size, hop), chosen, lambda end_s: progress(min(1.0, end_s / seconds)))
    return Prediction(path, *heard, chosen.pooling, None if picture is None else picture.image())


def device_of(name: torch.device | str | None) -> torch.device:
    """A device by its name; without one CUDA, Apple's GPU or the CPU, the first that is there.

    Raises:
        ValueError: no such device.
    """
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # of a device that torch was built without: an assertion
        raise ValueError(f"--device should name one that is there, as cpu or cuda:0, {str(name)!r} found") from error
    return device


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code.

    Raises:
        CheckpointError, DataError, ValueError: bad input, or nothing could be heard.
    """
    args = _parser().parse_args(arguments)
    settings = {field.name: getattr(args, field.name) for field in fields(Settings)}
    chosen = Settings(**settings)
    found = find_recordings(args.paths)
    pictures = {}
    if args.plot is not None:
        pictures = {path: args.plot / f"{printable(name)}.png" for path, name in found.recordings.items()}
    _check_targets([*pictures.values(), *([] if args.out is None else [args.out])], found.recordings)
    failures = list(found.failures)
    if not found.recordings:
        raise DataError(_none_heard(failures))
    model = FineTuned.load(args.run, device_of(args.device))
    chosen.specs(model)
    size, hop = chosen.sizes(model)
    output = FORMATS[_format(args)](About(str(args.run), size / RATE, hop / RATE, args.top))
    is_alone = len(found.recordings) + len(failures) == 1
    try:
        with _Bar(found.recordings) as bar, _writing(args.out) as write:
            for failure in failures:
                _complain(failure)
            for path in found.recordings:
                try:
                    prediction = predict(model, path, None, bool(pictures), bar.within(path), **settings)
                except DataError as error:
                    failures.append(Failure(path, _with_advice(str(error))))
                    if not is_alone:
                        _complain(failures[-1])
                else:
                    write(output.add(prediction))
                    if pictures:
                        save(timeline(prediction, args.top), pictures[path])
                bar.finish(path)
            if len(failures) == len(found.recordings) + len(found.failures):
                raise DataError(_none_heard(failures))
            write(output.end(failures))
    except KeyboardInterrupt:
        print("interrupted" + (f"; {args.out} was not written" if args.out else ""), file=sys.stderr)
        return INTERRUPTED
    if not is_alone:
        print(_summary(found, failures), file=sys.stderr)
    return SOME_HEARD if failures else ALL_HEARD


class _Bar:
    """A progress bar over the bytes of all recordings, for to ask for their lengths would take a while."""

    def __init__(self, paths: Sequence[Path]):
        self._bytes = {path: os.path.getsize(path) if path.is_file() else 0 for path in paths}
        self._bar = tqdm(
            total=max(1, sum(self._bytes.values())), leave=False, disable=None, dynamic_ncols=True,
            bar_format="{desc}: {percentage:3.0f}%|{bar}| [{elapsed}<{remaining}]",
        )  # fmt: skip
        self._done = self._count = 0
        self._tell()

    def __enter__(self) -> "_Bar":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def within(self, path: Path) -> Callable[[float], None]:
        """What to call with the share of a recording that is done."""
        return lambda share: self._move_to(self._done + share * self._bytes[path])

    def finish(self, path: Path) -> None:
        """A recording is done, heard or not."""
        self._done, self._count = self._done + self._bytes[path], self._count + 1
        self._move_to(self._done)
        self._tell()

    def _move_to(self, done: float) -> None:
        self._bar.update(done - self._bar.n)

    def _tell(self) -> None:
        self._bar.set_description_str(f"{self._count}/{len(self._bytes)} recordings")


@contextmanager
def _writing(out: Path | None) -> Iterator[Callable[[str], Any]]:
    """What to write text with: into a file that is there whole or not at all, or around the progress bar."""
    if out is None:
        yield lambda text: tqdm.write(text, end="")
        return
    with write_atomically(out) as file:
        yield lambda text: file.write(text.encode())


def _check_targets(targets: Iterable[Path], recordings: Iterable[Path]) -> None:
    """Refuses files that cannot be written, or that would be written over a recording."""
    given = {os.path.realpath(path) for path in recordings}
    for target in targets:
        if os.path.realpath(target) in given:
            raise DataError(
                f"{target} is one of the recordings and would be overwritten; choose another --out or --plot"
            )
        if target.is_dir():
            raise DataError(f"a file was expected at {target}, a folder found; choose another --out")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"a folder was expected at {target.parent} ({error.strerror}); choose another") from error


def _format(args: argparse.Namespace) -> str:
    if args.format is not None:
        return args.format
    suffix = "" if args.out is None else args.out.suffix.lower()
    return next((name for name, output in FORMATS.items() if suffix in output.suffixes), "table")


def _with_advice(reason: str) -> str:
    if reason.startswith("cannot be decoded"):
        known = ", ".join(FORMATS_OF_SUFFIX)
        return f"{reason}; {known} are read, take the sound out of anything else first (ffmpeg -i FILE sound.wav)"
    return reason


def _complain(failure: Failure) -> None:
    tqdm.write(f"left out {printable(failure.path)}: {failure.reason}", file=sys.stderr)


def _none_heard(failures: Sequence[Failure]) -> str:
    path, reason = failures[0]
    first = f"{printable(path)}: {reason}"
    return first if len(failures) == 1 else f"none of {len(failures)} recordings could be heard; the first is {first}"


def _summary(found: Found, failures: Sequence[Failure]) -> str:
    num = len(found.recordings) + len(found.failures)
    text = f"{num - len(failures)} of {num} recordings heard"
    if failures:
        text += f"; {len(failures)} could not be, they are named above with the reasons"
    if found.num_repeated:
        text += f"; {found.num_repeated} were given again under the same or another name, and are left out"
    return text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m finetune.predict",
        usage="%(prog)s RUN PATH [PATH ...] [flags, see --help]",
        description=__doc__.partition("\n\n")[0],
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("run", type=_path, metavar="RUN", help="folder of a run of finetune/adapters.py")
    parser.add_argument(
        "paths",
        type=_path,
        nargs="+",
        metavar="PATH",
        help="recordings, and folders of them (with all that is in them)",
    )
    parser.add_argument(
        "--out", type=_path, metavar="FILE", help="where to write what is heard (default: the terminal)"
    )
    parser.add_argument(
        "--format", choices=FORMATS, help="of it (default: as --out ends, .json or .csv, else a table to read)"
    )
    parser.add_argument("--plot", type=_path, metavar="FOLDER", help="draw each recording there, time by class, as PNG")
    parser.add_argument(
        "--heads", type=_names, metavar="NAME,NAME", help="heads that are asked, as instrument,family (default: all)"
    )
    parser.add_argument(
        "--top",
        type=_positive,
        metavar="K",
        help="name the K likeliest classes of a head (default: those heard; in CSV all)",
    )
    parser.add_argument(
        "--threshold", type=float, metavar="X", help="from which probability on a class is heard (default: the run's)"
    )
    parser.add_argument(
        "--pooling", choices=POOLINGS, default=Settings.pooling,
        help="how the chunks of a recording become one answer (default: %(default)s; finetune/prediction.py explains)",
    )  # fmt: skip
    parser.add_argument(
        "--chunk_seconds", type=float, metavar="SECONDS", help="heard at once (default: as the run was trained)"
    )
    parser.add_argument(
        "--hop_seconds", type=float, metavar="SECONDS", help="from chunk to chunk (default: half a chunk)"
    )
    parser.add_argument(
        "--batch_size", type=_positive, default=Settings.batch_size, metavar="N",
        help="chunks at once (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--device", metavar="NAME", help="as cpu or cuda:0 (default: a GPU if there is one)")
    return parser


def _path(text: str) -> Path:
    return Path(text).expanduser()


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(","))


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"1 or more expected, {text!r} found")
    return int(text)


if __name__ == "__main__":
    run_command(lambda: run_quietly(main), ERRORS)

"""Lets a person see and hear what `data.augment` does to a clip.

Draws the log-mel of a clip as it is, after each transform alone, and after all of them as `Augmentation.standard()`
draws them, and writes what is drawn as WAV files. ``docs/augment.png`` is that of the clip
``gm/TimGM6mb/band/classical/00000`` of the offline pack with ``--key 16409``.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import soundfile
import torch

from data.augment import Augmentation
from data.command import run
from data.decode import FULL_SCALE, RATE
from data.errors import DataError
from data.files import write_atomically
from data.pack import Pack
from data.statistics import log_mel

SECONDS = 3.0
"""Heard of a clip, from its start."""
COLUMNS = 4
"""Of the figure."""
STRIDE = 3
"""Of every so many frames the figure shows one."""


def audition(clip: np.ndarray, background: np.ndarray | None, key: int) -> dict[str, tuple[str, np.ndarray]]:
    """The clip, the clip after each transform, and after all of them.

    Args:
        clip, background: float32 ``(S,)``; without a background, that transform is left out.

    Returns:
        By name: what was drawn, and the sound, float32 ``(S,)``.
    """
    keys, standard = torch.tensor([key]), Augmentation.standard()
    sound = {"clip": torch.from_numpy(clip)[None]}
    sound["background"] = None if background is None else torch.from_numpy(background)[None]
    heard = {"as it is": ("", clip)}
    for name in Augmentation.transforms():
        if name != "background" or background is not None:
            alone = replace(Augmentation(), **{f"{name}_probability": 1.0})
            draws = alone.draw(keys)
            drawn = [
                f"{field.name.removeprefix(name)[1:]} {_rounded(draws[field.name].item())}"
                for field in fields(alone)
                if field.name.startswith(f"{name}_") and isinstance(field.default, tuple)
            ]
            heard[name] = (", ".join(drawn), alone(sound["clip"], keys, background=sound["background"])[0].numpy())
    chosen = [name for name in Augmentation.transforms() if standard.draw(keys).is_chosen(f"{name}_probability")]
    view = standard(sound["clip"], keys, background=sound["background"])[0].numpy()
    return heard | {"standard": (", ".join(chosen), view)}


def draw(heard: dict[str, tuple[str, np.ndarray]], title: str, path: Path) -> None:
    """Writes the figure as PNG."""
    # Only here, for it takes most of a second.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    heard = {name: view for name, view in heard.items() if name != "polarity"}  # a log-mel does not show it
    rows = -(-len(heard) // COLUMNS)
    figure = Figure(figsize=(3.2 * COLUMNS, 1.8 * rows + 0.4), layout="constrained", dpi=75)
    FigureCanvasAgg(figure)
    low, high = np.percentile(log_mel(heard["as it is"][1]), (2, 99.8))
    axes = figure.subplots(rows, COLUMNS, sharex=True, sharey=True).flatten()
    for cell, (name, (drawn, sound)) in zip(axes, heard.items(), strict=False):
        extent = (0, len(sound) / RATE, 0, 128)
        cell.imshow(
            log_mel(sound, STRIDE).T, origin="lower", aspect="auto", cmap="magma", vmin=low, vmax=high, extent=extent,
            interpolation="nearest",
        )  # fmt: skip
        cell.set_title(name.replace("_", " "), fontsize=11, loc="left")
        cell.set_title("\n".join(_lines(drawn)), fontsize=7, loc="right", color="#666666")
        cell.tick_params(labelsize=7)
    for cell in axes[len(heard) :]:
        cell.set_axis_off()
    for cell in axes[: len(heard)][-COLUMNS:]:
        cell.set_xlabel("seconds", fontsize=8)
    for cell in axes[::COLUMNS]:
        cell.set_ylabel("mel bin", fontsize=8)
    figure.suptitle(title, fontsize=11)
    with write_atomically(path) as file:
        figure.savefig(file, format="png", metadata={"Software": None})


def _rounded(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.2g}"


def _lines(drawn: str, width: int = 34) -> list[str]:
    """Breaks a list at its commas."""
    lines = [""]
    for part in drawn.split(", "):
        if len(lines[-1]) + len(part) > width:
            lines.append("")
        lines[-1] += (", " if lines[-1] else "") + part
    return lines


def _row_of(pack: Pack, wanted: str | None) -> int:
    ids = pack.column("id")
    if wanted is None:
        candidates = np.flatnonzero(np.equal(pack.column("is_instrument"), True))
        return int(candidates[0]) if len(candidates) else 0
    found = np.flatnonzero(ids == wanted)
    if not len(found):
        raise DataError(f"there is no clip {wanted!r} in {pack.place}; its clips are named like {ids[0]!r}")
    return int(found[0])


def _sound_of(pack: Pack, row: int, num_samples: int) -> np.ndarray:
    return np.resize(pack.samples(row)[:num_samples], num_samples).astype(np.float32) / FULL_SCALE


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m data.audition",
        description=__doc__,
        epilog="example:\n  python -m data.audition packs/gm --out audition",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("pack", metavar="PACK", help="folder of a pack, or a URL as s3://bucket/pack")
    parser.add_argument("--clip", metavar="ID", help="which clip (default: the first with an instrument)")
    parser.add_argument("--key", type=int, default=0, help="what is drawn is a function of this (default: 0)")
    parser.add_argument("--out", type=Path, default=Path("audition"), help="folder to write to (default: audition)")
    args = parser.parse_args(arguments)
    try:
        pack = Pack.open(os.path.expanduser(args.pack))
        row = _row_of(pack, args.clip)
        num_samples = min(round(SECONDS * RATE), int(pack.num_samples[row]))
        others = np.flatnonzero(np.equal(pack.column("is_instrument"), False))
        background = _sound_of(pack, int(others[0]), num_samples) if len(others) else None
        heard = audition(_sound_of(pack, row, num_samples), background, args.key)
        out = args.out.expanduser()
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"a folder was expected at {out} ({error.strerror}); choose another --out") from error
        draw(heard, str(pack.column("id")[row]), out / "augment.png")
        for name, (_, sound) in heard.items():
            with write_atomically(out / f"{name.replace(' ', '_')}.wav") as file:
                soundfile.write(file, sound, RATE, format="WAV", subtype="FLOAT")
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    left_out = "" if background is not None else "; the pack has no clip without an instrument for a background"
    print(f"{out / 'augment.png'} and {len(heard)} WAV files{left_out}")
    return 0


if __name__ == "__main__":
    run(main)

"""The figure of `data.describe`: hours by family and split, durations, loudness."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data.clip import SPLITS
from data.decode import RATE
from data.errors import DataError
from data.files import write_atomically
from data.pack import Pack

COLOURS = {"train": "#33658a", "validation": "#f6ae2d", "test": "#c8553d"}


def draw(pack: Pack, path: Path) -> Path:
    """Writes the figure as PNG, making its folder.

    Returns:
        ``path``

    Raises:
        DataError: it cannot be written.
    """
    # Only here, for it takes most of a second and `describe` is imported by tests and recipes.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 6.2), layout="constrained", dpi=120)
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(2, 2, width_ratios=[1.25, 1])
    splits = [split for split in SPLITS if pack.info.splits[split]["clips"]]
    _draw_families(figure.add_subplot(grid[:, 0]), pack, splits)
    _draw_durations(figure.add_subplot(grid[0, 1]), pack, splits)
    _draw_loudness(figure.add_subplot(grid[1, 1]), pack, splits)
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="x", alpha=0.25)
        axes.set_axisbelow(True)
    figure.suptitle(f"{pack.info.name}: {pack.info.num_clips:,} clips, {pack.info.hours:.2f} h", fontsize=14)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"a folder for the figure was expected at {path.parent} ({error.strerror})") from error
    with write_atomically(path) as file:
        figure.savefig(file, format="png", metadata={"Software": None})
    return path


def _draw_families(axes, pack: Pack, splits: list[str]) -> None:
    hours = _hours_of_families(pack.manifest)
    names = sorted({name for name, _ in hours}, key=lambda name: sum(hours.get((name, split), 0) for split in splits))
    left = np.zeros(len(names))
    for split in splits:
        widths = np.array([hours.get((name, split), 0.0) for name in names])
        axes.barh(names, widths, left=left, color=COLOURS[split], label=split, height=0.72)
        left += widths
    for place, total in enumerate(left):
        axes.annotate(f"{total:.2f}", (total, place), (4, 0), textcoords="offset points", va="center", fontsize=9)
    axes.set(xlabel="hours (a clip of several families counts for each)", title="Hours by family")
    axes.margins(x=0.08, y=0.01)
    axes.legend(loc="upper left", bbox_to_anchor=(0, -0.09), ncols=len(splits), frameon=False)


def _hours_of_families(manifest: pa.Table) -> dict[tuple[str, str], float]:
    present = manifest["family_present"].combine_chunks()
    rows = pc.list_parent_indices(present)
    lengths = pc.fill_null(pc.list_value_length(present), 0)
    rest = np.flatnonzero(lengths.to_numpy(zero_copy_only=False) == 0)
    is_complete = manifest["family_complete"].to_numpy()[rest]
    names = pa.concat_arrays(
        [pc.list_flatten(present), pa.array(np.where(is_complete, "no instrument", "unknown").tolist(), pa.string())]
    )
    rows = pa.concat_arrays([pc.cast(rows, pa.int64()), pa.array(rest, pa.int64())])
    table = pa.table({"name": names, **{key: manifest[key].take(rows) for key in ("split", "num_samples")}})
    table = table.group_by(["name", "split"]).aggregate([("num_samples", "sum")])
    return {(row["name"], row["split"]): row["num_samples_sum"] / RATE / 3600 for row in table.to_pylist()}


def _draw_durations(axes, pack: Pack, splits: list[str]) -> None:
    seconds = pack.num_samples / RATE
    low, high = float(seconds.min()), float(seconds.max())
    if high > 20 * low:
        bins = np.geomspace(low, high * 1.001, 41)
        axes.set_xscale("log")
    else:
        bins = np.linspace(max(0.0, low - 0.5), high + 0.5, 41)
    _stack(axes, pack, seconds, bins, splits)
    axes.set(xlabel="seconds", ylabel="clips", title="Clips by duration")


def _draw_loudness(axes, pack: Pack, splits: list[str]) -> None:
    loudness = pack.column("rms_dbfs")
    _stack(axes, pack, loudness, np.linspace(min(-40.0, float(loudness.min())), 0.0, 41), splits)
    axes.set(xlabel="RMS, dBFS", ylabel="clips", title="Clips by loudness")


def _stack(axes, pack: Pack, values: np.ndarray, bins: np.ndarray, splits: list[str]) -> None:
    parts = [values[pack.rows(split)] for split in splits]
    axes.hist(parts, bins, stacked=True, color=[COLOURS[split] for split in splits])

"""Queries and their neighbours as spectrograms side by side, one query a row."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from audit.spectrograms import spectrogram
from audit.tables import Answer, Clips
from checkpoints.figures import ACCENT, INK, MUTED, SECOND
from data.decode import RATE
from data.labels import LabelTable
from data.pack import Pack
from data.readable import printable
from data.relation import DIFFERENT, SAME, UNKNOWN, relation

WIDTH, HEIGHT = 160, 96
"""Of a spectrogram, in points."""
CELL = 1.9, 1.75
"""Of a spectrogram with its title, in inches."""
LETTERS = 25
"""Of a line of a title that fit over a spectrogram."""
COLOURS = {SAME: ACCENT, DIFFERENT: SECOND, UNKNOWN: MUTED}
CAPTION = "neighbours in blue share a family with what was asked for, in orange none; of grey ones nobody knows"


def gallery(answers: Sequence[Answer], clips: Clips) -> Figure:
    """Draws every query and behind it its neighbours, the nearest first.

    Titles of neighbours give similarity and labels, in a colour that says whether they share a family, see `CAPTION`.
    """
    columns = 1 + max(len(answer.rows) for answer in answers)
    figure = Figure(figsize=(CELL[0] * columns, CELL[1] * len(answers)), layout="constrained")
    for cells, answer in zip(figure.subplots(len(answers), columns, squeeze=False), answers, strict=True):
        for cell in cells[1 + len(answer.rows) :]:
            cell.set_axis_off()
        own = "a file" if answer.row is None else clips.words(answer.row)
        _draw(cells[0], answer.waveform, _last(printable(Path(answer.name))), own, INK)
        colours = [COLOURS[same] for same in families_shared(answer, clips.pack)]
        for cell, row, similarity, colour in zip(cells[1:], answer.rows, answer.similarity, colours, strict=False):
            name = _last(printable(Path(clips.id(row))), LETTERS - 7)
            _draw(cell, clips.sound(row), f"{similarity:.3f}  {name}", clips.words(row), colour)
    figure.suptitle(CAPTION, x=0, ha="left", fontsize=7, color=MUTED, wrap=True)
    return figure


def families_shared(answer: Answer, pack: Pack) -> list[int]:
    """Of every neighbour, whether it has a family of the query: `SAME`, `DIFFERENT` or `UNKNOWN`."""
    if answer.row is None:
        return [UNKNOWN] * len(answer.rows)
    table = LabelTable(pack)
    found = relation(table.take(np.array([answer.row])), table.take(answer.rows))["family"]
    return found[0].tolist()


def _draw(cell: Axes, waveform: np.ndarray, first: str, second: str, colour: str) -> None:
    extent = (0, len(waveform) / RATE, 0, 1)
    picture = spectrogram(waveform, RATE, WIDTH, HEIGHT)
    cell.imshow(picture, extent=extent, aspect="auto", cmap="magma", vmin=0, vmax=1, interpolation="nearest")
    cell.set_title(f"{first}\n{_first(second)}", fontsize=7, loc="left", color=colour, parse_math=False)
    cell.tick_params(labelsize=6, length=2)
    cell.set_yticks([])
    cell.set_xticks([extent[1]], [f"{extent[1]:.1f} s"], ha="right", color=MUTED)


def _first(text: str, letters: int = LETTERS) -> str:
    return text if len(text) <= letters else f"{text[: letters - 1]}…"


def _last(text: str, letters: int = LETTERS) -> str:
    return text if len(text) <= letters else f"…{text[1 - letters :]}"

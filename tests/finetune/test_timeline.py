"""The picture of a prediction."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from checkpoints.figures import save
from finetune.prediction import HeadPrediction, Prediction, pool_over_time
from finetune.timeline import MOST_ROWS, timeline


def prediction_of(
    probabilities: np.ndarray, hop: float = 2.0, size: float = 2.0, path: str = "song.wav", is_silent=None, picture=None
) -> Prediction:
    p = np.asarray(probabilities, np.float32)
    times = np.stack([np.arange(len(p)) * hop, np.arange(len(p)) * hop + size], 1)
    is_silent = np.zeros(len(p), bool) if is_silent is None else np.array(is_silent)
    classes = tuple(f"class_{place}" for place in range(p.shape[1]))
    pooled = pool_over_time(p[~is_silent], "mean")
    head = HeadPrediction("instrument", "binary", classes, p, pooled, np.full(len(classes), 0.5, np.float32))
    return Prediction(Path(path), times, is_silent, {"instrument": head}, "mean", picture)


def labels_of(figure: Figure, axis: int = 0, of: str = "y") -> list[str]:
    figure.canvas.draw()
    return [label.get_text() for label in getattr(figure.axes[axis], f"get_{of}ticklabels")()]


def test_rows_are_what_is_heard_anywhere_the_likeliest_first():
    p = np.full((4, 30), 0.1)
    p[:, 7], p[1, 3] = 0.8, 0.9
    assert labels_of(timeline(prediction_of(p)))[:2] == ["class 7", "class 3"]
    assert len(labels_of(timeline(prediction_of(p)))) == 3  # and a next likeliest, so that little is not nothing
    assert len(labels_of(timeline(prediction_of(np.full((4, 30), 0.9))))) == MOST_ROWS
    assert len(labels_of(timeline(prediction_of(p), top=20))) == 20


def test_cells_lie_where_chunks_do_and_lines_mark_spans():
    prediction = prediction_of([[0.1, 0.9], [0.6, 0.3], [0.7, 0.4]])
    axis = timeline(prediction).axes[0]
    mesh, spans, _ = axis.collections
    assert mesh.get_coordinates()[0, :, 0].tolist() == prediction.edges.tolist()
    np.testing.assert_allclose(mesh.get_array(), [[0.9, 0.3, 0.4], [0.1, 0.6, 0.7]], rtol=1e-6)
    found = [(segment[:, 0].tolist(), int(segment[0, 1])) for segment in spans.get_segments()]
    assert found == [([0, 2], 0), ([2, 6], 1)]


def test_the_spectrogram_shares_the_time_axis():
    picture = np.random.default_rng(0).normal(-8, 3, (128, 300)).astype(np.float32)
    figure = timeline(prediction_of(np.full((150, 2), 0.6), picture=picture))
    cells, spectrogram = figure.axes[:2]
    assert cells.get_xlim() == spectrogram.get_xlim() == (0, 300)
    assert spectrogram.images[0].get_extent() == [0, 300, 0, 128]
    assert labels_of(figure, 1, "x")[1:4] == ["0:00", "0:30", "1:00"]
    assert labels_of(figure, 1) == ["100 Hz", "250 Hz", "500 Hz", "1 kHz", "2 kHz", "4 kHz"]


@pytest.mark.parametrize(
    ("count", "expected"),
    [(5400, ["0:00", "15:00", "30:00", "45:00", "1:00:00"]), (30, ["0:00", "0:05", "0:10"]), (1, ["0 s", "0.25 s"])],
)
def test_time_is_marked_as_the_length_asks(count, expected):
    figure = timeline(prediction_of(np.full((count, 1), 0.6)))
    labels = labels_of(figure, of="x")
    first = figure.axes[0].get_xticks().tolist().index(0)  # a locator marks what is beyond the axis too
    assert labels[first : first + len(expected)] == expected


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["a $x_ and $ b\n.wav", "x" * 250 + ".wav"])
def test_odd_recordings_are_drawn(tmp_path, name):
    silent = prediction_of(np.zeros((3, 2)), path=name, is_silent=[True] * 3, picture=np.full((128, 3), -15.9))
    file = save(timeline(silent), tmp_path / "a.png")
    assert file.read_bytes()[:4] == b"\x89PNG"

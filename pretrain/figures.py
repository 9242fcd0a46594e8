"""Pictures of a masked autoencoder."""

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from checkpoints.figures import INK, MUTED


def reconstructions(
    clips: Sequence[tuple[str, np.ndarray, np.ndarray, np.ndarray]], seconds: float, note: str
) -> Figure:
    """Original, masked and reconstructed log-mel, a row a clip.

    Args:
        clips: title and three spectrograms ``(T, F)``; NaN where a patch is masked.
        seconds: length of the clips.
        note: a line under the title.
    """
    figure = Figure(figsize=(11, 0.9 + 1.75 * len(clips)), layout="constrained")
    axes = figure.subplots(len(clips), 3, sharex=True, sharey=True, squeeze=False)
    palette = matplotlib.colormaps["magma"].with_extremes(bad="#b9c4cf")
    for row, (title, *spectrograms) in zip(axes, clips, strict=True):
        low, high = np.percentile(spectrograms[0], (1, 99.5))
        for cell, spectrogram in zip(row, spectrograms, strict=True):
            extent = (0, seconds, 0, spectrogram.shape[1])
            cell.imshow(
                spectrogram.T, origin="lower", aspect="auto", cmap=palette, vmin=low, vmax=high, extent=extent,
                interpolation="nearest",
            )  # fmt: skip
            cell.tick_params(labelsize=8, colors=MUTED)
        row[0].set_ylabel(f"{title}\n\nmel bin", fontsize=7, color=INK)
    for cell, title in zip(axes[0], ("original", "what the encoder sees", "reconstructed"), strict=True):
        cell.set_title(title, fontsize=10, color=INK)
    for cell in axes[-1]:
        cell.set_xlabel("seconds", fontsize=8, color=MUTED)
    figure.suptitle(note, fontsize=9, color=MUTED)
    return figure

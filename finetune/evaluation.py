"""What the heads say of whole clips: windows of the trained length, their probabilities averaged.

Shapes: N clips, W windows, C classes of a head.
"""

import numpy as np
import torch

from data.loader import CropReader
from data.pack import Pack
from finetune.model import FineTuned
from finetune.scores import Predictions
from finetune.targets import targets_of

BATCH = 32


def window_starts(num_samples: int, window: int) -> np.ndarray:
    """First samples of the fewest windows that cover a clip, spread evenly; one, at 0, for a short clip."""
    room = max(0, num_samples - window)
    return np.linspace(0, room, -(-room // window) + 1).round().astype(np.int64)


@torch.no_grad()
def predict_clips(
    model: FineTuned, pack: Pack, rows: np.ndarray, assume_complete: frozenset[str], device: torch.device
) -> Predictions:
    """Probabilities of whole clips, the mean over their windows, beside what is known of them.

    The model is left as it was found, training or not.
    """
    starts = [window_starts(int(pack.num_samples[row]), model.num_samples) for row in rows]
    clip = np.repeat(np.arange(len(rows)), [len(own) for own in starts])  # (W,)
    first, reader = np.concatenate(starts), CropReader(pack, model.num_samples)
    sums = {spec.name: torch.zeros(len(rows), len(spec.classes)) for spec in model.specs}
    was_training = model.training
    model.eval()
    for begin in range(0, len(clip), BATCH):
        part = slice(begin, begin + BATCH)
        keys = np.zeros((len(clip[part]), 1), dtype=np.int64)
        batch = reader.read(rows[clip[part]], first[part], keys).to(device)
        for name, values in model.probabilities(batch.waveform, batch.num_samples).items():
            sums[name].index_add_(0, torch.from_numpy(clip[part]), values.cpu())
    model.train(was_training)
    count = torch.from_numpy(np.bincount(clip, minlength=len(rows)))[:, None]
    targets = targets_of(reader.labels.take(rows), model.specs, assume_complete)
    return Predictions({name: values / count for name, values in sums.items()}, targets)

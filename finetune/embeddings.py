"""What a frozen backbone makes of whole clips, computed once and kept: windows of one length, pooled and averaged.

Shapes: N clips, W windows, B windows at a time, S samples, P patches of a window, M tokens of a clip, D width,
E embedding size.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
import psutil
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from tqdm import tqdm

from backbones.builders import Backbone
from backbones.frozen import Frozen
from checkpoints.errors import CheckpointError
from checkpoints.files import replacing
from checkpoints.weights import checksum_of_weights
from data.errors import DataError
from data.files import checksum_of
from data.pack import Pack
from data.windows import Windows, window_starts, windows_of

BATCH = 32
TOKENS = np.float16
"""Type of kept tokens: there are some hundred a clip."""


class Source(Protocol):
    """What a probe learns from: numbers of clips that do not change while it learns."""

    name: str
    """For the file that keeps them."""
    identity: str
    """What they depend on besides the sound; other values come from another identity."""

    def of(self, pack: Pack, rows: np.ndarray, is_shown: bool = True) -> np.ndarray:
        """The numbers of some clips, ``(N, ...)``, with a progress bar if it is to be shown."""


class FrozenBackbone:
    """Embeddings of whole clips, the mean over their windows.

    Args:
        backbone: any of `backbones.builders`; it is moved to the device.
        pooling: one of `backbones.pooling.POOLINGS`.
        num_samples: samples of a window.
    """

    def __init__(self, backbone: Backbone, pooling: str, num_samples: int, device: torch.device):
        self.frozen, self.num_samples = Frozen(backbone, pooling).to(device), num_samples
        self.name = f"{backbone.kind}-{pooling}"
        self.identity = f"{self.name} {num_samples} {checksum_of_weights(backbone)}"

    def of(self, pack: Pack, rows: np.ndarray, is_shown: bool = True) -> np.ndarray:
        """Embeddings, float32 ``(N, E)``."""
        windows = self._windows(pack, rows, is_shown)
        return self.frozen.of_clips(((one.waveform, one.num_samples, one.clip) for one in windows), len(rows)).numpy()

    def _windows(self, pack: Pack, rows: np.ndarray, is_shown: bool) -> Iterator[Windows]:
        """The windows of some clips on the device, batch by batch."""
        with tqdm(total=len(rows), desc=self.name, unit="clip", disable=not is_shown) as bar:
            for windows in windows_of(pack, rows, self.num_samples, BATCH):
                yield windows.to(self.frozen.device)
                bar.update(int(windows.clip[-1]) + 1 - bar.n)


class FrozenTokens(FrozenBackbone):
    """The tokens themselves, those of all windows of a clip behind one another.

    Args:
        longest: samples of the longest clip that it will be asked for.
    """

    def __init__(self, backbone: Backbone, num_samples: int, device: torch.device, longest: int):
        super().__init__(backbone, "mean", num_samples, device)
        self.most_windows = len(window_starts(longest, num_samples))
        self.name = f"{backbone.kind}-tokens"
        self.identity = f"{self.identity} {self.name} {self.most_windows}"

    def of(self, pack: Pack, rows: np.ndarray, is_shown: bool = True) -> np.ndarray:
        """Tokens, float16 ``(N, M, D)``, NaN where a clip is shorter.

        Raises:
            DataError: they would not fit into the memory.
        """
        found = np.empty((0, 0, 0, 0), TOKENS)
        for windows in self._windows(pack, rows, is_shown):
            tokens = self.frozen.tokens(windows.waveform, windows.num_samples)
            own = tokens.tokens.float()
            if tokens.is_padding is not None:
                own = own.masked_fill(tokens.is_padding[..., None], torch.nan)
            if not found.size:
                needed = len(rows) * self.most_windows * own[0].numel() * found.itemsize
                if needed > psutil.virtual_memory().available:
                    raise DataError(
                        f"the tokens of {len(rows)} clips take {needed / 2**30:.1f} GiB, more memory than is free; "
                        "choose another --classifier, which needs their mean alone, or fewer --sources"
                    )
                found = np.full((len(rows), self.most_windows, *own.shape[1:]), np.nan, TOKENS)  # (N, W, P, D)
            found[windows.clip, windows.number] = own.cpu().numpy()
        return found.reshape(len(rows), -1, found.shape[-1])


def kept(source: Source, pack: Pack, rows: np.ndarray, folder: Path, accelerator: Accelerator) -> np.ndarray:
    """The numbers of some clips, from a file of `folder` if they were ever computed, else computed and written there.

    The processes share the clips out among them; the main process gets the numbers, the others get none of them.
    """
    identity = f"{source.identity} {pack.sound_fingerprint} {checksum_of(rows.tobytes())}"
    file = folder / f"{source.name}-{checksum_of(identity.encode())[:16]}.safetensors"
    found = _read(file) if accelerator.is_main_process else None
    if broadcast_object_list([found is not None])[0]:
        if accelerator.is_main_process:
            accelerator.print(f"kept     {source.name} of {len(rows)} clips: {file}")
        return np.empty(0) if found is None else found
    values = _shared_out(lambda own: source.of(pack, own, accelerator.is_main_process), rows, accelerator)
    if not accelerator.is_main_process:
        return np.empty(0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(f"{folder} cannot be made ({error.strerror}); choose another --cache") from error
    with replacing(file) as temporary:
        save_file({"values": values}, temporary, metadata={"pack": str(pack.folder), "of": source.identity})
    return values


def _read(file: Path) -> np.ndarray | None:
    """The numbers in a file; None where there is none or it is damaged, for then they are computed anew."""
    try:
        return load_file(file)["values"]
    except (OSError, SafetensorError, KeyError):
        return None


def _shared_out(compute: Callable[[np.ndarray], np.ndarray], rows: np.ndarray, accelerator: Accelerator) -> np.ndarray:
    """``compute(rows)``, of which every process computes a part; all get everything.

    The parts are equally long, so some rows may be computed twice.
    """
    processes = accelerator.num_processes
    if processes == 1:
        return compute(rows)
    padded = np.resize(rows, -(-len(rows) // processes) * processes)
    own = torch.from_numpy(compute(padded[accelerator.process_index :: processes])).to(accelerator.device)
    gathered = accelerator.gather(own).cpu()
    return gathered.unflatten(0, (processes, -1)).transpose(0, 1).flatten(0, 1)[: len(rows)].numpy()

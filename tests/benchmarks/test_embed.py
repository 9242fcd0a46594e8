"""The benchmark of embedding compares the same work."""

import numpy as np
import torch

from audit.embeddings import Embeddings
from backbones.ast_encoder import AstBackbone, Tokens
from benchmarks.embed import BARE, COMMAND, WINDOW, candidates_for, untrained
from benchmarks.reading import write


def test_both_hear_all_windows(tmp_path, monkeypatch):
    run, pack = untrained("tiny", tmp_path / "run"), write(tmp_path / "pack", 3)
    candidates = candidates_for(run, pack, tmp_path, torch.device("cpu"))
    heard, forward = [], AstBackbone.forward

    def counting(self: AstBackbone, waveform: torch.Tensor, *others: object, **more: object) -> Tokens:
        heard.append(len(waveform))
        return forward(self, waveform, *others, **more)

    monkeypatch.setattr(AstBackbone, "forward", counting)
    candidates[BARE]()
    assert sum(heard) == 6
    candidates[COMMAND]()
    candidates[COMMAND]()
    found = Embeddings.open(tmp_path / "1")
    assert (found.info.num_samples, len(found)) == (WINDOW, 3)
    np.testing.assert_array_equal(found.vectors, Embeddings.open(tmp_path / "0").vectors)

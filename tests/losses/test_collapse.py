"""Collapse monitors on embeddings whose spread is known."""

import pytest
import torch

from losses.collapse import effective_rank, embedding_std


def test_embeddings_at_one_point_have_collapsed():
    embeddings = torch.ones(50, 8, dtype=torch.float64)
    assert embedding_std(embeddings).item() == pytest.approx(0, abs=1e-9)
    assert effective_rank(embeddings).item() == pytest.approx(1)


def test_embeddings_spread_over_the_sphere_have_not():
    embeddings = torch.cat([torch.eye(16), -torch.eye(16)]).double()
    assert embedding_std(embeddings).item() == pytest.approx(1)
    assert effective_rank(embeddings).item() == pytest.approx(16)


def test_the_effective_rank_counts_directions():
    torch.manual_seed(0)
    directions = torch.linalg.qr(torch.randn(32, 3, dtype=torch.float64)).Q
    along = torch.linalg.qr(torch.randn(200, 4, dtype=torch.float64) - 0.0).Q
    along = along - along.mean(0)
    rank = effective_rank(torch.linalg.qr(along).Q[:, :3] @ directions.T)
    assert rank.item() == pytest.approx(3, abs=0.01)

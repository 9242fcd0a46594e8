"""What the benchmark of losses compares is the same loss."""

import pytest
import torch

from benchmarks.losses import (
    FAMILIES,
    FLAT,
    LEVELS,
    ONE_LEVEL,
    PEER_SUPCON,
    PEER_TRIPLETS,
    TIMBRES,
    TREE,
    TREE_3,
    candidates_for,
    embeddings_of,
    gradient_errors,
)


def test_flat_losses_equal_their_peers():
    losses, unit = candidates_for(2 * TIMBRES), embeddings_of(2 * TIMBRES)
    assert losses[FLAT](unit).item() == pytest.approx(losses[PEER_TRIPLETS](unit).item(), rel=1e-5)
    # One level has the default weight of the finest, 2.
    assert losses[ONE_LEVEL](unit).item() == pytest.approx(2 * losses[PEER_SUPCON](unit).item(), rel=1e-5)
    errors = gradient_errors(2 * TIMBRES)
    assert errors["between"] < 1e-6 < errors["largest"]


def test_trees_have_a_timbre_in_each_family_and_margins_that_grow():
    losses = candidates_for(2 * TIMBRES)
    # Embeddings on the corners of a simplex, one a family: within a family all pairs are as near as can be.
    family = torch.arange(2 * TIMBRES) % TIMBRES * FAMILIES // TIMBRES
    unit = torch.nn.functional.one_hot(family).float()
    # Triplets within a family cost their margin: 0.4 from timbre to family, and 0.2 each by way of the instrument;
    # other families lie sqrt(2) away and cost nothing.
    assert losses[TREE](unit).item() == pytest.approx(0.4, abs=1e-3)
    of_timbre, of_instrument = 1 * (2 * 0.2 + 4 * 0.4), 2 * (4 * 0.2)
    assert losses[TREE_3](unit).item() == pytest.approx((of_timbre + of_instrument) / (6 + 8), abs=1e-3)
    assert losses[LEVELS](unit).isfinite()

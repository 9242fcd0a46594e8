"""Every pooling is blind to padding; attention starts as the mean and learns."""

import pytest
import torch

from backbones.ast_encoder import Tokens
from backbones.pooling import AttentivePooling, max_pool, mean_pool, pool
from backbones.projector import Projector


def test_pooling_is_blind_to_padding():
    tokens = torch.randn(2, 5, 3)
    is_padding = torch.tensor([[False] * 5, [False, False, True, True, True]])
    assert torch.equal(max_pool(tokens, is_padding)[1], tokens[1, :2].amax(dim=0))
    torch.testing.assert_close(mean_pool(tokens, is_padding)[1], tokens[1, :2].mean(dim=0))
    torch.testing.assert_close(mean_pool(tokens, is_padding)[0], mean_pool(tokens)[0])
    hidden = [torch.randn(2, 5, 3), tokens]
    embedding = pool(Tokens(tokens, is_padding, hidden), "mean_max_layers")
    layers = [torch.cat([layer[1, :2].mean(0), layer[1, :2].amax(0)]) for layer in hidden]
    torch.testing.assert_close(embedding[1], (layers[0] + layers[1]) / 2)
    with pytest.raises(ValueError, match="not 'max'"):
        pool(Tokens(tokens, None, []), "max")
    with pytest.raises(ValueError, match="needs a backbone that has one, as ast; choose mean"):
        pool(Tokens(tokens, None, []), "class_token")
    torch.testing.assert_close(
        pool(Tokens(tokens, is_padding, hidden), "mean_layers")[1], sum(layer[1, :2].mean(0) for layer in hidden) / 2
    )


def test_attention_starts_as_the_mean_and_is_blind_to_padding():
    torch.manual_seed(0)
    tokens = torch.randn(2, 5, 8)
    is_padding = torch.tensor([[False] * 5, [False, False, True, True, True]])
    attentive = AttentivePooling(8)
    torch.testing.assert_close(attentive(tokens, is_padding), mean_pool(tokens, is_padding))
    with torch.no_grad():
        attentive.query.normal_(std=3.0)
    found = attentive(tokens, is_padding)
    assert not torch.allclose(found, mean_pool(tokens, is_padding), atol=0.1)
    torch.testing.assert_close(found[1:], attentive(tokens[1:, :2]))
    with pytest.raises(ValueError, match="must divide the width 8, 3 do not"):
        AttentivePooling(8, heads=3)


def test_the_query_of_attention_learns():
    attentive = AttentivePooling(8)
    attentive(torch.randn(4, 5, 8)).square().sum().backward()
    assert attentive.query.grad.abs().sum() > 0


def test_a_projection_is_a_unit_vector_whatever_else_is_in_the_batch():
    torch.manual_seed(0)
    projector = Projector(8, 16, 4)
    embeddings = torch.randn(3, 8)
    found = projector(embeddings)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(projector(embeddings[:1]), found[:1])
    assert projector(embeddings.to(torch.float32)).dtype == torch.float32

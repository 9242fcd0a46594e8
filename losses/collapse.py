"""Numbers that fall when embeddings collapse to a point or to a few directions.

Shapes: N clips, E embedding size.
"""

import torch
from torch import Tensor


def embedding_std(embeddings: Tensor) -> Tensor:
    """Standard deviation over the clips of ``(N, E)`` unit embeddings, averaged over dimensions, times sqrt(E).

    0 where all embeddings point one way, 1 where they are spread evenly over the sphere (Chen and He 2020,
    arXiv 2011.10566, section 4.1); the deviation divides by N.
    """
    unit = torch.nn.functional.normalize(embeddings, dim=1)
    return unit.std(dim=0, unbiased=False).mean() * embeddings.shape[1] ** 0.5


def effective_rank(embeddings: Tensor) -> Tensor:
    """``exp(-sum_i p_i log p_i)`` with ``p_i = s_i / sum s`` over the singular values s of the centred ``(N, E)``.

    Roy and Vetterli 2007 ("The effective rank", definition 1). Between 1 and min(N, E); 1 where all are equal.
    """
    values = torch.linalg.svdvals(embeddings - embeddings.mean(dim=0))
    share = values / values.sum().clamp(min=torch.finfo(values.dtype).tiny)
    return torch.special.entr(share).sum().exp()

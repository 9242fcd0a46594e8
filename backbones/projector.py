"""The small network between an embedding and a contrastive loss, thrown away after training.

B batch, E embedding size, Z size of the projection.
"""

import torch.nn.functional as F
from torch import Tensor, nn


class Projector(nn.Module):
    """Two layers, and a unit vector ``(B, Z)``.

    What the loss asks for is not what later tasks need; the layer before the projector keeps more (Chen et al. 2020,
    arXiv 2002.05709, section 4.2). Layer norm and not batch norm, so that a clip's projection does not depend on its
    neighbours in the batch or on how the batch is shared out.
    """

    def __init__(self, width: int, hidden: int, size: int):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(width, hidden), nn.LayerNorm(hidden), nn.GELU(), nn.Linear(hidden, size))

    def forward(self, embeddings: Tensor) -> Tensor:
        """``(B, E)`` to unit vectors ``(B, Z)``, float32."""
        return F.normalize(self.layers(embeddings).float(), dim=1)

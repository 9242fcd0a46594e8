"""Losses against a centre for each class: centre loss, ArcFace, and the expected distance of the class that is guessed.

Shapes: B clips, E embedding size, C classes.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from losses.reduction import LossSum, sum_of


class ClassCentres(nn.Module):
    """A learned unit vector for each class, ``(C, E)``; dropped after training like a projector."""

    def __init__(self, num_classes: int, size: int):
        super().__init__()
        self.weight = nn.Parameter(F.normalize(torch.randn(num_classes, size), dim=1))

    def forward(self) -> Tensor:
        """Unit centres, float32 ``(C, E)``."""
        return F.normalize(self.weight.float(), dim=1)


def centre_loss(unit_embeddings: Tensor, unit_centres: Tensor, classes: Tensor) -> LossSum:
    """Half the squared distance to the centre of the own class.

        L_i = 1/2 * |x_i - c_{y_i}|^2

    Wen et al. 2016, "A Discriminative Feature Learning Approach for Deep Face Recognition", equation 2; on the unit
    sphere, with centres that learn by the same gradient.

    Args:
        unit_embeddings: ``(B, E)``.
        unit_centres: ``(C, E)``.
        classes: int64 ``(B,)``, -1 unknown.

    Returns:
        Summed over the clips of known class, and their number.
    """
    difference = unit_embeddings.float() - unit_centres[classes.clamp(min=0)]
    return sum_of(0.5 * difference.square().sum(dim=1), classes >= 0)


def arcface_logits(
    unit_embeddings: Tensor, unit_centres: Tensor, classes: Tensor, scale: float, margin: float
) -> Tensor:
    """``s cos(theta)``, for the own class ``s cos(theta + m)``, float32 ``(B, C)``.

    Deng et al. 2019, arXiv 1801.07698, equation 3. Beyond an angle of pi - m, where the cosine would rise again, the
    own class goes on in a straight line (the authors' published code does so too).

    Args:
        classes: int64 ``(B,)``; a clip of class -1 gets no margin.
        scale: s.
        margin: m, an angle in radians.
    """
    with torch.autocast(unit_embeddings.device.type, enabled=False):
        cosine = unit_embeddings.float() @ unit_centres.float().T  # (B, C)
    own = cosine.gather(1, classes.clamp(min=0)[:, None])
    # cos(theta + m) by the addition theorem: the gradient of acos is infinite at 1.
    sine = (1 - own.square()).clamp(min=1e-6).sqrt()
    harder = own * math.cos(margin) - sine * math.sin(margin)
    harder = torch.where(own > math.cos(math.pi - margin), harder, own - math.sin(math.pi - margin) * margin)
    is_own = F.one_hot(classes.clamp(min=0), cosine.shape[1]).bool() & (classes >= 0)[:, None]
    return scale * torch.where(is_own, harder, cosine)


def classification_loss(logits: Tensor, classes: Tensor) -> LossSum:
    """Cross-entropy of ``(B, C)``, summed over the clips of known class (``(B,)``, -1 unknown), and their number."""
    return sum_of(F.cross_entropy(logits, classes.clamp(min=0), reduction="none"), classes >= 0)


def expected_distance(logits: Tensor, classes: Tensor, class_distance: Tensor) -> LossSum:
    """How far from the truth a guess lies on average, when it is drawn from the softmax.

        L_i = sum_c softmax(z_i)_c * D(y_i, c)

    Mistaking a cello for a violin costs less than mistaking it for a trumpet. After the hierarchical costs of
    Bertinetto et al. 2020, arXiv 1912.09393, section 3.

    Args:
        logits: z, ``(B, C)``, without a margin.
        classes: int64 ``(B,)``, -1 unknown.
        class_distance: D, float ``(C, C)``, 0 on the diagonal; from the tree or `centroid_distance`.
    """
    cost = class_distance.to(logits.dtype)[classes.clamp(min=0)]  # (B, C)
    return sum_of((logits.softmax(dim=1) * cost).sum(dim=1), classes >= 0)


def centroid_distance(embeddings: Tensor, classes: Tensor, num_classes: int) -> Tensor:
    """How far apart classes lie in a reference embedding: half of 1 - cosine of their centroids, ``(C, C)`` in [0, 1].

    Args:
        embeddings: ``(B, E)``, of any length.
        classes: int64 ``(B,)``, -1 unknown.

    Raises:
        ValueError: a class has no clip.
    """
    is_member = F.one_hot(classes.clamp(min=0), num_classes).to(embeddings.dtype) * (classes >= 0)[:, None]  # (B, C)
    empty = (is_member.sum(dim=0) == 0).nonzero().flatten().tolist()
    if empty:
        raise ValueError(f"every class needs a clip for its centroid, {len(empty)} have none, class {empty[0]} first")
    centroids = F.normalize(is_member.T @ F.normalize(embeddings, dim=1), dim=1)
    return ((1 - centroids @ centroids.T) / 2).clamp(min=0).fill_diagonal_(0.0)

"""Weights of several losses that are learned beside what they weigh.

Shapes: K losses.
"""

import torch
from torch import Tensor


def uncertainty_weighted(means: Tensor, log_variance: Tensor) -> Tensor:
    """Adds losses, each by how sure it can become: what stays large counts less, at a price.

        L = sum_k exp(-s_k) * L_k + s_k / 2,    s_k = log(sigma_k^2)

    Kendall et al. 2018, arXiv 1705.07115, equation 10, in the form of its classification term, ``L / sigma^2 + log
    sigma``, for every loss: all heads classify. At its minimum ``sigma_k^2 = 2 L_k``. The logarithm of the variance is
    what is learned, as the paper's section 3.3 advises, so that no variance reaches 0.

    A loss of exactly 0 found nothing that it knows in this batch and is left out with its price; or heads whose labels
    are rare would be taken for sure.

    Args:
        means: of each loss over all processes (`losses.gather.mean_over_processes`), at least 0, ``(K,)``.
        log_variance: s, ``(K,)``, starting at 0.

    Returns:
        Scalar; 0, with a gradient of 0, over no losses.
    """
    terms = torch.exp(-log_variance) * means + 0.5 * log_variance
    return torch.where(means != 0, terms, 0.0).sum()

"""What heads are trained by: yes or no for each class, one class of many, and families that go with their instruments.

What nobody knows counts for nothing: its logits have no gradient, whatever they are. All is computed in float32 at
least. Means are over all that is known, of all classes alike: ``sum(is_known * loss) / sum(is_known)``, which
`losses.gather.mean_over_processes` takes over the rows of all processes.

Shapes: B clips, C classes of a head, I instruments, F families.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from losses.reduction import LossSum, sum_of


def binary_loss(
    logits: Tensor, target: Tensor, is_known: Tensor, class_weight: Tensor | None = None, focal: float = 0.0
) -> LossSum:
    """Binary cross-entropy of each class by itself, or focal loss.

        L_bc = - w_c y_bc (1 - p_bc)^g log(p_bc) - (1 - y_bc) p_bc^g log(1 - p_bc),    p = sigmoid(logit)

    With g > 0 what is easy counts less: Lin et al. 2017, arXiv 1708.02002, equation 4. A target between 0 and 1 is the
    mean of the two answers by their share.

    Args:
        logits: ``(B, C)``.
        target: y, from 0 to 1, ``(B, C)``; not looked at where it is unknown.
        is_known: bool ``(B, C)``.
        class_weight: w, how much a positive of each class counts, ``(C,)``; 1 without.
        focal: g.

    Returns:
        Summed over what is known, and how much that is; 0 of 0 if nothing is.
    """
    logits = _known(logits, is_known)
    target = torch.where(is_known, target, 0.0).to(logits.dtype)
    log_yes, log_no = F.logsigmoid(logits), F.logsigmoid(-logits)
    of_yes, of_no = -target * log_yes, (target - 1) * log_no
    if focal:  # by way of the logarithms: the gradient of a power of 0 need not be finite
        of_yes, of_no = of_yes * (focal * log_no).exp(), of_no * (focal * log_yes).exp()
    if class_weight is not None:
        of_yes = of_yes * class_weight.to(logits)
    return sum_of(of_yes + of_no, is_known)


def class_loss(
    logits: Tensor, target: Tensor, is_known: Tensor, class_weight: Tensor | None = None, focal: float = 0.0
) -> LossSum:
    """Cross-entropy over classes of which a clip has one, or focal loss.

        L_b = - w_y (1 - p_y)^g log(p_y),    p = softmax(logits_b), y the class of clip b

    Lin et al. 2017, arXiv 1708.02002, equation 4, for many classes. Weights change what a clip costs, not by how many
    the sum is divided: the mean is not torch's weighted one.

    Args:
        logits: ``(B, C)``.
        target: y, int64 ``(B,)``; not looked at where it is unknown.
        is_known: bool ``(B,)``.
        class_weight: w, ``(C,)``; 1 without.
        focal: g.

    Returns:
        Summed over the clips whose class is known, and their number; 0 of 0 if none is.
    """
    logits = _known(logits, is_known[:, None])
    own = torch.where(is_known, target, 0)
    loss = F.cross_entropy(logits, own, reduction="none")
    if focal:
        is_own = torch.arange(logits.shape[1], device=own.device) == own[:, None]
        log_others = logits.masked_fill(is_own, float("-inf")).logsumexp(dim=1) - logits.logsumexp(dim=1)  # log(1 - p)
        loss = loss * (focal * log_others).exp()
    if class_weight is not None:
        loss = loss * class_weight.to(logits)[own]
    return sum_of(loss, is_known)


def family_consistency(instrument_logits: Tensor, family_logits: Tensor, family_of: Tensor) -> LossSum:
    """What it costs that an instrument is held more likely than its family, which sounds whenever it does.

        L_bi = max(0, p_bi - p_bf(i))^2,    p = sigmoid(logit)

    The penalty on hierarchical violations of Wehrmann et al. 2018, "Hierarchical Multi-Label Classification Networks".
    It needs no labels.

    Args:
        instrument_logits: of yes or no, ``(B, I)``.
        family_logits: likewise ``(B, F)``.
        family_of: int64 ``(I,)``, the place of each instrument's family; -1 where there is no such place.

    Returns:
        Summed over clips and instruments that have a family, and their number; 0 of 0 if none has.
    """
    dtype = torch.promote_types(instrument_logits.dtype, torch.float32)
    instrument, family = instrument_logits.to(dtype).sigmoid(), family_logits.to(dtype).sigmoid()
    excess = instrument - family.index_select(1, family_of.clamp(min=0))  # (B, I)
    return sum_of(excess.clamp(min=0).square(), (family_of >= 0).expand_as(excess))


def _known(logits: Tensor, is_known: Tensor) -> Tensor:
    """Logits with 0 for what is unknown: masked after the loss, an infinite one would still have a gradient of NaN."""
    return torch.where(is_known, logits, 0.0).to(torch.promote_types(logits.dtype, torch.float32))

"""Batch norms that stay as they were trained."""

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def hold_batch_norms(network: nn.Module) -> None:
    """Makes every batch norm of a network use its stored statistics, whether the rest trains or not.

    Otherwise what happens to a clip would depend on the other clips of its batch, and the statistics on how a batch is
    shared out over processes. To be called again after `nn.Module.train`, which lets them go.
    """
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            module.eval()

"""What AdaLoRA (Zhang et al. 2023, arXiv 2303.10512) needs of a training loop, so that a resumed run goes on exactly.

PEFT keeps the importance of every value and the ranks that are left in plain attributes. Here they are buffers of the
adapted model: a training state holds them, an adapter's file does not.
"""

import torch
from peft import PeftModel
from torch import Tensor, nn


class RankAllocation(nn.Module):
    """Moving averages of importance and of its uncertainty (equations 9 and 10), and which singular values are left.

    Attributes:
        names: of the parameters of AdaLoRA, in the order of the buffers.
    """

    def __init__(self, adapted: PeftModel):
        super().__init__()
        self._adapted = (adapted,)  # in a tuple, or its modules would be listed twice
        named = {name: value for name, value in adapted.get_base_model().named_parameters() if _is_factor(name)}
        self.names = list(named)
        for number, (name, value) in enumerate(named.items()):
            self.register_buffer(f"importance_{number}", torch.zeros_like(value))
            self.register_buffer(f"uncertainty_{number}", torch.zeros_like(value))
            if ".lora_E." in name:
                self.register_buffer(f"is_kept_{number}", torch.ones(len(value), dtype=torch.bool, device=value.device))

    def _buffers_of(self, kind: str) -> dict[str, Tensor]:
        buffers = dict(self.named_buffers())
        return {
            name: buffers[f"{kind}_{number}"] for number, name in enumerate(self.names) if f"{kind}_{number}" in buffers
        }

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Allocates ranks after optimizer step `step`, counted from 1, while the gradients are still there.

        Raises:
            RuntimeError: they are not.
        """
        (adapted,) = self._adapted
        if any(value.grad is None for value in adapted.parameters() if value.requires_grad):
            raise RuntimeError("AdaLoRA weighs values by their gradients, and there are none: call it before zero_grad")
        tuner, config = adapted.base_model, adapted.peft_config["default"]
        allocator = tuner.rankallocator
        allocator.exp_avg_ipt, allocator.exp_avg_unc = self._buffers_of("importance"), self._buffers_of("uncertainty")
        allocator.ipt = dict(allocator.exp_avg_ipt)  # PEFT starts anew for names that are not in it
        kept = self._buffers_of("is_kept")
        if not all(mask.all() for mask in kept.values()):
            config.rank_pattern = {name: mask.tolist() for name, mask in kept.items()}
        tuner.update_and_allocate(step)
        averages = (("importance", allocator.exp_avg_ipt), ("uncertainty", allocator.exp_avg_unc))
        for kind, updated in averages:
            buffers = self._buffers_of(kind)
            for name, value in updated.items():
                buffers[name].copy_(value)
        for name, mask in (config.rank_pattern or {}).items():
            kept[name].copy_(torch.tensor(mask))


def orthogonality(adapted: PeftModel) -> Tensor:
    """How far the factors P and Q are from orthogonal, the mean of ``||P P' - I||_F`` (equation 4), a scalar."""
    factors = [
        value if ".lora_A." in name else value.mT
        for name, value in adapted.named_parameters()
        if ".lora_A." in name or ".lora_B." in name
    ]
    return torch.stack([torch.linalg.norm(rows @ rows.mT - torch.eye(len(rows)).to(rows)) for rows in factors]).mean()


def _is_factor(name: str) -> bool:
    return any(f".{factor}." in name for factor in ("lora_A", "lora_B", "lora_E"))

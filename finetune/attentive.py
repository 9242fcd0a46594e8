"""A probe that chooses where to listen: attention over the tokens of a frozen backbone, and a line for each class.

Shapes: N clips, B clips of a batch, M tokens of a clip, D width, C classes of a head.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from backbones.ast_encoder import Tokens
from backbones.optimisation import learning_rate
from backbones.pooling import AttentivePooling
from data.sampler import GlobalOrder
from finetune.classifiers import Clips, Fitted
from finetune.heads import Heads, HeadSpec
from finetune.targets import Target
from losses.heads import binary_loss, class_loss

BATCH = 32
LEARNING_RATE = 3e-3
WEIGHT_DECAY = 0.05


class AttentiveProbe(nn.Module):
    """Standardises tokens, pools them by attention, and has a linear head for each question.

    Args:
        tokens: those of the training clips, float16 ``(N, M, D)``, NaN where a clip is shorter.
    """

    def __init__(self, tokens: np.ndarray, specs: Sequence[HeadSpec]):
        super().__init__()
        width = tokens.shape[2]
        own = tokens[~np.isnan(tokens[..., 0])]  # (tokens of all clips, D)
        self.register_buffer("mean", torch.from_numpy(own.mean(axis=0, dtype=np.float64)).float())
        self.register_buffer("std", torch.from_numpy(own.std(axis=0, dtype=np.float64)).float().clamp(min=1e-4))
        self.attention = AttentivePooling(width)
        self.heads = Heads(specs, width, width)

    def forward(self, tokens: Tensor) -> dict[str, Tensor]:
        """Logits ``(B, C)`` of every head; `tokens` as above, ``(B, M, D)``."""
        is_padding = tokens[..., 0].isnan()
        tokens = ((tokens.float() - self.mean) / self.std).masked_fill(is_padding[..., None], 0.0)
        return self.heads(self.attention(tokens, is_padding), Tokens(tokens, is_padding, []))


def fit_attentive(clips: Clips, specs: Sequence[HeadSpec], seed: int, device: torch.device, epochs: int) -> Fitted:
    """Trains an attentive probe by AdamW; the loss is the sum of the heads' means over what is known.

    Args:
        clips: with the tokens of a frozen backbone, see `AttentiveProbe`.
        seed: of the weights and the order.
        device: where it is trained.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        probe = AttentiveProbe(clips.features, specs).to(device)
    order = GlobalOrder(len(clips.features), min(BATCH, len(clips.features)), seed)
    num_steps = epochs * order.steps_per_epoch
    optimizer = torch.optim.AdamW(probe.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    bar = tqdm(range(num_steps), desc=f"attentive, {epochs} epochs", unit="step", leave=False)
    for step in bar:
        rows = torch.tensor(order.batch(step))
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, LEARNING_RATE, num_steps, num_steps // 10)
        logits = probe(torch.from_numpy(clips.features[rows.numpy()]).to(device))
        loss = torch.zeros((), device=device)
        for spec in specs:
            target = Target(*(part[rows].to(device) for part in clips.targets[spec.name]))
            loss = loss + (binary_loss if spec.kind == "binary" else class_loss)(logits[spec.name], *target).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if step % 10 == 0:
            bar.set_postfix_str(f"loss {loss.item():.4f}")

    @torch.no_grad()
    def logits_of(tokens: np.ndarray) -> dict[str, Tensor]:
        parts = [
            {name: values.cpu() for name, values in probe(torch.from_numpy(part).to(device)).items()}
            for part in np.array_split(tokens, max(1, len(tokens) // BATCH))
        ]
        return {spec.name: torch.cat([part[spec.name] for part in parts]) for spec in specs}

    return logits_of

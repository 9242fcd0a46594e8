"""A fine-tuned network: a backbone, adapted or not, a pooling, and heads that share one pass through it.

In a run folder it is three things: ``backbone/`` as it was before adapters (transformers' layout), ``adapter/`` (PEFT's
layout; not there for the methods that add none) and ``heads/`` with all that predicts and what it was trained for.

Shapes: B batch, S samples, D width, E embedding size, C classes of a head.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn

from backbones.ast_encoder import Tokens
from backbones.builders import Backbone
from backbones.patchout import patched_out
from backbones.pooling import OF_LAYERS, POOLINGS, AttentivePooling, pool
from checkpoints.adapters import ADDS_NOTHING, load_adapter, save_adapter
from checkpoints.errors import CheckpointError
from checkpoints.heads import load_heads, save_heads
from checkpoints.run import RunFolder
from checkpoints.shipped import shipped_names
from checkpoints.weights import load_backbone, save_backbone
from data.decode import MAX_SECONDS, RATE
from finetune.heads import Heads, HeadSpec

RECIPE = "finetune/adapters.py"


class FineTuned(nn.Module):
    """Waveform to the logits of every head.

    Args:
        backbone: any of `backbones.builders`, already adapted.
        adapted: the `PeftModel` around the backbone's model, which knows how to save what was added; None without.
        method: how the backbone was adapted, one of `finetune.methods.METHODS`.
        pooling: one of `backbones.pooling.POOLINGS`, or ``attentive``.
        specs, form, hidden, sections: see `finetune.heads.Heads`.
        num_samples: samples of the clips it is trained on.

    Attributes:
        thresholds: of every binary head, ``(C,)``: a class sounds where its probability reaches it; 0.5 until chosen.
        scores: what was reached when it was saved.
    """

    def __init__(
        self, backbone: Backbone, adapted: PeftModel | None, method: str, pooling: str, specs: list[HeadSpec],
        form: str, hidden: int, sections: int, num_samples: int,
    ):  # fmt: skip
        super().__init__()
        if pooling not in (*POOLINGS, "attentive"):
            raise ValueError(f"pooling is one of {', '.join(POOLINGS)} or attentive, not {pooling}")
        self.backbone = backbone
        self._adapted = (adapted,)  # in a tuple, or its parameters would be listed twice
        self.method, self.pooling, self.num_samples = method, pooling, num_samples
        self.form, self.hidden, self.sections = form, hidden, sections
        self.attention = AttentivePooling(backbone.width) if pooling == "attentive" else None
        size = backbone.width * (2 if pooling == "mean_max_layers" else 1)
        self.heads = Heads(specs, size, backbone.width, form, hidden, sections)
        self.thresholds = {spec.name: torch.full((len(spec.classes),), 0.5) for spec in specs if spec.kind == "binary"}
        self.scores: dict[str, float] = {}

    @property
    def specs(self) -> list[HeadSpec]:
        """What each head answers."""
        return self.heads.specs

    @property
    def adapted(self) -> PeftModel | None:
        """The adapter around the backbone's model; None for the methods that add none."""
        return self._adapted[0]

    def embed(
        self, waveform: Tensor, num_samples: Tensor | None = None, keys: Tensor | None = None, patchout: float = 0.0
    ) -> tuple[Tensor, Tokens]:
        """The embedding ``(B, E)`` and the tokens that it was pooled from.

        Args:
            keys: int64 ``(B,)``, what patches are left out by; needed for `patchout` alone.
            patchout: share of the patches that the network does not see, see `backbones.patchout`.
        """
        if patchout:
            tokens = patched_out(self.backbone, waveform, num_samples, keys, patchout)
        else:
            tokens = self.backbone(waveform, num_samples, hidden=self.pooling in OF_LAYERS)
        if self.attention is not None:
            return self.attention(tokens.tokens, tokens.is_padding), tokens
        embedding = pool(tokens, self.pooling)
        if self.pooling in OF_LAYERS:
            # DDP waits for a gradient of every parameter, and the norm behind the last layer has no part in these.
            embedding = embedding + 0.0 * tokens.tokens.mean(dim=(1, 2))[:, None]
        return embedding, tokens

    def forward(
        self, waveform: Tensor, num_samples: Tensor | None = None, keys: Tensor | None = None, patchout: float = 0.0
    ) -> dict[str, Tensor]:
        """Logits ``(B, C)`` of every head, float32.

        Args:
            waveform: float in [-1, 1], ``(B, S)``, at 16 kHz.
            num_samples: int64 ``(B,)``, how many of the S samples are sound; None means all.
            keys, patchout: see `embed`.
        """
        embedding, tokens = self.embed(waveform, num_samples, keys, patchout)
        return {name: logits.float() for name, logits in self.heads(embedding, tokens).items()}

    @torch.no_grad()
    def probabilities(self, waveform: Tensor, num_samples: Tensor | None = None) -> dict[str, Tensor]:
        """Probabilities ``(B, C)``: of each class by itself, or over the classes of a head that knows one of them."""
        return self.heads.probabilities(self(waveform, num_samples))

    def save(self, run: RunFolder) -> None:
        """Writes what training changes: the adapter, or all of the backbone, and the heads.

        The frozen backbone is there already: it is written before anything is added to it.
        """
        if self.method == "full":
            save_backbone(self.backbone, run.backbone)
        if self.adapted is not None:
            save_adapter(self.adapted, run.adapter)
        save_heads(run.heads, self._head_tensors(), self._description())

    def _head_tensors(self) -> dict[str, Tensor]:
        own = {"heads": self.heads} | ({} if self.attention is None else {"attention": self.attention})
        return {f"{part}.{name}": value for part, module in own.items() for name, value in module.state_dict().items()}

    def _description(self) -> dict[str, Any]:
        names = ("method", "pooling", "form", "hidden", "sections", "num_samples", "scores")
        return {
            "backbone": self.backbone.kind,
            **{name: getattr(self, name) for name in names},
            "heads": [{"name": spec.name, "kind": spec.kind, "classes": list(spec.classes)} for spec in self.specs],
            "thresholds": {name: values.tolist() for name, values in self.thresholds.items()},
        }

    @classmethod
    def load(cls, path: Path, device: torch.device | str = "cpu") -> "FineTuned":
        """Reads a run of `finetune/adapters.py`.

        Raises:
            CheckpointError: no such run, one that has not saved yet, or parts of it are missing or do not fit.
        """
        if str(path) in shipped_names() and not Path(path).is_dir():
            raise CheckpointError(
                f"a run of {RECIPE} was expected, {path} is a backbone without heads; fine-tune it, by --init {path}, "
                "and give that run"
            )
        run = RunFolder.open(Path(path), RECIPE)
        tensors, description = load_heads(run.heads)
        backbone = load_backbone(run.backbone)
        try:
            method = description["method"]
            if backbone.kind != description["backbone"]:
                raise CheckpointError(
                    f"{run.heads} were trained on a backbone of kind {description['backbone']}, {run.backbone} holds "
                    f"one of kind {backbone.kind}; put the right one there"
                )
            specs = [HeadSpec(head["name"], head["kind"], tuple(head["classes"])) for head in description["heads"]]
            settings = {name: description[name] for name in ("pooling", "form", "hidden", "sections", "num_samples")}
            for name in ("hidden", "sections", "num_samples"):
                if type(settings[name]) is not int or not 0 < settings[name] <= MAX_SECONDS * RATE:
                    raise ValueError(f"{name} {settings[name]!r}")
            adapted = None if method in ADDS_NOTHING else load_adapter(backbone, run.adapter)
            model = cls(backbone, adapted, method, specs=specs, **settings)
            thresholds = {name: torch.tensor(values) for name, values in description["thresholds"].items()}
            if any(values.shape != model.thresholds[name].shape for name, values in thresholds.items()):
                raise ValueError("a binary head should have a threshold for each class")
            model.thresholds, model.scores = thresholds, dict(description["scores"])
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{run.heads}/heads.json is damaged or of another version ({error!r})") from error
        model.load_heads(tensors, run.heads)
        return model.to(device).eval()

    def load_heads(self, tensors: Mapping[str, Tensor], source: Path) -> None:
        """Takes over the weights of heads and pooling.

        Raises:
            CheckpointError: they were made for another width, or for other classes.
        """
        own = self._head_tensors()
        for name in sorted(own.keys() | tensors.keys()):
            found = [tuple(values[name].shape) if name in values else None for values in (tensors, own)]
            if found[0] != found[1]:
                raise CheckpointError(
                    f"the heads in {source} do not fit: {name} is {found[0] or 'missing'} there, "
                    f"{found[1] or 'nothing'} was expected; they belong to another backbone or other classes"
                )
        with torch.no_grad():
            for name, value in own.items():
                value.copy_(tensors[name])

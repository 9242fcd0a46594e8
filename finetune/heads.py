"""Heads: what a fine-tuned network answers, each class with a classifier of its own.

All classes of a head are computed in one multiplication, however many there are; a loop over as many small modules
would give the same.

Shapes: B batch, N tokens, D width of a token, E embedding size, C classes of a head, U hidden units of a class, K
sections, W size of what a class sees.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from backbones.ast_encoder import Tokens

NAMES = ("instrument", "family", "genre", "drums", "pitch", "is_instrument")
KINDS = ("binary", "classes")
FORMS = ("linear", "deep", "attention")
INITIAL_STD = 0.02  # of the weights that make logits, as transformers draws classifiers: all start at about even odds


@dataclass(frozen=True)
class HeadSpec:
    """What a head answers.

    Raises:
        ValueError: no such head, or one that its classes do not fit.
    """

    name: str
    """One of `NAMES`."""
    kind: str
    """``binary``: of each class whether it is there. ``classes``: which of the classes it is."""
    classes: tuple[str, ...]
    """C different names; of ``drums`` and ``is_instrument`` the head's own name, of ``pitch`` MIDI note numbers."""

    def __post_init__(self):
        if self.name not in NAMES:
            raise ValueError(f"a head is one of {', '.join(NAMES)}, not {self.name!r}")
        if self.kind not in KINDS:
            raise ValueError(f"a head is of kind {' or '.join(KINDS)}, {self.name} is said to be {self.kind!r}")
        if self.name in ("drums", "is_instrument") and (self.kind, self.classes) != ("binary", (self.name,)):
            raise ValueError(f"the head {self.name} is binary with one class of the same name, not {self.classes}")
        if self.name == "pitch" and self.kind != "classes":
            raise ValueError("the head pitch is of kind classes: a clip has one pitch or none that is known")
        if len(set(self.classes)) != len(self.classes) or len(self.classes) < (2 if self.kind == "classes" else 1):
            least = "two" if self.kind == "classes" else "one"
            raise ValueError(f"the head {self.name} needs {least} different classes or more, not {self.classes}")


class Heads(nn.Module):
    """Embedding and tokens to the logits of every head.

    A ``linear`` head has a weight vector and a bias for each class. A ``deep`` one has a network with one hidden layer
    for each class. In an ``attention`` head each class pools the tokens by itself and has a weight vector for what it
    pooled: attention with one seed vector a class (Lee et al. 2019, arXiv 1810.00825, section 3.2), which starts as
    the mean. Weights are drawn from torch's global generator.

    Args:
        specs: what the heads answer, each by another name.
        size: E.
        width: D.
        form: one of `FORMS`.
        hidden: U of deep heads.
        sections: K. Class number c sees only the part ``c mod K`` of the embedding: several small networks whose
            outputs lie side by side share out the classes. Of an embedding of several statistics of the tokens, as
            mean and maximum, it is that part of each.

    Raises:
        ValueError: settings that do not fit.
    """

    def __init__(
        self, specs: Sequence[HeadSpec], size: int, width: int, form: str = "linear", hidden: int = 64,
        sections: int = 1,
    ):  # fmt: skip
        super().__init__()
        names = [spec.name for spec in specs]
        if not names or len(set(names)) != len(names):
            raise ValueError(f"heads should be one or more, each of another name, not {names}")
        if form not in FORMS:
            raise ValueError(f"the form of a head is one of {', '.join(FORMS)}, not {form!r}")
        if sections > 1 and form == "attention":
            raise ValueError("sections share out an embedding, which attention heads do not look at; choose another")
        if sections > 1 and (size % width or width % sections):
            raise ValueError(f"{sections} sections cannot be made of an embedding of {size} from tokens of {width}")
        self.specs, self.sections, self.section_width = list(specs), sections, width // sections
        for spec in specs:
            self.add_module(spec.name, _build(form, len(spec.classes), size // sections, width, hidden))

    def forward(self, embedding: Tensor, tokens: Tokens) -> dict[str, Tensor]:
        """Logits ``(B, C)`` of every head by its name.

        Args:
            embedding: ``(B, E)``.
            tokens: what it was pooled from; of attention heads what they pool, blind to padding.
        """
        parts = embedding[:, None]  # (B, K, W)
        if self.sections > 1:
            parts = embedding.unflatten(1, (-1, self.sections, self.section_width)).transpose(1, 2).flatten(2)
        return {spec.name: self.get_submodule(spec.name)(parts, tokens) for spec in self.specs}

    def probabilities(self, logits: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Probabilities ``(B, C)``: of each class by itself, or over the classes where a clip has one of them."""
        kinds = {spec.name: spec.kind for spec in self.specs}
        return {
            name: values.sigmoid() if kinds[name] == "binary" else values.softmax(dim=1)
            for name, values in logits.items()
        }


def _build(form: str, num_classes: int, size: int, width: int, hidden: int) -> nn.Module:
    if form == "linear":
        return _Linear(num_classes, size)
    return _Deep(num_classes, size, hidden) if form == "deep" else _Attention(num_classes, width)


class _Linear(nn.Module):
    def __init__(self, num_classes: int, size: int):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(num_classes, size) * INITIAL_STD)
        self.bias = nn.Parameter(torch.zeros(num_classes))

    def forward(self, parts: Tensor, tokens: Tokens) -> Tensor:
        return _of_classes(parts, self.weight[:, None])[..., 0] + self.bias


class _Deep(nn.Module):
    def __init__(self, num_classes: int, size: int, hidden: int):
        super().__init__()
        self.hidden_weight = nn.Parameter(torch.randn(num_classes, hidden, size) * size**-0.5)
        self.hidden_bias = nn.Parameter(torch.zeros(num_classes * hidden))  # flat, for vectors are spared from decay
        self.weight = nn.Parameter(torch.randn(num_classes, hidden) * INITIAL_STD)
        self.bias = nn.Parameter(torch.zeros(num_classes))

    def forward(self, parts: Tensor, tokens: Tokens) -> Tensor:
        hidden = _of_classes(parts, self.hidden_weight) + self.hidden_bias.view_as(self.weight)  # (B, C, U)
        return torch.einsum("bcu,cu->bc", F.gelu(hidden), self.weight) + self.bias


class _Attention(nn.Module):
    def __init__(self, num_classes: int, width: int):
        super().__init__()
        self.query = nn.Parameter(torch.zeros(num_classes, width))
        self.weight = nn.Parameter(torch.randn(num_classes, width) * INITIAL_STD)
        self.bias = nn.Parameter(torch.zeros(num_classes))

    def forward(self, parts: Tensor, tokens: Tokens) -> Tensor:
        width = self.query.shape[1]
        # Keys have no weights of their own: those of the query say as much.
        scores = F.linear(F.layer_norm(tokens.tokens, (width,)), self.query * width**-0.5)  # (B, N, C)
        if tokens.is_padding is not None:
            scores = scores.masked_fill(tokens.is_padding[..., None], torch.finfo(scores.dtype).min)
        share = scores.softmax(dim=1, dtype=torch.promote_types(scores.dtype, torch.float32))
        # A weighted mean of tokens gives the mean of what they give, which takes C numbers of a token and not C * D.
        return (share * F.linear(tokens.tokens, self.weight)).sum(dim=1) + self.bias


def _of_classes(parts: Tensor, weight: Tensor) -> Tensor:
    """Multiplies the section that each class sees, of ``(B, K, W)``, with its own ``(C, U, W)`` to ``(B, C, U)``."""
    num_classes, num_sections = len(weight), parts.shape[1]
    if missing := -num_classes % num_sections:
        weight = F.pad(weight, (0, 0, 0, 0, 0, missing))
    own = weight.unflatten(0, (-1, num_sections))  # (C / K, K, U, W)
    return torch.einsum("bkw,ckuw->bcku", parts, own).flatten(1, 2)[:, :num_classes]

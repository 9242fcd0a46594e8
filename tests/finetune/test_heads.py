"""Heads equal loops over small modules, see their section alone, and are blind to padding."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from backbones.ast_encoder import Tokens
from finetune.heads import FORMS, Heads, HeadSpec

BATCH, TOKENS, WIDTH, HIDDEN = 5, 7, 12, 6
SPECS = [
    HeadSpec("instrument", "binary", ("violin", "flute", "harp", "tuba", "oboe")),
    HeadSpec("pitch", "classes", ("60", "61", "64")),
    HeadSpec("drums", "binary", ("drums",)),
]


class Separate(nn.Module):
    """One class's classifier, as anybody would write it."""

    def __init__(self, form: str, own: dict[str, torch.Tensor], section: int, sections: int):
        super().__init__()
        self.form, self.section, self.sections = form, section, sections
        self.out = nn.Linear(len(own["weight"]), 1)
        self.out.weight.data, self.out.bias.data = own["weight"][None].clone(), own["bias"][None].clone()
        if form == "deep":
            self.hidden = nn.Linear(own["hidden_weight"].shape[1], HIDDEN)
            self.hidden.weight.data, self.hidden.bias.data = own["hidden_weight"].clone(), own["hidden_bias"].clone()
        if form == "attention":
            self.query = nn.Parameter(own["query"].clone())

    def forward(self, embedding, tokens, is_padding):
        if self.form == "attention":
            pooled = []
            for clip, padding in zip(tokens, is_padding, strict=True):
                sound = clip[~padding]
                scores = F.layer_norm(sound, sound.shape[1:]) @ self.query / sound.shape[1] ** 0.5
                pooled.append(scores.softmax(dim=0) @ sound)
            return self.out(torch.stack(pooled))
        size = WIDTH // self.sections
        statistics = embedding.split(WIDTH, dim=1)  # mean and maximum, say
        seen = torch.cat([one[:, self.section * size : (self.section + 1) * size] for one in statistics], dim=1)
        return self.out(F.gelu(self.hidden(seen)) if self.form == "deep" else seen)


def random_heads(form: str, size: int, sections: int = 1) -> Heads:
    torch.manual_seed(0)
    heads = Heads(SPECS, size, WIDTH, form, HIDDEN, sections)
    for parameter in heads.parameters():
        nn.init.normal_(parameter)  # biases and queries too
    return heads.double()


def own_of(head: nn.Module, number: int) -> dict[str, torch.Tensor]:
    """The weights of one class."""
    own = {name: value.detach() for name, value in head.named_parameters()}
    if "hidden_bias" in own:
        own["hidden_bias"] = own["hidden_bias"].view(-1, HIDDEN)
    return {name: value[number] for name, value in own.items()}


def inputs(size: int) -> tuple[torch.Tensor, Tokens]:
    generator = torch.Generator().manual_seed(1)
    embedding = torch.randn(BATCH, size, generator=generator, dtype=torch.float64, requires_grad=True)
    tokens = torch.randn(BATCH, TOKENS, WIDTH, generator=generator, dtype=torch.float64, requires_grad=True)
    is_padding = torch.arange(TOKENS) >= torch.tensor([7, 3, 5, 1, 6])[:, None]
    return embedding, Tokens(tokens, is_padding, [])


@pytest.mark.parametrize(
    ("form", "size", "sections"),
    [(form, WIDTH, 1) for form in FORMS]
    + [(form, size, sections) for form in ("linear", "deep") for size in (WIDTH, 2 * WIDTH) for sections in (2, 3)],
)
def test_outputs_and_gradients_equal_a_loop_over_separate_modules(form, size, sections):
    heads, (embedding, tokens) = random_heads(form, size, sections), inputs(size)
    separate = {
        spec.name: [
            Separate(form, own_of(heads.get_submodule(spec.name), number), number % sections, sections)
            for number in range(len(spec.classes))
        ]
        for spec in SPECS
    }
    found = heads(embedding, tokens)
    expected = {
        name: torch.cat([one(embedding, tokens.tokens, tokens.is_padding) for one in ones], dim=1)
        for name, ones in separate.items()
    }
    generator = torch.Generator().manual_seed(2)
    loss = {name: torch.randn(values.shape, generator=generator, dtype=torch.float64) for name, values in found.items()}
    read = tokens.tokens if form == "attention" else embedding
    (of_read,) = torch.autograd.grad(sum((found[name] * loss[name]).sum() for name in loss), read, retain_graph=True)
    (expected_of_read,) = torch.autograd.grad(
        sum((expected[name] * loss[name]).sum() for name in loss), read, retain_graph=True
    )
    torch.testing.assert_close(of_read, expected_of_read)
    for spec in SPECS:
        torch.testing.assert_close(found[spec.name], expected[spec.name])
        (found[spec.name] * loss[spec.name]).sum().backward(retain_graph=True)
        (expected[spec.name] * loss[spec.name]).sum().backward(retain_graph=True)
        head = heads.get_submodule(spec.name)
        for number, one in enumerate(separate[spec.name]):
            torch.testing.assert_close(head.weight.grad[number], one.out.weight.grad[0])
            torch.testing.assert_close(head.bias.grad[number], one.out.bias.grad[0])
            if form == "deep":
                torch.testing.assert_close(head.hidden_weight.grad[number], one.hidden.weight.grad)
                torch.testing.assert_close(head.hidden_bias.grad.view(-1, HIDDEN)[number], one.hidden.bias.grad)
            if form == "attention":
                torch.testing.assert_close(head.query.grad[number], one.query.grad)


def test_a_class_sees_its_section_alone():
    heads, (embedding, tokens) = random_heads("deep", 2 * WIDTH, 3), inputs(2 * WIDTH)
    for number in range(5):
        logits = heads(embedding, tokens)["instrument"][:, number].sum()
        (gradient,) = torch.autograd.grad(logits, embedding)
        seen = gradient.ne(0).any(dim=0).view(2, 3, WIDTH // 3).all(dim=2)
        assert seen.tolist() == [[section == number % 3 for section in range(3)]] * 2


def test_attention_starts_as_the_mean_and_ignores_padding_whatever_it_holds():
    heads = Heads(SPECS, WIDTH, WIDTH, "attention")
    embedding, tokens = inputs(WIDTH)
    tokens = tokens._replace(tokens=tokens.tokens.float())
    found = heads(embedding, tokens)["instrument"]
    head = heads.get_submodule("instrument")
    means = torch.stack([clip[~padding].mean(dim=0) for clip, padding in zip(*tokens[:2], strict=True)])
    torch.testing.assert_close(found, F.linear(means, head.weight, head.bias))
    louder = tokens.tokens.masked_fill(tokens.is_padding[..., None], 1e4)
    torch.testing.assert_close(heads(embedding, tokens._replace(tokens=louder))["instrument"], found)
    alone = Tokens(tokens.tokens[1:2, :3], None, [])
    torch.testing.assert_close(heads(embedding, alone)["instrument"], found[1:2])


def test_probabilities_are_of_each_class_or_over_the_classes():
    heads = Heads(SPECS, WIDTH, WIDTH)
    logits = {"instrument": torch.tensor([[0.0, 2.0]]), "pitch": torch.tensor([[1.0, 1.0, 1.0]])}
    found = heads.probabilities(logits)
    assert found.keys() == logits.keys()
    torch.testing.assert_close(found["instrument"], torch.tensor([[0.5, 0.880797]]))
    torch.testing.assert_close(found["pitch"], torch.full((1, 3), 1 / 3))


@pytest.mark.parametrize("form", FORMS)
def test_untrained_heads_are_about_undecided(form):
    torch.manual_seed(0)
    specs = [HeadSpec("instrument", "binary", tuple(str(number) for number in range(100)))]
    heads = Heads(specs, 384, 384, form)
    probability = heads.probabilities(heads(torch.randn(64, 384), Tokens(torch.randn(64, 9, 384), None, [])))
    assert (probability["instrument"] - 0.5).abs().max() < 0.45
    assert (probability["instrument"] - 0.5).abs().mean() < 0.15
    assert heads.get_submodule("instrument").bias.eq(0).all()


def test_biases_are_vectors_which_weight_decay_spares():
    for form in FORMS:
        for name, parameter in Heads(SPECS, WIDTH, WIDTH, form).named_parameters():
            assert (parameter.ndim < 2) == name.endswith("bias"), name


def test_names_on_the_disk():
    names = list(Heads(SPECS[:1], WIDTH, WIDTH, "deep").state_dict())
    expected = ("hidden_weight", "hidden_bias", "weight", "bias")
    assert names == [f"instrument.{name}" for name in expected]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (("timbre", "binary", ("a",)), "a head is one of instrument, family"),
        (("family", "multi", ("a",)), "family is said to be 'multi'"),
        (("family", "binary", ()), "family needs one different classes or more"),
        (("family", "binary", ("string", "string")), "needs one different classes"),
        (("family", "classes", ("string",)), "needs two different classes"),
        (("drums", "binary", ("yes", "no")), "drums is binary with one class of the same name"),
        (("is_instrument", "classes", ("is_instrument",)), "is_instrument is binary"),
        (("pitch", "binary", ("60",)), "pitch is of kind classes"),
    ],
)
def test_a_head_that_cannot_be_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        HeadSpec(*values)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"specs": []}, "one or more, each of another name"),
        ({"specs": [SPECS[0], SPECS[0]]}, "each of another name, not"),
        ({"form": "bilinear"}, "one of linear, deep, attention, not 'bilinear'"),
        ({"form": "attention", "sections": 2}, "attention heads do not look at"),
        ({"sections": 5}, "5 sections cannot be made of an embedding of 12 from tokens of 12"),
        ({"sections": 2, "size": 14}, "embedding of 14 from tokens of 12"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes, message):
    settings = {"specs": SPECS, "size": WIDTH, "width": WIDTH} | changes
    with pytest.raises(ValueError, match=message):
        Heads(**settings)

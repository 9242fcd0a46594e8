"""Tests as the published numbers of IRMAS and OpenMIC-2018 were made: which classes, how windows become clips, when an
instrument is heard, and what is reported.

**irmas**. Trained on excerpts that name their predominant instrument alone, the other ten taken as absent; tested on
excerpts of 5 to 20 s with one to five of the eleven, the rest absent. Windows of an excerpt are averaged and divided by
the largest of the eleven means; an instrument is heard from 0.5 on: Han, Kim and Lee 2017, "Deep convolutional neural
networks for predominant instrument recognition in polyphonic music" (arXiv 1605.09507), section III; S1 of the paper in
print, S2 of the preprint. Their windows are of 1 s, ours as long as the clips that the network learned from. Micro and
macro F1, the latter the mean of the eleven, as in Pons et al. 2017 (arXiv 1703.06697, and its code, which tries
thresholds from 0.25 to 0.6 on the test excerpts; here there is one, chosen beforehand). LRAP as in Kratimenos et al.
2020 (arXiv 1911.12505); the division keeps the order within a clip, and so LRAP.

**openmic**. Trained and tested on what the listeners were asked, a tenth of all labels; a relevance of 0.5 is present
(in PaSST's code it is not). Windows are averaged. mAP: the mean over instruments of the average precision over the
clips that are judged, as in PaSST (Koutini et al. 2022, arXiv 2110.05069, and its code) and those after it. F1 as in
Gururani, Sharma and Lerch 2019 (arXiv 1907.04294, and its code), after Humphrey, Durand and McFee 2018 (ISMIR), whose
baseline prints the same report: for each instrument F1 of "present" and F1 of "absent" at 0.5, their mean (macro) or
their mean weighted by how many clips each has (weighted), then the mean over instruments.

Of OpenMIC's twenty classes this asks eighteen. The label tree does not keep the other two: where "cymbals" or "drums"
are present it has percussion, where a "synthesizer" is it has some instrument. Of the rest, "bass" and
"mallet_percussion" are families, "drums" is the head of that name, and "guitar" is the likeliest of the guitars that
the instrument head knows, or else the family with banjo, mandolin and ukulele in it; where one of those is present as
well, the tree does not say whether a guitar is.

Whoever compares with published numbers prepares the pack with ``--duplicates keep``, or some test clips are missing.

Shapes: W windows, N clips, B rows, C classes of a protocol.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor
from torchmetrics.functional.classification import binary_f1_score

from data.codes import INSTRUMENTS
from data.taxonomy import ALIASES, FAMILIES, INSTRUMENTS_OF_FAMILY, Meaning
from finetune.heads import HeadSpec
from finetune.scores import UNKNOWN, Predictions, score
from finetune.targets import Target

if TYPE_CHECKING:
    from finetune.adapters import Config

Answer = tuple[str, tuple[str, ...]]
"""A head, and those of its classes of which the likeliest answers."""
_HEAD = "instrument"  # what the classes of a protocol are scored as


@dataclass(frozen=True)
class TestProtocol:
    """How a data set is tested."""

    name: str
    """Also the source of its clips in a pack."""
    answers: dict[str, tuple[Answer, ...]]
    """Published class, in published order, to what answers for it; the first that a model has counts."""
    assume_complete: tuple[str, ...]
    """Heads for which a training clip is taken to lack what it does not name."""
    pooling: Literal["mean", "mean_over_largest"]
    """How the windows of a clip become one."""
    threshold: float
    """From which pooled value on a class is heard."""
    reported: dict[str, str]
    """Key of a score to the name it is published under."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Published names of the classes, in published order."""
        return tuple(self.answers)

    @property
    def spec(self) -> HeadSpec:
        """The classes as a head of instruments, for `finetune.scores`."""
        return HeadSpec(_HEAD, "binary", self.classes)

    @property
    def thresholds(self) -> dict[str, Tensor]:
        """The threshold of every class, for `finetune.scores`."""
        return {_HEAD: torch.full((len(self.classes),), self.threshold)}

    def apply_to(self, config: "Config") -> None:
        """Sets what training has to know: whose clips, unless that was said, and which lists are complete.

        Raises:
            ValueError: heads were asked for, and not those that answer.
        """
        if config.sources is None:
            config.sources = [self.name]
        config.assume_complete = list(dict.fromkeys((*config.assume_complete, *self.assume_complete)))
        for name, answers in self.answers.items():
            heads = [head for head, _ in answers]
            if config.heads is not None and not set(heads) & set(config.heads):
                raise ValueError(
                    f"--protocol {self.name} asks about {name}, which takes the head {' or '.join(heads)}, --heads has "
                    f"{', '.join(config.heads)}; add it, or leave --heads out"
                )

    def places(self, specs: Sequence[HeadSpec]) -> list[tuple[str, list[int]]]:
        """For each class, the head of a model that answers, and which of its classes do.

        Raises:
            ValueError: a class that no head of the model knows.
        """
        known, found = {spec.name: spec.classes for spec in specs}, []
        for name, answers in self.answers.items():
            places = [
                (head, [known[head].index(own) for own in classes if own in known[head]])
                for head, classes in answers
                if set(classes) & set(known.get(head, ()))
            ]
            if not places:
                wanted = " or ".join(f"{'/'.join(classes)} of the head {head}" for head, classes in answers)
                heads = ", ".join(f"{spec.name} ({len(spec.classes)})" for spec in specs)
                raise ValueError(
                    f"the protocol {self.name} asks about {name}, for which {wanted} was expected, the model has the "
                    f"heads {heads} without it; train with --protocol {self.name} on clips of {self.name}"
                )
            found.append(places[0])
        return found

    def ask(self, probabilities: Mapping[str, Tensor], specs: Sequence[HeadSpec]) -> Tensor:
        """What the heads of a model say of the classes of the protocol, float ``(W, C)``.

        Args:
            probabilities: head to ``(W, C of the head)``.

        Raises:
            ValueError: see `places`.
        """
        return torch.stack([probabilities[head][:, own].amax(1) for head, own in self.places(specs)], dim=1)

    def targets(self, labels: Mapping[str, Tensor]) -> Target:
        """What is known of the classes, of test clips.

        Args:
            labels: of the clips, see `data.labels.LabelTable.take`.

        Returns:
            value and is_known, ``(B, C)``.
        """
        said = torch.stack([_said(ALIASES[self.name][name], name, labels) for name in self.classes], dim=1)
        return Target((said == 1).float(), said != UNKNOWN)

    def pool(self, window_probabilities: Tensor, clip: Tensor, num_clips: int) -> Tensor:
        """Windows ``(W, C)`` to clips ``(N, C)``.

        Args:
            clip: int64 ``(W,)``, the clip of each window, from 0.

        Raises:
            ValueError: a clip without a window.
        """
        count = torch.bincount(clip, minlength=num_clips)
        if len(count) > num_clips or not count.all():
            raise ValueError(f"windows of {num_clips} clips were expected, found those of {int((count > 0).sum())}")
        sums = window_probabilities.new_zeros(num_clips, window_probabilities.shape[1], dtype=torch.float64)
        mean = sums.index_add(0, clip, window_probabilities.double()) / count[:, None]
        if self.pooling == "mean_over_largest":
            mean = mean / mean.amax(1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
        return mean.float()

    def predictions(self, window_probabilities: Tensor, clip: Tensor, target: Target) -> Predictions:
        """The clips under the one head `spec`, beside what is known of them.

        Args:
            window_probabilities: see `ask`.
            clip: see `pool`.
            target: of the clips, ``(N, C)``.
        """
        pooled = self.pool(window_probabilities, clip, len(target.value))
        return Predictions({_HEAD: pooled}, {_HEAD: target})


def _said(meaning: Meaning, name: str, labels: Mapping[str, Tensor]) -> Tensor:
    """1, 0 or -1 where a label of a data set is present, absent or unknown; int64 ``(B,)``."""
    instrument = labels["instrument"].long()
    if meaning.instrument:
        return instrument[:, INSTRUMENTS.index(meaning.instrument)]
    if name == "drums":
        return labels["drums"].long()
    family = labels["family"][:, FAMILIES.index(meaning.family)].long()
    members = INSTRUMENTS_OF_FAMILY[meaning.family]
    inside = instrument[:, [INSTRUMENTS.index(own) for own in members if own in meaning.candidates]]
    outside = instrument[:, [INSTRUMENTS.index(own) for own in members if own not in meaning.candidates]]
    if not outside.shape[1]:
        return family
    # Where one of the others sounds, the family would be present without it.
    is_present = (inside == 1).any(1) | (family == 1) & (outside != 1).all(1)
    return torch.where(is_present, 1, torch.where((inside == 0).all(1), 0, UNKNOWN))


def protocol_scores(
    protocol: TestProtocol, window_probabilities: Tensor, clip: Tensor, target: Target
) -> dict[str, float]:
    """The scores that a protocol reports, as ``NAME_KEY``; with the ``threshold``, ``classes`` and ``known`` labels.

    Args:
        window_probabilities: ``(W, C)``, see `TestProtocol.ask`.
        clip: int64 ``(W,)``, the clip of each window, from 0.
        target: of the clips, ``(N, C)``, see `TestProtocol.targets`.

    Raises:
        ValueError: no label is known, or a clip has no window.
    """
    predictions = protocol.predictions(window_probabilities, clip, target)
    scores = score(predictions, [protocol.spec], protocol.thresholds)
    values = {key.removeprefix(f"{_HEAD}_"): value for key, value in scores.items()}
    values |= _two_class_f1(predictions, protocol.threshold) | {"threshold": protocol.threshold}
    keys = (*protocol.reported, "threshold", "classes", "known")
    return {f"{protocol.name}_{key}": values[key] for key in keys if key in values}


def _two_class_f1(predictions: Predictions, threshold: float) -> dict[str, float]:
    """F1 of present and of absent, averaged and weighted by support, over the classes that have both."""
    values, is_known = predictions.targets[_HEAD]
    heard = predictions.probabilities[_HEAD] >= threshold
    macro, weighted = [], []
    for place in range(heard.shape[1]):
        guess, truth = (column[is_known[:, place], place].long() for column in (heard, values))
        share = truth.double().mean()
        if 0 < share < 1:
            present, absent = binary_f1_score(guess, truth), binary_f1_score(1 - guess, 1 - truth)
            macro.append((present + absent) / 2)
            weighted.append(share * present + (1 - share) * absent)
    if not macro:
        return {}
    return {"f1_two_class": torch.stack(macro).mean().item(), "f1_weighted": torch.stack(weighted).mean().item()}


def _answers(source: str, name: str) -> tuple[Answer, ...]:
    """What the label tree has for a label of a data set."""
    meaning = ALIASES[source][name]
    if name == "drums":
        return (("drums", ("drums",)),)
    if meaning.instrument:
        return (("instrument", (meaning.instrument,)),)
    family = ("family", (meaning.family,))
    members = INSTRUMENTS_OF_FAMILY[meaning.family]
    if set(members) == meaning.candidates:
        return (family,)
    return ("instrument", tuple(own for own in members if own in meaning.candidates)), family


_LEFT_OUT = {"openmic": ("cymbals", "synthesizer")}


def _all_answers(source: str) -> dict[str, tuple[Answer, ...]]:
    return {name: _answers(source, name) for name in ALIASES[source] if name not in _LEFT_OUT.get(source, ())}


PROTOCOLS = {
    "irmas": TestProtocol(
        name="irmas",
        answers=_all_answers("irmas"),
        assume_complete=("instrument",),
        pooling="mean_over_largest",
        threshold=0.5,
        reported={"f1_micro": "F1 micro", "f1_macro": "F1 macro", "lrap": "LRAP"},
    ),
    "openmic": TestProtocol(
        name="openmic",
        answers=_all_answers("openmic"),
        assume_complete=(),
        pooling="mean",
        threshold=0.5,
        reported={"map": "mAP", "auc": "ROC AUC", "f1_two_class": "F1 macro", "f1_weighted": "F1 weighted"},
    ),
}
"""Name, as of ``--protocol``, to protocol."""

"""What learns from numbers that stay as they are: from features of clips to the logits of every head.

Every class is a question of its own, learned from the clips of which its answer is known, by all classifiers but two:
``logistic`` solves all questions of all heads as one problem, and ``attentive`` (finetune/attentive.py) trains them
together. A class that these clips do not tell apart gets the same logit everywhere.

Shapes: N clips to learn from, M others, E features of a clip, C classes of a head.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.neighbors import KNeighborsRegressor
from sklearn.svm import SVC
from torch import Tensor
from torch.nn.functional import logsigmoid, one_hot

from finetune.heads import HeadSpec
from finetune.targets import Target
from losses.heads import binary_loss, class_loss

MOST_ITERATIONS = 500
MOST_SVM_CLIPS = 20_000
"""Clips whose kernel fits into the memory of most machines."""
_LEAST = 1e-3
"""The smallest probability that neighbours and constants speak of, and one less the largest."""

Fitted = Callable[[np.ndarray], dict[str, Tensor]]
"""From features ``(M, ...)`` to the logits ``(M, C)`` of every head, float32: of yes or no for each class, or over the
classes of a head that answers one."""
Answers = Callable[[np.ndarray], np.ndarray]
"""From features ``(M, E)`` to the log-odds ``(M, C)`` of each class of one head."""


class Clips(NamedTuple):
    """Features of some clips with what is known of them."""

    features: np.ndarray
    """float32 ``(N, E)``, standardised; for ``attentive`` the tokens."""
    targets: dict[str, Target]


def fit_logistic(clips: Clips, specs: Sequence[HeadSpec], seed: int, device: torch.device, c: float) -> Fitted:
    """Logistic regression of all classes of all heads, see `logistic_weights`.

    Args:
        seed: is not needed, the problem has one solution.
        device: where it is solved.
    """
    weight, bias = logistic_weights(clips, specs, device, c)
    sizes = [len(spec.classes) for spec in specs]

    def logits(features: np.ndarray) -> dict[str, Tensor]:
        found = torch.addmm(bias, torch.from_numpy(features), weight).split(sizes, dim=1)
        return {spec.name: own for spec, own in zip(specs, found, strict=True)}

    return logits


def logistic_weights(clips: Clips, specs: Sequence[HeadSpec], device: torch.device, c: float) -> tuple[Tensor, Tensor]:
    """Logistic regressions of all classes of all heads, solved as one problem by L-BFGS.

        sum over heads, classes and clips of what is known of the cross-entropy  +  |W|^2 / (2 c)

    The classes of a head that answers one are told apart by a softmax. As the questions share nothing but the solver,
    each gets what `sklearn.linear_model.LogisticRegression` finds with ``C=c``.

    Args:
        device: where it is solved.

    Returns:
        W ``(E, C)`` and the biases ``(C,)``, the classes of all heads behind one another, on the CPU.
    """
    features = torch.from_numpy(clips.features).to(device)  # (N, E)
    targets = {name: Target(*(part.to(device) for part in target)) for name, target in clips.targets.items()}
    sizes = [len(spec.classes) for spec in specs]
    weight = torch.zeros(features.shape[1], sum(sizes), device=device, requires_grad=True)
    bias = torch.zeros(sum(sizes), device=device, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight, bias], max_iter=MOST_ITERATIONS, history_size=20, tolerance_grad=1e-6, tolerance_change=1e-9,
        line_search_fn="strong_wolfe",
    )  # fmt: skip

    def objective() -> Tensor:
        optimizer.zero_grad()
        logits = torch.addmm(bias, features, weight).split(sizes, dim=1)
        total = weight.square().sum() / (2 * c)
        for spec, own in zip(specs, logits, strict=True):
            total = total + (binary_loss if spec.kind == "binary" else class_loss)(own, *targets[spec.name]).total
        mean = total / len(features)  # so that the solver's tolerances fit any number of clips
        mean.backward()
        return mean

    optimizer.step(objective)
    return weight.detach().cpu(), bias.detach().cpu()


def each_head(fit: Callable[..., Answers]) -> Callable[..., Fitted]:
    """Makes a classifier of what learns yes or no for each class of one head.

    Args:
        fit: ``fit(features, is_present, is_known, seed, **setting)`` with bool ``(N, C)``.
    """

    def fit_all(clips: Clips, specs: Sequence[HeadSpec], seed: int, device: torch.device, **setting: Any) -> Fitted:
        answers = {
            spec.name: fit(clips.features, *questions(spec, clips.targets[spec.name]), seed, **setting)
            for spec in specs
        }

        def logits(features: np.ndarray) -> dict[str, Tensor]:
            found = {name: torch.from_numpy(of(features)).float() for name, of in answers.items()}
            for spec in specs:
                if spec.kind == "classes":  # a softmax of logarithms shares out the probabilities as they are
                    found[spec.name] = logsigmoid(found[spec.name])
            return found

        return logits

    return fit_all


def questions(spec: HeadSpec, target: Target) -> tuple[np.ndarray, np.ndarray]:
    """Whether each class is there, and whether that is known, bool ``(N, C)`` both."""
    value, is_known = target.value, target.is_known
    if spec.kind == "classes":
        value = one_hot(torch.where(is_known, value, 0), len(spec.classes))
        is_known = is_known[:, None].expand_as(value)
    return (value >= 0.5).numpy(), is_known.numpy()


def fit_svm(
    features: np.ndarray, is_present: np.ndarray, is_known: np.ndarray, seed: int, c: float, width: float
) -> Answers:
    """A support vector machine with a Gaussian kernel for each class; what it gives is no probability yet.

    Args:
        width: gamma is this over E, so that 1 is what sklearn calls ``scale``.
    """
    gamma = width / features.shape[1]
    kernel = rbf_kernel(features, gamma=gamma)  # (N, N), of all classes alike

    def fit(place: int) -> tuple[np.ndarray, float]:
        known = np.flatnonzero(is_known[:, place])
        weight, said = np.zeros(len(features), features.dtype), is_present[known, place]
        if len(np.unique(said)) < 2:
            return weight, _constant(said)
        model = SVC(C=c, kernel="precomputed", random_state=seed).fit(kernel[np.ix_(known, known)], said)
        weight[known[model.support_]] = model.dual_coef_[0]
        return weight, float(model.intercept_[0])

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # libsvm works without the interpreter
        weights, biases = zip(*pool.map(fit, range(is_present.shape[1])), strict=True)
    weight, bias = np.stack(weights, axis=1), np.array(biases, features.dtype)  # (N, C), (C,)
    return lambda others: rbf_kernel(others, features, gamma) @ weight + bias


def fit_gradient_boosting(
    features: np.ndarray, is_present: np.ndarray, is_known: np.ndarray, seed: int, leaves: int, smallest: int
) -> Answers:
    """A hundred boosted trees for each class.

    Args:
        leaves: of a tree, at most.
        smallest: clips of a leaf, at least.
    """

    def fit(place: int) -> Callable[[np.ndarray], np.ndarray]:
        known = is_known[:, place]
        said = is_present[known, place]
        if len(np.unique(said)) < 2:
            return lambda others: np.full(len(others), _constant(said))
        model = HistGradientBoostingClassifier(
            max_leaf_nodes=leaves, min_samples_leaf=smallest, early_stopping=False, random_state=seed
        )
        return model.fit(features[known], said).decision_function

    answers = [fit(place) for place in range(is_present.shape[1])]
    return lambda others: np.stack([answer(others) for answer in answers], axis=1)


def fit_knn(features: np.ndarray, is_present: np.ndarray, is_known: np.ndarray, seed: int, neighbours: int) -> Answers:
    """The share of the nearest clips by cosine, among those that know, that have the class; nearer ones count more.

    Classes that are known of the same clips share one search.
    """
    patterns, which = np.unique(is_known, axis=1, return_inverse=True)
    parts = []
    for number, known in enumerate(patterns.T):
        places = np.flatnonzero(which.reshape(-1) == number)
        if known.any():
            model = KNeighborsRegressor(min(neighbours, int(known.sum())), metric="cosine", weights="distance")
            said = is_present[np.ix_(known, places)].astype(np.float32)
            parts.append((places, model.fit(features[known], said)))

    def answers(others: np.ndarray) -> np.ndarray:
        share = np.full((len(others), is_present.shape[1]), 0.5)
        for places, model in parts:
            share[:, places] = model.predict(others).reshape(len(others), -1)
        share = share.clip(_LEAST, 1 - _LEAST)
        return np.log(share / (1 - share))

    return answers


def _constant(said: np.ndarray) -> float:
    """The log-odds of a class of which some clips, or none, say the same."""
    share = (said.sum() + 1) / (len(said) + 2)
    return float(np.log(share / (1 - share)))


def standardised(train: np.ndarray, *others: np.ndarray) -> list[np.ndarray]:
    """Features ``(N, E)`` with a mean of 0 and a deviation of 1 over the training clips, and others likewise.

    A feature that does not change there is 0 everywhere.
    """
    mean, std = train.mean(axis=0, dtype=np.float64), train.std(axis=0, dtype=np.float64)
    scale = np.divide(1, std, out=np.zeros_like(std), where=std > 1e-9 * np.maximum(1, np.abs(mean)))
    return [((part - mean) * scale).astype(np.float32) for part in (train, *others)]

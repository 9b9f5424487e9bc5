"""Averages of trained weights: soups of models that were fine-tuned from the same start (Wortsman et al. 2022).

The weights of such models lie in one basin of the loss, so their mean is a model too, and often a better one, that
costs no more than one of them.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from vitrail.build import LazyCheckpoint, open_checkpoint
from vitrail.config import to_dict
from vitrail.data.loading.loader import Loader, LoaderConfig
from vitrail.data.source import Source
from vitrail.errors import UserError
from vitrail.evaluation import evaluate
from vitrail.predictor import Predictor
from vitrail.trainable import Trainable, require_trainable

State: TypeAlias = Mapping[str, Tensor]
"""Tensors by name."""


@dataclass(frozen=True)
class Soup:
    """The result of :func:`greedy`.

    Attributes:
        state: the mean of the ingredients.
        ingredients: the names of those that are in it, best first.
        scores: of each candidate alone.
        score: of the mean.
    """

    state: dict[str, Tensor]
    ingredients: tuple[str, ...]
    scores: dict[str, float]
    score: float


@dataclass(frozen=True)
class Averaged:
    """The result of :func:`average`.

    Attributes:
        predictor: with the averaged weights.
        ingredients: the models in the average.
        scores: of each model alone by ``monitor``, and ``score`` that of the average; None where nothing was measured.
        monitor: the metric that was measured.
    """

    predictor: Predictor
    ingredients: tuple[str, ...]
    scores: Mapping[str, float] | None = None
    score: float | None = None
    monitor: str | None = None


def mean(states: Sequence[State]) -> dict[str, Tensor]:
    """The uniform soup: the mean of every tensor, summed in double precision. Tensors of integers are the first's."""
    running = _Mean()
    for state in states:
        running = running.plus(state)
    return running.state(like=states[0])


def greedy(
    candidates: Mapping[str, Callable[[], State]],
    score: Callable[[State], float],
    mode: Literal["max", "min"] = "max",
) -> Soup:
    """The greedy soup (Wortsman et al. 2022, algorithm 1): from the best candidate on, each one stays in the mean if
    the mean is no worse with it. So the result is no worse on the images of ``score`` than the best candidate.

    Args:
        candidates: by name, a function that reads the weights; one of them is in memory at a time.
        score: of weights, on held-out images.
        mode: whether larger or smaller scores are better.
    """
    sign = 1 if mode == "max" else -1
    scores = {name: score(read()) for name, read in candidates.items()}
    best_first = sorted(scores, key=lambda name: math.inf if math.isnan(scores[name]) else -sign * scores[name])
    first = candidates[best_first[0]]()
    soup, best, ingredients = _Mean().plus(first), scores[best_first[0]], best_first[:1]
    for name in best_first[1:]:
        tried = soup.plus(candidates[name]())
        reached = score(tried.state(like=first))
        if sign * reached >= sign * best:
            soup, best, ingredients = tried, reached, [*ingredients, name]
    return Soup(soup.state(like=first), tuple(ingredients), scores, best)


def average(
    weights: Sequence[str | Path],
    held_out: Source | None = None,
    *,
    batch_size: int = 128,
    device: str | torch.device = "auto",
    allow_pickle: bool = False,
    names: str | None = None,
) -> Averaged:
    """Average models of one architecture: all of them, or with ``held_out`` those of the greedy soup.

    Args:
        weights: run folders or weights files, two or more, that were trained from the same weights.
        held_out: labelled images that no model was trained on, such as the validation split.
        batch_size: of the measurement.
        allow_pickle, names: as of :func:`vitrail.load`.

    Raises:
        UserError: fewer than two, or models that differ in more than their weights.
    """
    opened = {str(path): open_checkpoint(path, allow_pickle=allow_pickle, names=names) for path in weights}
    if len(opened) < 2:
        raise UserError("an average takes two or more different models; name them all")
    _require_alike(opened)
    first = next(iter(opened.values()))
    if held_out is None:
        state = mean([found.read() for found in opened.values()])
        return Averaged(_predictor(first, state, {}, device), tuple(opened))
    predictor = _predictor(first, first.read(), {}, device)
    task = require_trainable(predictor.task)
    monitor = _monitor(task)
    loader = Loader(held_out, predictor.preprocess, LoaderConfig(batch_size=batch_size), train=False)

    def score(state: State) -> float:
        task.load_state_dict(state)
        return evaluate(task, loader, device=predictor.device).metrics[monitor]

    soup = greedy({name: each.read for name, each in opened.items()}, score, task.monitor_mode)
    loader.close()
    task.load_state_dict(soup.state)
    predictor.metrics = {monitor: soup.score}
    return Averaged(predictor, soup.ingredients, soup.scores, soup.score, monitor)


class _Mean:
    """A sum of tensors of floats in double precision, and of how many states."""

    def __init__(self, total: State | None = None, count: int = 0) -> None:
        self.total, self.count = dict(total or {}), count

    def plus(self, state: State) -> _Mean:
        floats = {name: value.double() for name, value in state.items() if value.is_floating_point()}
        return _Mean({name: self.total.get(name, 0) + value for name, value in floats.items()}, self.count + 1)

    def state(self, like: State) -> dict[str, Tensor]:
        """The mean, in the dtypes of ``like``, which also gives what is no float."""
        return {
            name: (self.total[name] / self.count).to(value.dtype) if name in self.total else value
            for name, value in like.items()
        }


def _monitor(task: Trainable) -> str:
    if task.monitor is None:
        raise UserError(f"{task.name!r} has no metric that orders weights; average all with method uniform")
    return task.monitor


def _predictor(found: LazyCheckpoint, state: State, metrics: dict[str, float], device: str | torch.device) -> Predictor:
    filled = dataclasses.replace(found, read=lambda: dict(state))
    return Predictor(filled.load(), found.preprocess, device=device, metrics=metrics)


def _require_alike(opened: Mapping[str, LazyCheckpoint]) -> None:
    """Check that the models differ in nothing but their weights.

    Raises:
        UserError: names the first two that differ, and in what.
    """
    (first, like), *others = opened.items()
    for name, found in others:
        pairs = {
            "task": (like.task.name, found.task.name),
            "config": (to_dict(like.task.config), to_dict(found.task.config)),
            "preprocessing": (to_dict(like.preprocess), to_dict(found.preprocess)),
        }
        for what, (a, b) in pairs.items():
            if a != b:
                raise UserError(
                    f"{first} and {name} have another {what}{_where(a, b)}; average models of one architecture that "
                    "were trained from the same weights"
                )


def _where(a: object, b: object, path: str = "") -> str:
    """The first setting in which two plain values differ, as `` (model.depth: 2 and 3)``."""
    if isinstance(a, dict) and isinstance(b, dict):
        key = next(key for key in [*a, *b] if a.get(key) != b.get(key))
        return _where(a.get(key), b.get(key), f"{path}.{key}" if path else key)
    shown = [text if len(text := repr(value)) < 60 else f"{text[:57]}…" for value in (a, b)]
    return f" ({path}: {shown[0]} and {shown[1]})" if path else f" ({shown[0]} and {shown[1]})"

"""Temperature scaling: probabilities that match frequencies, by one number that is fitted on held-out images.

The last layer of the model is divided by the temperature (Guo et al. 2017, section 4.2). So the file itself is
calibrated: every engine, export, server and library that computes its outputs computes calibrated ones, and no
prediction changes.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor, nn

from vitrail.data.loading.loader import Loader, LoaderConfig
from vitrail.data.source import Source
from vitrail.errors import UserError
from vitrail.evaluation import Evaluation, evaluate
from vitrail.metrics.classification import cross_entropy, hard_labels, predicted
from vitrail.pooled import PooledModel
from vitrail.predictor import Predictor
from vitrail.tasks.classification import Task as Classification
from vitrail.tasks.multilabel import Task as MultiLabel
from vitrail.trainable import Embedder

LIMIT = 100.0  # the temperature is sought between its inverse and it
TEMPERATURE = "temperature"
"""The name under which a file's metrics hold the temperature that its last layer was divided by."""


@dataclass(frozen=True)
class Calibrated:
    """The result of :func:`calibrate`.

    Attributes:
        predictor: a calibrated copy.
        temperature: over 1 where the model was too sure of itself, under 1 where it was not sure enough.
        images: how many it was fitted on.
        before, after: the metrics on those images.
    """

    predictor: Predictor
    temperature: float
    images: int
    before: dict[str, float]
    after: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """All numbers as JSON types; undefined ones are null."""
        parts = {"before": self.before, "after": self.after}
        finite = {name: {k: v if math.isfinite(v) else None for k, v in part.items()} for name, part in parts.items()}
        return {"temperature": self.temperature, "images": self.images, **finite}


def calibrate(predictor: Predictor, held_out: Source, *, batch_size: int = 128) -> Calibrated:
    """A copy whose probabilities fit the labels of held-out images best, by one temperature for all classes.

    Args:
        held_out: labelled images that the model was not trained on, such as the validation split.

    Raises:
        UserError: a task without class probabilities, a model that is an exported graph or without a linear last layer,
            or images that are all classified right or no better than by chance.
    """
    task = predictor.task
    if not isinstance(task, Classification | MultiLabel):
        raise UserError(f"temperatures scale class probabilities and {task.name!r} has none; choose a classifier")
    if next(task.parameters()).is_meta:
        raise UserError("an exported file cannot be changed; calibrate the weights it came from, and export them again")
    before = _measured(predictor, held_out, batch_size)
    logits, targets = torch.from_numpy(before.outputs), torch.from_numpy(before.targets)
    several = isinstance(task, MultiLabel)
    temperature = fit_temperature_of_sigmoids(logits, targets) if several else fit_temperature(logits, targets)
    scaled = copy.deepcopy(task)
    divide_outputs(scaled, temperature)
    found = Predictor(scaled, predictor.preprocess.config, device=predictor.device, exact=predictor.exact)
    after = _measured(found, held_out, batch_size).metrics
    total = temperature * predictor.metrics.get(TEMPERATURE, 1.0)
    found.metrics = {name: value for name, value in after.items() if math.isfinite(value)} | {TEMPERATURE: total}
    return Calibrated(found, temperature, len(before.index), before.metrics, after)


def fit_temperature(logits: Tensor, targets: Tensor) -> float:
    """The T that minimises the mean cross-entropy of softmax(z / T), which is convex in 1 / T.

    Args:
        logits: z, (N, K).
        targets: classes (N,), or probabilities (N, K).

    Raises:
        UserError: every image is classified right, so that the smaller the temperature, the better; or the logits are
            no better than equal ones.
    """
    labels = hard_labels(targets)
    if bool((predicted(logits) == labels).all()):
        raise _too_easy(len(logits))
    return _fitted(lambda scale: float(cross_entropy(logits.double() * scale, targets).mean()))


def fit_temperature_of_sigmoids(logits: Tensor, targets: Tensor) -> float:
    """The T that minimises the mean binary cross-entropy of sigmoid(z / T). Arguments and errors as of
    :func:`fit_temperature`, targets (N, K)."""
    if bool(((logits > 0) == (targets > 0.5)).all()):
        raise _too_easy(len(logits))
    loss = nn.functional.binary_cross_entropy_with_logits
    return _fitted(lambda scale: float(loss(logits.double() * scale, targets.double())))


@torch.no_grad()
def divide_outputs(task: Embedder, temperature: float) -> None:
    """Divide weights and biases of the last layer by the temperature, in place.

    Raises:
        UserError: the last layer is not linear.
    """
    if not isinstance(task, PooledModel):
        raise UserError(f"{task.name!r} has no linear last layer that could be scaled; choose a classifier")
    for layer in (task.head.output, task.head.distillation):
        for parameter in layer.parameters() if layer is not None else ():
            parameter.div_(temperature)


def _measured(predictor: Predictor, source: Source, batch_size: int) -> Evaluation:
    loader = Loader(source, predictor.preprocess, LoaderConfig(batch_size=batch_size), train=False)
    found = evaluate(predictor.task, loader, device=predictor.device)
    loader.close()
    return found


def _fitted(loss: Callable[[float], float]) -> float:
    limit = math.log(LIMIT)
    found = minimize_scalar(
        lambda log_scale: loss(math.exp(log_scale)),
        bounds=(-limit, limit),
        method="bounded",
        options={"xatol": 1e-8},
    )
    temperature = math.exp(-float(found.x))
    if temperature > 0.99 * LIMIT:
        raise UserError(
            "the model is no better than chance on these images, so no temperature fits; check their labels"
        )
    return temperature


def _too_easy(count: int) -> UserError:
    return UserError(
        f"all {count} images are classified right, which no temperature fits best; give images with mistakes among them"
    )

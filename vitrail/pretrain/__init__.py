"""Learning from pictures without labels, one method a file.

A method keeps the contract of a task (:mod:`vitrail.tasks`) without a prediction: ``Config``, and ``Task`` with a
``loss`` that needs no targets. Its outputs are the features of its backbone, and metrics tell what those are worth.
"""

from __future__ import annotations

import sys
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NoReturn

import numpy as np
import torch
from torch import Tensor

from vitrail.config import from_dict, to_dict
from vitrail.data import keyed_random
from vitrail.data.batch import Batch
from vitrail.errors import UserError
from vitrail.metrics import representation
from vitrail.ops.patches import Pair
from vitrail.tasks import Task
from vitrail.vit import Features, ViTConfig

COLLAPSED = 0.02  # spread of features, or share of the largest entropy
_NO_LABELS = "was pretrained without labels and predicts none: fine-tune it with `vitrail train DATA --init`"


@dataclass(frozen=True)
class Panel:
    """One column of the pictures that show what a method learns.

    Attributes:
        images: B C H W, normalised as the model's input; else, if not ``normalised``, grey or RGB from 0 to 1.
    """

    title: str
    images: Tensor
    normalised: bool = True


class Pretraining(Task):
    """A task whose targets are in the images themselves. Outputs: features B D."""

    monitor: ClassVar[str | None] = None  # no measure without labels says which weights are best: the last are
    monitor_mode: ClassVar[Literal["max", "min"]] = "max"
    takes = ("none", "class", "multilabel", "number")

    @classmethod
    def configure(
        cls, model: ViTConfig, names: Sequence[str], targets: np.ndarray[Any, Any], options: dict[str, Any]
    ) -> Any:
        """The method's config; labels are not looked at."""
        return from_dict(sys.modules[cls.__module__].Config, {**options, "model": to_dict(model)})

    def forward(self, images: Tensor) -> Tensor:
        """B C H W → the class token, or the mean of the patches where there is none, B D."""
        return pooled(self.backbone(images))

    def embed(self, images: Tensor) -> Tensor:
        """The same."""
        return self(images)

    def forward_with_embedding(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The same, twice."""
        features = self(images)
        return features, features

    def forward_head(self, vectors: Tensor) -> Tensor:
        """The same."""
        return vectors

    def diagnose(self, means: Mapping[str, float]) -> str | None:
        """A collapse: all images have the same features, or the teacher says the same of all."""
        spread, entropy = means.get("feature_std", 1.0), means.get("teacher_entropy", 0.5)
        what = None
        if spread < COLLAPSED:
            what = f"all images have nearly the same features (feature_std {spread:.2g})"
        elif not COLLAPSED < entropy < 1 - COLLAPSED / 4:
            said = "one answer" if entropy < 0.5 else "every answer alike"
            what = f"the teacher gives {said} for all images (teacher_entropy {entropy:.3g} of its most)"
        return what and f"the pretraining seems to collapse: {what}; try a lower optimizer.lr or a smaller model"

    @abstractmethod
    def show(self, batch: Batch) -> list[Panel]:
        """What it makes of some ``images`` (with their ``keys``), in evaluation mode and without gradients."""

    def decode(self, outputs: Tensor, size: Pair) -> NoReturn:
        """Raises UserError: there is nothing to predict."""
        raise UserError(f"a model of the method {self.name!r} {_NO_LABELS}")

    def metrics(self) -> representation.Metrics:
        """Spread, rank and nearest neighbours of the features."""
        return representation.Metrics()


def pooled(features: Features) -> Tensor:
    """What stands for an image: the class token, or the mean of the patches where there is none, B D."""
    return features.patches.mean(dim=1) if features.cls is None else features.cls


def uniform(batch: Batch, stream: str, num: int, like: Tensor) -> Tensor:
    """Numbers in [0, 1), (B, num) float32 on the device of ``like``, that hang on each sample's key alone.

    Neither the batch nor the rank that a sample is in changes them, so several processes learn what one learns.
    """
    keys = batch["keys"].numpy().view(np.uint64)
    numbers = (
        torch.from_numpy(keyed_random.uniform(keys, stream, num)).float().clamp_(max=1 - 2**-24)
    )  # rounding could make 1
    return numbers.to(like.device, non_blocking=True)

"""Test-time augmentation: the mean of what a model says of an image and of its mirror image.

::

    predictor = average_views(vitrail.load("runs/birds"))
    predictor.predict("photo.jpg").label
"""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor

from vitrail.engines import Engine
from vitrail.errors import UserError
from vitrail.predictions import Prediction
from vitrail.predictor import Predictor
from vitrail.tasks import Task

P = TypeVar("P", bound=Prediction)
MIRRORED = (False, True)


def average_views(predictor: Predictor[P]) -> Predictor[P]:
    """The same predictor, which takes twice the time: outputs are averaged as the task says (``Task.average_views``),
    feature vectors by their mean.

    Raises:
        UserError: a task that does not average its outputs, such as detection.
    """
    task = predictor.task
    if not isinstance(task, Task) or type(task).average_views is Task.average_views:
        raise UserError(f"{task.name!r} does not average the outputs of several views; leave out tta")
    return predictor.with_engine(Views(predictor.engine, task))


class Views:
    """An engine that runs another one on every view of the images."""

    def __init__(self, engine: Engine, task: Task[Prediction]) -> None:
        self.engine, self.task = engine, task

    def __call__(self, images: Tensor, *padding: Tensor) -> Tensor:
        """Images (B, C, H, W) → averaged outputs."""
        views = [
            self.engine(_view(images, mirrored), *(_view(each, mirrored) for each in padding)) for mirrored in MIRRORED
        ]
        return self.task.average_views(views, MIRRORED)

    def embed(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) → the mean vectors (B, D)."""
        return torch.stack([self.engine.embed(_view(images, mirrored)) for mirrored in MIRRORED]).mean(dim=0)


def _view(images: Tensor, mirrored: bool) -> Tensor:
    return images.flip(-1) if mirrored else images

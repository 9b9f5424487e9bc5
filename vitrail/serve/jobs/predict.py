"""Predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from vitrail.predictions import Prediction
from vitrail.serve.jobs import Job

if TYPE_CHECKING:
    from vitrail.data.transforms.geometry import ImageGeometry
    from vitrail.predictor import Predictor


@dataclass(frozen=True)
class Predict(Job[Prediction]):
    """The task's prediction of each image, of at least a score where one is given."""

    threshold: float | None = None

    def run(self, predictor: Predictor, pixels: Tensor, geometries: Sequence[ImageGeometry]) -> list[Prediction]:
        """In the pixels of each image. Errors as :meth:`Job.run`."""
        if self.threshold is not None:
            predictor = predictor.at_threshold(self.threshold)
        return predictor.predict_pixels(pixels, geometries)

"""Feature vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from vitrail.serve.jobs import Job

if TYPE_CHECKING:
    from vitrail.data.transforms.geometry import ImageGeometry
    from vitrail.predictor import Predictor


@dataclass(frozen=True)
class Embed(Job[np.ndarray]):
    """The feature vector of each image, float32 (D,)."""

    def run(self, predictor: Predictor, pixels: Tensor, geometries: Sequence[ImageGeometry]) -> list[np.ndarray]:
        """As :meth:`Job.run`."""
        return predictor.embed_pixels(pixels)

"""The attention of one token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from vitrail.explain.query_attention import query_attention
from vitrail.serve.jobs import Job

if TYPE_CHECKING:
    from vitrail.data.transforms.geometry import ImageGeometry
    from vitrail.predictor import Predictor


@dataclass(frozen=True)
class Attention(Job[np.ndarray]):
    """What one token attends to in each image: float32 (layers, heads, h, w).

    Args:
        patch: the token, counted row by row; None: the class token, or the mean of all patches where there is none.
    """

    patch: int | None = None

    def run(self, predictor: Predictor, pixels: Tensor, geometries: Sequence[ImageGeometry]) -> list[np.ndarray]:
        """Errors as :meth:`Job.run`: there is no such patch."""
        images = predictor.preprocess.finish(pixels).to(predictor.device)
        return [query_attention(predictor.task, image[None], self.patch) for image in images]

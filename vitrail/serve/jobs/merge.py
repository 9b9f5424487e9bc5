"""Token merging: which patches become one token in each layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor

from vitrail.compress import apply
from vitrail.compress.reduced import ReducedFeatures
from vitrail.predictions import Prediction
from vitrail.serve.jobs import Job
from vitrail.tasks import Predicting
from vitrail.trainable import image_encoder

if TYPE_CHECKING:
    from vitrail.data.transforms.geometry import ImageGeometry
    from vitrail.predictor import Predictor


@dataclass(frozen=True)
class Merged:
    """The tokens of one image.

    Attributes:
        sources: int64 (layers, h, w): the token that each patch is part of after each layer.
        prediction: with merging; None where the model makes features alone.
    """

    sources: np.ndarray
    prediction: Prediction | None


@dataclass(frozen=True)
class Merge(Job[Merged]):
    """Token merging (Bolya et al. 2023, ToMe).

    Args:
        r: patch tokens to merge in each layer.
    """

    r: int = 8

    @torch.inference_mode()
    def run(self, predictor: Predictor, pixels: Tensor, geometries: Sequence[ImageGeometry]) -> list[Merged]:
        """Errors as :meth:`Job.run`: more than half of the patches of a layer, or a model that cannot merge."""
        smaller = apply(predictor, "tome", r=self.r)
        images = smaller.preprocess.finish(pixels).to(smaller.device)
        layers = cast("list[ReducedFeatures]", image_encoder(smaller.task).intermediates(images))
        sources = torch.stack([each.source for each in layers], dim=1).unflatten(2, layers[0].grid)
        predictions = predict_if_trained(smaller, pixels, geometries)
        return [Merged(*each) for each in zip(sources.cpu().numpy(), predictions, strict=True)]


def predict_if_trained(
    predictor: Predictor, pixels: Tensor, geometries: Sequence[ImageGeometry]
) -> list[Prediction] | list[None]:
    """The predictions of a task; None for each image where the model makes features alone."""
    trained = isinstance(predictor.task, Predicting)
    return predictor.predict_pixels(pixels, geometries) if trained else [None] * len(pixels)

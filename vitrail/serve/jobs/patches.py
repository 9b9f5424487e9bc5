"""Features of the patches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from vitrail.explain import layer_index
from vitrail.explain.patch_features import PatchFeatures, patch_features
from vitrail.serve.jobs import Job

if TYPE_CHECKING:
    from vitrail.data.transforms.geometry import ImageGeometry
    from vitrail.predictor import Predictor


@dataclass(frozen=True)
class Patches(Job[PatchFeatures]):
    """The patch features of each image.

    Args:
        layer: the block that they come from; -1 is the last.
    """

    layer: int = -1

    def run(self, predictor: Predictor, pixels: Tensor, geometries: Sequence[ImageGeometry]) -> list[PatchFeatures]:
        """Errors as :meth:`Job.run`: there is no such layer."""
        images, layer = (
            predictor.preprocess.finish(pixels).to(predictor.device),
            layer_index(predictor.task, self.layer),
        )
        return [patch_features(predictor.task, image[None], layer=layer) for image in images]

"""Maps of patches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from vitrail.explain import PatchMap, explain
from vitrail.serve.jobs import Job

if TYPE_CHECKING:
    from vitrail.data.transforms.geometry import ImageGeometry
    from vitrail.predictor import Predictor


@dataclass(frozen=True)
class Explain(Job[list[PatchMap]]):
    """The maps of each image.

    Args:
        method: a file of ``vitrail/explain/methods``.
        options: name and value of the method's options that were given.
    """

    method: str = "rollout"
    options: tuple[tuple[str, int], ...] = ()

    def run(self, predictor: Predictor, pixels: Tensor, geometries: Sequence[ImageGeometry]) -> list[list[PatchMap]]:
        """Errors as :meth:`Job.run`: a layer, head or class that the model does not have."""
        images = predictor.preprocess.finish(pixels).to(predictor.device)
        options: dict[str, Any] = dict(self.options)
        return [explain(predictor.task, image[None], self.method, **options) for image in images]

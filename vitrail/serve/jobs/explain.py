"""Maps of patches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from vitrail.explain import PatchMap, explain
from vitrail.serve.jobs import Job
from vitrail.trainable import image_encoder

if TYPE_CHECKING:
    from vitrail.data.transforms.geometry import ImageGeometry
    from vitrail.predictor import Predictor


@dataclass(frozen=True)
class Explain(Job[list[PatchMap]]):
    """The maps of each image.

    Args:
        method: a file of ``vitrail/explain/methods``.
        options: name and value of the method's options that were given.
        point: x and y of its option ``patch``, as shares of the sides of the model's input.
    """

    method: str = "rollout"
    options: tuple[tuple[str, int], ...] = ()
    point: tuple[float, ...] | None = None

    def run(self, predictor: Predictor, pixels: Tensor, geometries: Sequence[ImageGeometry]) -> list[list[PatchMap]]:
        """Errors as :meth:`Job.run`: a layer, head or class that the model does not have."""
        images = predictor.preprocess.finish(pixels).to(predictor.device)
        options: dict[str, Any] = dict(self.options)
        if self.point is not None:
            rows, columns = image_encoder(predictor.task).grid(images)
            column, row = (min(int(s * n), n - 1) for s, n in zip(self.point, (columns, rows), strict=True))
            options["patch"] = row * columns + column
        return [explain(predictor.task, image[None], self.method, **options) for image in images]

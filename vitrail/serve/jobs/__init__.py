"""What the models' process computes for a request, one kind a file.

A kind is a frozen dataclass, whose fields are the request's options. Images of requests that are equal are computed in
one batch. A file of this folder defines it; a route makes one and awaits ``service.compute(model, job, images)``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Generic, TypeVar

from torch import Tensor

if TYPE_CHECKING:
    from vitrail.data.transforms.geometry import ImageGeometry
    from vitrail.predictor import Predictor

R = TypeVar("R")


class Job(ABC, Generic[R]):
    """One computation; hashable and picklable, as every frozen dataclass of plain values is."""

    @property
    def kind(self) -> str:
        """The name of its file."""
        return type(self).__module__.rpartition(".")[2]

    @abstractmethod
    def run(self, predictor: Predictor, pixels: Tensor, geometries: Sequence[ImageGeometry]) -> list[R]:
        """One result an image.

        Args:
            pixels: uint8 (B, C, H, W) at the model's input size, from ``Preprocess.pixels``.
            geometries: where these lie in their images.

        Raises:
            UserError: options that the model cannot fulfil.
        """

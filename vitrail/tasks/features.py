"""Features: an encoder without a trained head, for embeddings, explanations, and as the start of a fine-tuning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field
from torch import Tensor

from vitrail.config import config
from vitrail.data.transforms.geometry import ImageGeometry
from vitrail.pooled import PooledConfig, PooledModel
from vitrail.predictions.pictures import card, draw_caption
from vitrail.tasks import Predicting


@config
class Config(PooledConfig):
    """Args:
    projection: width of a linear map of the pooled vector (CLIP's into the space of images and texts); 0: none.
    """

    projection: Annotated[int, Field(ge=0, le=65536)] = 0


@dataclass(frozen=True, repr=False)
class Prediction:
    """The feature vector of one image."""

    features: NDArray[np.float32]
    """(D,)."""

    def to_dict(self, top: int = 5) -> dict[str, Any]:
        """``features``."""
        return {"features": self.features.tolist()}

    def draw(self, image: Image.Image) -> Image.Image:
        """The image with the length of its vector in a band below."""
        return draw_caption(image, self._lines())

    def __repr__(self) -> str:
        return f"<{self._lines()[0]}>"

    def _repr_png_(self) -> bytes:
        return card(self._lines())

    def _lines(self) -> list[str]:
        return [f"{len(self.features)} features, norm {np.linalg.norm(self.features):.3f}"]


class Task(PooledModel, Predicting[Prediction]):
    """Outputs: features B D, or their projection B K. It learns from nothing."""

    config: Config

    @property
    def num_outputs(self) -> int:
        """Width of the projection."""
        return self.config.projection

    def embed(self, images: Tensor) -> Tensor:
        """B C H W → B D, normalised and projected where the model does so."""
        return self.head(super().embed(images))

    def forward_head(self, vectors: Tensor) -> Tensor:
        """The vectors themselves."""
        return vectors

    def decode(self, outputs: Tensor, geometries: Sequence[ImageGeometry]) -> list[Prediction]:
        """The rows."""
        return [Prediction(row) for row in outputs.detach().float().cpu().numpy()]

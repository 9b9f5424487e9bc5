"""Features: a backbone without a trained head, for embedding, for looking into, and to start a fine-tuning from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, NoReturn

import numpy as np
from PIL import Image
from pydantic import Field
from torch import Tensor

from vitrail.config import config
from vitrail.data.batch import Batch
from vitrail.errors import UserError
from vitrail.ops.patches import Pair
from vitrail.tasks._pooled import PooledConfig, PooledTask, draw_caption
from vitrail.vit import ViTConfig

_NO_HEAD = "this model has no trained head: use `vitrail embed`, or `vitrail train --init` to give it one"


@config
class Config(PooledConfig):
    """Args:
    projection: width of a linear map of the pooled vector (CLIP's into the space of images and texts); 0: none.
    """

    projection: Annotated[int, Field(ge=0, le=65536)] = 0


@dataclass(frozen=True)
class Prediction:
    """The feature vector of one image."""

    features: np.ndarray[Any, Any]
    """(D,) float32."""

    def to_dict(self) -> dict[str, Any]:
        """``features``."""
        return {"features": self.features.tolist()}

    def draw(self, image: Image.Image) -> Image.Image:
        """The image, with the size of its vector below."""
        norm = float(np.linalg.norm(self.features))
        return draw_caption(image, [f"{len(self.features)} features, norm {norm:.3f}"])


class Task(PooledTask):
    """Outputs: features B D (or their projection B K). It learns from nothing: ``takes`` is empty."""

    monitor: ClassVar[str] = "none"
    takes = ()
    config: Config

    @classmethod
    def configure(
        cls, model: ViTConfig, names: Sequence[str], targets: np.ndarray[Any, Any], options: dict[str, Any]
    ) -> NoReturn:
        """Raises UserError: there is nothing to learn."""
        raise UserError(_NO_HEAD)

    @property
    def num_outputs(self) -> int:
        """Width of the projection."""
        return self.config.projection

    def embed(self, images: Tensor) -> Tensor:
        """B C H W → B D, normalised and projected where the model does so."""
        return self.head(super().embed(images))

    def forward_head(self, vectors: Tensor) -> Tensor:
        """The same."""
        return vectors

    def loss(self, batch: Batch) -> NoReturn:
        """Raises UserError: no targets."""
        raise UserError(_NO_HEAD)

    def decode(self, outputs: Tensor, size: Pair) -> list[Prediction]:
        """The rows."""
        return [Prediction(row) for row in outputs.detach().float().cpu().numpy()]

    def metrics(self) -> NoReturn:
        """Raises UserError: nothing to measure."""
        raise UserError(_NO_HEAD)

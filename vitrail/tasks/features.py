"""Features: an encoder without a trained head, for embeddings, explanations, and as the start of a fine-tuning."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor

from vitrail.config import config
from vitrail.pooled import PooledConfig, PooledModel


@config
class Config(PooledConfig):
    """Args:
    projection: width of a linear map of the pooled vector (CLIP's into the space of images and texts); 0: none.
    """

    projection: Annotated[int, Field(ge=0, le=65536)] = 0


class Task(PooledModel):
    """Outputs: features B D, or their projection B K. It learns from nothing and predicts nothing."""

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

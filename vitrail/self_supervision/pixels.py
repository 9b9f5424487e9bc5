"""What methods share whose targets are colours: models take normalised images, and targets are pixels from 0 to 1."""

from __future__ import annotations

import torch
from pydantic import model_validator
from torch import Tensor

from vitrail.config import config
from vitrail.data.transforms.preprocess import PerChannel
from vitrail.ops.tables import kept
from vitrail.vit import ViTConfig


@config
class PixelsConfig:
    """Args:
    mean, std: the preprocessing's, one number for all channels or one for each.
    """

    model: ViTConfig
    mean: PerChannel = (0.5,)
    std: PerChannel = (0.5,)

    @model_validator(mode="after")
    def _one_or_each(self) -> PixelsConfig:
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, self.model.channels):
                raise ValueError(
                    f"{name} has {len(values)} values for {self.model.channels} channels; give those of data.preprocess"
                )
        if min(self.std) <= 0:
            raise ValueError("a standard deviation is above 0; give those of data.preprocess")
        return self

    def pixels(self, images: Tensor) -> Tensor:
        """Normalised B C H W → float32 from 0 to 1."""
        return (images.float() * _column(self.std, images) + _column(self.mean, images)).clamp(0, 1)

    def normalised(self, pixels: Tensor) -> Tensor:
        """The inverse."""
        return (pixels - _column(self.mean, pixels)) / _column(self.std, pixels)


def _column(values: tuple[float, ...], like: Tensor) -> Tensor:
    return kept(torch.tensor, like.device, values).view(-1, 1, 1)

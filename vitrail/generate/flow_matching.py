"""Flow matching: images move on straight lines from noise (Lipman et al. 2023; Liu et al. 2023, rectified flow).

By default as in JiT (Li & He 2025): a plain ViT on pixels predicts the image, and the loss is of the velocity.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor

from vitrail.config import config
from vitrail.denoising import Denoiser, DenoiserConfig
from vitrail.generate import Generative
from vitrail.ops.diffusion import PathKind, logit_normal


@config
class Config(DenoiserConfig):
    """Args:
    time_mean, time_std: of the logits of training times, which are normal (Esser et al. 2024); a lower mean is more
        noise.
    """

    time_mean: Annotated[float, Field(ge=-10, le=10)] = -0.8
    time_std: Annotated[float, Field(gt=0, le=10)] = 0.8


class Task(Denoiser, Generative):
    """A diffusion transformer on the straight path."""

    config: Config

    @property
    def path_kind(self) -> PathKind:
        return "linear"

    def times(self, uniform: Tensor) -> Tensor:
        """Logit-normal."""
        return logit_normal(uniform, self.config.time_mean, self.config.time_std)

"""Denoising diffusion as first published: the network predicts the noise (Ho et al. 2020, DDPM), and pictures are drawn
by DDIM (Song et al. 2021). For comparison, and for weights of others."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from vitrail.config import config
from vitrail.denoising import Denoiser, DenoiserConfig
from vitrail.generate import Generative
from vitrail.ops.diffusion import PathKind, Prediction
from vitrail.sampling import SamplerConfig


@config
class Config(DenoiserConfig):
    """Args:
    schedule: of the noise: that of DDPM, or the cosine of Nichol & Dhariwal (2021).
    """

    predicts: Prediction = "e"
    loss_of: Prediction = "e"
    sampler: SamplerConfig = SamplerConfig(name="euler", steps=50, interval=(0.0, 1.0))
    schedule: Literal["ddpm", "cosine"] = "ddpm"


class Task(Denoiser, Generative):
    """A diffusion transformer on a path that keeps the variance."""

    config: Config

    @property
    def path_kind(self) -> PathKind:
        return self.config.schedule

    def times(self, uniform: Tensor) -> Tensor:
        """All alike."""
        return uniform

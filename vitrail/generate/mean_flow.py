"""Pictures in one or a few steps: the network learns the mean velocity between two times (Geng et al. 2025, MeanFlow).

From z at time t the image moves to time r by (r − t) · u(z, t, r). The identity u = v + (r − t) · du/dt, along the
straight path with velocity v, gives the target of u; its derivative is a difference quotient of the network without
gradients. As in Lu et al. (2026, pixel mean flows) the network predicts an image x, and u = (x − z) / (1 − t).

Shapes: B batch, C H W image. Times are from 0 (noise) to 1 (image).
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

import torch
from pydantic import Field, model_validator
from torch import Tensor

from vitrail.config import config
from vitrail.data.batch import Batch
from vitrail.data.sample_random import uniform
from vitrail.denoising import Denoiser, DenoiserConfig
from vitrail.generate import Generative
from vitrail.nn.conditions import NO_CLASS
from vitrail.ops.diffusion import SMALLEST, PathKind, logit_normal
from vitrail.ops.inverse import Measurement
from vitrail.sampling import SamplerConfig, Start, filled
from vitrail.trainable import Losses

STEP = 5e-3  # of the difference quotient, in time
FLOOR = 1e-3  # of the error that a sample's weight divides by


@config
class Config(DenoiserConfig):
    """Args:
    time_mean, time_std: of the logits of both times, which are normal.
    share: of the images for which the two times differ; the others learn the velocity itself.
    guidance: weight of classifier-free guidance that is learned, so that drawing needs no second evaluation; 1: none.
    """

    sampler: SamplerConfig = SamplerConfig(name="euler", steps=4, interval=(0.0, 1.0))
    time_mean: Annotated[float, Field(ge=-10, le=10)] = -0.4
    time_std: Annotated[float, Field(gt=0, le=10)] = 1.0
    share: Annotated[float, Field(ge=0, le=1)] = 0.5
    guidance: Annotated[float, Field(ge=1, le=20)] = 1.0

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        if (self.predicts, self.loss_of) != ("x", "v"):
            raise ValueError("mean velocities follow from predicted images: leave predicts and loss_of out")
        return self


class Task(Denoiser, Generative):
    """A diffusion transformer with two times: where it is, and how far it goes."""

    num_times = 2
    config: Config

    @property
    def path_kind(self) -> PathKind:
        return "linear"

    def times(self, uniform: Tensor) -> Tensor:
        """Logit-normal."""
        return logit_normal(uniform, self.config.time_mean, self.config.time_std)

    def network(self, noisy: Tensor, times: Tensor, labels: Tensor | None) -> Tensor:
        """The image that the velocity itself points to: no way to go."""
        return self.dit(noisy, torch.stack((times, torch.zeros_like(times))), labels)

    def mean_velocity(self, noisy: Tensor, start: Tensor, end: Tensor, labels: Tensor | None) -> Tensor:
        """u from time ``start`` to ``end``, both B: B C H W."""
        image = self.dit(noisy, torch.stack((start, end - start)), labels).float()
        return (image - noisy) / (1 - start).clamp_min(SMALLEST)[:, None, None, None]

    def loss(self, batch: Batch) -> Losses:
        """The squared error of the mean velocity, each image weighted by the inverse of its own (the paper, eq. 22)."""
        images, keys = batch["images"], batch["keys"]
        drawn = uniform(keys, "time", 3, images)
        first, second = self.times(drawn[:, 0]), self.times(drawn[:, 1])
        start = torch.minimum(first, second)
        end = torch.where(drawn[:, 2] < self.config.share, torch.maximum(first, second), start)
        noise, labels = self._noise(keys, images), self.told(batch)
        noisy = self.path.mix(images, noise, start)
        with torch.no_grad():
            velocity = self._guided(noisy, start, images - noise, labels)
            after, before = (self._moved(noisy, velocity, start, end, labels, sign * STEP) for sign in (1, -1))
            slope = (after - before) / (2 * STEP)
            target = velocity + (end - start)[:, None, None, None] * slope
        errors = (self.mean_velocity(noisy, start, end, labels) - target).square().mean(dim=(1, 2, 3))
        weighted = (errors / (errors.detach() + FLOOR)).mean()
        return {"loss": weighted, "error": errors.detach().mean()}

    def draw(
        self,
        noise: Tensor,
        conditions: Tensor,
        sampler: SamplerConfig | None = None,
        measurement: Measurement | None = None,
        start: Start | None = None,
    ) -> Tensor:
        """Images B C H W; see :meth:`vitrail.generate.Generative.draw`."""
        sampler = sampler or self.sampler
        labels = conditions if self.config.classes else None
        times = sampler.times(0.0 if start is None else start.time)
        noisy = noise if start is None else self.path.mix(start.image.expand_as(noise), noise, filled(noise, times[0]))
        for now, then in pairwise(times):
            goal = then if measurement is None else 1.0
            velocity = self._drawn(noisy, now, goal, labels, sampler)
            if measurement is None:
                noisy = noisy + (then - now) * velocity
                continue
            image = measurement.project(noisy + (1 - now) * velocity)
            found = self.path.separate(noisy, image, filled(noisy, now), "x")
            noisy = self.path.mix(*found, filled(noisy, then))
        return noisy

    def _drawn(self, noisy: Tensor, now: float, then: float, labels: Tensor | None, sampler: SamplerConfig) -> Tensor:
        at, to = filled(noisy, now), filled(noisy, then)
        velocity = self.mean_velocity(noisy, at, to, labels)
        if labels is None or not sampler.guides(now):
            return velocity
        without = self.mean_velocity(noisy, at, to, torch.full_like(labels, NO_CLASS))
        return without + sampler.guidance * (velocity - without)

    def _guided(self, noisy: Tensor, times: Tensor, velocity: Tensor, labels: Tensor | None) -> Tensor:
        """The velocity to learn: with guidance, moved away from that of no class (the paper, eq. 19)."""
        if labels is None or self.config.guidance == 1:
            return velocity
        without = self.mean_velocity(noisy, times, times, torch.full_like(labels, NO_CLASS))
        moved = self.config.guidance * velocity + (1 - self.config.guidance) * without
        return torch.where((labels == NO_CLASS)[:, None, None, None], velocity, moved)

    def _moved(
        self, noisy: Tensor, velocity: Tensor, start: Tensor, end: Tensor, labels: Tensor | None, step: float
    ) -> Tensor:
        """The mean velocity from a little further along the path, to the same end."""
        return self.mean_velocity(noisy + step * velocity, start + step, end, labels)

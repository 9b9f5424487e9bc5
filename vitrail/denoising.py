"""Models that learn to remove noise from images and draw images by doing so, step by step.

Shapes: B batch, C H W image. Times are from 0 (noise) to 1 (image).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from vitrail.config import config
from vitrail.data.batch import Batch
from vitrail.data.sample_random import normal, uniform
from vitrail.dit import ConditionConfig, DiT
from vitrail.generation import ImageGenerator
from vitrail.metrics import Rows, denoising
from vitrail.nn.conditions import NO_CLASS
from vitrail.nn.encoder import Encoder
from vitrail.ops.diffusion import PATHS, Denoised, Path, PathKind, Prediction
from vitrail.ops.inverse import Measurement
from vitrail.sampling import SamplerConfig, Start, filled
from vitrail.trainable import Forward, Losses
from vitrail.vit import ViTConfig


@config
class DenoiserConfig:
    """What all such models have.

    Args:
        classes: names; none: images are drawn without a condition.
        condition: how the transformer takes time and class.
        predicts: what the network computes: the image, the noise, or the velocity.
        loss_of: what the squared error is of.
        variances: whether the network also computes variances (Nichol & Dhariwal 2021), as files of others do; they are
            not used, and nothing learns them.
        drop_class: share of the images whose class is not told, which guidance needs.
        noise_scale: deviation of the noise; more where images have more pixels (JiT: their side / 256).
        sampler: how images are drawn.
    """

    model: ViTConfig
    classes: tuple[str, ...] = ()
    condition: ConditionConfig = ConditionConfig()
    predicts: Prediction = "x"
    loss_of: Prediction = "v"
    variances: bool = False
    drop_class: Annotated[float, Field(ge=0, lt=1)] = 0.1
    noise_scale: Annotated[float, Field(gt=0, le=100)] = 1.0
    sampler: SamplerConfig = SamplerConfig()


class Denoiser(ImageGenerator):
    """A diffusion transformer on pixels."""

    num_times: ClassVar[int] = 1
    config: DenoiserConfig

    def __init__(self, config: DenoiserConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.model.channels * (2 if config.variances else 1)
        self.dit = DiT(config.model, len(config.classes), config.condition, channels, self.num_times)

    @property
    def path(self) -> Path:
        """From noise to images."""
        return PATHS[self.path_kind]

    @property
    @abstractmethod
    def path_kind(self) -> PathKind:
        """Its name."""

    @abstractmethod
    def times(self, uniform: Tensor) -> Tensor:
        """Numbers in [0, 1) → the times of training images, B."""

    @property
    def names(self) -> tuple[str, ...]:
        """The classes."""
        return self.config.classes

    @property
    def sampler(self) -> SamplerConfig:
        """As in the file."""
        return self.config.sampler

    def encoders(self) -> Mapping[str, Encoder]:
        """The transformer's."""
        return {"dit.vit": self.dit.vit}

    def embed(self, images: Tensor) -> Tensor:
        """B C H W → the mean of the patches in the middle of the network, for images without noise and class, B D."""
        middle = self.dit.vit.depth // 2
        times = torch.stack((filled(images, 1.0), *[filled(images, 0.0)] * (self.num_times - 1)))
        return self.dit.forward_with_features(images, times, layer=middle)[1].mean(dim=1)

    def network(self, noisy: Tensor, times: Tensor, labels: Tensor | None) -> Tensor:
        """What the network computes at times B: B C H W."""
        return self.dit(noisy, times, labels)[:, : self.config.model.channels]

    def loss(self, batch: Batch) -> Losses:
        """The mean squared error, each image at a time of its own."""
        images, keys = batch["images"], batch["keys"]
        times = self.times(uniform(keys, "time", 1, images)[:, 0])
        return {"loss": self.errors(batch, times, self.told(batch)).mean()}

    def evaluate_batch(self, batch: Batch, forward: Forward | None = None) -> Rows:
        """Time and loss of each image, (B, 2), at times as in training."""
        times = self.times(uniform(batch["keys"], "time", 1, batch["images"])[:, 0])
        return torch.stack((times, self.errors(batch, times, self.labels(batch)).float()), dim=1)

    def metrics(self) -> denoising.Metrics:
        """The loss by time."""
        return denoising.Metrics()

    def errors(self, batch: Batch, times: Tensor, labels: Tensor | None) -> Tensor:
        """The mean squared error of each image, B."""
        images = batch["images"]
        truth = Denoised(images, self._noise(batch["keys"], images))
        noisy = self.path.mix(*truth, times)
        found = self.path.separate(noisy, self.network(noisy, times, labels).float(), times, self.config.predicts)
        error = self._wanted(found, times) - self._wanted(truth, times)
        return error.square().mean(dim=(1, 2, 3))

    def told(self, batch: Batch) -> Tensor | None:
        """The labels, but for some images no class."""
        if (labels := self.labels(batch)) is None:
            return None
        dropped = uniform(batch["keys"], "class", 1, batch["images"])[:, 0] < self.config.drop_class
        return labels.masked_fill(dropped, NO_CLASS)

    def noise(self, keys: Tensor) -> Tensor:
        """Normal noise B C H W."""
        model = self.config.model
        like = torch.empty(model.channels, *model.image_size, device=self.dit.pixels.weight.device)
        return self._noise(keys, like)

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
        times = sampler.times(0.0 if start is None else start.time)
        if start is not None:
            noise = self.path.mix(start.image.expand_as(noise), noise, filled(noise, times[0]))
        guided = Guided(self, conditions, sampler, measurement)
        images = sampler.solve(guided, noise, times, self.path)
        return images if measurement is None else measurement.project(images)

    def _noise(self, keys: Tensor, like: Tensor) -> Tensor:
        """Of images of the size of ``like``, (…, C, H, W)."""
        return self.config.noise_scale * normal(keys, "noise", tuple(like.shape[-3:]), like)

    def _wanted(self, found: Denoised, times: Tensor) -> Tensor:
        """What the squared error is of."""
        if self.config.loss_of == "v":
            return self.path.velocity(found, times)
        return found.image if self.config.loss_of == "x" else found.noise


class Guided:
    """Images and noise as a model finds them, with classifier-free guidance (Ho & Salimans 2022) and a measurement."""

    def __init__(
        self, model: Denoiser, labels: Tensor, sampler: SamplerConfig, measurement: Measurement | None = None
    ) -> None:
        self.model, self.sampler, self.measurement = model, sampler, measurement
        self.labels = labels if model.config.classes else None

    def __call__(self, noisy: Tensor, time: float) -> Denoised:
        """B C H W at one time."""
        times, predicted = filled(noisy, time), self._predicted(noisy, time)
        found = self.model.path.separate(noisy, predicted, times, self.model.config.predicts)
        if self.measurement is None:
            return found
        image = self.measurement.project(found.image)
        return self.model.path.separate(noisy, image, times, "x")

    def _predicted(self, noisy: Tensor, time: float) -> Tensor:
        network, labels = self.model.network, self.labels
        if labels is None or not self.sampler.guides(time):
            return network(noisy, filled(noisy, time), labels).float()
        both = torch.cat((noisy, noisy))
        told = torch.cat((labels, torch.full_like(labels, NO_CLASS)))
        found = network(both, filled(both, time), told).float()
        with_class, without = found.unflatten(0, (2, -1)).unbind()  # which a graph takes for any batch
        return without + self.sampler.guidance * (with_class - without)

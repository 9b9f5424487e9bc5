"""The contract of generative models, one a file of this folder: conditions in, images out.

A method's module defines ``Config``, with the classes and the sampler's settings, and ``Task``, a :class:`Generative`.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from torch import Tensor

from vitrail.generation import ImageGenerator
from vitrail.ops.inverse import Measurement
from vitrail.registry import submodules
from vitrail.sampling import SamplerConfig, Start


class Generative(ImageGenerator):
    """A model that draws images: from noise, by conditions."""

    @abstractmethod
    def noise(self, keys: Tensor) -> Tensor:
        """What images are made of, (B, ...) float32 on the model's device; each from its own key alone.

        Args:
            keys: int64 (B,) on the CPU.
        """

    @abstractmethod
    def draw(
        self,
        noise: Tensor,
        conditions: Tensor,
        sampler: SamplerConfig | None = None,
        measurement: Measurement | None = None,
        start: Start | None = None,
    ) -> Tensor:
        """Images float32 (B, C, H, W), normalised as the model's inputs.

        Args:
            noise: as :meth:`noise` makes it.
            conditions: indices of classes int64 (B,), -1 for none.
            sampler: default: :attr:`sampler`.
            measurement: what the images must agree with, such as the known part of an image.
            start: an image to begin from, in place of noise alone.

        Raises:
            UserError: settings that the method does not have.
        """

    def sample(self, conditions: Tensor, keys: Tensor, sampler: SamplerConfig | None = None) -> Tensor:
        """Images of keys int64 (B,), whatever the batch; else as :meth:`draw`."""
        noise = self.noise(keys)
        return self.draw(noise, conditions.to(noise.device), sampler)


if not TYPE_CHECKING:  # else a mistake in a name would go unnoticed
    __getattr__ = submodules(__name__)

"""Paths from noise to images, and what a network may predict on them.

At time t, from 0 (noise) to 1 (image), z = α(t) · x + σ(t) · e with an image x and normal noise e. The velocity is
v = dz/dt = α′ · x + σ′ · e. Of x, e and v any two follow from z and the third.

Shapes: times B, all else B C H W.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.special import ndtri

Prediction = Literal["x", "e", "v"]
"""The image, the noise, or the velocity."""
PathKind = Literal["linear", "cosine", "ddpm"]
SMALLEST = 0.05  # what is divided by, at least (Li & He 2025, JiT, section 3)


class Denoised(NamedTuple):
    """What a noisy image is thought to be made of: B C H W each."""

    image: Tensor
    noise: Tensor


class Path(ABC):
    """α and σ with their derivatives."""

    @abstractmethod
    def alpha(self, t: Tensor) -> Tensor:
        """The share of the image."""

    @abstractmethod
    def sigma(self, t: Tensor) -> Tensor:
        """The share of the noise."""

    @abstractmethod
    def slopes(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """α′ and σ′."""

    def mix(self, image: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """z, B C H W."""
        return _each(self.alpha(t)) * image + _each(self.sigma(t)) * noise

    def velocity(self, found: Denoised, t: Tensor) -> Tensor:
        """v, B C H W."""
        alpha, sigma = self.slopes(t)
        return _each(alpha) * found.image + _each(sigma) * found.noise

    def separate(self, noisy: Tensor, predicted: Tensor, t: Tensor, kind: Prediction) -> Denoised:
        """What a prediction says that z is made of, B C H W. Where α or σ is nearly 0, the part that vanishes there is
        taken as if it were :data:`SMALLEST`."""
        alpha, sigma = _each(self.alpha(t)), _each(self.sigma(t))
        if kind == "x":
            return Denoised(predicted, (noisy - alpha * predicted) / sigma.clamp_min(SMALLEST))
        if kind == "e":
            return Denoised((noisy - sigma * predicted) / alpha.clamp_min(SMALLEST), predicted)
        d_alpha, d_sigma = (_each(slope) for slope in self.slopes(t))
        scale = alpha * d_sigma - sigma * d_alpha
        return Denoised(
            (d_sigma * noisy - sigma * predicted) / scale,
            (alpha * predicted - d_alpha * noisy) / scale,
        )


class Linear(Path):
    """α = t, σ = 1 − t: rectified flow (Liu et al. 2023), flow matching (Lipman et al. 2023)."""

    def alpha(self, t: Tensor) -> Tensor:
        return t

    def sigma(self, t: Tensor) -> Tensor:
        return 1 - t

    def slopes(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return torch.ones_like(t), -torch.ones_like(t)


class Cosine(Path):
    """α = sin πt/2, σ = cos πt/2 (Nichol & Dhariwal 2021)."""

    def alpha(self, t: Tensor) -> Tensor:
        return (t * math.pi / 2).sin()

    def sigma(self, t: Tensor) -> Tensor:
        return (t * math.pi / 2).cos()

    def slopes(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return math.pi / 2 * self.sigma(t), -math.pi / 2 * self.alpha(t)


class Ddpm(Path):
    """α² = Π (1 − β) with β growing linearly from 1e-4 to 0.02 over 1,000 steps (Ho et al. 2020), in continuous time:
    log α = −¼ s² (20 − 0.1) − ½ s · 0.1 with s = 1 − t (Song et al. 2021, equation 33)."""

    low, high = 0.1, 20.0

    def alpha(self, t: Tensor) -> Tensor:
        s = 1 - t
        return (-0.25 * s**2 * (self.high - self.low) - 0.5 * s * self.low).exp()

    def sigma(self, t: Tensor) -> Tensor:
        return (1 - self.alpha(t) ** 2).clamp_min(0).sqrt()

    def slopes(self, t: Tensor) -> tuple[Tensor, Tensor]:
        alpha = self.alpha(t)
        d_alpha = alpha * 0.5 * ((1 - t) * (self.high - self.low) + self.low)
        return d_alpha, -alpha * d_alpha / self.sigma(t).clamp_min(1e-4)


PATHS: dict[PathKind, Path] = {"linear": Linear(), "cosine": Cosine(), "ddpm": Ddpm()}


def logit_normal(uniform: Tensor, mean: float, std: float) -> Tensor:
    """Numbers in (0, 1) → times whose logits are normal (Esser et al. 2024, equation 19)."""
    return torch.sigmoid(mean + std * normal(uniform))


def normal(uniform: Tensor) -> Tensor:
    """Numbers in [0, 1) → normal ones, by the inverse of their distribution."""
    smallest = 2.0**-25
    return ndtri(uniform.clamp(smallest, 1 - smallest))


def _each(values: Tensor) -> Tensor:
    """B → B 1 1 1."""
    return values[:, None, None, None]

"""Colour augmentation of an entire batch, each sample by its own key: jitter, grey, blur, solarisation.

Images are float32 (B, C, H, W) from 0 to 255; C is 1 or 3. The operations are torchvision's on floats
(Chen et al. 2020, SimCLR, appendix A, put them together in this order).
"""

from __future__ import annotations

import math
from typing import Annotated, TypeAlias

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import conv2d, pad

from vitrail.config import config
from vitrail.data.keyed_random import Keys, uniform
from vitrail.data.transforms.batched import PositiveRange

Probability = Annotated[float, Field(ge=0, le=1)]
Strength = Annotated[float, Field(ge=0)]
Jitter: TypeAlias = tuple[Strength, Strength, Strength, Annotated[float, Field(ge=0, le=0.5)]]
_LUMA = (0.2989, 0.587, 0.114)  # ITU-R 601, of Pillow and torchvision


@config
class ColourConfig:
    """What happens to which share of the images, in this order.

    Attributes:
        jitter: strength of the change in brightness, contrast, saturation and hue, which come in random order.
        blur_sigma: range of the Gaussian's standard deviation, in pixels.
        solarise: bright pixels (128 and more) are inverted.
    """

    jitter: Jitter = (0.0, 0.0, 0.0, 0.0)
    jitter_probability: Probability = 1.0
    grey: Probability = 0.0
    blur: Probability = 0.0
    blur_sigma: PositiveRange = (0.1, 2.0)
    solarise: Probability = 0.0

    def __bool__(self) -> bool:
        return bool((any(self.jitter) and self.jitter_probability) or self.grey or self.blur or self.solarise)


def recolour(images: Tensor, keys: Keys, config: ColourConfig) -> Tensor:
    """A changed copy of float images (B, C, H, W) from 0 to 255."""
    images = images.clone()
    draws = uniform(keys, "colour", 4)
    if any(config.jitter):
        _jitter(images, keys, draws[:, 0] < config.jitter_probability, config.jitter)
    if config.grey:
        _change(images, draws[:, 1] < config.grey, _grey)
    if config.blur:
        low, high = config.blur_sigma
        chosen = np.flatnonzero(draws[:, 2] < config.blur)
        sigmas = low + (high - low) * uniform(keys[chosen], "blur", 1)[:, 0]
        images[chosen] = blurred(images[chosen], torch.from_numpy(sigmas).float(), limit=high)
    if config.solarise:
        _change(images, draws[:, 3] < config.solarise, lambda x: torch.where(x >= 128, 255 - x, x))
    return images


def luma(images: Tensor) -> Tensor:
    """(B, C, H, W) → its brightness (B, 1, H, W)."""
    if images.shape[1] == 1:
        return images
    return sum(weight * images[:, i, None] for i, weight in enumerate(_LUMA))  # type: ignore[return-value]


def blurred(images: Tensor, sigmas: Tensor, limit: float) -> Tensor:
    """Each image with its own Gaussian, mirrored at the borders.

    Args:
        sigmas: (B,) standard deviations in pixels, at most ``limit``, which sets the kernel's size.
    """
    batch, channels, *size = images.shape
    if not batch:
        return images
    for axis, length in ((-2, size[0]), (-1, size[1])):
        radius = min(math.ceil(3 * limit), length - 1)
        offsets = torch.arange(-radius, radius + 1)
        kernels = torch.exp(-0.5 * (offsets / sigmas[:, None]) ** 2)
        kernels = (kernels / kernels.sum(1, keepdim=True)).repeat_interleave(channels, 0)
        shape, border = ((-1, 1), (0, 0, radius, radius)) if axis == -2 else ((1, -1), (radius, radius, 0, 0))
        padded = pad(images, border, mode="reflect").flatten(0, 1)[None]
        images = conv2d(padded, kernels.reshape(len(kernels), 1, *shape), groups=batch * channels)[0].unflatten(
            0, (batch, channels)
        )
    return images


def _jitter(images: Tensor, keys: Keys, chosen: np.ndarray, strengths: Jitter) -> None:
    """Four changes in an order of each sample's own; in place."""
    draws = torch.from_numpy(2 * uniform(keys, "jitter", 4) - 1).float()
    order = uniform(keys, "jitter order", 4).argsort(axis=1)
    operations = (_brightness, _contrast, _saturation, _hue)
    for place in range(4):
        for kind, (operation, strength) in enumerate(zip(operations, strengths, strict=True)):
            if strength and (images.shape[1] == 3 or operation in (_brightness, _contrast)):
                rows = np.flatnonzero(chosen & (order[:, place] == kind))
                amounts = strength * draws[rows, kind]
                amounts = amounts if operation is _hue else (1 + amounts).clamp(min=0)
                images[rows] = operation(images[rows], amounts[:, None, None, None])


def _change(images: Tensor, chosen: np.ndarray, operation: object) -> None:
    rows = np.flatnonzero(chosen)
    images[rows] = operation(images[rows])  # type: ignore[operator]


def _grey(images: Tensor) -> Tensor:
    return luma(images).expand_as(images)


def _brightness(images: Tensor, factor: Tensor) -> Tensor:
    return (images * factor).clamp(0, 255)


def _contrast(images: Tensor, factor: Tensor) -> Tensor:
    return _toward(images, luma(images).mean(dim=(2, 3), keepdim=True), factor)


def _saturation(images: Tensor, factor: Tensor) -> Tensor:
    return _toward(images, luma(images), factor)


def _toward(images: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    return (other + factor * (images - other)).clamp(0, 255)


def _hue(images: Tensor, turn: Tensor) -> Tensor:
    """Turn the hue of HSV by a share of the circle. Channel n of a colour is v - v·s·max(0, min(k, 4 - k, 1)) with
    k = (n + 6h) mod 6 and n = 5, 3, 1 for red, green, blue."""
    value, chroma = images.amax(1, keepdim=True), images.amax(1, keepdim=True) - images.amin(1, keepdim=True)
    red, green, blue = images.split(1, dim=1)
    safe = torch.where(chroma > 0, chroma, 1)
    hue = torch.where(
        value == red,
        (green - blue) / safe % 6,
        torch.where(value == green, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    k = (torch.tensor([5.0, 3.0, 1.0]).view(1, 3, 1, 1) + hue + 6 * turn) % 6
    return value - chroma * torch.minimum(k, 4 - k).clamp(0, 1)

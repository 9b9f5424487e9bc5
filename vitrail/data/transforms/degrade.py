"""What happens to a picture that is to be restored: blur, shrinking, noise, JPEG, in this order.

It is the classical model of degradation (Zhang et al. 2021, BSRGAN, section 3, without its shuffling). Every number is
drawn from its range by the picture's key. Shapes: (C, H, W) picture.
"""

from __future__ import annotations

import io
import math
from typing import Annotated, Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from pydantic import AfterValidator, BeforeValidator, Field
from torch import Tensor

from vitrail.config import config
from vitrail.data.keyed_random import uniform
from vitrail.errors import UserError
from vitrail.ops.bicubic import imresize

BORDER = 8  # small pixels around a part of which it is made, too


def _span(value: object) -> object:
    return (value, value) if isinstance(value, int | float) else value


def _ordered(ends: tuple[float, float]) -> tuple[float, float]:
    if ends[0] > ends[1]:
        raise ValueError(f"write the smaller end first, as in ({ends[1]:g}, {ends[0]:g})")
    return ends


Level = Annotated[float, Field(ge=0, le=255)]
Range = Annotated[tuple[Level, Level], BeforeValidator(_span), AfterValidator(_ordered)]
"""(lowest, highest); one number means both."""
Quality = Annotated[float, Field(ge=1, le=100)]
Qualities = Annotated[tuple[Quality, Quality], BeforeValidator(_span), AfterValidator(_ordered)]


@config
class DegradeConfig:
    """What pictures go through before a model restores them; the default changes nothing.

    Args:
        scale: how many times smaller they become, by MATLAB's bicubic; what restores them makes them as much larger.
        blur: standard deviation of a Gaussian before that, in pixels of the large picture.
        stretch: how many times as long as wide the Gaussian may be, at a random angle.
        detour: factor of an intermediate size by which the small picture is resized there and back.
        noise: standard deviation of Gaussian noise, in grey levels of 255.
        jpeg: quality of JPEG compression at the end; None: none.
    """

    scale: Literal[1, 2, 3, 4] = 1
    blur: Range = (0.0, 0.0)
    stretch: Annotated[float, Field(ge=1, le=8)] = 1.0
    detour: Annotated[tuple[float, float], BeforeValidator(_span), AfterValidator(_ordered)] = (1.0, 1.0)
    noise: Range = (0.0, 0.0)
    jpeg: Qualities | None = None

    @property
    def changes_pixels(self) -> bool:
        """Whether pictures change other than in size."""
        return self != DegradeConfig(scale=self.scale)

    @property
    def draws(self) -> bool:
        """Whether a picture becomes another one each time."""
        turned = self.stretch > 1 and self.blur[1] > 0
        spans = [self.blur, self.detour, *([] if self.jpeg is None else [self.jpeg])]
        return turned or self.noise[1] > 0 or any(low < high for low, high in spans)


class Degrade:
    """``Degrade(config)(picture, key)``: uint8 (C, s·h, s·w) → uint8 (C, h, w)."""

    def __init__(self, config: DegradeConfig) -> None:
        self.config = config

    def __call__(self, picture: Tensor, key: int) -> Tensor:
        """The degraded picture, whose sides the scale must divide.

        Raises:
            UserError: JPEG compression of pictures that are neither grey nor RGB.
        """
        config = self.config
        draws = uniform(np.array([key], np.uint64), "degrade", 6)[0]
        sigma, stretch, angle = between(config.blur, draws[0]), 1 + (config.stretch - 1) * draws[1], math.pi * draws[2]
        pixels = picture.double() if config.changes_pixels else picture
        if sigma:
            pixels = blurred(pixels, sigma, stretch, angle)
        if config.scale > 1:
            pixels = imresize(pixels, 1 / config.scale)
        if config.detour != (1.0, 1.0):
            pixels = _there_and_back(pixels, between(config.detour, draws[3]))
        if noise := between(config.noise, draws[4]):
            normal = np.random.Generator(np.random.Philox(key=key)).standard_normal(pixels.shape)
            pixels = pixels + noise * torch.from_numpy(normal)
        if pixels.dtype != torch.uint8:
            pixels = pixels.round().clamp(0, 255).to(torch.uint8)
        return pixels if config.jpeg is None else compressed(pixels, round(between(config.jpeg, draws[5])))


def between(span: tuple[float, float], draw: float) -> float:
    """A number of the range, by a draw from 0 to 1."""
    return span[0] + (span[1] - span[0]) * draw


def gaussian(sigma: float, stretch: float = 1.0, angle: float = 0.0) -> Tensor:
    """A kernel that adds up to 1, float64 (n, n): deviations ``sigma`` and ``sigma / stretch`` along turned axes."""
    radius = max(1, math.ceil(3 * sigma))
    steps = torch.arange(-radius, radius + 1, dtype=torch.float64)
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    along, across = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    weights = (-(along.square() + (across * stretch).square()) / (2 * sigma**2)).exp()
    return weights / weights.sum()


def blurred(picture: Tensor, sigma: float, stretch: float = 1.0, angle: float = 0.0) -> Tensor:
    """float64 (C, H, W) under a Gaussian, edges repeated."""
    kernel = gaussian(sigma, stretch, angle)
    padded = F.pad(picture[:, None], (kernel.shape[0] // 2,) * 4, mode="replicate")
    return F.conv2d(padded, kernel[None, None])[:, 0]


def compressed(picture: Tensor, quality: int) -> Tensor:
    """uint8 (C, H, W) after JPEG compression of this quality, 1 to 100.

    Raises:
        UserError: pictures that JPEG does not hold.
    """
    if len(picture) not in (1, 3):
        raise UserError(f"JPEG holds 1 or 3 channels, not {len(picture)}; leave data.preprocess.degrade.jpeg out")
    array = picture.permute(1, 2, 0).numpy()
    buffer = io.BytesIO()
    Image.fromarray(array[..., 0] if len(picture) == 1 else array).save(buffer, "JPEG", quality=quality)
    with Image.open(buffer) as image:
        found = torch.from_numpy(np.array(image))
    return found[None] if found.ndim == 2 else found.permute(2, 0, 1)


def _there_and_back(picture: Tensor, factor: float) -> Tensor:
    size = picture.shape[-2:]
    other = [max(1, round(side * factor)) for side in size]
    moved = F.interpolate(picture[None], other, mode="bilinear", antialias=True)
    return F.interpolate(moved, size, mode="bicubic", antialias=True)[0]

"""Augmentation of an entire batch: every sample has its own parameters, drawn from its own key.

A sample's result does not depend on the batch it is in. Images are (B, C, H, W).
"""

from __future__ import annotations

import math
from typing import Annotated, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import AfterValidator, Field
from torch import Tensor
from torch.nn.functional import grid_sample, pad

from vitrail.config import config
from vitrail.data.keyed_random import Keys, uniform
from vitrail.ops.grid import Pair

Floats: TypeAlias = NDArray[np.float64]


def _ordered(ends: tuple[float, float]) -> tuple[float, float]:
    if ends[0] > ends[1]:
        raise ValueError(f"write the smaller end first, as in ({ends[1]:g}, {ends[0]:g})")
    return ends


Positive = Annotated[float, Field(gt=0)]
PositiveRange = Annotated[tuple[Positive, Positive], AfterValidator(_ordered)]


@config
class AffineConfig:
    """Ranges of a random affine map; each number is drawn uniformly."""

    degrees: Annotated[float, Field(ge=0, le=180)] = 0.0  # rotation in ± degrees
    translate: Annotated[float, Field(ge=0, le=1)] = 0.0  # ± this share of the height and of the width
    scale: PositiveRange = (1.0, 1.0)
    shear: Annotated[float, Field(ge=0, lt=90)] = 0.0  # ± degrees, along x
    fill: float = 0.0  # grey level outside the image


@config
class ErasingConfig:
    """Random erasing (Zhong et al. 2020): a rectangle of noise (N(0, 1) after normalisation) or of the mean colour."""

    probability: Annotated[float, Field(ge=0, le=1)] = 0.25
    area: PositiveRange = (0.02, 1 / 3)  # share of the image
    aspect: PositiveRange = (0.3, 1 / 0.3)  # height / width, drawn log-uniformly
    fill: Literal["noise", "mean"] = "noise"


def flip(images: Tensor, keys: Keys, probability: float, *, axis: Literal["horizontal", "vertical"]) -> Tensor:
    """Mirror some images left-right (horizontal) or upside down (vertical)."""
    chosen = torch.from_numpy(uniform(keys, f"{axis} flip", 1)[:, 0] < probability)
    mirrored = images.flip(-1 if axis == "horizontal" else -2)
    return torch.where(chosen[:, None, None, None], mirrored, images)


def shift(images: Tensor, keys: Keys, padding: int) -> Tensor:
    """Pad with black on every side, then take a random crop of the old size."""
    padded = pad(images, (padding,) * 4)
    offsets = (uniform(keys, "shift", 2) * (2 * padding + 1)).astype(np.int64).tolist()
    height, width = images.shape[-2:]
    crops = (p[:, top : top + height, left : left + width] for p, (top, left) in zip(padded, offsets, strict=True))
    return torch.stack(list(crops))


def affine(images: Tensor, keys: Keys, config: AffineConfig) -> Tensor:
    """Rotate, translate, scale and shear about the centre, bilinearly; float32 in and out."""
    draws = uniform(keys, "affine", 5)
    height, width = images.shape[-2:]
    angle, shear = (
        np.radians(limit * (2 * d - 1)) for limit, d in ((config.degrees, draws[:, 0]), (config.shear, draws[:, 1]))
    )
    scale = config.scale[0] + (config.scale[1] - config.scale[0]) * draws[:, 2]
    shift = (2 * draws[:, 3:] - 1) * config.translate * (width, height)
    grid = _sampling_grid(_inverse_map(angle, shear, scale, shift), height, width)
    moved = grid_sample(images - config.fill, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return moved + config.fill


def window(images: Tensor, keys: Keys, area: tuple[float, float], aspect: tuple[float, float], size: Pair) -> Tensor:
    """A random part of each image, bilinearly at a new size: RandomResizedCrop for a batch; float32 in and out.

    Args:
        area, aspect: the part's share of the image, and its width / height (drawn log-uniformly, 10 tries).
        size: (height, width) of the result.
    """
    attempts = 10
    draws = uniform(keys, "window", 2 * attempts)
    height, width = images.shape[-2:]
    shares = height * width * (area[0] + (area[1] - area[0]) * draws[:, ::2])
    low, high = math.log(aspect[0]), math.log(aspect[1])
    ratio = np.exp(low + (high - low) * draws[:, 1::2])
    sides = np.stack([np.sqrt(shares / ratio) / height, np.sqrt(shares * ratio) / width], -1)  # shares of the sides
    first = (sides <= 1).all(-1).argmax(axis=1)  # if none fits the first is cut to the image
    scale = np.minimum(sides[np.arange(len(images)), first], 1)
    shift = (1 - scale) * (2 * uniform(keys, "window corner", 2) - 1)  # of the centre, in half sides
    (sy, sx), (ty, tx) = (torch.from_numpy(each).float().unbind(-1) for each in (scale, shift))
    y, x = ((2 * torch.arange(length) + 1) / length - 1 for length in size)
    rows, columns = sy[:, None] * y + ty[:, None], sx[:, None] * x + tx[:, None]
    grid = torch.stack(torch.broadcast_tensors(columns[:, None, :], rows[:, :, None]), dim=-1)
    return grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def erase(images: Tensor, keys: Keys, config: ErasingConfig) -> Tensor:
    """Overwrite a rectangle of some of the (normalised) images, in place."""
    attempts = 10
    draws = uniform(keys, "erase", 2 + 2 * attempts)
    chosen = draws[:, 0] < config.probability
    height, width = images.shape[-2:]
    area = height * width * (config.area[0] + (config.area[1] - config.area[0]) * draws[:, 2::2])
    low, high = math.log(config.aspect[0]), math.log(config.aspect[1])
    aspect = np.exp(low + (high - low) * draws[:, 3::2])
    heights, widths = np.rint(np.sqrt(area * aspect)), np.rint(np.sqrt(area / aspect))
    fits = (heights < height) & (widths < width) & (heights > 0) & (widths > 0)
    corner = uniform(keys, "erase corner", 2)
    generator = torch.Generator()
    for b in np.flatnonzero(chosen & fits.any(axis=1)):
        first = int(fits[b].argmax())
        h, w = int(heights[b, first]), int(widths[b, first])
        top, left = int(corner[b, 0] * (height - h + 1)), int(corner[b, 1] * (width - w + 1))
        patch = images[b, :, top : top + h, left : left + w]
        if config.fill == "noise":
            patch.normal_(generator=generator.manual_seed(int(keys[b] >> np.uint64(1))))
        else:
            patch.zero_()
    return images


def _inverse_map(angle: Floats, shear: Floats, scale: Floats, shift: Floats) -> Tensor:
    """From output to input pixels, both relative to the centre, (x, y): (B, 2, 3).

    The forward map is shift · rotate · shear · scale, as in torchvision's ``affine``.
    """
    cos, sin, tan = np.cos(angle), np.sin(angle), np.tan(shear)
    linear = np.stack([np.stack([cos, -cos * tan - sin], -1), np.stack([sin, cos - sin * tan], -1)], -2)
    inverse = np.linalg.inv(linear * scale[:, None, None])
    return torch.from_numpy(np.concatenate([inverse, -inverse @ shift[:, :, None]], axis=2))


def _sampling_grid(inverse: Tensor, height: int, width: int) -> Tensor:
    """``grid_sample``'s (B, H, W, 2) grid in -1 … 1. Element by element: a matrix product's rounding depends on B."""
    y = (torch.arange(height) - (height - 1) / 2)[None, :, None]
    x = (torch.arange(width) - (width - 1) / 2)[None, None, :]
    m = inverse.float()[:, :, :, None, None]
    return torch.stack(
        [
            (m[:, 0, 0] * x + m[:, 0, 1] * y + m[:, 0, 2]) * (2 / width),
            (m[:, 1, 0] * x + m[:, 1, 1] * y + m[:, 1, 2]) * (2 / height),
        ],
        dim=-1,
    )

"""Bicubic resizing as MATLAB's ``imresize`` does it (Keys 1981 with a = −0.5; wider when it shrinks, against aliasing).

Shapes: any leading axes, (H, W) image.
"""

from __future__ import annotations

import math
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from vitrail.ops.grid import Pair

REACH = 2  # pixels on either side that an enlarged pixel is made of


def cubic(x: Tensor) -> Tensor:
    """Keys' kernel (1981, equation 4) with a = −0.5; 0 from a distance of 2 on."""
    x = x.abs()
    near = (1.5 * x - 2.5) * x.square() + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x <= 1, near, torch.where(x < REACH, far, torch.zeros_like(x)))


def imresize(images: Tensor, factor: float) -> Tensor:
    """Images (..., H, W) resized by a factor, to ⌈factor · H⌉ × ⌈factor · W⌉, in their dtype; edges are mirrored.

    uint8 images are rounded once, at the end.
    """
    exact = images.double()
    for axis in (-2, -1):
        exact = _along(exact, axis, factor)
    if images.dtype == torch.uint8:
        return exact.round().clamp(0, 255).to(torch.uint8)
    return exact.to(images.dtype)


def enlarged(images: Tensor, factor: int) -> Tensor:
    """Images (B, C, H, W) a whole number of times as large, as :func:`imresize` but with edges repeated.

    One convolution whose outputs are moved into place, so that a graph of it takes images of any size.
    """
    if factor == 1:
        return images
    batch, channels, height, width = images.shape
    padded = F.pad(images, (REACH,) * 4, mode="replicate").reshape(batch * channels, 1, height + 4, width + 4)
    kernel = phases(factor).to(images)
    return F.pixel_shuffle(F.conv2d(padded, kernel), factor).reshape(batch, channels, height * factor, width * factor)


@cache
def phases(factor: int) -> Tensor:
    """The kernels of :func:`enlarged`, one for each pixel that a pixel becomes: float64 (factor², 1, 5, 5)."""
    with torch.device("cpu"):
        places = (torch.arange(factor, dtype=torch.float64) + 0.5) / factor - 0.5
        weights = cubic(places[:, None] - torch.arange(-REACH, REACH + 1, dtype=torch.float64))
    return (weights[:, None, :, None] * weights[None, :, None, :]).reshape(factor**2, 1, 5, 5)


def scaled(size: Pair, factor: float) -> Pair:
    """(height, width) after :func:`imresize`."""
    height, width = (_length(side, factor) for side in size)
    return height, width


def _along(images: Tensor, axis: int, factor: float) -> Tensor:
    """Float64 images resized along one axis."""
    places, weights = _contributions(images.shape[axis], factor)
    moved = images.movedim(axis, -1)
    found = moved[..., places[:, 0]] * weights[:, 0]
    for tap in range(1, weights.shape[1]):
        found += moved[..., places[:, tap]] * weights[:, tap]
    return found.movedim(-1, axis)


def _contributions(length: int, factor: float) -> tuple[Tensor, Tensor]:
    """Of each new pixel along an axis: which old ones it is made of, int64 (n, taps), and their shares."""
    shrink = min(factor, 1.0)
    centres = (torch.arange(_length(length, factor), dtype=torch.float64) + 0.5) / factor - 0.5
    taps = math.ceil(2 * REACH / shrink) + 2
    places = (centres - REACH / shrink).floor().long()[:, None] + torch.arange(taps)
    weights = cubic(shrink * (centres[:, None] - places))
    weights = weights / weights.sum(dim=1, keepdim=True)
    within = places.remainder(2 * length)
    return torch.minimum(within, 2 * length - 1 - within), weights


def _length(side: int, factor: float) -> int:
    return math.ceil(round(side * factor, 6))

"""Attribution along a path of blurred pictures, and how widely it is spread.

Shapes: B pictures, C channels, (H, W) pixels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def blurred(images: Tensor, sigma: float) -> Tensor:
    """Images (B, C, H, W) under a Gaussian of a standard deviation in pixels; edges are mirrored."""
    if sigma <= 0:
        return images
    reach = reach_of(sigma)
    places = torch.arange(-reach, reach + 1, dtype=images.dtype, device=images.device)
    kernel = (-0.5 * (places / sigma).square()).exp()
    kernel = kernel / kernel.sum()
    channels = images.shape[1]
    for axis in (2, 3):
        shape = [channels, 1, 1, 1]
        shape[axis] = len(kernel)
        moved = _mirrored(images, reach, axis)
        images = F.conv2d(moved, kernel.reshape([1, 1, *shape[2:]]).expand(shape), groups=channels)
    return images


def reach_of(sigma: float) -> int:
    """Pixels to either side that :func:`blurred` makes one of."""
    return max(1, round(3 * sigma))


def gini(values: Tensor) -> float:
    """The Gini coefficient of numbers that are not negative: 0 where all are equal, near 1 where one has all."""
    ordered = values.flatten().double().sort().values
    count, total = len(ordered), float(ordered.sum())
    if total <= 0:
        return 0.0
    ranks = torch.arange(1, count + 1, dtype=torch.float64)
    return float(2 * (ranks * ordered.cpu()).sum() / (count * total) - (count + 1) / count)


def diffusion_index(attribution: Tensor) -> float:
    """100 · (1 − Gini) of the absolute values: the larger, the more pixels took part (Gu & Dong 2021, equation 8)."""
    return 100 * (1 - gini(attribution.abs()))


def summed_in_cells(values: Tensor, cell: int) -> Tensor:
    """(H, W) → the sums over squares of a side, (⌈H / cell⌉, ⌈W / cell⌉)."""
    below, right = (-side % cell for side in values.shape)
    padded = F.pad(values, (0, right, 0, below))
    return padded.unflatten(0, (-1, cell)).unflatten(2, (-1, cell)).sum(dim=(1, 3))


def _mirrored(images: Tensor, reach: int, axis: int) -> Tensor:
    """With so many more pixels at both ends of an axis, by mirror images of any number."""
    length = images.shape[axis]
    places = torch.arange(-reach, length + reach, device=images.device).remainder(2 * length)
    return images.index_select(axis, torch.minimum(places, 2 * length - 1 - places))

"""Feature maps, and where their cells lie in the images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from vitrail.nn.feature_pyramid import CELLS, Scale
from vitrail.ops.grid import Grid
from vitrail.ops.regions import centres


class Level(NamedTuple):
    """A feature map as input of the decoder."""

    map: Tensor
    """B D h w."""
    x: Tensor
    """Centres of its columns, B w, as shares of the image."""
    y: Tensor
    """Centres of its rows, B h."""
    cell: Tensor
    """Width and height of a cell, B 2, likewise."""
    padding: Tensor | None
    """bool B h w, true where a cell is not the image's."""


def levels_of(
    maps: Sequence[tuple[Tensor, Tensor | None]], scales: Sequence[Scale], images: Tensor, grid: Grid, region: Tensor
) -> list[Level]:
    """Feature maps with their padding → where their cells lie in the images.

    Args:
        grid: patches (h, w) of the images B C H W.
        region: the part of each canvas that is image, boxes_xyxy (B, 4) in pixels.
    """
    patch = [pixels / cells for pixels, cells in zip(images.shape[-2:], grid, strict=True)]
    left, top, right, bottom = region.unbind(dim=1)
    levels = []
    for (map_, padded), scale in zip(maps, scales, strict=True):
        height, width = (pixels / CELLS[scale] for pixels in patch)
        y = centres(height, map_.shape[2], top, bottom)
        x = centres(width, map_.shape[3], left, right)
        cell = torch.stack((width / (right - left), height / (bottom - top)), dim=1)
        levels.append(Level(map_, x, y, cell, padded))
    return levels

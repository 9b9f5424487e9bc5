"""Tokens of a grid in windows, and back. Shapes: B images, H heads, (h, w) token grid, (r, c) of a window, d width."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from vitrail.ops.grid import Pair


def to_windows(x: Tensor, grid: Pair, size: Pair, *, fill: bool = False) -> Tensor:
    """B H h·w d → (B·windows) H r·c d, row by row; what the grid does not fill is ``fill``."""
    rows, columns = (-(-length // side) for length, side in zip(grid, size, strict=True))
    x = x.unflatten(2, grid)
    x = F.pad(x, (0, 0, 0, columns * size[1] - grid[1], 0, rows * size[0] - grid[0]), value=fill)
    x = x.unflatten(2, (rows, size[0])).unflatten(4, (columns, size[1]))  # B H rows r columns c d
    return x.permute(0, 2, 4, 1, 3, 5, 6).flatten(4, 5).flatten(0, 2)


def from_windows(x: Tensor, grid: Pair, size: Pair) -> Tensor:
    """The reverse of :func:`to_windows`."""
    rows, columns = (-(-length // side) for length, side in zip(grid, size, strict=True))
    x = x.unflatten(0, (-1, rows, columns)).unflatten(4, size).permute(0, 3, 1, 4, 2, 5, 6)
    return x.flatten(4, 5).flatten(2, 3)[:, :, : grid[0], : grid[1]].flatten(2, 3)

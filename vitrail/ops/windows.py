"""Tokens of a grid in square windows, and back. Shapes: B images, H heads, (h, w) token grid, d width."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from vitrail.ops.grid import Pair


def to_windows(x: Tensor, grid: Pair, size: int, *, fill: bool = False) -> Tensor:
    """B H h·w d → (B·windows) H size² d, row by row; what the grid does not fill is ``fill``."""
    rows, columns = (-(-length // size) for length in grid)
    x = x.unflatten(2, grid)
    x = F.pad(x, (0, 0, 0, columns * size - grid[1], 0, rows * size - grid[0]), value=fill)
    x = x.unflatten(2, (rows, size)).unflatten(4, (columns, size))  # B H rows size columns size d
    return x.permute(0, 2, 4, 1, 3, 5, 6).flatten(4, 5).flatten(0, 2)


def from_windows(x: Tensor, grid: Pair, size: int) -> Tensor:
    """The reverse of :func:`to_windows`."""
    rows, columns = (-(-length // size) for length in grid)
    x = x.unflatten(0, (-1, rows, columns)).unflatten(4, (size, size)).permute(0, 3, 1, 4, 2, 5, 6)
    return x.flatten(4, 5).flatten(2, 3)[:, :, : grid[0], : grid[1]].flatten(2, 3)

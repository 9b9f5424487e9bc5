"""Tokens of a grid in windows, and back. Shapes: B images, H heads, (h, w) token grid, (r, c) of a window, d width."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from vitrail.ops.grid import Pair


def to_windows(x: Tensor, grid: Pair, size: Pair, shift: int = 0, *, fill: bool = False) -> Tensor:
    """B H h·w d → (B·windows) H r·c d, row by row; what the grid does not fill is ``fill``.

    Args:
        shift: by how many tokens the first window begins before the grid, down and to the right.
    """
    rows, columns = num_windows(grid, size, shift)
    below, right = rows * size[0] - grid[0] - shift, columns * size[1] - grid[1] - shift
    x = F.pad(x.unflatten(2, grid), (0, 0, shift, right, shift, below), value=fill)
    x = x.unflatten(2, (rows, size[0])).unflatten(4, (columns, size[1]))  # B H rows r columns c d
    return x.permute(0, 2, 4, 1, 3, 5, 6).flatten(4, 5).flatten(0, 2)


def from_windows(x: Tensor, grid: Pair, size: Pair, shift: int = 0, batch: int = -1) -> Tensor:
    """The reverse of :func:`to_windows`.

    Args:
        batch: the number of images, which a graph that is traced cannot always conclude.
    """
    rows, columns = num_windows(grid, size, shift)
    x = x.unflatten(0, (batch, rows, columns)).unflatten(4, size).permute(0, 3, 1, 4, 2, 5, 6)
    return x.flatten(4, 5).flatten(2, 3)[:, :, shift : shift + grid[0], shift : shift + grid[1]].flatten(2, 3)


def num_windows(grid: Pair, size: Pair, shift: int) -> Pair:
    """(rows, columns) of windows."""
    rows, columns = ((length + shift + side - 1) // side for length, side in zip(grid, size, strict=True))
    return rows, columns

"""Rotary position embedding for images: queries and keys turn by angles of their row and column."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from vitrail.ops.grid import Pair

Rotation = tuple[Tensor, Tensor]
"""(cos, sin), each (N, d/2) in float32, or with a leading axis of heads."""
Coordinates = Literal["index", "centred"]
"""Where a patch is: by its ``index`` in the grid, or by its centre in an image from −1 to 1, times 2π (DINOv3)."""


def rope_2d(
    grid: Pair,
    head_dim: int,
    theta: float = 100.0,
    coordinates: Coordinates = "index",
    offset: float = 0.0,
    reference: Pair | None = None,
) -> Rotation:
    """Axial rotation angles of a token grid (Heo et al. 2024, "Rotary Position Embedding for Vision
    Transformer", RoPE-Axial): half of the channel pairs turn with the column, half with the row.

    Args:
        offset: added to an index.
        reference: (rows, columns) that indices are scaled to, whatever the grid; None: they stay as they are.
    """
    assert head_dim % 4 == 0
    frequency = theta ** (-torch.arange(0, head_dim, 4, dtype=torch.float64) / head_dim)
    x, y = places(grid, coordinates, offset, reference).unbind()
    angle = torch.cat((x[:, None] * frequency, y[:, None] * frequency), dim=1)
    return angle.cos().float(), angle.sin().float()


def places(
    grid: Pair, coordinates: Coordinates = "index", offset: float = 0.0, reference: Pair | None = None
) -> Tensor:
    """Columns, then rows of all patches, (2, h·w) in float64; arguments as of :func:`rope_2d`."""
    along = []
    for axis, length in enumerate(grid):
        place = torch.arange(length, dtype=torch.float64)
        if coordinates == "centred":
            place = 2 * math.pi * (2 * (place + 0.5) / length - 1)
        else:
            place = place + offset
            place = place if reference is None else place * reference[axis] / length
        along.append(place)
    y, x = torch.meshgrid(*along, indexing="ij")
    return torch.stack((x.flatten(), y.flatten()))


def rotate(x: Tensor, rotation: Rotation, num_prefix: int = 0) -> Tensor:
    """Turn each channel pair (2i, 2i+1) of B H T d by its token's angle; the first ``num_prefix`` tokens stay.

    Computed in float32, returned in the dtype of ``x``.
    """
    cos, sin = rotation
    prefix, tokens = x[..., :num_prefix, :], x[..., num_prefix:, :].float().unflatten(-1, (-1, 2))
    even, odd = tokens.unbind(-1)
    turned = torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2).to(x.dtype)
    return torch.cat((prefix, turned), dim=-2) if num_prefix else turned

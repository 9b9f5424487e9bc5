"""Rotary position embedding for images: queries and keys turn by angles of their row and column."""

from __future__ import annotations

import torch
from torch import Tensor

from vitrail.ops.grid import Pair

Rotation = tuple[Tensor, Tensor]
"""(cos, sin), each (N, d/2) in float32."""


def rope_2d(grid: Pair, head_dim: int, theta: float = 100.0) -> Rotation:
    """Axial rotation angles of a token grid (Heo et al. 2024, "Rotary Position Embedding for Vision
    Transformer", RoPE-Axial): half of the channel pairs turn with the column, half with the row.
    """
    assert head_dim % 4 == 0
    frequency = theta ** (-torch.arange(0, head_dim, 4, dtype=torch.float64) / head_dim)
    y, x = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in grid), indexing="ij")
    angle = torch.cat((x.reshape(-1, 1) * frequency, y.reshape(-1, 1) * frequency), dim=1)
    return angle.cos().float(), angle.sin().float()


def rotate(x: Tensor, rotation: Rotation, num_prefix: int = 0) -> Tensor:
    """Turn each channel pair (2i, 2i+1) of B H T d by its token's angle; the first ``num_prefix`` tokens stay.

    Computed in float32, returned in the dtype of ``x``.
    """
    cos, sin = rotation
    prefix, tokens = x[..., :num_prefix, :], x[..., num_prefix:, :].float().unflatten(-1, (-1, 2))
    even, odd = tokens.unbind(-1)
    turned = torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2).to(x.dtype)
    return torch.cat((prefix, turned), dim=-2) if num_prefix else turned

"""Queries and their masks in one tensor, which every engine runs, whatever the size of the image.

Shapes: B images, Q queries, W numbers a query (such as scores and a box), (h, w) the grid of the masks. A row holds
these numbers, h and h·w logits.
"""

from __future__ import annotations

import torch
from torch import Tensor


def pack(queries: Tensor, masks: Tensor) -> Tensor:
    """Numbers of queries (B, Q, W) and logits of masks (B, Q, h, w) → (B, Q, W+1+h·w)."""
    height = torch.ones_like(queries[..., :1]) * masks.shape[-2]
    return torch.cat((queries, height, masks.flatten(2)), dim=-1)


def unpack(outputs: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """The reverse of :func:`pack`, where a query has ``width`` numbers."""
    queries, height, masks = outputs.split((width, 1, outputs.shape[-1] - width - 1), dim=-1)
    return queries, masks.unflatten(-1, (int(height[0, 0, 0]), -1))

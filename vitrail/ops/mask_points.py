"""Masks compared at random points in the place of all their cells (Kirillov et al. 2020, PointRend, section 3.1; Cheng
et al. 2022, Mask2Former, section 3.3).

Shapes: B images, C channels, P points, M masks, (h, w) a grid. Points are (x, y) as shares of the canvas.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vitrail.ops.grid import Pair

OVERSAMPLED = 3  # candidates for a point
UNCERTAIN = 0.75  # share of the points that are the least certain candidates; the others lie anywhere


def num_candidates(num_points: int) -> int:
    """Points to draw so that :func:`selected` finds ``num_points`` among them."""
    return OVERSAMPLED * num_points + num_points - int(UNCERTAIN * num_points)


def within(draws: Tensor, region: Tensor, size: Pair) -> Tensor:
    """Numbers (B, P, 2) in [0, 1) → points of the part of each canvas that is image.

    Args:
        region: boxes_xyxy (B, 4) in pixels of canvases of (height, width) ``size``.
    """
    extent = region.new_tensor([size[1], size[0]])
    start, end = region[:, None, :2] / extent, region[:, None, 2:] / extent
    return start + draws.to(region) * (end - start)


def at(values: Tensor, points: Tensor) -> Tensor:
    """(B, C, h, w), bilinearly and in float32, at points (B, P, 2): (B, C, P)."""
    return F.grid_sample(values.float(), (2 * points.float() - 1).unsqueeze(1), align_corners=False).squeeze(2)


def selected(logits: Tensor, num_points: int) -> Tensor:
    """Which of the candidates each mask is compared at: logits (M, candidates) → int64 (M, P).

    Three quarters are those of the first candidates whose logits are nearest to 0; the others are the last.
    """
    surplus = OVERSAMPLED * num_points
    certainty = logits[:, :surplus].detach().abs()
    hard = certainty.topk(int(UNCERTAIN * num_points), dim=1, largest=False).indices
    rest = torch.arange(surplus, num_candidates(num_points), device=logits.device).expand(len(logits), -1)
    return torch.cat((hard, rest), dim=1)

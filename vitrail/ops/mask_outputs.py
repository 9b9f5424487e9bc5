"""Objects and their masks in one tensor, which every engine runs, whatever the size of the image.

Shapes: B images, Q queries, K classes, (h, w) the grid of the masks. A row holds K scores, boxes_xyxy, h and h·w
logits.
"""

from __future__ import annotations

import torch
from torch import Tensor


def pack(objects: Tensor, masks: Tensor) -> Tensor:
    """Objects (B, Q, K+4) and logits of masks (B, Q, h, w) → (B, Q, K+5+h·w)."""
    height = torch.ones_like(objects[..., :1]) * masks.shape[-2]
    return torch.cat((objects, height, masks.flatten(2)), dim=-1)


def unpack(outputs: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """The reverse of :func:`pack`."""
    objects, height, masks = outputs.split((num_classes + 4, 1, outputs.shape[-1] - num_classes - 5), dim=-1)
    return objects, masks.unflatten(-1, (int(height[0, 0, 0]), -1))

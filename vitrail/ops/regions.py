"""Where images lie on their canvases, and the objects to find as shares of that region.

Shapes: B images, Q queries, n objects.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vitrail.ops import boxes as box_ops
from vitrail.ops.objects import TrueObjects
from vitrail.ops.set_losses import Truth


def regions(images: Tensor, padding: Tensor | None) -> Tensor:
    """The part of each canvas that is image: boxes_xyxy (B, 4) in pixels."""
    if padding is not None:
        return box_ops.of_masks(~padding)
    one = torch.ones(images.shape[0], device=images.device)  # sizes stay symbols in a graph
    return torch.stack((0 * one, 0 * one, one * images.shape[-1], one * images.shape[-2]), dim=1)


def to_pixels(boxes: Tensor, region: Tensor) -> Tensor:
    """cxcywh (B, Q, 4) as shares of the region → boxes_xyxy in pixels."""
    start, extent = region[:, None, :2], region[:, None, 2:] - region[:, None, :2]
    return box_ops.cxcywh_to_xyxy(boxes) * extent.repeat(1, 1, 2) + start.repeat(1, 1, 2)


def on_canvas(boxes: Tensor, region: Tensor, canvas: Tensor) -> Tensor:
    """cxcywh (B, Q, 4) as shares of the region → as shares of its canvas of so many pixels (width, height), (2,)."""
    start, extent = region[:, None, :2] / canvas, (region[:, None, 2:] - region[:, None, :2]) / canvas
    centre, size = boxes.chunk(2, dim=-1)
    return torch.cat((centre * extent + start, size * extent), dim=-1)


def centres(step: float, count: int, start: Tensor, end: Tensor) -> Tensor:
    """The centres of ``count`` cells of ``step`` pixels, as shares of what lies between start and end: (B, count)."""
    pixels = (torch.arange(count, device=start.device) + 0.5) * step
    return (pixels - start[:, None]) / (end - start)[:, None]


def truth_of(targets: Sequence[TrueObjects], region: Tensor) -> Truth:
    """The objects to find, as shares of the region; ignored ones and boxes without area are left out."""
    labels, boxes = [], []
    for target, own in zip(targets, region.cpu(), strict=True):
        inside, good = within(target, own)
        labels.append(target.labels.cpu()[good])
        boxes.append(box_ops.xyxy_to_cxcywh(inside[good]))
    counts = tuple(len(each) for each in labels)
    return Truth(torch.cat(labels).to(region.device), torch.cat(boxes).to(region.device), counts)


def within(target: TrueObjects, region: Tensor) -> tuple[Tensor, Tensor]:
    """An image's boxes_xyxy as shares of its region (4,), and which of them are to be found, bool (n,)."""
    start, end = region[:2].repeat(2), region[2:].repeat(2)
    inside = ((target.boxes_xyxy.cpu().float() - start) / (end - start)).clamp(0, 1)
    return inside, (box_ops.area(inside) > 0) & ~target.ignored.cpu()

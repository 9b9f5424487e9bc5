"""Boxes, (..., 4), in any unit. ``xyxy``: left, top, right, bottom; ``cxcywh``: centre and size; ``xywh``: COCO's left,
top, width and height. Two sets are compared element by element and broadcast: ``iou(a[:, None], b)`` is every pair.
"""

from __future__ import annotations

import torch
from torch import Tensor


def cxcywh_to_xyxy(boxes: Tensor) -> Tensor:
    """Centre and size → corners."""
    centre, size = boxes[..., :2], boxes[..., 2:]
    return torch.cat((centre - size / 2, centre + size / 2), dim=-1)


def xyxy_to_cxcywh(boxes_xyxy: Tensor) -> Tensor:
    """Corners → centre and size."""
    start, end = boxes_xyxy[..., :2], boxes_xyxy[..., 2:]
    return torch.cat(((start + end) / 2, end - start), dim=-1)


def xyxy_to_xywh(boxes_xyxy: Tensor) -> Tensor:
    """Corners → left, top, width, height."""
    start, end = boxes_xyxy[..., :2], boxes_xyxy[..., 2:]
    return torch.cat((start, end - start), dim=-1)


def xywh_to_xyxy(boxes: Tensor) -> Tensor:
    """Left, top, width, height → corners."""
    start, size = boxes[..., :2], boxes[..., 2:]
    return torch.cat((start, start + size), dim=-1)


def area(boxes_xyxy: Tensor) -> Tensor:
    """(..., 4) → (...), 0 where a box ends before it begins."""
    width, height = (boxes_xyxy[..., 2:] - boxes_xyxy[..., :2]).clamp(min=0).unbind(-1)
    return width * height


def iou(a_xyxy: Tensor, b_xyxy: Tensor) -> Tensor:
    """Intersection over union, (...), in [0, 1]; of two boxes without area 0."""
    return _iou_and_union(a_xyxy, b_xyxy)[0]


def inside(a_xyxy: Tensor, b_xyxy: Tensor) -> Tensor:
    """The share of ``a`` that lies in ``b``, (...), in [0, 1]; of a box without area 0."""
    return _share(_intersection(a_xyxy, b_xyxy), area(a_xyxy))


def generalised_iou(a_xyxy: Tensor, b_xyxy: Tensor) -> Tensor:
    """IoU less the share of the smallest enclosing box that neither covers, (...), in [−1, 1].

    It measures the distance of boxes that do not overlap (Rezatofighi et al. 2019, algorithm 1).
    """
    ratio, union = _iou_and_union(a_xyxy, b_xyxy)
    start, end = torch.minimum(a_xyxy[..., :2], b_xyxy[..., :2]), torch.maximum(a_xyxy[..., 2:], b_xyxy[..., 2:])
    enclosing = area(torch.cat((start, end), dim=-1))
    return ratio - _share(enclosing - union, enclosing)


def of_masks(masks: Tensor) -> Tensor:
    """The tightest boxes_xyxy (N 4) in pixels around masks bool (N H W): right and bottom are the first pixels outside.

    A mask without a pixel gives a box of zeros.
    """
    sides = []
    for dim in (1, 2):  # over rows: which columns are met; over columns: which rows
        met = masks.any(dim=dim)
        place = torch.arange(met.shape[1], device=masks.device)
        sides.append((torch.where(met, place, met.shape[1]).amin(1), torch.where(met, place + 1, 0).amax(1)))
    (left, right), (top, bottom) = sides
    boxes = torch.stack((left, top, right, bottom), dim=1).float()
    return boxes * masks.flatten(1).any(dim=1, keepdim=True)


def _iou_and_union(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    intersection = _intersection(a, b)
    union = area(a) + area(b) - intersection
    return _share(intersection, union), union


def _intersection(a: Tensor, b: Tensor) -> Tensor:
    start, end = torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])
    return area(torch.cat((start, end), dim=-1))


def _share(part: Tensor, whole: Tensor) -> Tensor:
    """part / total, and 0/0 = 0."""
    return part / whole.clamp(min=torch.finfo(whole.dtype).tiny)

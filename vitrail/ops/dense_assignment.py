"""Which cells of feature maps learn which object, several cells for each (Feng et al. 2021, TOOD, section 3.2).

Shapes: B images, N cells, n objects of the batch, K classes. Boxes are ``cxcywh`` as shares of the image.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from vitrail.ops import boxes as box_ops
from vitrail.ops.matching import Pairs, by_image
from vitrail.ops.set_losses import Truth

OVERLAP_POWER = 6  # of the IoU in the alignment (TOOD, section 4.1)


class Assigned(NamedTuple):
    """Cells and the objects that they learn, M of each, and how well both fit."""

    pairs: Pairs
    quality: Tensor
    """(M,) in [0, 1]: the alignment, of which each object's best cell has that object's highest IoU."""


@torch.no_grad()
def assign(scores: Tensor, predicted: Tensor, anchors: Tensor, truth: Truth, per_object: int) -> Assigned:
    """The best aligned cells of every object: alignment = score · IoU⁶.

    Candidates are cells whose centre lies in the object's box, or no farther from its centre than one cell, so that
    objects smaller than a cell have some. A cell that several objects choose learns the one that it overlaps most.

    Args:
        scores: (B, N, K) in [0, 1]; predicted: boxes (B, N, 4).
        anchors: (B, N, 4), centre and size of each cell.
        per_object: cells that an object has at most.
    """
    if not sum(truth.counts):
        nothing = truth.labels.new_empty(0)
        return Assigned(Pairs(nothing, nothing, nothing), truth.boxes.new_empty(0))
    labels, true = (by_image(values, truth.counts) for values in (truth.labels, truth.boxes.float()))
    counts = torch.tensor(truth.counts, device=labels.device)
    real = torch.arange(labels.shape[1], device=labels.device) < counts[:, None]
    distance = (anchors[:, None, :, :2] - true[:, :, None, :2]).abs()
    near = (distance <= torch.maximum(true[:, :, None, 2:] / 2, anchors[:, None, :, 2:])).all(dim=-1)
    near &= real[:, :, None]
    corners = (box_ops.cxcywh_to_xyxy(each) for each in (predicted.float().unsqueeze(1), true.unsqueeze(2)))
    overlap = box_ops.iou(*corners) * near  # B n N
    said = scores.float().transpose(1, 2).gather(1, labels[:, :, None].expand(-1, -1, scores.shape[1]))
    alignment = said * overlap**OVERLAP_POWER

    best = torch.where(near, alignment, -1.0).topk(min(per_object, alignment.shape[2]), dim=2).indices
    chosen = torch.zeros_like(near).scatter_(2, best, True) & near
    chosen &= torch.where(chosen, overlap, -1.0).argmax(dim=1, keepdim=True) == _rank(chosen)
    alignment, overlap = alignment * chosen, overlap * chosen
    highest = alignment.amax(dim=2, keepdim=True).clamp(min=torch.finfo(alignment.dtype).tiny)
    quality = alignment / highest * overlap.amax(dim=2, keepdim=True)
    image, own, cell = chosen.nonzero(as_tuple=True)
    target = (counts.cumsum(0) - counts)[image] + own
    return Assigned(Pairs(image, cell, target), quality[image, own, cell])


def _rank(chosen: Tensor) -> Tensor:
    """The number of each object, (1, n, 1)."""
    return torch.arange(chosen.shape[1], device=chosen.device)[None, :, None]

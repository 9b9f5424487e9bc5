"""Matching of queries and objects (Carion et al. 2020, DETR, section 3.1).

Shapes: B images, Q queries, N objects of one image, M pairs in all, K classes. Boxes are ``cxcywh`` as shares of the
image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from vitrail.ops import boxes


class Pairs(NamedTuple):
    """Queries and the objects matched to them, over a batch: M numbers each, int64."""

    image: Tensor
    query: Tensor
    target: Tensor
    """Which of the batch's objects, counted over all images."""


class CostConfig(NamedTuple):
    """How much the class, the L1 distance of boxes and their generalised IoU count in a match."""

    label: float = 1.0
    l1: float = 5.0
    giou: float = 2.0


def cost(label_cost: Tensor, predicted: Tensor, targets: Tensor, weights: CostConfig) -> Tensor:
    """What each pair costs, (Q, N).

    Args:
        label_cost: (Q, N), from the class scores.
        predicted: boxes (Q, 4). targets: boxes (N, 4).
    """
    distance = torch.cdist(predicted, targets, p=1)
    overlap = boxes.generalised_iou(boxes.cxcywh_to_xyxy(predicted)[:, None], boxes.cxcywh_to_xyxy(targets))
    return weights.label * label_cost + weights.l1 * distance - weights.giou * overlap


def assign(costs: Sequence[Tensor], device: torch.device | None = None) -> Pairs:
    """The cheapest pairing of each image, each object with one query at most (Kuhn 1955, the Hungarian method).

    Args:
        costs: (Q, N) per image, on the CPU; N may be 0. What is not finite is taken last.
        device: where the pairs are needed.
    """
    from scipy.optimize import linear_sum_assignment

    image, query, target = [], [], []
    first = 0
    for number, each in enumerate(costs):
        highest = torch.finfo(torch.float32).max
        finite = each.float().nan_to_num(nan=highest, posinf=highest, neginf=highest)
        queries, targets = linear_sum_assignment(finite.numpy())
        image.append(torch.full((len(queries),), number))
        query.append(torch.as_tensor(queries, dtype=torch.int64))
        target.append(torch.as_tensor(targets, dtype=torch.int64) + first)
        first += each.shape[1]
    return Pairs(*(torch.cat(part).to(device) for part in (image, query, target)))

"""Matching of queries and objects (Carion et al. 2020, DETR, section 3.1).

Shapes: L layers, B images, Q queries, N objects of one image or the most of any, M pairs in all, K classes. Boxes are
``cxcywh`` as shares of the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

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
    """What each pair of an image costs, (B, Q, N).

    Args:
        label_cost: (B, Q, N), from the class scores.
        predicted: boxes (B, Q, 4). targets: boxes (B, N, 4).
    """
    distance = torch.cdist(predicted, targets, p=1)
    corners = boxes.cxcywh_to_xyxy(predicted).unsqueeze(2), boxes.cxcywh_to_xyxy(targets).unsqueeze(1)
    overlap = boxes.generalised_iou(*corners)
    return weights.label * label_cost + weights.l1 * distance - weights.giou * overlap


def by_image(values: Tensor, counts: Sequence[int]) -> Tensor:
    """What stands image after image, (n, …) → (B, N, …), where images with fewer than N objects have zeros."""
    return pad_sequence(list(values.split(counts)), batch_first=True)


def assign_layers(costs: Sequence[Tensor], counts: Sequence[int]) -> list[Pairs]:
    """:func:`assign` for each of L layers; the host waits once for the device.

    Args:
        costs: (B, Q, N) per layer; what is beyond an image's own objects is not read.
        counts: objects of each image.
    """
    device = costs[0].device
    found = [
        assign([image[:, :count] for image, count in zip(layer, counts, strict=True)])
        for layer in torch.stack(list(costs)).cpu()
    ]
    numbers = torch.cat([torch.stack(pairs) for pairs in found], dim=1).to(device, non_blocking=True)
    return [Pairs(*each) for each in numbers.split([len(pairs.query) for pairs in found], dim=1)]


def assign(costs: Sequence[Tensor]) -> Pairs:
    """The cheapest pairing of each image, each object with one query at most (Kuhn 1955, the Hungarian method).

    Args:
        costs: (Q, N) per image, on the CPU; N may be 0. What is not finite is taken last.
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
    return Pairs(torch.cat(image), torch.cat(query), torch.cat(target))

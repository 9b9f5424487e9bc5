"""From queries with masks to segments that share out the pixels (Cheng et al. 2022, MaskFormer, section 3.4).

Shapes: Q queries, K classes, n segments, (h, w) the grid of the masks, (H, W) pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from vitrail.ops.grid import Pair


class MergeConfig(NamedTuple):
    """Which queries and pixels become segments.

    Attributes:
        score: the probability of its class from which a query is used.
        mask: the probability from which a pixel is of a query's mask.
        overlap: the share of its mask that a query keeps beside the others; below, it is dropped.
    """

    score: float
    mask: float
    overlap: float


class Found(NamedTuple):
    """The segments of one image."""

    numbers: Tensor
    """int32 (H, W): 0 for none, else from 1 on which segment."""
    labels: Tensor
    """(n,) int64."""
    scores: Tensor
    """(n,) float32, in [0, 1]."""


def merged(logits: Tensor, masks: Tensor, size: Pair, things: Sequence[bool], config: MergeConfig) -> Found:
    """Each pixel goes to the query whose probability of class and mask together is the highest.

    Queries of one class of stuff are one segment, whose score is the highest of them.

    Args:
        logits: (Q, K + 1), the last one is "no object".
        masks: logits (Q, h, w).
        size: (H, W).
        things: of each class, whether each query is a segment of its own.
    """
    scores, labels = logits.float().softmax(dim=-1).max(dim=-1)
    keep = (labels < logits.shape[-1] - 1) & (scores >= config.score)
    scores, labels = scores[keep], labels[keep]
    numbers = torch.zeros(size, dtype=torch.int32)
    if not len(labels):
        return Found(numbers, labels, scores)
    probabilities = F.interpolate(masks[keep][None].float(), size, mode="bilinear", align_corners=False)[0].sigmoid()
    owner = (probabilities * scores[:, None, None]).argmax(dim=0)
    full = probabilities >= config.mask
    number_of_stuff: dict[int, int] = {}
    found: list[tuple[int, float]] = []
    for query in scores.argsort(descending=True, stable=True).tolist():
        label, score = int(labels[query]), float(scores[query])
        own = (owner == query) & full[query]
        area = int(own.sum())
        if area == 0 or area < config.overlap * int(full[query].sum()):
            continue
        if not things[label] and label in number_of_stuff:
            numbers[own] = number_of_stuff[label]
            continue
        found.append((label, score))
        numbers[own] = len(found)
        number_of_stuff[label] = len(found)
    return Found(numbers, torch.tensor([f[0] for f in found], dtype=torch.int64), torch.tensor([f[1] for f in found]))

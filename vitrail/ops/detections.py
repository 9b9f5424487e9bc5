"""The objects in one image's outputs, best first. Shapes: Q queries, K classes, n detections."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

MOST = 100  # detections of an image, as many as COCO counts


class Ranking(NamedTuple):
    """Which pairs of a query and a class are detections.

    Attributes:
        exclusive: classes exclude each other (softmax): a query has its best one (Carion et al. 2020, DETR). Otherwise
            it has each (sigmoid; Zhu et al. 2021, Deformable DETR).
        max_detections: of an image.
    """

    exclusive: bool = False
    max_detections: int = MOST


EACH_CLASS = Ranking()


class Detections(NamedTuple):
    """n objects by falling score."""

    labels: Tensor
    """(n,) int64."""
    scores: Tensor
    """(n,)."""
    boxes_xyxy: Tensor
    """(n, 4)."""
    query: Tensor
    """(n,) int64: which query each comes from."""

    def over(self, threshold: float) -> Detections:
        """Those whose score is at least ``threshold``."""
        keep = self.scores >= threshold
        return Detections(*(part[keep] for part in self))


def ranked(outputs: Tensor, ranking: Ranking) -> Detections:
    """Outputs (Q, K+4), scores of the classes and boxes_xyxy → the detections with the best scores."""
    scores, labels = outputs[:, :-4], torch.arange(outputs.shape[1] - 4, device=outputs.device).expand(len(outputs), -1)
    if ranking.exclusive:
        scores, labels = scores.max(dim=1, keepdim=True)
    best, places = scores.flatten().topk(min(ranking.max_detections, scores.numel()))
    query = places // scores.shape[1]
    return Detections(labels.flatten()[places], best, outputs[query, -4:], query)

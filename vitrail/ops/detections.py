"""The objects in one image's outputs, best first. Shapes: Q queries, K classes, n detections."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

MOST = 100  # detections of an image, as many as COCO counts
CANDIDATES = 10  # pairs for each detection of an image, that suppression compares


class Ranking(NamedTuple):
    """Which pairs of a query and a class are detections.

    Attributes:
        exclusive: classes exclude each other (softmax): a query has its best one (Carion et al. 2020, DETR). Otherwise
            it has each (sigmoid; Zhu et al. 2021, Deformable DETR).
        max_detections: of an image.
        suppress: IoU over which a detection falls to a better one of its class (non-maximum suppression; Girshick et
            al. 2014), or None.
    """

    exclusive: bool = False
    max_detections: int = MOST
    suppress: float | None = None

    def of_tiles(self, count: int) -> Ranking:
        """That of a picture which is seen in so many tiles: as many detections as they have."""
        return self._replace(max_detections=count * self.max_detections)


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
        return self.at(self.scores >= threshold)

    def at(self, places: Tensor) -> Detections:
        """Those of a mask bool (n,) or of places int64 (m,)."""
        return Detections(*(part[places] for part in self))

    def first(self, count: int) -> Detections:
        """The best ones."""
        return Detections(*(part[:count] for part in self))


def ranked(outputs: Tensor, ranking: Ranking) -> Detections:
    """Outputs (Q, K+4), scores of the classes and boxes_xyxy → the detections with the best scores."""
    scores, labels = outputs[:, :-4], torch.arange(outputs.shape[1] - 4, device=outputs.device).expand(len(outputs), -1)
    if ranking.exclusive:
        scores, labels = scores.max(dim=1, keepdim=True)
    most = ranking.max_detections * (1 if ranking.suppress is None else CANDIDATES)
    best, places = scores.flatten().topk(min(most, scores.numel()))
    query = places // scores.shape[1]
    found = Detections(labels.flatten()[places], best, outputs[query, -4:], query)
    return found if ranking.suppress is None else _suppressed(found, ranking.suppress).first(ranking.max_detections)


def _suppressed(found: Detections, overlap: float) -> Detections:
    """Those that overlap no better one of their class by more."""
    from torchvision.ops import batched_nms

    kept = batched_nms(found.boxes_xyxy.float(), found.scores.float(), found.labels, overlap)
    return found.at(kept)

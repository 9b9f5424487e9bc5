"""The objects in one image's outputs, best first. Shapes: Q queries, K classes."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Detections(NamedTuple):
    """Q objects by falling score."""

    labels: Tensor
    """(Q,) int64."""
    scores: Tensor
    """(Q,)."""
    boxes_xyxy: Tensor
    """(Q, 4)."""
    query: Tensor
    """(Q,) int64: which query each comes from."""

    def over(self, threshold: float) -> Detections:
        """Those whose score is at least ``threshold``."""
        keep = self.scores >= threshold
        return Detections(*(part[keep] for part in self))


def ranked(outputs: Tensor) -> Detections:
    """Outputs (Q, K+4), scores of the classes and boxes_xyxy → each query with its best class."""
    scores, labels = outputs[:, :-4].max(dim=1)
    order = scores.argsort(descending=True, stable=True)
    return Detections(labels[order], scores[order], outputs[order, -4:], order)

"""Objects found: COCO's average precision and recall, VOC's mAP, precision-recall curves, and what was missed.

Shapes: Q queries, K classes, n objects of an image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vitrail.metrics import Metrics as Base
from vitrail.metrics.coco import Boxes, coco_scores
from vitrail.ops.boxes import iou
from vitrail.ops.detections import Detections, ranked

VOC_IOU = 0.5


@dataclass(frozen=True)
class Curve:
    """Precision and recall of one class as the score is lowered, at IoU ≥ 0.5."""

    recall: np.ndarray
    precision: np.ndarray
    scores: np.ndarray
    num_objects: int

    @property
    def average_precision(self) -> float:
        """The area under the curve, its precision made monotonous (Everingham et al. 2015, section 4.2); NaN if there
        is nothing to find."""
        if not self.num_objects:
            return float("nan")
        recall = np.concatenate(([0.0], self.recall))
        envelope = np.maximum.accumulate(self.precision[::-1])[::-1]
        return float((np.diff(recall) * envelope).sum())


@dataclass(frozen=True)
class Matched:
    """How the detections of one image fared at IoU ≥ 0.5, each against objects of its own class."""

    found: np.ndarray
    """(Q,) int64: the object that a detection found, −1 for none, −2 where it does not count (a crowd)."""
    missed: np.ndarray
    """(m,) int64: objects that no detection found."""


class Metrics(Base):
    """From outputs (B, Q, K+4), scores and boxes_xyxy, and a list of B objects with ``boxes_xyxy``, ``labels`` and
    perhaps ``crowd``; both in the same pixels.

    ``compute()`` gives COCO's ``ap`` (mean over IoU 0.50 … 0.95), ``ap50``, ``ap75``, ``ap_small``, ``ap_medium``,
    ``ap_large``, ``ar1``, ``ar10``, ``ar100``, and ``map_voc`` (IoU 0.5, all points). Sizes count in pixels of what is
    given: NaN where no object has that size.
    """

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(names)
        self._found: list[Detections] = []
        self._true: list[Any] = []

    def update(self, outputs: Tensor, targets: Any) -> None:
        """Add one batch."""
        assert outputs.ndim == 3, f"outputs are (B, Q, K+4), got {tuple(outputs.shape)}"
        assert outputs.shape[2] == len(self.names) + 4, f"{outputs.shape[2]} columns for {len(self.names)} names"
        assert len(outputs) == len(targets), f"{len(outputs)} outputs for {len(targets)} targets"
        self._found += [ranked(row) for row in outputs.detach().float().cpu()]
        self._true += list(targets)

    def compute(self) -> dict[str, float]:
        assert self._true, "compute() before the first update()"
        curves = [curve.average_precision for curve in self.curves()]
        return coco_scores(len(self.names), self._found, self._true, Boxes()) | {"map_voc": _mean(curves)}

    def details(self) -> dict[str, Any]:
        """``classes`` (rows: AP at IoU 0.5, count of objects), ``curves`` (one a class), ``matched`` (one an image)."""
        curves = self.curves()
        classes = [
            {"name": name, "ap50": curve.average_precision, "objects": curve.num_objects}
            for name, curve in zip(self.names, curves, strict=True)
        ]
        return {"classes": classes, "curves": curves, "matched": self.matched()}

    def matched(self) -> list[Matched]:
        """What became of every detection and object."""
        return [match(found, true) for found, true in zip(self._found, self._true, strict=True)]

    def curves(self) -> list[Curve]:
        """One a class."""
        fates = [torch.from_numpy(each.found) for each in self.matched()]
        labels, scores = (
            torch.cat([getattr(found, name) for found in self._found]).numpy() for name in ("labels", "scores")
        )
        fate = torch.cat(fates).numpy()
        objects = np.concatenate([true.labels.cpu().numpy()[~crowd_of(true)] for true in self._true])
        return [
            _curve(scores[own], fate[own] >= 0, int((objects == label).sum()))
            for label in range(len(self.names))
            for own in [(labels == label) & (fate != -2)]
        ]


def match(found: Detections, true: Any) -> Matched:
    """Each detection, the surest first, finds the object of its class that it overlaps most, if that is IoU ≥ 0.5 and
    nobody found it before (Everingham et al. 2010, section 4.4)."""
    crowd, labels = crowd_of(true), true.labels.cpu()
    fate = np.full(len(found.labels), -1)
    taken = np.zeros(len(labels), dtype=bool)
    if len(labels):
        overlap = iou(found.boxes_xyxy[:, None], true.boxes_xyxy.cpu().float())
        overlap[found.labels[:, None] != labels] = -1
        best, which = (part.numpy() for part in overlap.max(dim=1))
        for number, (value, target) in enumerate(zip(best, which, strict=True)):
            if value < VOC_IOU:
                continue
            if crowd[target]:
                fate[number] = -2
            elif not taken[target]:
                fate[number], taken[target] = target, True
    return Matched(fate, np.flatnonzero(~taken & ~crowd))


def crowd_of(true: Any) -> np.ndarray:
    """bool (n,): which objects are crowds, in which nothing is counted."""
    crowd = getattr(true, "crowd", None)
    return np.zeros(len(true.labels), dtype=bool) if crowd is None else crowd.cpu().numpy().astype(bool)


def _curve(scores: np.ndarray, right: np.ndarray, num_objects: int) -> Curve:
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(right[order])
    precision = hits / np.arange(1, len(hits) + 1)
    return Curve(hits / max(num_objects, 1), precision, scores[order], num_objects)


def _mean(values: Sequence[float]) -> float:
    """Over the classes that there are."""
    defined = [value for value in values if not np.isnan(value)]
    return float(np.mean(defined)) if defined else float("nan")

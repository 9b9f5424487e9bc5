"""Objects found: COCO's average precision and recall, VOC's mAP, precision-recall curves, and what was missed.

Shapes: Q queries, K classes, n objects of an image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor

from vitrail.metrics import Metrics as Base
from vitrail.metrics import Rows
from vitrail.metrics.coco import Boxes, coco_scores
from vitrail.ops.boxes import iou
from vitrail.ops.detections import Detections, ranked
from vitrail.ops.objects import TrueObjects

if TYPE_CHECKING:
    from vitrail.data.transforms.geometry import ImageGeometry

VOC_IOU = 0.5


@dataclass(frozen=True)
class Curve:
    """Precision and recall of one class as the score is lowered, at IoU ≥ 0.5."""

    recall: np.ndarray
    precision: np.ndarray
    scores: np.ndarray
    right: np.ndarray
    """bool: whether each detection, best score first, is correct."""
    num_objects: int

    def at(self, threshold: float) -> dict[str, float]:
        """``precision`` and ``recall`` of the detections with at least this score; 0 where there are none."""
        count = int((self.scores >= threshold).sum())
        if not count:
            return {"precision": 0.0, "recall": 0.0}
        return {"precision": float(self.precision[count - 1]), "recall": float(self.recall[count - 1])}

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
    """How the detections of one image fared at IoU ≥ 0.5, each against objects of its class."""

    found: np.ndarray
    """(Q,) int64: the object that a detection found, −1 for none, −2 where it does not count (a crowd)."""
    missed: np.ndarray
    """(m,) int64: objects that no detection found."""


class Metrics(Base):
    """From outputs (B, Q, K+4), scores and boxes_xyxy, and a list of B
    :class:`~vitrail.ops.objects.TrueObjects`; both in the same pixels.

    ``compute()`` gives COCO's ``ap`` (mean over IoU 0.50 … 0.95), ``ap50``, ``ap75``, ``ap_small``, ``ap_medium``,
    ``ap_large``, ``ar1``, ``ar10``, ``ar100``, and ``map_voc`` (IoU 0.5, all points). Sizes count in pixels of what is
    given: NaN where no object has that size.
    """

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(names)
        self.detections: list[Detections] = []
        self._true: list[TrueObjects] = []

    def reduce(self, outputs: Tensor, geometries: Sequence[ImageGeometry] | None = None) -> Rows:
        """All, boxes in the pixels of each image."""
        if geometries is None:
            return outputs
        rows = outputs.cpu()
        boxes = [geometry.original_boxes(row) for geometry, row in zip(geometries, rows[..., -4:], strict=True)]
        return torch.cat((rows[..., :-4], torch.stack(boxes)), dim=-1)

    def update(self, rows: Rows, targets: Rows) -> None:
        """Add images."""
        assert isinstance(rows, Tensor), f"outputs are (B, Q, K+4), got a {type(rows).__name__}"
        assert rows.ndim == 3, f"outputs are (B, Q, K+4), got {tuple(rows.shape)}"
        assert rows.shape[2] == len(self.names) + 4, f"{rows.shape[2]} columns for {len(self.names)} names"
        assert len(rows) == len(targets), f"{len(rows)} outputs for {len(targets)} targets"
        self.detections += [ranked(row) for row in rows.detach().float().cpu()]
        self._true += cast("Sequence[TrueObjects]", targets)

    def compute(self) -> dict[str, float]:
        assert self._true, "compute() before the first update()"
        curves = [curve.average_precision for curve in self.curves()]
        return coco_scores(len(self.names), self.detections, self._true, Boxes()) | {"map_voc": _mean(curves)}

    def details(self) -> dict[str, Any]:
        """``classes`` (rows: average precision at IoU 0.5, precision and recall at the ``threshold``, ``support``), and
        the ``threshold``, the score at which all classes together have the best F1."""
        threshold = self.threshold
        classes = [
            {"name": name, "ap": curve.average_precision, **curve.at(threshold), "support": curve.num_objects}
            for name, curve in zip(self.names, self.curves(), strict=True)
        ]
        return {"threshold": threshold, "classes": classes}

    @property
    def threshold(self) -> float:
        """The score from which on detections count where they must be counted, by the best F1."""
        curves = self.curves()
        scores = np.concatenate([curve.scores for curve in curves])
        hits = np.concatenate([curve.right for curve in curves])
        if not hits.any():
            return 0.5
        order = np.argsort(-scores, kind="stable")
        found = np.cumsum(hits[order])
        f1 = 2 * found / (np.arange(1, len(found) + 1) + sum(curve.num_objects for curve in curves))
        return float(scores[order][int(f1.argmax())])

    def matched(self) -> list[Matched]:
        """What became of every detection and object."""
        return [match(found, true) for found, true in zip(self.detections, self._true, strict=True)]

    def confusion(self, threshold: float) -> np.ndarray:
        """What objects were taken for, int64 (K+1, K+1) with true classes as rows. The last class is nothing: objects
        that were missed, and detections of what is not there. Pairs overlap by IoU ≥ 0.5, whatever their classes."""
        nothing = len(self.names)
        counts = np.zeros((nothing + 1, nothing + 1), dtype=np.int64)
        for found, true in zip(self.detections, self._true, strict=True):
            seen, crowd, labels = found.over(threshold), crowd_of(true), true.labels.cpu().numpy()
            pairs = pair(seen, true)
            of_crowds = pairs >= 0
            of_crowds[of_crowds] = crowd[pairs[of_crowds]]
            predicted, which = seen.labels.numpy()[~of_crowds], pairs[~of_crowds]
            rows = np.where(which < 0, nothing, np.append(labels, nothing)[which])
            np.add.at(counts, (rows, predicted), 1)
            missed = np.setdiff1d(np.flatnonzero(~crowd), which)
            np.add.at(counts, (labels[missed], nothing), 1)
        return counts

    def curves(self) -> list[Curve]:
        """One a class."""
        fates = [torch.from_numpy(each.found) for each in self.matched()]
        labels, scores = (
            torch.cat([getattr(found, name) for found in self.detections]).numpy() for name in ("labels", "scores")
        )
        fate = torch.cat(fates).numpy()
        objects = np.concatenate([true.labels.cpu().numpy()[~crowd_of(true)] for true in self._true])
        return [
            _curve(scores[own], fate[own] >= 0, int((objects == label).sum()))
            for label in range(len(self.names))
            for own in [(labels == label) & (fate != -2)]
        ]


def match(found: Detections, true: TrueObjects) -> Matched:
    """Each detection, best score first, finds the object of its class that it overlaps most, if that is IoU ≥ 0.5 and
    no other found it before (Everingham et al. 2010, section 4.4)."""
    fate, crowd = pair(found, true, same_class=True), crowd_of(true)
    in_crowd = fate >= 0
    in_crowd[in_crowd] = crowd[fate[in_crowd]]
    fate[in_crowd] = -2
    return Matched(fate, np.setdiff1d(np.flatnonzero(~crowd), fate))


def pair(found: Detections, true: TrueObjects, *, same_class: bool = False) -> np.ndarray:
    """The object that each detection stands for, int64 (Q,), or −1: the one that it overlaps most, if that is IoU ≥ 0.5
    and no detection of a better score stands for it already. A crowd takes any number."""
    crowd, labels = crowd_of(true), true.labels.cpu()
    pairs = np.full(len(found.labels), -1)
    if not len(labels) or not len(pairs):
        return pairs
    overlap = iou(found.boxes_xyxy[:, None], true.boxes_xyxy.cpu().float())
    if same_class:
        overlap[found.labels[:, None] != labels] = -1
    taken = np.zeros(len(labels), dtype=bool)
    for number, (value, target) in enumerate(zip(*(part.numpy() for part in overlap.max(dim=1)), strict=True)):
        if value >= VOC_IOU and not taken[target]:
            pairs[number], taken[target] = target, not crowd[target]
    return pairs


def crowd_of(true: TrueObjects) -> np.ndarray:
    """bool (n,): which objects are crowds, in which nothing is counted."""
    return true.crowd.cpu().numpy().astype(bool)


def _curve(scores: np.ndarray, right: np.ndarray, num_objects: int) -> Curve:
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(right[order])
    precision = hits / np.arange(1, len(hits) + 1)
    return Curve(hits / max(num_objects, 1), precision, scores[order], right[order], num_objects)


def _mean(values: Sequence[float]) -> float:
    """Over the classes that there are."""
    defined = [value for value in values if not np.isnan(value)]
    return float(np.mean(defined)) if defined else float("nan")

"""Objects found: COCO's average precision and recall, VOC's mAP, precision-recall curves, and what was missed.

Shapes: Q queries, K classes, n detections and m objects of an image.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor

from vitrail.metrics import Headline, Rows
from vitrail.metrics import Metrics as Base
from vitrail.metrics.coco import NAMES, Boxes, coco_scores
from vitrail.ops.boxes import inside, iou
from vitrail.ops.detections import EACH_CLASS, Detections, Ranking, ranked
from vitrail.ops.objects import TrueObjects
from vitrail.ops.tile_merging import merged

if TYPE_CHECKING:
    from vitrail.data.transforms.geometry import ImageGeometry
    from vitrail.data.transforms.tiles import TileOutputs
    from vitrail.ops.tiles import Tile, TileGrid

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
    """(n,) int64: the object that a detection found, −1 for none, −2 where it does not count (an ignored object)."""
    missed: np.ndarray
    """(m,) int64: objects that no detection found."""


class Metrics(Base):
    """From outputs (B, Q, K+4), scores and boxes_xyxy, or a list of B :class:`~vitrail.ops.detections.Detections`, and
    a list of B :class:`~vitrail.ops.objects.TrueObjects`; both in the same pixels.

    ``compute()`` gives COCO's ``ap`` (mean over IoU 0.50 … 0.95), ``ap50``, ``ap75``, ``ap_small``, ``ap_medium``,
    ``ap_large``, ``ar1``, ``ar10``, ``ar100``, and ``map_voc`` (IoU 0.5, all points). Objects are small, medium or
    large by their areas: NaN where there are none of a size.

    Args:
        ranking: how queries become detections.
    """

    scalars: ClassVar[tuple[str, ...]] = (*NAMES, "map_voc")
    headlines: ClassVar[dict[str, Headline]] = {
        "ap": Headline("AP, mean of IoU 0.50 … 0.95", "{:.4f}"),
        "ap50": Headline("AP at IoU 0.50", "{:.4f}"),
        "ap75": Headline("AP at IoU 0.75", "{:.4f}"),
        "ar100": Headline("AR of 100 objects", "{:.4f}"),
        "map_voc": Headline("mAP of Pascal VOC", "{:.4f}"),
    }

    def __init__(self, names: Sequence[str], ranking: Ranking = EACH_CLASS) -> None:
        super().__init__(names)
        self.ranking = ranking
        self.detections: list[Detections] = []
        self._true: list[TrueObjects] = []

    def reduce(self, outputs: Tensor, geometries: Sequence[ImageGeometry]) -> Rows:
        """All, boxes in the pixels of each image."""
        rows = outputs.cpu()
        boxes = [geometry.original_boxes(row) for geometry, row in zip(geometries, rows[..., -4:], strict=True)]
        return torch.cat((rows[..., :-4], torch.stack(boxes)), dim=-1)

    def reduce_tiles(self, found: Iterable[TileOutputs], grid: TileGrid) -> object:
        """What is kept of a picture that is seen in tiles."""
        return self.of_tiles(found, grid)

    def of_tiles(self, found: Iterable[TileOutputs], grid: TileGrid) -> Detections:
        """The objects of a picture that its tiles show, in its own pixels."""
        return self.merged(((each.tile, self.of_tile(each, each.outputs.cpu())) for each in found), grid)[0]

    def of_tile(self, tile: TileOutputs, objects: Tensor) -> Tensor:
        """Objects (Q, K+4) that are found in a tile, in the picture's pixels."""
        left, top = tile.tile.box_xyxy[:2]
        boxes = tile.geometry.original_boxes(objects[:, -4:]) + objects.new_tensor([left, top] * 2)
        return torch.cat((objects[:, :-4], boxes), dim=1)

    def merged(self, found: Iterable[tuple[Tile, Tensor]], grid: TileGrid) -> tuple[Detections, list[list[int]]]:
        """What was found in each tile as the objects of the picture, and of each detection's ``query`` the rows of all
        tiles that it consists of."""
        tiles, rows = zip(*found, strict=True)
        number = torch.repeat_interleave(torch.arange(len(rows)), torch.tensor([len(each) for each in rows]))
        objects = merged(torch.cat(rows), number, tiles)
        return ranked(objects.rows, self.ranking.of_tiles(len(grid))), objects.parts

    def update(self, rows: Rows, targets: Rows) -> None:
        """Add images."""
        assert len(rows) == len(targets), f"{len(rows)} outputs for {len(targets)} targets"
        if isinstance(rows, Tensor):
            assert rows.ndim == 3, f"outputs are (B, Q, K+4), got {tuple(rows.shape)}"
            assert rows.shape[2] == len(self.names) + 4, f"{rows.shape[2]} columns for {len(self.names)} names"
            self.detections += [ranked(row, self.ranking) for row in rows.detach().float().cpu()]
        else:
            self.detections += cast("Sequence[Detections]", rows)
        self._true += cast("Sequence[TrueObjects]", targets)

    def compute(self) -> dict[str, float]:
        assert self._true, "compute() before the first update()"
        curves = [curve.average_precision for curve in self.curves()]
        return coco_scores(len(self.names), self.detections, self._true, Boxes()) | {"map_voc": _mean(curves)}

    def details(self) -> dict[str, Any]:
        """``classes`` (rows: average precision at IoU 0.5, precision and recall at the ``threshold``, ``support``), and
        the ``threshold``: the chosen one, or the score at which all classes together have the best F1."""
        threshold = self.threshold
        classes = [
            {"name": name, "ap": curve.average_precision, **curve.at(threshold), "support": curve.num_objects}
            for name, curve in zip(self.names, self.curves(), strict=True)
        ]
        return {"threshold": threshold, "classes": classes}

    @property
    def threshold(self) -> float:
        """The score from which on detections count where they must be counted: the chosen one, else by the best F1."""
        if self.chosen is not None:
            return self.chosen
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
            seen, labels = found.over(threshold), true.labels.cpu().numpy()
            fate = match(seen, true, any_class=True)
            counted = fate.found != -2
            rows = np.append(labels, nothing)[fate.found[counted]]  # −1, nothing, is the last
            np.add.at(counts, (rows, seen.labels.numpy()[counted]), 1)
            np.add.at(counts, (labels[fate.missed], nothing), 1)
        return counts

    def curves(self) -> list[Curve]:
        """One a class."""
        fates = [torch.from_numpy(each.found) for each in self.matched()]
        labels, scores = (
            torch.cat([getattr(found, name) for found in self.detections]).numpy() for name in ("labels", "scores")
        )
        fate = torch.cat(fates).numpy()
        objects = torch.cat([true.labels[~true.ignored].cpu() for true in self._true]).numpy()
        return [
            _curve(scores[own], fate[own] >= 0, int((objects == label).sum()))
            for label in range(len(self.names))
            for own in [(labels == label) & (fate != -2)]
        ]


def match(found: Detections, true: TrueObjects, *, any_class: bool = False) -> Matched:
    """Each detection, best score first, stands for the object of its class that it overlaps most, if that is IoU ≥ 0.5
    and no other stands for it before (Everingham et al. 2010, section 4.4). An object that is ignored takes any number
    of them, which do not count. Nor do those of the rest of which at least half lies in a crowd (COCO's rule).

    Args:
        any_class: pair them whatever their classes.
    """
    labels, ignored, crowd = (part.cpu() for part in (true.labels, true.ignored.bool(), true.crowd.bool()))
    fate = np.full(len(found.labels), -1)
    if not len(labels) or not len(fate):
        return Matched(fate, np.flatnonzero(~ignored))
    boxes, own = true.boxes_xyxy.cpu().float(), found.boxes_xyxy[:, None]
    of_class = (found.labels[:, None] == labels) | any_class
    in_crowd = ((inside(own, boxes) >= VOC_IOU) & of_class & crowd).any(dim=1)
    overlap = iou(own, boxes).where(of_class & ~crowd, -1)
    taken = np.zeros(len(labels), dtype=bool)
    for number, (value, target) in enumerate(zip(*(part.numpy() for part in overlap.max(dim=1)), strict=True)):
        if value >= VOC_IOU and ignored[target]:
            fate[number] = -2
        elif value >= VOC_IOU and not taken[target]:
            fate[number], taken[target] = target, True
        elif in_crowd[number]:
            fate[number] = -2
    return Matched(fate, np.setdiff1d(np.flatnonzero(~ignored), fate))


def _curve(scores: np.ndarray, right: np.ndarray, num_objects: int) -> Curve:
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(right[order])
    precision = hits / np.arange(1, len(hits) + 1)
    return Curve(hits / max(num_objects, 1), precision, scores[order], right[order], num_objects)


def _mean(values: Sequence[float]) -> float:
    """Over the classes that there are."""
    defined = [value for value in values if not np.isnan(value)]
    return float(np.mean(defined)) if defined else float("nan")

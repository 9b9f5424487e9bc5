"""COCO's own evaluation (Lin et al. 2014), through faster-coco-eval."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol

import numpy as np
from torch import Tensor

from vitrail.errors import UserError
from vitrail.ops.boxes import xyxy_to_xywh
from vitrail.ops.detections import MOST, Detections
from vitrail.ops.objects import TrueObjects

NAMES = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "ar1", "ar10", "ar100")
"""COCO's first nine numbers, in its order."""


class Shape(Protocol):
    """What is compared."""

    kind: Literal["bbox", "segm"]

    def found(self, image: int, found: Detections) -> list[dict[str, Any]]:
        """One dict per detection, in COCO's format, without its image, class and score."""

    def true(self, image: int, true: TrueObjects) -> list[dict[str, Any]]:
        """One dict per object, likewise."""

    def ignored(self, true: TrueObjects) -> Tensor:
        """Which objects need not be found, bool (n,)."""


class Boxes:
    """Boxes."""

    kind: Literal["bbox", "segm"] = "bbox"

    def found(self, image: int, found: Detections) -> list[dict[str, Any]]:
        return [{"bbox": box} for box in xyxy_to_xywh(found.boxes_xyxy).tolist()]

    def true(self, image: int, true: TrueObjects) -> list[dict[str, Any]]:
        return [{"bbox": box} for box in xyxy_to_xywh(true.boxes_xyxy.cpu().float()).tolist()]

    def ignored(self, true: TrueObjects) -> Tensor:
        return true.ignored


def coco_scores(
    num_classes: int, found: Sequence[Detections], true: Sequence[TrueObjects], shape: Shape
) -> dict[str, float]:
    """Average precision and recall over all images; NaN where there is nothing to find.

    COCO counts the 100 best detections of a class in an image, since a model gives no more. Where one gives more, as by
    tiles of large pictures, the average precision is that of all; ``ar100`` remains that of 100.

    Raises:
        UserError: faster-coco-eval is not installed.
    """
    try:
        from faster_coco_eval import COCO, COCOeval_faster
    except ImportError:
        raise UserError("detection is measured by faster-coco-eval: pip install 'vitrail[detect]'") from None
    images = [{"id": number, "width": 1, "height": 1} for number in range(len(true))]
    truth = COCO(
        {
            "info": {},
            "images": images,
            "categories": [{"id": label, "name": str(label)} for label in range(num_classes)],
            "annotations": _annotations(true, shape),
        }
    )
    results = _results(found, shape)
    if not results:
        return dict.fromkeys(NAMES, 0.0 if truth.anns else float("nan"))
    run = COCOeval_faster(truth, truth.loadRes(results), shape.kind, print_function=lambda *_: None)
    most = max(int(each.labels.bincount().max()) for each in found if len(each.labels))
    run.params.maxDets = [1, 10, MOST, *([most] if most > MOST else [])]
    run.evaluate()
    run.accumulate()
    run.summarize()
    numbers = [float(value) for value in np.asarray(run.stats)[: len(NAMES)]]
    return {name: value if value >= 0 else float("nan") for name, value in zip(NAMES, numbers, strict=True)}


def _annotations(true: Sequence[TrueObjects], shape: Shape) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for image, objects in enumerate(true):
        ignored = shape.ignored(objects).int()  # COCO's tool leaves nothing but crowds uncounted
        columns = zip(objects.labels.tolist(), ignored.tolist(), objects.areas.tolist(), strict=True)
        for (label, flag, area), part in zip(columns, shape.true(image, objects), strict=True):
            row = {"image_id": image, "category_id": label, "iscrowd": flag, "area": area}
            rows.append({"id": len(rows) + 1, **row, **part})
    return rows


def _results(found: Sequence[Detections], shape: Shape) -> list[dict[str, Any]]:
    return [
        {"image_id": image, "category_id": label, "score": score, **part}
        for image, each in enumerate(found)
        for label, score, part in zip(each.labels.tolist(), each.scores.tolist(), shape.found(image, each), strict=True)
    ]

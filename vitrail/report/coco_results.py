"""The objects that a model found, as results for COCO's tools, with the data's own ids of images and categories."""

from __future__ import annotations

from typing import Any

from vitrail.data.annotations import Annotations
from vitrail.data.source import Source
from vitrail.evaluation import Evaluation
from vitrail.metrics import detection, instances
from vitrail.metrics.coco import Boxes, Shape

DETECTIONS = "-detections.json"
"""The end of such a file's name."""


def coco_results(evaluation: Evaluation, source: Source) -> list[dict[str, Any]] | None:
    """What ``loadRes`` of pycocotools reads: an entry a detection, of any score; None where none were measured."""
    family, column = evaluation.family, source.targets
    if not isinstance(family, detection.Metrics) or not isinstance(column, Annotations):
        return None
    boxes, masks = Boxes(), instances.Masks(family.masks) if isinstance(family, instances.Metrics) else None
    entries = []
    for row, index in enumerate(evaluation.index.tolist()):
        found, image_id = family.detections[row], column.written_id(index)
        shapes: list[Shape] = [boxes] if masks is None else [boxes, masks]
        parts = zip(*(shape.found(row, found) for shape in shapes), strict=True)
        for label, score, part in zip(found.labels.tolist(), found.scores.tolist(), parts, strict=True):
            start = {"image_id": image_id, "category_id": int(column.category_ids[label]), "score": score}
            entries.append(start | {key: value for each in part for key, value in each.items()})
    return entries

"""Targets of three small images for each target kind, and such as contradict their images."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from vitrail.data import Annotations
from vitrail.data.segments import NumberMaps, SegmentColumn
from vitrail.data.storage.maps import NumberedMasks
from vitrail.data.targets import Column

SIZE = (12, 16)  # (height, width)


@dataclass(frozen=True)
class Example:
    """``bad`` are targets of which each image has a fault; None where there are no faults to be had."""

    column: Column
    classes: tuple[str, ...]
    bad: Column | None = None


def maps() -> np.ndarray:
    """Which object each pixel is of, uint8 (3, H, W)."""
    numbers = np.zeros((3, *SIZE), np.uint8)
    numbers[0, 2:6, 4:10], numbers[0, 6:10, 2:8], numbers[1, 0:12, 6:8] = 1, 2, 1
    return numbers


def annotations(*, masks: bool) -> Annotations:
    """Two objects, one, and none."""
    return Annotations(
        boxes_xyxy=np.array([[4, 2, 10, 6], [2, 6, 8, 10], [6, 0, 8, 12]], np.float32),
        labels=np.array([0, 1, 1]),
        crowd=np.array([False, True, False]),
        offsets=np.array([0, 2, 3, 3]),
        sizes=np.array([SIZE] * 3, np.int32),
        image_ids=np.array([7, 8, 9]),
        category_ids=np.array([1, 2]),
        rows=np.arange(3),
        masks=NumberedMasks(maps()) if masks else None,
        difficult=np.array([True, False, False]),
        areas=np.array([20, 12.5, 24], np.float32),
    )


def moved(column: Annotations) -> Annotations:
    """The same of images of another size."""
    return dataclasses.replace(column, sizes=column.sizes + 1)


def segments(step: int = 0) -> SegmentColumn:
    """Of the objects above, in maps that lack ``step`` rows and have as many columns more."""
    return SegmentColumn(
        labels=np.array([0, 1, 1]),
        crowd=np.array([False, True, False]),
        offsets=np.array([0, 2, 3, 3]),
        image_ids=np.array([7, 8, 9]),
        things=np.array([True, False]),
        category_ids=np.array([1, 2]),
        maps=NumberMaps(np.pad(maps()[:, step:], ((0, 0), (0, 0), (step, 0)))),
        rows=np.arange(3),
    )


def pictures(size: tuple[int, int]) -> np.ndarray:
    """uint8 (3, 3, H, W)."""
    return np.random.default_rng(1).integers(0, 256, (3, 3, *size), dtype=np.uint8)


EXAMPLES = {
    "none": Example(np.empty(0, np.float32), ()),
    "class": Example(np.array([0, 2, 1]), ("ant", "bee", "cat")),
    "multilabel": Example(np.array([[1, 0], [1, 1], [0, 0]], np.float32), ("sea", "sun")),
    "number": Example(np.array([[1.5, -2], [0, 4], [3, 3]], np.float32), ("age", "height")),
    "boxes": Example(annotations(masks=False), ("ant", "bee"), moved(annotations(masks=False))),
    "masks": Example(annotations(masks=True), ("ant", "bee"), moved(annotations(masks=True))),
    "semantic": Example(maps(), ("ground", "ant", "bee"), maps() + np.uint8(7)),
    "image": Example(pictures(SIZE), (), pictures((13, 17))),
    "panoptic": Example(segments(), ("ant", "sky"), segments(step=1)),
}

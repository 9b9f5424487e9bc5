"""The scenes of ``digit_scenes`` with a segment for each pixel: the digits are things, the background is stuff."""

from __future__ import annotations

import dataclasses

import numpy as np

from vitrail.data.segments import NumberMaps, SegmentColumn
from vitrail.data.source import Source, SourceConfig
from vitrail.data.sources import digit_scenes
from vitrail.data.storage.maps import NumberedMasks
from vitrail.data.storage.objects import annotations_of
from vitrail.data.targets import Labels

CLASSES = ("background", *digit_scenes.CLASSES)


def matches(spec: str) -> bool:
    return False  # by name only


def load(config: SourceConfig) -> dict[str, Source]:
    objects = digit_scenes.load(dataclasses.replace(config, kind="masks"))
    return {split: source.labelled(Labels("panoptic", CLASSES, _segments(source))) for split, source in objects.items()}


def _segments(source: Source) -> SegmentColumn:
    """The background first, then the digits in the order of the objects."""
    found = annotations_of(source)
    assert isinstance(found.masks, NumberedMasks)
    num_images = len(found.offsets) - 1
    return SegmentColumn(
        labels=np.insert(found.labels + 1, found.offsets[:-1], 0),
        crowd=np.insert(found.crowd, found.offsets[:-1], False),
        offsets=found.offsets + np.arange(num_images + 1),
        image_ids=found.image_ids,
        things=np.array([name != CLASSES[0] for name in CLASSES]),
        category_ids=np.arange(1, len(CLASSES) + 1),
        maps=NumberMaps(np.asarray(found.masks.maps) + np.uint8(1)),
        rows=found.rows,
    )

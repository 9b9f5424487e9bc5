"""COCO panoptic: ``annotations/panoptic_<split>.json``, a PNG map an image in the folder of that name, and the images
in ``<split>/``.

Category ids are those of the data where it came from COCO, else they count from 1. The ids of segments count from 1 in
each image.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from vitrail.data.media.decode import BadImage
from vitrail.data.segments import SegmentColumn, Segments
from vitrail.data.source import Source
from vitrail.data.storage import copies
from vitrail.data.storage.segments import to_colours
from vitrail.ops import boxes

KINDS = ("panoptic",)


def write(splits: Mapping[str, Source], folder: Path) -> list[str]:
    """Write the splits into a folder; nothing is left out.

    Raises:
        UserError: a map that cannot be read.
    """
    taken: set[str] = set()
    for split, source in splits.items():
        column = cast("SegmentColumn", source.targets)
        categories = zip(column.category_ids.tolist(), source.classes, column.things.tolist(), strict=True)
        content: dict[str, list[Any]] = {
            "images": [],
            "annotations": [],
            "categories": [{"id": i, "name": name, "isthing": int(thing)} for i, name, thing in categories],
        }
        maps = folder / "annotations" / f"panoptic_{split}"
        maps.mkdir(parents=True)
        for index, name in copies.copy(source, folder / split, taken):
            try:
                found = column[index]
            except BadImage as error:
                raise error.named(source.name(index)) from None
            file = f"{Path(name).stem}.png"
            to_colours(found.numbers.numpy()).save(maps / file)
            height, width = found.size
            content["images"].append({"id": found.image_id, "file_name": name, "height": height, "width": width})
            segments = _segments(found, column)
            content["annotations"].append({"image_id": found.image_id, "file_name": file, "segments_info": segments})
        copies.write_text(folder / "annotations" / f"panoptic_{split}.json", json.dumps(content))
    return []


def _segments(found: Segments, column: SegmentColumn) -> list[dict[str, Any]]:
    tight = boxes.xyxy_to_xywh(boxes.of_masks(found.masks())).int().tolist() if len(found) else []
    rows = zip(found.labels.tolist(), found.crowd.tolist(), found.areas.tolist(), tight, strict=True)
    return [
        {"id": i, "category_id": int(column.category_ids[k]), "iscrowd": int(crowd), "area": area, "bbox": box}
        for i, (k, crowd, area, box) in enumerate(rows, start=1)
    ]

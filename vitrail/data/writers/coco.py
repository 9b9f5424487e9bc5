"""COCO: ``annotations/instances_<split>.json`` and the images in ``<split>/``.

Category ids are those of the data where it came from COCO, else they count from 1. Polygons and run lengths stay as
they were written; other masks become compressed run lengths. Difficult objects are marked ``ignore``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vitrail.data.annotations import Annotations
from vitrail.data.source import Source
from vitrail.data.storage import copies
from vitrail.data.storage.decimals import decimals, start_and_size
from vitrail.data.storage.objects import annotations_of
from vitrail.data.storage.outlines import Outlines
from vitrail.ops import rle

KINDS = ("masks", "boxes")


def write(splits: Mapping[str, Source], folder: Path) -> list[str]:
    """Write the splits into a folder; the returned lines say what the format cannot hold."""
    taken: set[str] = set()
    for split, source in splits.items():
        found = annotations_of(source)
        content: dict[str, list[Any]] = {
            "images": [],
            "annotations": [],
            "categories": [
                {"id": int(number), "name": name}
                for number, name in zip(found.category_ids, source.classes, strict=True)
            ],
        }
        for index, name in copies.copy(source, folder / split, taken):
            image = found.rows[index]
            height, width = found.sizes[image].tolist()
            number = int(found.image_ids[image])
            content["images"].append({"id": number, "file_name": name, "height": height, "width": width})
            content["annotations"] += _entries(found, index, number, start=len(content["annotations"]) + 1)
        copies.write_text(folder / "annotations" / f"instances_{split}.json", json.dumps(content))
    return []


def _entries(found: Annotations, index: int, image_id: int, *, start: int) -> list[dict[str, Any]]:
    rows = found.objects(index)
    objects = found[index]
    entries = []
    for place, (row, area) in enumerate(zip(rows, decimals(objects.areas.numpy()), strict=True)):
        x, y, width, height = start_and_size(found.boxes_xyxy[row])
        entry: dict[str, Any] = {
            "id": start + place,
            "image_id": image_id,
            "category_id": int(found.category_ids[found.labels[row]]),
            "bbox": [x, y, width, height],
            "area": area,
            "iscrowd": int(found.crowd[row]),
        }
        if found.difficult is not None and found.difficult[row]:
            entry["ignore"] = 1
        if isinstance(found.masks, Outlines):
            if (shape := found.masks.shape(row)) is not None:
                entry["segmentation"] = shape
        elif objects.masks is not None:
            entry["segmentation"] = rle.compressed(objects.masks[place].numpy())
        entries.append(entry)
    return entries

"""labelme: a ``.json`` for each image, beside it or in another folder; folders of the splits may lie above.

Polygons, circles and masks are outlines, of which those of one ``group_id`` are one object; rectangles are boxes.
Points and lines are left out. Class names are those of the training split, sorted, or of ``classes.json``.
"""

from __future__ import annotations

import base64
import binascii
import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from vitrail.data.annotations import BadAnnotations, Flaw
from vitrail.data.media.decode import BadImage
from vitrail.data.media.label_image import decode_label
from vitrail.data.source import Source, SourceConfig
from vitrail.data.storage.coco_files import whole
from vitrail.data.storage.json_entries import read_json
from vitrail.data.storage.json_kinds import files_of, kind_of
from vitrail.data.storage.outlines import finite
from vitrail.data.storage.scenes import SceneImage, folders_of_splits, scene_sources

WHAT = "labelme"
OUTLINES = ("polygon", "linestrip")


def matches(spec: str) -> bool:
    path = Path(spec).expanduser()
    if path.is_file():
        return path.suffix.lower() == ".json" and kind_of(path) == WHAT
    return bool(_files(path))


def load(config: SourceConfig) -> dict[str, Source]:
    """Raises UserError for files that cannot be read, and with all flaws for shapes that cannot."""
    path = config.path
    scenes, folders = {}, {}
    for split, folder in (folders_of_splits(path) if path.is_dir() else {"train": path.parent}).items():
        files = _files(folder) if path.is_dir() else [path]
        scenes[split] = [_image(file, folder) for file in files]
        folders[split] = [folder, path if path.is_dir() else folder]
    return scene_sources(scenes, folders, config, what=WHAT)


def _files(folder: Path) -> list[Path]:
    return files_of(WHAT, folder, depth=3)


def _image(file: Path, folder: Path) -> SceneImage:
    content = read_json(file)
    shapes = content.get("shapes") if isinstance(content, dict) else None
    if not isinstance(shapes, list) or not all(isinstance(shape, dict) for shape in shapes):
        raise BadAnnotations([Flaw(str(file), 0, "has no list of shapes, as labelme's files have")])
    name = str(content.get("imagePath") or f"{file.stem}.jpg").replace("\\", "/")
    picture = os.path.normpath(os.path.join(os.path.relpath(file.parent, folder), name))
    height, width = whole(content.get("imageHeight")), whole(content.get("imageWidth"))
    image = SceneImage(file, 0, picture, (height, width) if height and width else None)
    groups: dict[tuple[str, object], list[list[float]]] = {}
    for place, shape in enumerate(shapes):
        points, kind, label = shape.get("points"), str(shape.get("shape_type") or "polygon"), str(shape.get("label"))
        if not isinstance(points, list) or not all(finite(point) and len(point) == 2 for point in points):
            image.faults.append(f"has at shape {place} ({label}) points that are no x, y")
            continue
        flat = [float(value) for point in points for value in point]
        if kind == "rectangle" and len(points) in (2, 4):
            x, y = flat[::2], flat[1::2]
            image.box(label, min(x), min(y), max(x) - min(x), max(y) - min(y))
        elif kind == "circle" and len(points) == 2:
            image.ellipse(label, flat[0], flat[1], *[math.dist(*points)] * 2)
        elif kind == "mask" and len(points) == 2:
            _add_mask(image, label, shape, flat)
        elif kind in OUTLINES and len(points) > 2:
            group = shape.get("group_id")
            groups.setdefault((label, place if group is None else f"group {group}"), []).append(flat)
        else:
            image.left_out.append(kind)
    for (label, _), rings in groups.items():
        image.outline(label, rings)
    return image


def _add_mask(image: SceneImage, label: str, shape: dict[str, Any], corners: list[float]) -> None:
    """A mask is a PNG of its box."""
    try:
        found = decode_label(base64.b64decode(str(shape.get("mask")), validate=True)).numbers
    except (BadImage, binascii.Error):
        found = None
    try:
        if found is None:
            raise ValueError("no image")
        image.placed_mask(label, np.asarray(found) > 0, round(corners[0]), round(corners[1]))
    except ValueError:
        image.faults.append(f"has a mask of {label!r} that cannot be read")

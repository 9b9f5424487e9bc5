"""Datumaro, as CVAT exports it: ``annotations/<subset>.json`` and ``images/<subset>/``.

Boxes, polygons and masks are objects; polygons of one group are one. Class names are in the files, in order.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vitrail.data.source import Source, SourceConfig
from vitrail.data.storage.coco_files import annotation_files, whole
from vitrail.data.storage.json_entries import read_json
from vitrail.data.storage.json_kinds import files_at, files_of
from vitrail.data.storage.outlines import shape_fault, size_fault
from vitrail.data.storage.scenes import SceneImage, scene_sources
from vitrail.errors import UserError
from vitrail.ops import rle

WHAT = "datumaro"


def matches(spec: str) -> bool:
    return bool(files_at(WHAT, Path(spec).expanduser()))


def load(config: SourceConfig) -> dict[str, Source]:
    """Raises UserError for files that cannot be read, and with all flaws for annotations that cannot."""
    files = annotation_files(config.path, lambda path: files_of(WHAT, path, depth=1), "annotations/train.json")
    scenes, folders = {}, {}
    classes: tuple[str, ...] = ()
    for split, file in files.items():
        home = file.parent.parent if file.parent.name == "annotations" else file.parent
        names, scenes[split] = _read(file)
        if classes and names != classes:
            raise UserError(f"{file} has other classes than the files of the other splits; make them agree")
        classes = names
        folders[split] = [home / "images" / file.stem, home / "images", home]
    return scene_sources(scenes, folders, config, classes=classes, what="Datumaro")


def _read(file: Path) -> tuple[tuple[str, ...], list[SceneImage]]:
    content = read_json(file)
    try:
        names = tuple(str(label["name"]) for label in content["categories"]["label"]["labels"])
        items = [item for item in content["items"] if isinstance(item, dict)]
    except (KeyError, TypeError):
        raise UserError(f"{file} has no categories and items, as Datumaro's files have; give such a file") from None
    return names, [_image(file, place, item, names) for place, item in enumerate(items)]


def _image(file: Path, place: int, item: dict[str, Any], names: tuple[str, ...]) -> SceneImage:
    media = item.get("image") or item.get("media") or {}
    media = media if isinstance(media, dict) else {}
    size = media.get("size")
    sides = [whole(side) for side in size] if isinstance(size, list) and len(size) == 2 else [None]
    image = SceneImage(file, place, str(media.get("path") or f"{item.get('id')}.jpg"), None)
    if sides[0] is not None and sides[-1] is not None:
        image.size = (sides[0], sides[-1])
    groups: dict[object, tuple[str, list[list[float]]]] = {}
    entries = item.get("annotations")
    for number, each in enumerate(entries if isinstance(entries, list) else []):
        if not isinstance(each, dict):
            image.faults.append(f"item {place} has at annotation {number} no mapping")
            continue
        kind, label_id = each.get("type"), each.get("label_id")
        if not isinstance(label_id, int) or not 0 <= label_id < len(names):
            image.faults.append(f"item {place} has at annotation {number} the unknown class {label_id!r}")
            continue
        name = names[label_id]
        if kind == "bbox" and isinstance(each.get("bbox"), list) and len(each["bbox"]) == 4:
            image.box(name, *each["bbox"])
        elif kind == "polygon":
            group = f"group {each['group']}" if each.get("group") else number
            points = each.get("points")
            groups.setdefault((group, name), (name, []))[1].append(points if isinstance(points, list) else [])
        elif kind == "mask":
            _add_mask(image, name, each.get("rle"), place)
        else:
            image.left_out.append(str(kind))
    for name, rings in groups.values():
        image.outline(name, rings)
    return image


def _add_mask(image: SceneImage, name: str, runs: Any, place: int) -> None:
    fault = shape_fault(runs)
    if fault is None:
        try:
            size = (runs["size"][0], runs["size"][1])
            if reason := size_fault(*size, image.picture):
                raise ValueError(reason)
            counts = rle.from_text(runs["counts"]) if isinstance(runs["counts"], str) else runs["counts"]
            mask = rle.decode(counts, size)
        except (ValueError, TypeError) as error:
            fault = f"a broken mask: {error}"
    if fault is not None:
        image.faults.append(f"item {place} has {fault}")
        return
    image.mask(name, mask)

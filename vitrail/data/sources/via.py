"""The VGG Image Annotator: ``via_project.json`` or ``via_region_data.json`` or ``.csv``, one for all images of a folder
or split.

Polygons, circles and ellipses are outlines, rectangles boxes; points and lines are left out. The class is the region's
only attribute, or the one called class, label, name, type, category or object; without attributes there is one class,
``object``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vitrail.data.annotations import BadAnnotations, Flaw
from vitrail.data.source import Source, SourceConfig
from vitrail.data.storage.json_entries import read_json
from vitrail.data.storage.json_kinds import files_at, files_of
from vitrail.data.storage.scenes import SceneImage, folders_of_splits, scene_sources
from vitrail.data.storage.tables import peek, read_table
from vitrail.errors import UserError

WHAT = "via"
CLASS_ATTRIBUTES = ("class", "label", "name", "type", "category", "object", "class_name", "labels")
ONLY = "object"
PICTURE, SHAPES, ATTRIBUTES = "filename", "region_shape_attributes", "region_attributes"
"""Columns of a table."""


def matches(spec: str) -> bool:
    path = Path(spec).expanduser()
    return bool(files_at(WHAT, path)) or bool(_tables(path, depth=1))


def load(config: SourceConfig) -> dict[str, Source]:
    """Raises UserError for files that cannot be read or name no class, and with all flaws for odd regions."""
    path = config.path
    scenes, folders = {}, {}
    for split, folder in (folders_of_splits(path) if path.is_dir() else {"train": path.parent}).items():
        files = (files_of(WHAT, folder, depth=1) or _tables(folder, depth=1)) if path.is_dir() else [path]
        if not files:
            continue
        if len(files) > 1:
            raise UserError(f"{folder} holds {files[0].name} and {files[1].name}, both of VIA; give one of them")
        scenes[split] = _images(files[0], config.encoding)
        folders[split] = [files[0].parent, files[0].parent / "images", folder]
    return scene_sources(scenes, folders, config, what="VIA")


def _tables(path: Path, depth: int = 0) -> list[Path]:
    """The tables of VIA: the file itself, or those in a folder and so many folders below it."""
    if path.is_file():
        return [path] if path.suffix.lower() == ".csv" and SHAPES in peek(path, None)[0] else []
    patterns = ("/".join(["*"] * level + ["*"]) for level in range(depth + 1))
    return [file for pattern in patterns for file in sorted(path.glob(pattern)) if file.is_file() and _tables(file)]


def _entries_of_table(file: Path, encoding: str | None) -> dict[str, dict[str, Any]]:
    """What a table says, as the JSON has it: a row is a region, or an image without one."""
    table = read_table(file, encoding)
    columns = [name.lstrip("#") for name in table.header]
    if missing := next((name for name in (PICTURE, SHAPES, ATTRIBUTES) if name not in columns), None):
        raise UserError(f"{file} has no column {missing!r}, as VIA's tables do; export it again")
    entries: dict[str, dict[str, Any]] = {}
    for line, cells in table.rows:
        row = dict(zip(columns, cells, strict=True))
        table.require_text(line, row[PICTURE] + row[ATTRIBUTES])
        entry = entries.setdefault(row[PICTURE], {"filename": row[PICTURE], "regions": []})
        try:
            shape, attributes = (json.loads(row[name] or "{}") for name in (SHAPES, ATTRIBUTES))
        except (ValueError, RecursionError):
            raise UserError(f"{file}: row {line}: the attributes of a region are no JSON; export it again") from None
        if shape:
            entry["regions"].append({"shape_attributes": shape, "region_attributes": attributes})
    return entries


def _images(file: Path, encoding: str | None) -> list[SceneImage]:
    content = _entries_of_table(file, encoding) if file.suffix.lower() == ".csv" else read_json(file)
    entries = content.get("_via_img_metadata", content) if isinstance(content, dict) else None
    if not isinstance(entries, dict):
        raise UserError(f"{file} holds no images, as VIA's files do; give such a file")
    found = []
    own = [entry for entry in entries.values() if isinstance(entry, dict) and "regions" in entry]
    attribute = _class_attribute([region for entry in own for region in _regions(entry)], file)
    for place, entry in enumerate(own):
        image = SceneImage(file, place, str(entry.get("filename")), None)
        for region in _regions(entry):
            shape = region.get("shape_attributes")
            label = _label(region, attribute)
            if not isinstance(shape, dict) or label is None:
                image.faults.append(
                    f"image {place} ({entry.get('filename')}) has a region without shape or {attribute}"
                )
                continue
            _add(image, label, shape)
        found.append(image)
    return found


def _regions(entry: dict[str, Any]) -> list[dict[str, Any]]:
    regions = entry["regions"]
    values = list(regions.values()) if isinstance(regions, dict) else regions
    return [region for region in values if isinstance(region, dict)] if isinstance(values, list) else []


def _attributes(region: dict[str, Any]) -> dict[str, Any]:
    found = region.get("region_attributes")
    return found if isinstance(found, dict) else {}


def _class_attribute(regions: list[dict[str, Any]], file: Path) -> str | None:
    """The attribute that names classes; None where regions have none."""
    keys = {key for region in regions for key in _attributes(region)}
    if len(keys) < 2:
        return next(iter(keys), None)
    if chosen := next((key for name in CLASS_ATTRIBUTES for key in sorted(keys) if key.lower() == name), None):
        return chosen
    raise BadAnnotations(
        [Flaw(str(file), 0, f"has the attributes {', '.join(sorted(keys))}, of which none is called class; rename one")]
    )


def _label(region: dict[str, Any], attribute: str | None) -> str | None:
    if attribute is None:
        return ONLY
    value = _attributes(region).get(attribute)
    if isinstance(value, dict):  # of a check box
        value = next((key for key, on in value.items() if on), None)
    return str(value).strip() or None if value is not None else None


def _add(image: SceneImage, label: str, shape: dict[str, Any]) -> None:
    kind = shape.get("name")
    if kind == "rect":
        image.box(label, *(shape.get(key) for key in ("x", "y", "width", "height")))
    elif kind in ("polygon", "polyline") and isinstance(shape.get("all_points_x"), list):
        down = shape.get("all_points_y")
        pairs = zip(shape["all_points_x"], down if isinstance(down, list) else [], strict=False)
        image.outline(label, [[value for pair in pairs for value in pair]])
    elif kind == "circle":
        image.ellipse(label, shape.get("cx"), shape.get("cy"), shape.get("r"), shape.get("r"))
    elif kind == "ellipse":
        image.ellipse(label, *(shape.get(key) for key in ("cx", "cy", "rx", "ry")))
    else:
        image.left_out.append(str(kind))

"""Label Studio's own JSON, full or minimal: a list of tasks, each an image with its regions as shares of 100.

Rectangles are boxes (turned ones outlines), polygons and ellipses outlines, brush strokes masks. Of several annotations
of a task the first one counts. Its other exports are read as COCO, Pascal VOC and YOLO.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vitrail import console
from vitrail.data.media.formats import SUFFIXES
from vitrail.data.source import Source, SourceConfig
from vitrail.data.storage.brush import brush_mask
from vitrail.data.storage.coco_files import whole
from vitrail.data.storage.json_entries import read_json
from vitrail.data.storage.json_kinds import files_at, files_of
from vitrail.data.storage.outlines import size_fault
from vitrail.data.storage.scenes import SceneImage, folders_of_splits, scene_sources
from vitrail.errors import UserError

WHAT = "label_studio"
KINDS = ("rectanglelabels", "polygonlabels", "ellipselabels", "brushlabels", "keypointlabels")


def matches(spec: str) -> bool:
    return bool(files_at(WHAT, Path(spec).expanduser()))


def load(config: SourceConfig) -> dict[str, Source]:
    """Raises UserError for files that cannot be read, and with all flaws for regions that cannot."""
    path = config.path
    scenes, folders = {}, {}
    for split, folder in (folders_of_splits(path) if path.is_dir() else {"train": path.parent}).items():
        files = files_of(WHAT, folder, depth=1) if path.is_dir() else [path]
        scenes[split] = [image for file in files for image in _images(file)]
        folders[split] = [folder, folder / "images", folder]
    return scene_sources(scenes, folders, config, what="Label Studio")


def _images(file: Path) -> list[SceneImage]:
    tasks = read_json(file)
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        raise UserError(f"{file} is no list of tasks, as Label Studio exports; give such a file")
    found, bare, several = [], 0, 0
    for place, task in enumerate(tasks):
        regions = _regions(task)
        several += len(regions) > 1
        if not regions:
            bare += 1
            continue
        image = SceneImage(file, place, _picture(task), None)
        for region in regions[0]:
            _add(image, region, place)
        found.append(image)
    if bare:
        console.note(f"{file}: {bare:,} tasks without annotations are left out")
    if several:
        console.note(f"{file}: of {several:,} tasks with several annotations the first one counts")
    return found


def _regions(task: dict[str, Any]) -> list[list[dict[str, Any]]]:
    """Of each annotation that was not cancelled."""
    given = task.get("annotations", task.get("completions"))
    if isinstance(given, list):
        kept = [each for each in given if isinstance(each, dict) and not each.get("was_cancelled")]
        results = [each.get("result") for each in kept]
        return [[r for r in result if isinstance(r, dict)] if isinstance(result, list) else [] for result in results]
    lists = [value for value in task.values() if isinstance(value, list) and all(isinstance(v, dict) for v in value)]
    return lists[:1]


def _picture(task: dict[str, Any]) -> str:
    data = task.get("data", task)
    texts = {key: value for key, value in data.items() if isinstance(value, str)} if isinstance(data, dict) else {}
    likely = [text for text in texts.values() if text.lower().endswith(SUFFIXES)]
    return next(iter([*likely, *([texts["image"]] if "image" in texts else []), *texts.values()]), "")


def _add(image: SceneImage, region: dict[str, Any], place: int) -> None:
    value = region.get("value", region)
    kind = next((each for each in KINDS if isinstance(value, dict) and value.get(each)), None)
    if kind is None:
        image.left_out.append(str(region.get("type", "regions without a class")))
        return
    name = str(value[kind][0]) if isinstance(value[kind], list) else str(value[kind])
    size = whole(region.get("original_height")), whole(region.get("original_width"))
    if size[0] is None or size[1] is None:
        image.faults.append(f"task {place} has a region without original_width and original_height")
        return
    image.size = (size[0], size[1])
    across, down = size[1] / 100, size[0] / 100
    try:
        if kind == "rectanglelabels":
            x, width, y, height = (float(value[key]) for key in ("x", "width", "y", "height"))
            turned = float(value.get("rotation") or 0)
            image.box(name, x * across, y * down, width * across, height * down, turned=turned)
        elif kind == "polygonlabels":
            image.outline(name, [[v for x, y in value["points"] for v in (x * across, y * down)]])
        elif kind == "ellipselabels":
            x, radius_x, y, radius_y = (float(value[key]) for key in ("x", "radiusX", "y", "radiusY"))
            image.ellipse(name, x * across, y * down, radius_x * across, radius_y * down)
        elif kind == "brushlabels":
            _add_stroke(image, name, value.get("rle"), (size[0], size[1]), place)
        else:
            image.left_out.append(kind)
    except (KeyError, TypeError, ValueError, OverflowError):
        image.faults.append(f"task {place} has a region of {name!r} that is no {kind.removesuffix('labels')}")


def _add_stroke(image: SceneImage, name: str, packed: object, size: tuple[int, int], place: int) -> None:
    if size_fault(*size, image.picture):
        return  # as the image itself is refused
    try:
        mask = brush_mask(packed, size)
    except ValueError as error:
        image.faults.append(f"task {place} has brush strokes of {name!r} that cannot be read: {error}")
        return
    if mask.any():
        image.mask(name, mask)
    else:
        image.left_out.append("brush strokes without a pixel")

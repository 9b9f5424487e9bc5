"""COCO's instances: a ``.json``, or a folder that holds one for each split, as COCO and Roboflow lay theirs out.

In a folder they are in ``annotations/``, in the root, or each with its images (``train/_annotations.coco.json``).
A split is found by a word of its file's or folder's name. Images are looked for next to the file, in ``images/``, and
in the folder of the split (``train/``, ``train2017/``). Category ids may be any numbers; classes are in their order.
Segmentations are polygons, run lengths, or compressed ones; ``iscrowd`` becomes ``Objects.crowd``,
``ignore``, which some converters write, ``Objects.difficult``, and ``area``, where all have one, ``annotated_areas``.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from vitrail.data.annotations import BadAnnotations, Flaw
from vitrail.data.indexing.names import told_apart
from vitrail.data.source import Source, SourceConfig
from vitrail.data.storage.coco_files import annotation_files, image_root, is_id, path_fault, read_sections, split_of
from vitrail.data.storage.objects import Columns, finite, number_of, shape_fault, size_fault, sources, unknown_class
from vitrail.data.storage.written_paths import portable

OTHERS = ("captions", "image_info", "panoptic", "person_keypoints", "stuff")
SECTIONS = {"images": "image", "annotations": "annotation", "categories": "category"}
IDS = {"id", "image_id", "category_id"}
PLACES = ("annotations/*.json", "*.json", "*/_annotations.coco.json")


def matches(spec: str) -> bool:
    path = Path(spec).expanduser()
    return path.suffix == ".json" if path.is_file() else bool(_found(path))


def load(config: SourceConfig) -> dict[str, Source]:
    """Raises UserError for a file that is not COCO's, and with all flaws for entries that contradict each other."""
    files = _files(config)
    contents = {split: _read(file) for split, file in files.items()}
    categories: dict[int, str] = {}
    flaws: list[Flaw] = []
    for split, content in contents.items():
        for place, entry in enumerate(content["categories"]):
            number, name = entry.get("id"), str(entry.get("name"))
            if not is_id(number):
                flaws.append(
                    Flaw(str(files[split]), place, f"category {place} has the id {number!r}, which is no integer")
                )
            elif categories.setdefault(number, name) != name:
                flaws.append(
                    Flaw(str(files[split]), place, f"category {number} is both {categories[number]} and {name}")
                )
    numbers = sorted(categories)
    names = told_apart([categories[number] for number in numbers], numbers)
    classes = config.classes or names
    own = dict(zip(names, numbers, strict=True))
    free = max(numbers, default=0) + 1
    ids = [own[name] if name in own else free + place for place, name in enumerate(classes)]
    known = number_of(classes)
    label_of: dict[int, int | str] = {number: known.get(name, name) for name, number in own.items()}
    tables = {}
    for split, content in contents.items():
        tables[split] = columns = Columns()
        _fill(columns, content, files[split], label_of, classes, config)
        flaws += columns.flaws
    if flaws:
        raise BadAnnotations(flaws)
    roots = {
        split: image_root(files[split], split, next(iter(columns.paths), None), config)
        for split, columns in tables.items()
    }
    return sources(tables, roots, ids, classes, config)


def _fill(
    columns: Columns,
    content: dict[str, Any],
    file: Path,
    label_of: dict[int, int | str],
    classes: tuple[str, ...],
    config: SourceConfig,
) -> None:
    """The images in the order of the file, each with its objects in that order; flaws are collected."""

    def flaw(place: int, what: str, text: str) -> None:
        columns.flaws.append(Flaw(str(file), place, f"{what} {place} {text}"))

    of_image: dict[Any, list[tuple[int, dict[str, Any]]]] = {}
    for place, image in enumerate(content["images"]):
        number, name = image.get("id"), image.get("file_name")
        size = image.get("height"), image.get("width")
        if (
            not isinstance(number, int)
            or not isinstance(name, str)
            or "\0" in name
            or not all(isinstance(s, int) and s > 0 for s in size)
        ):
            flaw(place, "image", "lacks an id, a file_name, a height or a width")
        elif not is_id(number):
            flaw(place, "image", f"has the id {number!r}; ids are integers below 2⁶³")
        elif fault := path_fault(name):
            flaw(place, "image", f"has a file_name {fault}")
        elif fault := size_fault(*size):
            flaw(place, "image", fault)
        elif number in of_image:
            flaw(place, "image", f"has the id {number}, which another one has")
        else:
            of_image[number] = []
    seen: set[Any] = set()
    for place, entry in enumerate(content["annotations"]):
        number = entry.get("id", f"at {place}")
        if number in seen:
            flaw(place, "annotation", f"has the id {number}, which another one has")
        seen.add(number)
        if entry.get("image_id") not in of_image:
            flaw(place, "annotation", f"is of the image {entry.get('image_id')!r}, which is not in the file")
        elif fault := _fault(entry, label_of, classes, config):
            flaw(place, "annotation", f"has {fault}")
        else:
            of_image[entry["image_id"]].append((place, entry))
    if columns.flaws:
        return
    parent = os.fsencode(file.parent)
    for image in content["images"]:
        columns.image(portable(parent, os.fsencode(image["file_name"])), (image["height"], image["width"]), image["id"])
        for _, entry in of_image[image["id"]]:
            x, y, width, height = entry["bbox"]
            label = label_of[entry["category_id"]]
            assert isinstance(label, int)
            shape = entry.get("segmentation") if config.wants("masks") else None
            columns.add(
                (x, y, x + width, y + height),
                label,
                crowd=bool(entry.get("iscrowd")),
                difficult=bool(entry.get("ignore")) and not entry.get("iscrowd"),
                area=entry.get("area"),
                shape=shape,
            )


def _fault(
    entry: dict[str, Any], label_of: dict[int, int | str], classes: tuple[str, ...], config: SourceConfig
) -> str | None:
    """Why an annotation cannot be read, if so."""
    label = label_of.get(entry.get("category_id"))  # type: ignore[arg-type]
    if label is None:
        return f"the category {entry.get('category_id')!r}, which is not in the file"
    if isinstance(label, str):
        return f"an {unknown_class(label, classes)}"
    if not finite(entry.get("bbox")) or len(entry["bbox"]) != 4:
        return f"a bbox that is not x, y, width, height: {entry.get('bbox')!r}"
    if entry.get("area") is not None and not finite([entry["area"]]):
        return f"an area that is no number: {entry['area']!r}"
    return shape_fault(entry["segmentation"]) if entry.get("segmentation") and config.wants("masks") else None


def _files(config: SourceConfig) -> dict[str, Path]:
    return annotation_files(config.path, _found, "instances_train.json")


def _found(path: Path) -> list[Path]:
    """The files in a folder that are named for a split; those of captions, keypoints and the like are others."""
    for pattern in PLACES:
        found = [file for file in sorted(path.glob(pattern)) if not file.stem.startswith(OTHERS) and split_of(file)]
        if found:
            return [file for file in found if file.stem.startswith("instances")] or found
    return []


def _read(file: Path) -> dict[str, Any]:
    content = read_sections(file, SECTIONS, "COCO's instances")
    flaws = [
        Flaw(str(file), place, f"{what} {place} has the {key} {entry[key]!r}, which is no number")
        for section, what in SECTIONS.items()
        for place, entry in enumerate(content[section])
        for key in IDS.intersection(entry)
        if isinstance(entry[key], list | dict)
    ]
    if flaws:
        raise BadAnnotations(flaws)
    return content

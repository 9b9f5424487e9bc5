"""The boxes of tables of the Hugging Face hub: a column ``objects`` with lists of ``bbox`` and ``category``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from vitrail import console
from vitrail.data.annotations import BadAnnotations, Flaw
from vitrail.data.indexing.labels import sorted_names
from vitrail.data.source import Source, SourceConfig
from vitrail.data.storage.coco_files import flag
from vitrail.data.storage.objects import Columns, number_of, offers, unknown_class
from vitrail.data.storage.outlines import finite
from vitrail.errors import UserError

COLUMNS = ("objects", "annotations", "object")
BOXES = ("bbox", "bboxes", "boxes", "box")
CLASSES = ("category", "categories", "label", "labels", "category_id", "class", "classes", "category_name")
CROWDS = ("iscrowd", "is_crowd")


def objects_column(features: Mapping[str, Any]) -> str | None:
    """The column of objects with boxes and classes; None where there is none."""
    for name in COLUMNS:
        inner = _fields(features.get(name))
        if _named(inner, BOXES) and _named(inner, CLASSES):
            return name
    return None


def with_boxes(
    sources: Mapping[str, Source],
    tables: Mapping[str, Any],
    column: str,
    sizes: Mapping[str, Sequence[tuple[int, int]]],
    config: SourceConfig,
) -> dict[str, Source]:
    """The sources with their objects.

    Args:
        sizes: (height, width) of the images.

    Raises:
        UserError: with all flaws; boxes of which nobody can say what their numbers are.
    """
    fields = _fields(next(iter(tables.values())).features[column])
    box, name, crowd = (_named(fields, names) for names in (BOXES, CLASSES, CROWDS))
    names = tuple(getattr(_inner(fields[name]), "names", None) or ())
    rows = {split: [_lists(entry) for entry in table[column]] for split, table in tables.items()}
    first = rows.get("train") or next(iter(rows.values()))
    seen = sorted_names({str(each) for entry in first for each in entry.get(name, ())})
    classes = config.classes or names or tuple(seen)
    form = _form(config, [(entry.get(box, []), size) for split in rows for entry, size in _of(rows, sizes, split)])
    number, flaws, found = number_of(classes), list[Flaw](), {}
    for split in rows:
        found[split] = columns = Columns()
        for place, (entry, size) in enumerate(_of(rows, sizes, split)):
            shown = sources[split].name(place)
            columns.image(shown.encode("utf-8", "surrogateescape"), size)
            listed, labels, crowds = (entry.get(each, []) for each in (box, name, crowd))
            if len(listed) != len(labels) or (crowds and len(crowds) != len(labels)):
                flaws.append(Flaw(shown, place, f"has {len(listed)} boxes and {len(labels)} classes"))
                continue
            for at, (values, label) in enumerate(zip(listed, labels, strict=True)):
                called = _name(label, names)
                if not finite(list(values or ())) or len(values) != 4:
                    flaws.append(Flaw(shown, place, f"has at object {at} no box: {values!r}"))
                elif called not in number:
                    flaws.append(Flaw(shown, place, f"has the {unknown_class(called, classes)}"))
                else:
                    corner = tuple(values[2:]) if form == "corners" else (values[0] + values[2], values[1] + values[3])
                    crowded = bool(crowds) and bool(flag(crowds[at]))
                    columns.add((*values[:2], *corner), number[called], crowd=crowded)
    if flaws:
        raise BadAnnotations(flaws)
    annotations = {split: columns.close(range(1, len(classes) + 1)) for split, columns in found.items()}
    return {split: sources[split].labelled(offers(each, classes)["boxes"]) for split, each in annotations.items()}


def _of(
    rows: Mapping[str, list[dict[str, list[Any]]]], sizes: Mapping[str, Sequence[tuple[int, int]]], split: str
) -> Iterator[tuple[dict[str, list[Any]], tuple[int, int]]]:
    """The objects and the size of each image of a split."""
    return zip(rows[split], sizes[split], strict=True)


def _name(label: object, names: tuple[str, ...]) -> str:
    """The class of a label, which is a place in ``names`` where there are such."""
    if names and isinstance(label, int):
        return names[label] if 0 <= label < len(names) else f"number {label}"
    return str(label)


def _form(config: SourceConfig, images: Sequence[tuple[Sequence[Any], tuple[int, int]]]) -> str:
    """Whether the last two numbers are a size, as COCO has it, or a corner, by which of them fits all images."""
    boxes = [(box, size) for listed, size in images for box in listed if finite(list(box or ())) and len(box) == 4]
    if not boxes:
        return "size"
    values = np.array([box for box, _ in boxes], np.float64)
    sides = np.array([(width, height) for _, (height, width) in boxes], np.float64)
    slack = 0.01 * sides + 1
    are_sizes = (values[:, 2:] >= 0).all() and (values[:, :2] + values[:, 2:] <= sides + slack).all()
    are_corners = (values[:, 2:] >= values[:, :2]).all() and (values[:, 2:] <= sides + slack).all()
    if are_corners and not are_sizes:
        console.note(f"{config.spec}: the boxes are corners (x, y, x, y), since as sizes they would leave the images")
        return "corners"
    if are_corners and are_sizes:
        raise UserError(
            f"{config.spec!r}: the {len(boxes):,} boxes fit their images as x, y, width, height and as two corners; "
            "write them as COCO (.json), which says what they are"
        )
    return "size"


def _inner(feature: Any) -> Any:
    """What a list holds."""
    while isinstance(feature, list) or hasattr(feature, "feature"):
        feature = feature[0] if isinstance(feature, list) else feature.feature
    return feature


def _fields(feature: Any) -> Mapping[str, Any]:
    """The parts of an object, of a list of objects or of lists of parts."""
    inner = _inner(feature)
    return inner if isinstance(inner, Mapping) else {}


def _named(fields: Mapping[str, Any], names: Sequence[str]) -> str:
    return next((name for name in names if name in fields), "")


def _lists(entry: Any) -> dict[str, list[Any]]:
    """Of an image's objects the parts by name, in whichever way they are nested."""
    if isinstance(entry, Mapping):
        return {name: list(values or ()) for name, values in entry.items()}
    return {name: [each[name] for each in entry] for name in (entry[0] if entry else ())}

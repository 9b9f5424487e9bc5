"""The columns of tables of boxes, by the names that programs give them."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path

from vitrail.data.media.decode import BadImage
from vitrail.data.media.read import open_regular
from vitrail.data.media.text import marked_encoding

PATHS = ("path", "filename", "file_name", "file", "image", "image_path", "filepath", "file_path", "image_id", "imageid")
CLASSES = ("label", "class", "class_name", "category", "name", "labelname", "label_name")
SPLITS = ("split", "subset", "set")
BOXES = (
    ("xmin", "ymin", "xmax", "ymax"),
    ("x_min", "y_min", "x_max", "y_max"),
    ("left", "top", "right", "bottom"),
    ("x1", "y1", "x2", "y2"),
    ("bbox_x", "bbox_y", "bbox_width", "bbox_height"),
    ("box_x", "box_y", "box_width", "box_height"),
)
_HEAD = 2**16


def column_of(header: Iterable[str], names: Iterable[str]) -> str | None:
    """The column that is called one of ``names``, in any case, the first of them that is there."""
    lower = {name.strip().lower(): name for name in header}
    return next((lower[name] for name in names if name in lower), None)


def box_columns(file: Path) -> tuple[str, ...] | None:
    """The four columns of a table's boxes as its header writes them; None where it has none."""
    try:
        with open_regular(file) as stream:
            head = stream.read(_HEAD)
    except BadImage:
        return None
    first = head.decode(marked_encoding(head) or "utf-8", "replace").splitlines()[:1]
    header = next(csv.reader(first, delimiter="\t" if file.suffix.lower() == ".tsv" else ","), [])
    for names in BOXES:
        found = tuple(column for name in names if (column := column_of(header, [name])) is not None)
        if len(found) == len(names):
            return found
    return None

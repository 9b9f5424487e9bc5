"""The columns of tables of boxes, by the names that programs give them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

PATHS = (
    *("path", "filename", "file_name", "file", "image", "image_path", "filepath", "file_path", "image_id", "imageid"),
    *("image_name", "imagename", "img_name", "img_path", "image_file", "img_id", "img", "fname"),
)
CLASSES = (
    *("label", "class", "class_name", "category", "category_name", "labelname", "label_name", "labels", "classname"),
    *("name", "class_label", "target", "class_id", "category_id", "label_id"),
)
SPLITS = ("split", "subset", "set")
Form = Literal["corners", "size", "centre"]
_BOXES: dict[Form, tuple[tuple[str, ...], ...]] = {  # without marks and the word for a box
    "corners": (
        ("xmin", "ymin", "xmax", "ymax"),
        ("left", "top", "right", "bottom"),
        ("x1", "y1", "x2", "y2"),
        ("x0", "y0", "x1", "y1"),
        ("minx", "miny", "maxx", "maxy"),
    ),
    "centre": tuple(
        (f"{x}", f"{x.replace('x', 'y')}", *size)
        for x in ("xcenter", "xcentre", "centerx", "cx", "xc", "xmid")
        for size in (("width", "height"), ("w", "h"))
    ),
    "size": tuple(
        (*corner, *size)
        for corner in (("x", "y"), ("xmin", "ymin"), ("left", "top"), ("x1", "y1"))
        for size in (("width", "height"), ("w", "h"))
    ),
}
WANTED = ("path", "label", "xmin", "ymin", "xmax", "ymax")
_CELLS = ("bbox", "box", "bounding_box", "boundingbox")
_CELL = re.compile(r"[\[(]?\s*[-+.\deE]+(?:(?:\s*+,\s*+|\s++)[-+.\deE]+){3}\s*[\])]?")


class BoxColumns(NamedTuple):
    """The columns that hold a box, four numbers or one cell of them, and what the numbers are.

    A cell holds the corner and the size, as COCO writes a ``bbox``.
    """

    names: tuple[str, ...]
    form: Form


def column_of(header: Iterable[str], names: Iterable[str]) -> str | None:
    """The column that is called one of ``names``, in any case, the first of them that is there."""
    lower = {name.strip().lower(): name for name in header}
    return next((lower[name] for name in names if name in lower), None)


def box_columns(header: Sequence[str], rows: Sequence[Sequence[str]]) -> BoxColumns | None:
    """The columns of a table's boxes; None where it has none.

    Args:
        rows: the first ones, which tell whether a cell holds a box.
    """
    plain = {re.sub(r"^(bbox|box|bb)|[_ .-]", "", re.sub(r"[_ .-]", "", name.lower())): name for name in header}
    for form, choices in _BOXES.items():
        for names in choices:
            if all(name in plain for name in names):
                return BoxColumns(tuple(plain[name] for name in names), form)
    cell = column_of(header, _CELLS)
    if cell is None:
        return None
    at = list(header).index(cell)
    held = [row[at].strip() for row in rows if row[at].strip() not in ("", "[]")]
    return BoxColumns((cell,), "size") if held and all(map(_CELL.fullmatch, held)) else None


def numbers_of(cells: Sequence[str]) -> list[float]:
    """The four numbers of a box. Raises ValueError for others."""
    parts = re.split(r"[\s,]+", cells[0].strip().strip("[]()").strip()) if len(cells) == 1 else cells
    first, second, third, fourth = map(float, parts)
    return [first, second, third, fourth]

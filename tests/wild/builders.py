"""Small data sets in the layouts of several programs, for the tests of reports."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vitrail.data import SourceConfig, Splits, open_source

SIZE = (20, 30)  # height, width of every picture
OUTLINE = [2, 3, 11, 3, 11, 11, 2, 11]
BOX = [2, 3, 9, 8]


def picture(path: Path, seed: int | None = None, size: tuple[int, int] = SIZE) -> Path:
    """Write a picture that no other one of another name looks like."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(sum(map(ord, path.name)) if seed is None else seed)
    Image.fromarray(draw.integers(0, 255, (*size, 3), np.uint8)).save(path)
    return path


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    """Write a text, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding=encoding)
    return path


def levels(path: Path, values: object, **options: Any) -> Path:
    """Write a mask of these values."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array(values, np.uint8)).save(path, **options)
    return path


def halves(left: object, right: object) -> np.ndarray:
    """Values of a mask of ``SIZE``, or its colours: one at the left and one at the right."""
    parts = [np.full((SIZE[0], SIZE[1] // 2, *np.shape(value)), value, np.uint8) for value in (left, right)]
    return np.concatenate(parts, axis=1)


def coco(
    root: Path,
    names: str = "abcd",
    *,
    file: str = "instances_train.json",
    images: str = "images",
    change: Callable[[dict[str, Any]], object] = lambda content: None,
    outlines: bool = False,
) -> Path:
    """A picture for each of ``names`` with an object, of the classes cat and dog by turns."""
    shape: dict[str, Any] = {"segmentation": [OUTLINE]} if outlines else {}
    content: dict[str, Any] = {
        "images": [
            {"id": i, "file_name": f"{name}.png", "height": SIZE[0], "width": SIZE[1]} for i, name in enumerate(names)
        ],
        "categories": [{"id": 3, "name": "dog"}, {"id": 1, "name": "cat"}],
        "annotations": [
            {"id": i, "image_id": i, "category_id": 1 + 2 * (i % 2), "bbox": BOX, "iscrowd": 0, **shape}
            for i in range(len(names))
        ],
    }
    for name in names:
        picture(root / images / f"{name}.png")
    change(content)
    return write(root / file, json.dumps(content))


def xml(*classes: str, size: str = "<size><width>30</width><height>20</height></size>", head: str = "") -> str:
    """An annotation of Pascal VOC with an object of each class."""
    box = "<bndbox><xmin>2</xmin><ymin>3</ymin><xmax>11</xmax><ymax>11</ymax></bndbox>"
    objects = "".join(f"<object><name>{name}</name>{box}</object>" for name in classes)
    return f"<annotation>{head}{size}{objects}</annotation>"


def opened(spec: object, **settings: Any) -> Splits:
    """The splits, with nothing held out."""
    return open_source(SourceConfig(spec=str(spec), **{"val_fraction": 0, **settings}))


def told(spec: object, **settings: Any) -> tuple[Splits, str]:
    """The splits, and what opening them says."""
    with redirect_stderr(io.StringIO()) as said:
        splits = opened(spec, **settings)
    sys.stderr.write(said.getvalue())
    return splits, said.getvalue()


def names_of(splits: Splits, split: str = "train") -> list[str]:
    """The images of a split by their names, each of which can be read."""
    source = splits.split(split)
    for index in range(len(source)):
        source.read(index)
    return [Path(source.name(index)).name for index in range(len(source))]


def boxes_of(splits: Splits, split: str = "train", index: int = 0) -> list[tuple[str, list[float]]]:
    """The objects of an image: the class and the box of each."""
    source = splits.split(split)
    found: Any = source.targets
    objects = found[index]
    rounded = [[round(side, 2) for side in box] for box in objects.boxes_xyxy.tolist()]
    return [(source.classes[label], box) for label, box in zip(objects.labels.tolist(), rounded, strict=True)]

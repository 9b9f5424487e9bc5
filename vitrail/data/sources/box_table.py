"""A table of boxes, a row an object: ``filename, class, xmin, ymin, xmax, ymax``, as TensorFlow's and Kaggle's have it,
``.csv`` or ``.tsv``; or a folder of one for each split, ``train.csv`` or ``train/_annotations.csv``.

The columns may be called in several ways; a ``split`` column divides the rows. A row without a box is an image without
objects. Sizes are those of the images.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path

from vitrail.data.indexing.table_columns import BOXES, CLASSES, PATHS, SPLITS, box_columns, column_of
from vitrail.data.media.decode import BadImage
from vitrail.data.media.text import read_text
from vitrail.data.source import SPLITS as SPLIT_ORDER
from vitrail.data.source import Source, SourceConfig, split_called
from vitrail.data.storage.scenes import SceneImage, scene_sources
from vitrail.errors import UserError

SUFFIXES = (".csv", ".tsv")


def matches(spec: str) -> bool:
    return bool(_files(Path(spec).expanduser()))


def load(config: SourceConfig) -> dict[str, Source]:
    """Raises UserError for a table without the columns, and with all flaws for rows that are no boxes."""
    files = _files(config.path)
    if not files:
        raise UserError(
            f"{config.path} is no table of boxes; name its columns {', '.join((PATHS[0], CLASSES[0], *BOXES[0]))}"
        )
    scenes: dict[str, list[SceneImage]] = {}
    folders: dict[str, list[Path]] = {}
    for split, file in files.items():
        for own, images in _read(file, split).items():
            scenes.setdefault(own, []).extend(images)
            folders.setdefault(own, [file.parent, file.parent / "images", file.parent / own, file.parent])
    ordered = {split: scenes[split] for split in SPLIT_ORDER if split in scenes}
    return scene_sources(ordered, folders, config, what="a table of boxes")


def _files(path: Path) -> dict[str, Path]:
    """The table of each split; a file given is of train, unless its rows say otherwise."""
    if path.is_file():
        return {"train": path} if path.suffix.lower() in SUFFIXES and box_columns(path) else {}
    if not path.is_dir():
        return {}
    found: dict[str, Path] = {}
    for file in sorted(file for pattern in ("*", "*/*") for suffix in SUFFIXES for file in path.glob(pattern + suffix)):
        split = split_called(file.stem) or split_called(file.parent.name)
        if split is not None and box_columns(file):
            found.setdefault(split, file)
    alone = [file for suffix in SUFFIXES for file in sorted(path.glob(f"*{suffix}")) if box_columns(file)]
    return found or ({"train": alone[0]} if len(alone) == 1 else {})


def _read(file: Path, split: str) -> dict[str, list[SceneImage]]:
    try:
        text = read_text(file)
    except BadImage as error:
        raise UserError(f"{file} {error}; repair it") from None
    names = box_columns(file)
    rows = csv.DictReader(io.StringIO(text), delimiter="\t" if file.suffix.lower() == ".tsv" else ",")
    header = rows.fieldnames or ()
    path_column, class_column = column_of(header, PATHS), column_of(header, CLASSES)
    split_column = column_of(header, SPLITS)
    if names is None or path_column is None:
        raise UserError(f"{file} has no column of images, such as {PATHS[0]}; name it so")
    found: dict[str, dict[str, SceneImage]] = {}
    for row in rows:
        own = split_called(row.get(split_column) or "") if split_column else None
        picture = (row.get(path_column) or "").strip()
        images = found.setdefault(own or split, {})
        image = images.setdefault(picture, SceneImage(file, rows.line_num, picture, None))
        _add(image, row, names, class_column, rows.line_num)
    return {own: list(images.values()) for own, images in found.items()}


def _add(
    image: SceneImage, row: Mapping[str, str | None], names: tuple[str, ...], class_column: str | None, line: int
) -> None:
    cells = [(row.get(name) or "").strip() for name in names]
    label = "object" if class_column is None else (row.get(class_column) or "").strip()
    if not any(cells):
        return
    try:
        first, second, third, fourth = map(float, cells)
    except ValueError:
        image.faults.append(f"row {line} has a box that is no four numbers: {', '.join(cells)}")
        return
    if not label:
        image.faults.append(f"row {line} has a box without a class")
    elif names[2].lower() in ("width", "w", "bbox_width", "box_width"):
        image.box(label, first, second, third, fourth)
    else:
        image.box(label, first, second, third - first, fourth - second)

"""A table of boxes, a row an object: ``filename, class, xmin, ymin, xmax, ymax``, as TensorFlow's and Kaggle's have it,
``.csv`` or ``.tsv``; or a folder of one for each split, ``train.csv`` or ``train/_annotations.csv``.

The columns may be called in several ways, a ``bbox`` may be one cell, and numbers up to 1 are shares of the sizes; a
``split`` column divides the rows. A row without a box is an image without objects. Sizes are those of the images.
"""

from __future__ import annotations

from pathlib import Path

from vitrail import console
from vitrail.data.indexing.splits import is_split_word
from vitrail.data.indexing.table_columns import (
    CLASSES,
    PATHS,
    SPLITS,
    WANTED,
    BoxColumns,
    box_columns,
    column_of,
    numbers_of,
)
from vitrail.data.source import SPLITS as SPLIT_ORDER
from vitrail.data.source import Source, SourceConfig, split_called
from vitrail.data.storage.scenes import SceneImage, scene_sources
from vitrail.data.storage.tables import peek, read_table
from vitrail.errors import UserError

SUFFIXES = (".csv", ".tsv")


def matches(spec: str) -> bool:
    return bool(_files(Path(spec).expanduser()))


def load(config: SourceConfig) -> dict[str, Source]:
    """Raises UserError for a table without the columns, and with all flaws for rows that are no boxes."""
    files = _files(config.path)
    if not files:
        raise UserError(f"{config.path} is no table of boxes; name its columns {', '.join(WANTED)}")
    scenes: dict[str, list[SceneImage]] = {}
    folders: dict[str, list[Path]] = {}
    for split, file in files.items():
        for own, images in _read(file, split, config.encoding).items():
            scenes.setdefault(own, []).extend(images)
            folders.setdefault(own, [file.parent, file.parent / "images", file.parent / own, file.parent])
    ordered = {split: scenes[split] for split in SPLIT_ORDER if split in scenes}
    corners = [each.box_xyxy for images in ordered.values() for image in images for each in image.objects]
    shares = bool(corners) and max(map(max, corners)) <= 1
    if shares:
        console.note(f"{config.path}: no number of a box is above 1, so they are shares of the images' sizes")
    return scene_sources(ordered, folders, config, what="a table of boxes", shares=shares)


def _files(path: Path) -> dict[str, Path]:
    """The table of each split; a file given is of train, unless its rows say otherwise."""
    if path.is_file():
        return {"train": path} if path.suffix.lower() in SUFFIXES and _columns(path) else {}
    if not path.is_dir():
        return {}
    found: dict[str, Path] = {}
    for file in sorted(each for pattern in ("*", "*/*") for each in path.glob(pattern)):
        if file.suffix.lower() not in SUFFIXES:
            continue
        split = split_called(file.stem) or is_split_word(file.parent.name)
        if split is not None and _columns(file):
            found.setdefault(split, file)
    alone = [file for file in sorted(path.iterdir()) if file.suffix.lower() in SUFFIXES and _columns(file)]
    return found or ({"train": alone[0]} if len(alone) == 1 else {})


def _columns(file: Path) -> BoxColumns | None:
    header, rows = peek(file, None)
    return box_columns(header, rows[:8])


def _read(file: Path, split: str, encoding: str | None) -> dict[str, list[SceneImage]]:
    table = read_table(file, encoding)
    header = table.header
    columns = box_columns(header, [cells for _, cells in table.rows[:8]])
    path_column, class_column = column_of(header, PATHS), column_of(header, CLASSES)
    split_column = column_of(header, SPLITS)
    if columns is None or path_column is None:
        raise UserError(f"{file} has no column of images, such as {PATHS[0]}; name it so")
    if class_column is None:
        console.note(f"{file}: no column of classes, such as {CLASSES[0]}, so all boxes are of one class, 'object'")
    found: dict[str, dict[str, SceneImage]] = {}
    for line, cells in table.rows:
        row = dict(zip(header, map(str.strip, cells), strict=True))
        for name in (path_column, class_column):
            table.require_text(line, row[name] if name else "")
        own = split_called(row[split_column]) if split_column else None
        picture = row[path_column]
        image = found.setdefault(own or split, {}).setdefault(picture, SceneImage(file, line, picture, None))
        label = "object" if class_column is None else row[class_column]
        _add(image, [row[name] for name in columns.names], columns, label, line)
    return {own: list(images.values()) for own, images in found.items()}


def _add(image: SceneImage, cells: list[str], columns: BoxColumns, label: str, line: int) -> None:
    if all(cell.lower() in ("", "nan", "[]") for cell in cells):
        return
    try:
        first, second, third, fourth = numbers_of(cells)
    except ValueError:
        image.faults.append(f"row {line} has a box that is no four numbers: {', '.join(cells)}")
        return
    if not label:
        image.faults.append(f"row {line} has a box without a class")
    elif columns.form == "size":
        image.box(label, first, second, third, fourth)
    elif columns.form == "centre":
        image.box(label, first - third / 2, second - fourth / 2, third, fourth)
    else:
        image.box(label, first, second, third - first, fourth - second)

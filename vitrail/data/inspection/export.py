"""Write a data set as files that any program reads."""

from __future__ import annotations

import csv
from pathlib import Path

from PIL import Image

from vitrail import files
from vitrail.console import track
from vitrail.data.media.decode import decode
from vitrail.data.media.reading import DEFAULT, Reading
from vitrail.data.media.samples import storable
from vitrail.data.source import Source
from vitrail.errors import UserError


def export(source: Source, folder: Path, *, limit: int | None = None, reading: Reading = DEFAULT) -> int:
    """Write the first ``limit`` images of a source as PNG: one folder a class, or ``labels.csv`` next to the images.

    Returns:
        How many images were written.

    Raises:
        UserError: the folder is not empty, or an image cannot be read.
    """
    kind = source.target_kind
    if kind.spatial:
        raise UserError(f"the data has {source.kind}; write it with `vitrail data convert`")
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder} is not empty; name a new folder")
    count = len(source) if limit is None else min(limit, len(source))
    rows = []
    for index in track(range(count), "export"):
        name = f"{index:0{len(str(count - 1))}d}.png"
        if (folder_name := kind.folder(source.targets, index, source.classes)) is not None:
            name = f"{_folder_name(folder_name)}/{name}"
        if cells := kind.cells(source.targets, index, source.classes):
            rows.append([name, *cells])
        picture = decode(source.read(index), source.channels or 3, reading=reading)
        if not isinstance(picture, Image.Image):
            raise UserError(f"{source.name(index)} has {len(picture)} channels; PNG holds 1, 3 or 4")
        with files.replacing(folder / name, durable=False) as temporary:
            storable(picture).save(temporary, "PNG")
    if rows:
        with (
            files.replacing(folder / "labels.csv") as temporary,
            temporary.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
        ):
            csv.writer(file).writerows([["path", *kind.columns(source.classes)], *rows])
    return count


def _folder_name(label: str) -> str:
    """A class name as a folder's: what separates paths becomes an underscore."""
    return label.replace("/", "_").replace("\\", "_").strip(". ") or "_"

"""What was found where, in the files of other tools: ``vitrail predict --out``."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

from vitrail.console import printable
from vitrail.errors import UserError
from vitrail.files import replacing, write_json, write_text
from vitrail.terminal.pictures import save_new, stem_of

Write: TypeAlias = Callable[[str, Any], None]
"""Takes a picture's name and its prediction."""


@contextmanager
def saving(out: Path, classes: Sequence[str]) -> Iterator[Write]:
    """By the name of ``out``: COCO's ``.json``, a ``.csv``, or a new folder with a file a picture, which is YOLO's text
    for boxes and a PNG for class maps.

    Raises:
        UserError: it is there already, or does not hold such predictions.
    """
    if out.exists():
        raise UserError(f"{printable(str(out))} is there already; name another with --out")
    form = {".json": _coco, ".csv": _csv, "": _folder}.get(out.suffix)
    if form is None:
        raise UserError(
            f"--out {printable(out.name)!r} names no format; end it with .json, .csv, or nothing for a folder"
        )
    with form(out, classes) as write:
        yield write


@contextmanager
def _coco(out: Path, classes: Sequence[str]) -> Iterator[Write]:
    """A whole data set, which our sources and others read; each annotation has its score."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    numbers = range(1, len(classes) + 1)

    def write(name: str, found: Any) -> None:
        image_id = len(images) + 1
        height, width = _able(found, "to_coco", out).size
        images.append({"id": image_id, "file_name": name, "height": height, "width": width})
        for entry in found.to_coco(image_id, numbers):
            box = entry["bbox"]
            annotations.append({"id": len(annotations) + 1, "area": box[2] * box[3], "iscrowd": 0} | entry)

    yield write
    categories = [{"id": number, "name": name} for number, name in zip(numbers, classes, strict=True)]
    write_json(out, {"images": images, "categories": categories, "annotations": annotations})


@contextmanager
def _csv(out: Path, classes: Sequence[str]) -> Iterator[Write]:
    """A row for each thing that was found."""
    with (
        replacing(out) as temporary,
        temporary.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        headed = False

        def write(name: str, found: Any) -> None:
            nonlocal headed
            rows = _able(found, "rows", out).rows()
            if not headed:
                writer.writerow(["path", *found.columns])
                headed = True
            writer.writerows([name, *row.values()] for row in rows)

        yield write


@contextmanager
def _folder(out: Path, classes: Sequence[str]) -> Iterator[Write]:
    """Boxes as ``labels/<picture>.txt`` beside ``data.yaml``, maps as ``<picture>.png`` beside ``classes.json``."""
    taken: set[str] = set()
    with replacing(out) as folder:
        (folder / "labels").mkdir(parents=True)

        def write(name: str, found: Any) -> None:
            stem = stem_of(name)
            while stem in taken:
                stem += "-2"
            taken.add(stem)
            if hasattr(found, "to_png"):
                save_new(found.to_png(), folder / f"{stem}.png")
            else:
                text = _able(found, "to_yolo", out).to_yolo()
                (folder / "labels" / f"{stem}.txt").write_text(text, encoding="utf-8")

        yield write
        if any((folder / "labels").iterdir()):
            write_text(folder / "data.yaml", f"names: {json.dumps(list(classes))}\n")
        else:
            (folder / "labels").rmdir()
            write_json(folder / "classes.json", list(classes))


def _able(found: Any, method: str, out: Path) -> Any:
    """The prediction, if it can be written so."""
    if not hasattr(found, method):
        hint = "a folder" if hasattr(found, "to_png") else "--json or --csv"
        raise UserError(f"{printable(out.name)!r} cannot hold these predictions; choose {hint}")
    return found

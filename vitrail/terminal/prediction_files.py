"""Spatial predictions in the files of other tools: ``vitrail predict --out``."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

from vitrail.errors import UserError
from vitrail.files import replacing, write_json, write_new, write_text
from vitrail.predictions import PicturePrediction, Prediction, SpatialPrediction
from vitrail.terminal.pictures import save_new, stem_of

if TYPE_CHECKING:
    from PIL import Image

Write: TypeAlias = Callable[[str, Prediction], None]
"""Takes a picture's name and its prediction."""


@runtime_checkable
class CocoPrediction(Protocol):
    """Objects that can be written as COCO annotations; ``size`` is the picture's (height, width)."""

    size: tuple[int, int]

    def to_coco(self, image_id: int | str = 0, category_ids: Sequence[int] | None = None) -> list[dict[str, Any]]:
        """An annotation an object."""


@runtime_checkable
class YoloPrediction(Protocol):
    """Objects that can be written as lines of YOLO's text."""

    def to_yolo(self) -> str:
        """A line an object."""


@runtime_checkable
class MapPrediction(Protocol):
    """A prediction that is a separate image."""

    def to_png(self) -> Image.Image:
        """The number of a class for each pixel."""


@contextmanager
def saving(out: Path, classes: Sequence[str]) -> Iterator[Write]:
    """By the name of ``out``: COCO's ``.json``, a ``.csv``, or a new folder with a file a picture, which is YOLO's text
    for boxes and a PNG for class maps.

    Raises:
        UserError: it is there already, or does not hold such predictions.
    """
    if out.exists():
        raise UserError(f"{out} is there already; name another with --out")
    form = {".json": _coco, ".csv": _csv, "": _folder}.get(out.suffix)
    if form is None:
        raise UserError(f"--out {out.name!r} names no format; end it with .json, .csv, or nothing for a folder")
    with form(out, classes) as write:
        yield write


@contextmanager
def _coco(out: Path, classes: Sequence[str]) -> Iterator[Write]:
    """A complete data set, which our sources and others read; each annotation has its score."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    numbers = range(1, len(classes) + 1)

    def write(name: str, found: Prediction) -> None:
        image_id = len(images) + 1
        if not isinstance(found, CocoPrediction):
            raise _unfit(found, out)
        height, width = found.size
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

        def write(name: str, found: Prediction) -> None:
            nonlocal headed
            if not isinstance(found, SpatialPrediction):
                raise _unfit(found, out)
            if not headed:
                writer.writerow(["path", *found.columns])
                headed = True
            writer.writerows([name, *row.values()] for row in found.rows())

        yield write


@contextmanager
def _folder(out: Path, classes: Sequence[str]) -> Iterator[Write]:
    """Boxes as ``labels/<picture>.txt`` beside ``data.yaml``, maps as ``<picture>.png`` beside ``classes.json``, and
    pictures as ``<picture>.png`` alone."""
    taken: set[str] = set()
    pictures: set[str] = set()
    with replacing(out) as folder:
        (folder / "labels").mkdir(parents=True)

        def write(name: str, found: Prediction) -> None:
            stem = stem_of(name)
            while stem in taken:
                stem += "-2"
            taken.add(stem)
            if isinstance(found, PicturePrediction):
                write_new(folder / f"{stem}.png", found.png_bytes())
                pictures.add(stem)
            elif isinstance(found, MapPrediction):
                save_new(found.to_png(), folder / f"{stem}.png")
            elif isinstance(found, YoloPrediction):
                (folder / "labels" / f"{stem}.txt").write_text(found.to_yolo(), encoding="utf-8")
            else:
                raise _unfit(found, out)

        yield write
        if any((folder / "labels").iterdir()):
            write_text(folder / "data.yaml", f"names: {json.dumps(list(classes))}\n")
            return
        (folder / "labels").rmdir()
        if not pictures:
            write_json(folder / "classes.json", list(classes))


def _unfit(found: Prediction, out: Path) -> UserError:
    hint = "a folder" if isinstance(found, MapPrediction | PicturePrediction) else "--json or --csv"
    return UserError(f"{out.name!r} cannot hold these predictions; choose {hint}")

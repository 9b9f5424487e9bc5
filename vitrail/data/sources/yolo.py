"""YOLO's text files: ``data.yaml``, or the folder that holds it; Darknet's ``obj.data``, as CVAT writes it; or folders
of images and labels with ``classes.txt``, as Label Studio writes them.

The file names the classes (``names``, a list or numbers with names) and for each split a folder of images or a list of
them (``train``, ``val``, ``test``; ``path`` goes before), of which those but ``train`` may be absent. The labels of
``images/a.jpg`` are in ``labels/a.txt``: a line an object, its class and then x, y, width and height of the box, or the
x and y of three or more corners of its outline, all as shares of the image's sides. An image without such a file holds
no objects. Boxes of outlines are the tightest.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np

from vitrail import console
from vitrail.data.annotations import BadAnnotations, Flaw
from vitrail.data.indexing.index import Strings, Table, cached
from vitrail.data.media.decode import BadImage
from vitrail.data.media.read import read_size
from vitrail.data.media.text import read_text
from vitrail.data.source import Source, SourceConfig
from vitrail.data.storage.objects import Columns, number_of, sources, unknown_class
from vitrail.data.storage.yolo_layouts import is_yolo, labels_of, looks_like_labels, open_layout

_DIGITS = 6  # of a corner in pixels: dividing and multiplying by a side must not move it over a pixel's centre
_FAR = 1.5  # shares may go beyond 1 by rounding, or for objects that the border cuts


def matches(spec: str) -> bool:
    return is_yolo(Path(spec).expanduser())


def load(config: SourceConfig) -> dict[str, Source]:
    """Raises UserError for incomplete settings, and with all flaws for lines that cannot be read."""
    layout = open_layout(config)
    classes = config.classes or layout.names
    known = number_of(classes)
    label_of = [known.get(name, name) for name in layout.names]
    tables: dict[str, Columns] = {}
    flaws: list[Flaw] = []
    for split, images in layout.images.items():
        tables[split] = columns = Columns()
        missing = []
        for path, size in zip(images, _sizes(images), strict=True):
            columns.image(path, size)
            file = labels_of(path)
            if file.exists():
                _add(columns, file, size, label_of, classes)
            else:
                missing.append(file)
        if images and len(missing) == len(images):
            shown = str(missing[0])
            console.warn(f"{split}: no label file of its {len(images):,} images is there, such as {shown}")
        flaws += columns.flaws
    if flaws:
        raise BadAnnotations(flaws)
    found = sources(tables, dict.fromkeys(tables, Path("/")), range(len(classes)), classes, config)
    remarks = _lonely([path for images in layout.images.values() for path in images])
    return {split: dataclasses.replace(source, remarks=remarks) for split, source in found.items()}


def _lonely(images: list[bytes]) -> tuple[str, ...]:
    """That label files in the folders of labels are of no image, if so."""
    used = {str(labels_of(path)) for path in images}
    folders = sorted({os.path.dirname(path) for path in used if os.path.isdir(os.path.dirname(path))})
    files = (os.path.join(folder, name) for folder in folders for name in sorted(os.listdir(folder)))
    lonely = [
        path for path in files if path.lower().endswith(".txt") and path not in used and looks_like_labels(Path(path))
    ]
    return (f"{len(lonely):,} label files are of no image, such as {lonely[0]}",) if lonely else ()


def _sizes(images: list[bytes]) -> list[tuple[int, int]]:
    """(height, width) of each; (1, 1) of those that cannot be read, which loading or `data check` names."""

    def build() -> tuple[Table, list[bytes]]:
        sizes = np.ones((len(images), 2), np.int32)
        for row, path in enumerate(console.track(images, "reading sizes")):
            try:
                sizes[row] = read_size(path)
            except BadImage:
                continue
        return {"sizes": sizes}, images

    digest = Strings.of(images).blob.tobytes()
    table = cached(f"sizes {digest!r}", build)["sizes"]
    return [(int(height), int(width)) for height, width in table]


def _add(
    columns: Columns, file: Path, size: tuple[int, int], label_of: list[int | str], classes: tuple[str, ...]
) -> None:
    shown = str(file)
    try:
        lines = read_text(file).splitlines()
    except BadImage as error:
        columns.flaws.append(Flaw(shown, 0, str(error)))
        return
    for place, line in enumerate(lines):
        if not line.strip():
            continue
        try:
            label, values = _parsed(line, label_of, classes)
        except ValueError as error:
            columns.flaws.append(Flaw(shown, place, f"line {place + 1} {error}"))
            continue
        sides = np.array(size[::-1], np.float64)
        if len(values) == 4:
            centre, half = values[:2] * sides, values[2:] * sides / 2
            columns.add([*(centre - half), *(centre + half)], label)
        else:
            corners = np.round(values.reshape(-1, 2) * sides, _DIGITS)
            columns.add([*corners.min(0), *corners.max(0)], label, shape=[corners.ravel().tolist()])


def _parsed(line: str, label_of: list[int | str], classes: tuple[str, ...]) -> tuple[int, np.ndarray]:
    """(label, the numbers after it). Raises ValueError with the cause."""
    try:
        numbers = np.array(line.split(), np.float64)
    except ValueError:
        raise ValueError(f"is not all numbers: {line[:60]!r}") from None
    values = numbers[1:]
    if len(values) != 4 and (len(values) < 6 or len(values) % 2):
        raise ValueError(
            f"has {len(numbers)} numbers; a class and 4 for a box, or 6 and more for an outline, are wanted"
        )
    if not np.isfinite(values).all() or not float(numbers[0]).is_integer():
        raise ValueError(f"holds what is no number: {line[:60]!r}")
    if not 0 <= numbers[0] < len(label_of):
        raise ValueError(f"has the unknown class {numbers[0]:g} of {len(label_of)}")
    if np.abs(values).max() > _FAR:
        raise ValueError(f"has {np.abs(values).max():g}, where shares of width and height, up to 1, are wanted")
    label = label_of[int(numbers[0])]
    if isinstance(label, str):
        raise ValueError(f"has the {unknown_class(label, classes)}")
    return label, values

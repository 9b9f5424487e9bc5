"""A table: ``labels.csv`` and the images in ``<split>/``; of boxes a row an object, else a row an image, where several
labels are columns of 0 and 1. The names of classes, in order, are in ``classes.json``.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from vitrail.data.source import Source
from vitrail.data.storage import copies
from vitrail.data.storage.decimals import decimals
from vitrail.data.storage.objects import annotations_of

KINDS = ("boxes", "class", "multilabel", "number")
BOX = ("xmin", "ymin", "xmax", "ymax")
NAME = "labels.csv"


def write(splits: Mapping[str, Source], folder: Path) -> list[str]:
    """Write the splits into a folder; the returned lines say what the format cannot hold."""
    taken: set[str] = set()
    left_out = 0
    first = next(iter(splits.values()))
    spatial = first.target_kind.spatial
    columns = ("label", *BOX) if spatial else first.target_kind.columns(first.classes) or ("label",)
    with (folder / NAME).open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("path", "split", *columns))
        for split, source in splits.items():
            for index, name in copies.copy(source, folder / split, taken):
                start = (os.path.join(split, name), split)
                writer.writerows((*start, *row) for row in (_objects if spatial else _cells)(source, index))
            if spatial:
                found = annotations_of(source)
                rows = [row for index in range(len(found)) for row in found.objects(index)]
                left_out += int(found.ignored[rows].sum()) if rows else 0
    if first.target_kind.has_classes:
        copies.write_text(folder / "classes.json", json.dumps(list(first.classes)))
    return (
        [f"left out: {left_out:,} crowds and difficult objects, which a table of boxes cannot hold"] if left_out else []
    )


def _objects(source: Source, index: int) -> Iterator[tuple[object, ...]]:
    found = annotations_of(source)
    rows = [row for row in found.objects(index) if not found.ignored[row]]
    for row in rows:
        yield (source.classes[found.labels[row]], *decimals(found.boxes_xyxy[row]))
    if not rows:
        yield ("", "", "", "", "")


def _cells(source: Source, index: int) -> Iterator[tuple[object, ...]]:
    kind = source.target_kind
    yield tuple(kind.cells(source.targets, index, source.classes)) or (
        kind.text(source.targets, index, source.classes),
    )

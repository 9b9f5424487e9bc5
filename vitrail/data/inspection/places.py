"""What is wrong with boxes, masks and class maps, image by image and object by object."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from vitrail.console import track
from vitrail.data.media.decode import BadImage
from vitrail.data.source import Source
from vitrail.data.targets import Annotations
from vitrail.ops.segmentation_losses import IGNORE

OVERHANG = 1.0  # pixels that a box may go beyond the image: rounding, and counting pixels from 1


def faults(source: Source, sizes: np.ndarray) -> Iterator[tuple[int, str]]:
    """(position, what is wrong) for each fault.

    Args:
        sizes: int32 (N, 2): height and width as decoded; 0 for images that could not be.
    """
    for index in track(range(len(source)), "looking at annotations"):
        size = int(sizes[index, 0]), int(sizes[index, 1])
        if not all(size):
            continue
        found = _of_objects if isinstance(source.targets, Annotations) else _of_map
        for text in found(source, index, size):
            yield index, text


def _of_objects(source: Source, index: int, size: tuple[int, int]) -> Iterator[str]:
    targets: Annotations = source.targets
    own = tuple(targets.sizes[targets.rows[index]].tolist())
    if own != size:
        yield f"has {size[1]} × {size[0]} pixels, and its annotations are of {own[1]} × {own[0]}"
        return
    for place, row in enumerate(targets.objects(index)):
        box = targets.boxes_xyxy[row]
        if (fault := _of_box(box, size)) is not None:
            name = source.classes[targets.labels[row]]
            yield f"has at object {place} ({name}) a box {fault}: {', '.join(f'{side:g}' for side in box)}"
    if targets.masks is None:
        return
    try:
        masks = targets.masks.read(int(targets.rows[index]), targets.objects(index), size)
    except BadImage as error:
        yield str(error)
        return
    for place in np.flatnonzero(~masks.any(axis=(1, 2))).tolist():
        name = source.classes[targets.labels_of(index)[place]]
        yield f"has at object {place} ({name}) a mask without a pixel"


def _of_box(box: np.ndarray, size: tuple[int, int]) -> str | None:
    left, top, right, bottom = box.tolist()
    height, width = size
    if right <= left or bottom <= top:
        return "without area"
    if min(left, top) < -OVERHANG or right > width + OVERHANG or bottom > height + OVERHANG:
        return f"that leaves the {width} × {height} pixels of the image"
    return None


def _of_map(source: Source, index: int, size: tuple[int, int]) -> Iterator[str]:
    try:
        found = np.asarray(source.targets[index])
    except BadImage as error:
        yield str(error)
        return
    if found.shape != size:
        yield f"has {size[1]} × {size[0]} pixels, and its mask has {found.shape[1]} × {found.shape[0]}"
    unknown = np.unique(found[(found >= len(source.classes)) & (found != IGNORE)])
    if len(unknown):
        yield f"has a mask with the unknown class {unknown[0]} of {len(source.classes)}"

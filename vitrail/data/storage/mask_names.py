"""Which mask is of which image, by their names: ``x.jpg`` with ``x.png``, ``x_mask.png``, ``x_gtFine_labelIds.png``."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence

from vitrail.data.indexing.spelling import composed

MASK_ENDS = (
    "_gtfine_labeltrainids", "_gtfine_labelids", "_gtcoarse_labelids", "_segmentation", "_groundtruth", "_labels",
    "_label", "_masks", "_mask", "-mask", ".mask", " mask", "_seg", "_ann", "_gt", "_lab", "_l",
)  # fmt: skip
"""What is added to an image's name, the best first."""
IMAGE_ENDS = ("_leftimg8bit", "_image", "_img", "_sat", "_rgb", "-image")
NO_CLASSES = re.compile(r"_(gtfine|gtcoarse)_(color|instanceids)$")
"""Names of pictures beside masks that hold other things."""
_FORMATS = (b".png", b".tif", b".tiff", b".npy", b".bmp", b".gif", b".pgm", b".webp", b".jpeg", b".jpg")
"""Formats of masks, the best first: of one without loss before one with."""


def pair(images: Sequence[bytes], masks: Iterable[bytes]) -> list[bytes | None]:
    """The mask of each image, all as paths in their folders; None where there is none.

    The same name goes before one with an addition, and a format without loss before JPEG.
    """
    by_name: dict[tuple[str, str], list[tuple[int, int, bytes]]] = {}
    for mask in masks:
        folder, stem, suffix = _parts(mask)
        form = _FORMATS.index(suffix) if suffix in _FORMATS else len(_FORMATS)
        if NO_CLASSES.search(stem):
            continue
        by_name.setdefault((folder, stem), []).append((0, form, mask))
        for rank, end in enumerate(MASK_ENDS, start=1):
            if stem.endswith(end):
                by_name.setdefault((folder, stem[: -len(end)]), []).append((rank, form, mask))
    found: list[bytes | None] = []
    for image in images:
        folder, stem, _ = _parts(image)
        bases = [stem, *(stem[: -len(end)] for end in IMAGE_ENDS if stem.endswith(end))]
        candidates = next((each for base in bases if (each := by_name.get((folder, base)))), [])
        found.append(min(candidates)[2] if candidates else None)
    return found


def is_mask_beside(name: bytes, stems: frozenset[str]) -> bool:
    """Whether a file of a folder is the mask of another one there, such as ``x_mask.png`` of ``x.jpg``."""
    _, stem, _ = _parts(name)
    for end in MASK_ENDS:
        base = stem[: -len(end)]
        if stem.endswith(end) and len(end) > 2 and ({base} | {base + other for other in IMAGE_ENDS}) & stems:
            return True
    return False


def stems_of(names: Iterable[bytes]) -> frozenset[str]:
    """Their names without suffix, as they are compared."""
    return frozenset(_parts(name)[1] for name in names)


def _parts(path: bytes) -> tuple[str, str, bytes]:
    """(folder, name without suffix, suffix), of which the latter two in lower case."""
    folder, name = os.path.split(path)
    stem, suffix = os.path.splitext(name)
    return composed(os.fsdecode(folder)), composed(os.fsdecode(stem)).lower(), suffix.lower()
